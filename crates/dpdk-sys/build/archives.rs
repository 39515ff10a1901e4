//! What is linked: the poll-mode drivers we chose and the archives they close over, statically.
//!
//! Static, because EAL built for static linking finds its drivers through constructors, which a
//! wheel on repaired dynamic libraries loses; whole, because nothing names those constructors.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::give_up;

/// The drivers: stand-ins for tests, kernel interfaces, other processes, common NICs.
const DRIVERS: &[&str] = &[
    "net_null",
    "net_ring",
    "net_tap",
    "net_af_packet",
    "net_af_xdp",
    "net_memif",
    "net_vhost",
    "net_virtio",
    "net_e1000",
    "net_ixgbe",
    "net_i40e",
    "net_ice",
    "net_iavf",
    "net_vmxnet3",
    "net_ena",
];

/// What they close over.
const LIBRARIES: &[&str] = &[
    "common_iavf",
    "mempool_ring",
    "mempool_stack",
    "bus_vdev",
    "bus_pci",
    "vhost",
    "gso",
    "security",
    "cryptodev",
    "hash",
    "dmadev",
    "timer",
    "ethdev",
    "net",
    "mbuf",
    "mempool",
    "stack",
    "rcu",
    "ring",
    "pci",
    "eal",
    "kvargs",
    "telemetry",
];

/// Libraries that later releases split off; linked where they exist.
const LATER: &[&str] = &["log", "argparse", "pmu"];

/// Outside DPDK. Debian builds bpf and xdp as PIE, not PIC: their only offence is the address of
/// `stderr`, which becomes a variable of ours (`shim/stand_ins.c` sets it).
const WITHOUT_STDERR: &[&str] = &["xdp", "bpf"];
const OUTSIDE: &[&str] = &["elf", "z", "bsd", "md"];

pub fn link(out: &Path) {
    let libraries = library_folder();
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-search=native={}", libraries.display());
    println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=dpdk_sys_shim");
    println!("cargo:rustc-env=DPDK_SYS_DRIVERS={}", DRIVERS.join(" "));
    for name in DRIVERS.iter().chain(LIBRARIES) {
        if !archive(&libraries, &format!("rte_{name}")).is_file() {
            give_up(&format!(
                "librte_{name}.a is not in {}",
                libraries.display()
            ));
        }
        println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=rte_{name}");
    }
    for name in LATER
        .iter()
        .filter(|name| archive(&libraries, &format!("rte_{name}")).is_file())
    {
        println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=rte_{name}");
    }
    for name in WITHOUT_STDERR {
        let renamed = format!("dpdk_sys_{name}");
        without_stderr(&archive(&libraries, name), &archive(out, &renamed));
        println!("cargo:rustc-link-lib=static:-bundle={renamed}");
    }
    for name in OUTSIDE {
        println!("cargo:rustc-link-lib=static:-bundle={name}");
    }
}

fn archive(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("lib{name}.a"))
}

fn library_folder() -> PathBuf {
    let output = Command::new("pkg-config")
        .args(["--variable=libdir", "libdpdk"])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
        }
        _ => give_up("pkg-config does not say where libdpdk's archives are"),
    }
}

fn without_stderr(from: &Path, to: &Path) {
    let status = Command::new("objcopy")
        .args(["--redefine-sym", "stderr=dpdk_sys_stderr"])
        .args([from, to])
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => give_up(&format!("objcopy {}: {status}", from.display())),
        Err(error) => give_up(&format!("cannot run objcopy (package binutils): {error}")),
    }
}
