//! The example configurations are sound, and `check` says of them what it should.

use std::path::PathBuf;

use mvmp_policy::Config;
use mvmp_policy::config::{Mode, SendPolicy};

fn example(name: &str) -> Config {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../policies")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    Config::from_toml(&text, name).unwrap_or_else(|error| panic!("{error}"))
}

fn warnings(config: &Config) -> Vec<String> {
    config.check().iter().map(ToString::to_string).collect()
}

#[test]
fn the_firewall_chain_is_a_bridge_and_a_queue() {
    let config = example("firewall-chain.toml");
    let modes: Vec<_> = config.devices.iter().map(|device| device.mode).collect();
    assert_eq!(modes, [Mode::Bridge, Mode::Rootless]);
    assert_eq!(config.domains().len(), 1);
    assert_eq!(
        config.reach(),
        [vec![0], vec![0]],
        "the IPS gets packets from the firewall"
    );
    assert_eq!(
        warnings(&config),
        [
            "ports.up: `firewall` and `ips` share one pool: each can read all packets of `up` and `down`, whatever its rules say"
        ]
    );
}

#[test]
fn the_watchers_share_one_pool_and_none_of_them_sends() {
    let config = example("watch.toml");
    assert!(
        config
            .nfs
            .iter()
            .all(|nf| nf.devices.iter().all(|right| right.rx && !right.tx))
    );
    assert_eq!(config.domains().len(), 1);
    assert_eq!(
        warnings(&config),
        [
            "ports.span: `ids`, `flows` and `weblog` share one pool: each can read all packets of `span`, whatever its rules say"
        ]
    );
}

#[test]
fn table_1_has_every_kind_of_device_and_five_nfs_on_six_nics() {
    let config = example("table1.toml");
    let modes: Vec<_> = config.devices.iter().map(|device| device.mode).collect();
    assert_eq!(
        modes,
        [
            Mode::Direct,
            Mode::Direct,
            Mode::Bond,
            Mode::Bridge,
            Mode::Rootless
        ]
    );
    assert_eq!((config.ports.len(), config.nfs.len()), (6, 5));
    let bond = config.device("bond0").unwrap();
    assert_eq!(bond.send, Some(SendPolicy::RoundRobin));
    let cell = bond.receive("NIC6").unwrap();
    assert_eq!(cell.rule.to_string(), "net 192.0.0.0/8");
    assert_eq!(
        warnings(&config),
        [
            "ports.NIC3: `firewall` and `ips` share one pool: each can read all packets of `NIC3` and `NIC4`, whatever its rules say"
        ]
    );
}

#[test]
fn the_other_examples_say_nothing_that_is_not_meant() {
    for name in [
        "balanced-dpi",
        "bonded-uplink",
        "demo",
        "figure2",
        "ids-in-vxlan",
        "inline-ips",
    ] {
        let told = warnings(&example(&format!("{name}.toml")));
        let readers = |warning: &String| warning.contains(" share one pool: ");
        assert!(told.iter().all(readers), "{name}: {told:?}");
    }
}
