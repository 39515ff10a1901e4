//! Any text is a configuration or an error; what is a configuration can be asked everything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mvmp_policy::Config;

fuzz_target!(|text: &str| {
    if let Ok(config) = Config::from_toml(text, "fuzz.toml") {
        config.check();
        config.domains();
        config.reach();
    }
    if let Ok(value) = serde_json::from_str(text) {
        let _ = Config::from_json(&value);
    }
});
