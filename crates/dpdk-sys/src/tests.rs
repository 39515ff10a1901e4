//! The bindings against the C compiler that built the shim.
use super::*;
use std::mem::{offset_of, size_of};

#[test]
fn the_mbuf_in_rust_lies_where_the_c_compiler_put_it() {
    let rust = [
        offset_of!(rte_mbuf, buf_addr),
        offset_of!(rte_mbuf, data_off),
        offset_of!(rte_mbuf, refcnt),
        offset_of!(rte_mbuf, nb_segs),
        offset_of!(rte_mbuf, port),
        offset_of!(rte_mbuf, ol_flags),
        offset_of!(rte_mbuf, pkt_len),
        offset_of!(rte_mbuf, data_len),
        offset_of!(rte_mbuf, buf_len),
        offset_of!(rte_mbuf, pool),
        offset_of!(rte_mbuf, next),
        size_of::<rte_mbuf>(),
    ];
    let mut c = [usize::MAX; 12];
    // SAFETY: the array has as many words as we say.
    let have = unsafe { dpdk_sys_mbuf_layout(c.as_mut_ptr(), c.len()) };
    assert_eq!((have, c), (rust.len(), rust));
}

#[test]
fn the_headers_and_the_archives_are_of_one_release() {
    // SAFETY: returns a static string.
    let linked = unsafe { std::ffi::CStr::from_ptr(rte_version()) };
    let headers = format!("DPDK {RTE_VER_YEAR}.{RTE_VER_MONTH:02}.{RTE_VER_MINOR}");
    assert_eq!(linked.to_string_lossy(), headers);
}
