//! The configuration by example: what it becomes, what each mistake is answered with, what `check`
//! says of it, and what an `apply` would change.

mod cells;
mod check;
mod devices;
mod diff;
mod mistakes;
mod ports;
mod reading;

use mvmp_policy::Config;

fn read(text: &str) -> Config {
    Config::from_toml(text, "t.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// The error, in one line, as the user sees it.
#[track_caller]
fn refuses(text: &str, shown: &str) {
    match Config::from_toml(text, "t.toml") {
        Ok(config) => panic!("read as {config:?}"),
        Err(error) => assert_eq!(error.to_string(), shown),
    }
}

const PORTS: &str = "[ports]\na = \"net_null0\"\nb = \"net_null1\"\nc = \"net_null2\"\n";

#[track_caller]
fn device_refuses(device: &str, shown: &str) {
    refuses(&format!("{PORTS}[devices.d]\n{device}"), shown);
}

/// What `check` says.
fn warnings(text: &str) -> Vec<String> {
    read(text).check().iter().map(ToString::to_string).collect()
}

const WHOLE: &str = r#"
[platform]
workers = [2]
buffers = 8192
ring = 1024
stall_s = 2
on_stall = "detach"

[ports]
span = { interface = "eth1", queues = 1, max_frame = 9000 }
up = { devargs = "0000:3b:00.0" }
NIC5 = "net_null0"
file = { pcap = "in.pcap", out = "out.pcap", loop = 3, rate = 1000, wait_for = ["ids"] }

[devices.span0]
mode = "direct"
ports = ["span"]
receive = { span = { match = "tcp port 80", direction = "in" } }

[devices.gateway]
mode = "bridge"
ports = ["up", "NIC5"]
receive = { NIC5 = "net 192.168.0.0/16" }
send = { policy = "opposite" }

[devices.play]
mode = "direct"
ports = ["file"]

[devices.virt0]
mode = "rootless"

[nfs.ids]
devices = ["span0:rx", "virt0"]
instances = 2
memory = "16M"
uid = 1000

[nfs.dpi]
devices = ["virt0:tx", "gateway", "play"]
"#;
