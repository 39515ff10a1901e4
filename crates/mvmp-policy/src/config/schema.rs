//! The JSON Schema of the configuration, built from the same keys that the reader knows.

use serde_json::{Map, Value, json};

use super::keys::{self, Field, Status};

/// The whole schema (draft 2020-12).
pub(super) fn schema() -> Value {
    let mut root = table(keys::ROOT);
    root.insert(
        "$schema".into(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    root.insert("title".into(), json!("mvmp configuration"));
    root.insert(
        "$defs".into(),
        json!({
            "name": { "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$" },
            "platform": table(keys::PLATFORM),
            "tunnel_ports": table(keys::TUNNEL_PORTS),
            "port": { "anyOf": [ { "type": "string", "minLength": 1 }, table(keys::PORT) ] },
            "device": requiring(keys::DEVICE, &["mode"]),
            "receive": { "anyOf": [ { "type": "string" }, table(keys::RECEIVE) ] },
            "send": send(),
            "ethernet": requiring(keys::ETHERNET, &["src", "dst"]),
            "encap": encap(),
            "encap_vlan": requiring(keys::ENCAP_VLAN, &["id"]),
            "encap_gre": requiring(keys::ENCAP_GRE, &["local", "remote"]),
            "encap_vxlan": requiring(keys::ENCAP_VXLAN, &["vni", "local", "remote"]),
            "encap_geneve": requiring(keys::ENCAP_GENEVE, &["vni", "local", "remote"]),
            "encap_ipip": requiring(keys::ENCAP_IPIP, &["local", "remote"]),
            "nf": requiring(keys::NF, &["devices"]),
        }),
    );
    Value::Object(root)
}

/// A table with keys that cannot be left away.
fn requiring(fields: &[Field], required: &[&str]) -> Value {
    let mut table = table(fields);
    table.insert("required".into(), json!(required));
    Value::Object(table)
}

/// Beside our keys it has the user's own: its ports.
fn send() -> Value {
    let mut send = table(keys::SEND);
    let cell = table(keys::SEND_CELL);
    send.insert("additionalProperties".into(), Value::Object(cell));
    Value::Object(send)
}

/// One layer to a table.
fn encap() -> Value {
    let mut encap = table(keys::ENCAP);
    encap.insert("minProperties".into(), json!(1));
    encap.insert("maxProperties".into(), json!(1));
    Value::Object(encap)
}

fn table(fields: &[Field]) -> Map<String, Value> {
    let properties: Map<_, _> = fields
        .iter()
        .map(|f| (f.name.into(), property(f)))
        .collect();
    let table =
        json!({ "type": "object", "additionalProperties": false, "properties": properties });
    match table {
        Value::Object(table) => table,
        _ => Map::new(),
    }
}

fn property(field: &Field) -> Value {
    // A test reads every one of these; a broken one would be `true`, which allows anything.
    let mut schema: Value = serde_json::from_str(field.schema).unwrap_or(Value::Bool(true));
    let doc = match field.status {
        Status::Now => field.doc.to_string(),
        Status::Later => format!("{} Not supported yet.", field.doc),
    };
    if let Value::Object(object) = &mut schema {
        object.insert("description".into(), Value::String(doc));
    }
    schema
}

#[cfg(test)]
mod tests {
    use mvmp_wire::packet::LayerSet;

    use super::*;

    #[test]
    fn every_key_has_a_well_formed_schema() {
        let all = [
            keys::ROOT,
            keys::PLATFORM,
            keys::TUNNEL_PORTS,
            keys::PORT,
            keys::DEVICE,
            keys::RECEIVE,
            keys::SEND,
            keys::SEND_CELL,
            keys::ETHERNET,
            keys::ENCAP,
            keys::ENCAP_VLAN,
            keys::ENCAP_GRE,
            keys::ENCAP_VXLAN,
            keys::ENCAP_GENEVE,
            keys::ENCAP_IPIP,
            keys::NF,
        ];
        for field in all.into_iter().flatten() {
            let parsed = serde_json::from_str::<Value>(field.schema);
            assert!(
                parsed.is_ok_and(|schema| schema.is_object()),
                "{}",
                field.name
            );
        }
    }

    #[test]
    fn the_schema_lists_all_layers_that_the_reader_knows() {
        let schema = schema();
        let decap = &schema["$defs"]["receive"]["anyOf"][1]["properties"]["decap"];
        let listed = decap["anyOf"][1]["items"]["enum"].as_array().unwrap();
        let known: Vec<_> = LayerSet::AUTO.words().chain(["auto"]).collect();
        assert_eq!(*listed, known);
    }

    #[test]
    fn every_reference_has_a_definition() {
        let schema = schema();
        let text = schema.to_string();
        for reference in text.split("\"#/$defs/").skip(1) {
            let name = reference.split('"').next().unwrap_or_default();
            assert!(schema["$defs"].get(name).is_some(), "{name}");
        }
    }
}
