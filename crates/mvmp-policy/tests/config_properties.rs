//! No configuration, however wrong, brings the reader down.

use mvmp_policy::Config;
use mvmp_policy::config::PortSpec;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Every section, every key.
const WHOLE: &str = include_str!("whole.toml");

fn json() -> impl Strategy<Value = serde_json::Value> {
    let key = select(vec![
        "platform",
        "ports",
        "devices",
        "nfs",
        "workers",
        "buffers",
        "open",
        "tunnel_ports",
        "a",
        "b",
        "pcap",
        "out",
        "devargs",
        "interface",
        "loop",
        "rate",
        "wait_for",
        "mode",
        "receive",
        "send",
        "match",
        "policy",
        "instances",
        "memory",
        "uid",
        "decap",
        "strip",
        "direction",
        "encap",
        "ethernet",
        "vlan",
        "vxlan",
        "absent",
        "groups",
        "may_define",
        "",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,12}".prop_map(Into::into),
        select(vec![
            "a",
            "b",
            "direct",
            "bond",
            "bridge",
            "auto",
            "pop",
            "tcp port 80",
            "1M",
            "net_null0"
        ])
        .prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Into::into),
            vec((key.clone(), inner), 0..6).prop_map(|entries| {
                let entries = entries
                    .into_iter()
                    .map(|(key, value)| (key.to_string(), value));
                serde_json::Value::Object(entries.collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(config) = Config::from_toml(&text, "x") {
            config.check();
        }
    }

    #[test]
    fn no_change_to_a_sound_file_panics(changes in vec((any::<Index>(), 0..3usize, any::<char>()), 1..6)) {
        let mut characters: Vec<char> = WHOLE.chars().collect();
        for (place, removed, added) in changes {
            let place = place.index(characters.len());
            let end = (place + removed).min(characters.len());
            characters.splice(place..end, [added]);
        }
        let text: String = characters.into_iter().collect();
        match Config::from_toml(&text, "x") {
            Ok(config) => {
                config.check();
                config.reach();
                let again = Config::from_json(&config.to_json());
                prop_assert_eq!(again.as_ref(), Ok(&config), "what is written is what was read");
                prop_assert!(config.diff(&config).is_empty());
                let whole = Config::from_toml(WHOLE, "x").unwrap();
                prop_assert_eq!(config == whole, whole.diff(&config).is_empty(), "{}", whole.diff(&config));
            }
            Err(error) => {
                prop_assert!(error.line >= 1 && error.line as usize <= text.matches('\n').count() + 1, "{}", error);
                prop_assert!(!error.message.is_empty());
            }
        }
    }

    #[test]
    fn no_json_panics(value in json()) {
        if let Ok(config) = Config::from_json(&value) {
            config.check();
            config.reach();
        }
    }

    #[test]
    fn no_argument_panics(argument in "(a=)?[a-z_=,.0-9:/+]{0,30}|\\PC{0,20}") {
        let _ = PortSpec::from_argument(&argument);
    }
}
