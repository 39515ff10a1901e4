//! Finds DPDK, generates the bindings, compiles the shim and says what to link.
//!
//! The order matters in one place only: the shim is linked whole, before the archives whose
//! symbols it stands in for (libnuma, parts of libelf).

mod allow_list;
mod archives;

use std::env;
use std::path::PathBuf;

/// What to install; printed by every failure that a missing package can cause.
const PACKAGES: &str = "apt-get install --no-install-recommends libdpdk-dev libclang1-14 libclang-common-14-dev binutils gcc pkg-config";

fn main() {
    for file in ["build", "shim"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let cflags = dpdk_cflags();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings(&cflags, &out);
    shim(&cflags);
    archives::link(&out);
}

/// Prints what is missing and ends the build: there is never a silent stub.
fn give_up(what: &str) -> ! {
    println!("cargo:warning={what}");
    println!("cargo:warning=mvmp is built against DPDK 22.11 (Debian 12): {PACKAGES}");
    eprintln!("\n{what}\nInstall what mvmp is built against:\n    {PACKAGES}\n");
    std::process::exit(1);
}

/// The flags DPDK's own headers want, for bindgen and for cc alike (the mbuf's layout and the
/// instruction set follow from them).
fn dpdk_cflags() -> Vec<String> {
    let probed = pkg_config::Config::new()
        .cargo_metadata(false)
        .atleast_version("22.11")
        .probe("libdpdk");
    let version = match probed {
        Ok(library) => library.version,
        Err(error) => give_up(&format!(
            "pkg-config does not find libdpdk 22.11 or later: {error}"
        )),
    };
    println!("cargo:version={version}");
    // The crate keeps include paths only; `-include rte_config.h` and `-march` are needed too.
    let output = std::process::Command::new("pkg-config")
        .args(["--cflags", "libdpdk"])
        .output()
        .unwrap_or_else(|error| give_up(&format!("cannot run pkg-config: {error}")));
    let flags = String::from_utf8_lossy(&output.stdout);
    flags.split_whitespace().map(str::to_owned).collect()
}

fn bindings(cflags: &[String], out: &std::path::Path) {
    let mut builder = bindgen::Builder::default()
        .header("shim/shim.h")
        .clang_args(cflags)
        .layout_tests(true)
        .derive_debug(false)
        .prepend_enum_name(false)
        .generate_comments(false)
        .wrap_unsafe_ops(true);
    for function in allow_list::FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for name in allow_list::TYPES {
        builder = builder.allowlist_type(name);
    }
    for variable in allow_list::CONSTANTS {
        builder = builder.allowlist_var(variable);
    }
    for name in allow_list::OPAQUE {
        builder = builder.opaque_type(name);
    }
    match builder.generate() {
        Ok(bindings) => bindings
            .write_to_file(out.join("bindings.rs"))
            .expect("OUT_DIR can be written"),
        Err(error) => give_up(&format!("bindgen cannot read DPDK's headers: {error}")),
    }
}

fn shim(cflags: &[String]) {
    let mut build = cc::Build::new();
    build
        .files(["shim/shim.c", "shim/log.c", "shim/stand_ins.c"])
        .cargo_metadata(false)
        .warnings(true)
        .pic(true)
        .flag("-O3")
        .flag("-fvisibility=hidden")
        .flag("-Wno-unused-parameter");
    let mut flags = cflags.iter();
    while let Some(flag) = flags.next() {
        build.flag(flag);
        if flag == "-include" {
            build.flag(flags.next().expect("-include has an operand"));
        }
    }
    if let Err(error) = build.try_compile("dpdk_sys_shim") {
        give_up(&format!("the C shim does not compile: {error}"));
    }
}
