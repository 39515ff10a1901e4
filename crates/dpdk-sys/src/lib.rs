//! Raw bindings to libdpdk, nothing else.
//!
//! Called by `mvmp-core`'s `dpdk` room alone. The declarations are generated at build time from
//! the headers of the DPDK that is installed (`build/allow_list.rs` names every one of them); what DPDK has only as
//! `static inline` comes through `shim/shim.c`, at burst level, under names that begin with
//! `dpdk_sys_`. Everything is linked statically, so that one wheel carries its own DPDK
//! (docs/adr/dpdk-is-linked-statically.md).
//!
//! Invariants: no call is made here, importing initialises nothing; there is no stub: without
//! DPDK the build fails and says which packages are missing.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    unnecessary_transmutes,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    rustdoc::all
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

/// The poll-mode drivers that are linked in, separated by spaces.
pub const DRIVERS: &str = env!("DPDK_SYS_DRIVERS");

#[cfg(test)]
mod tests;
