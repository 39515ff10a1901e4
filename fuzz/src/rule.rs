//! Any text is a rule that can be compiled and explained, or an error; a rule's own text is that rule.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mvmp_policy::Rule;

fuzz_target!(|text: &str| {
    // That dialect is libpcap's to read.
    if text.trim_start().starts_with("pcap") {
        return;
    }
    if let Ok(rule) = Rule::parse(text) {
        let again = Rule::parse(rule.text()).expect("its own text");
        assert_eq!(rule.expr(), again.expr());
        rule.compile();
        rule.explain();
    }
});
