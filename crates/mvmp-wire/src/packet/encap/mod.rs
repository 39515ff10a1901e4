//! Encapsulation: the headers that a packet leaves with.
//!
//! A policy's `encap` is an [`EncapSpec`], compiled once to an [`Encap`]; per packet
//! [`Encap::build`] writes the new headers into a buffer of the caller's and never touches the
//! packet, which others may be reading:
//!
//! ```text
//! out[..headers]                                              frame[skip..]
//! Ethernet │ tags │ IP │ UDP │ VXLAN │ Ethernet + tags (*)  ++ rest of the packet
//!                                      (*) only where tags of the packet itself change
//! ```
//!
//! Outer headers: IPv4 has DF set and identification 0 (RFC 6864), IPv6 a flow label from the
//! flow hash (RFC 6438). The UDP source port is 49152 to 65535 by the flow hash (RFC 7348 §5);
//! the UDP checksum is 0 over IPv4 and computed over IPv6 (RFC 8200 §8.1). The DSCP is the inner
//! packet's; ECN is Not-ECT, RFC 6040's compatibility mode: views jump over outer headers without
//! looking for congestion marks there, so none may be set.

mod build;
mod spec;
mod template;
#[cfg(test)]
mod tests;

pub use build::{Built, ENCAP_BYTES_MAX, Encap, NoEncap, SKIP_BYTES_MAX};
pub use spec::{EncapError, EncapLayer, EncapSpec, Tunnel};
