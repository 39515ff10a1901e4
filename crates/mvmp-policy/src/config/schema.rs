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
            "device": device(),
            "receive": { "anyOf": [ { "type": "string" }, table(keys::RECEIVE) ] },
            "send": table(keys::SEND),
            "nf": nf(),
        }),
    );
    Value::Object(root)
}

fn device() -> Value {
    let mut device = table(keys::DEVICE);
    device.insert("required".into(), json!(["mode"]));
    Value::Object(device)
}

fn nf() -> Value {
    let mut nf = table(keys::NF);
    nf.insert("required".into(), json!(["devices"]));
    Value::Object(nf)
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
    fn every_reference_has_a_definition() {
        let schema = schema();
        let text = schema.to_string();
        for reference in text.split("\"#/$defs/").skip(1) {
            let name = reference.split('"').next().unwrap_or_default();
            assert!(schema["$defs"].get(name).is_some(), "{name}");
        }
    }
}
