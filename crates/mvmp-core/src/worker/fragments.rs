//! Fragments go with their flow: what the first fragment of a datagram said of its ports holds for
//! the later ones, which have none.
//!
//! A small table, overwritten without ceremony: a datagram whose first fragment did not come first,
//! or came too long ago, is balanced by its addresses alone, all its fragments alike.

use mvmp_wire::packet::{FragmentOf, Headers};

/// Datagrams that are remembered at a time.
const DATAGRAMS: usize = 1024;

#[derive(Clone, Copy, Default)]
struct Datagram {
    of: u64,
    flow_hash: u32,
}

/// Flows of datagrams that are under way in fragments.
pub struct Fragments(Box<[Datagram]>);

impl Default for Fragments {
    fn default() -> Self {
        Self(vec![Datagram::default(); DATAGRAMS].into_boxed_slice())
    }
}

impl Fragments {
    /// The symmetric flow hash that this fragment is balanced by.
    #[cold]
    pub fn flow(&mut self, headers: &Headers, frame: &[u8]) -> u32 {
        let Some(fragment) = FragmentOf::read(headers, frame) else {
            return headers.flow_hash;
        };
        let place = &mut self.0[(fragment.datagram >> 32) as usize % DATAGRAMS];
        match fragment.flow_hash {
            Some(flow_hash) => {
                *place = Datagram {
                    of: fragment.datagram,
                    flow_hash,
                };
                flow_hash
            }
            None if place.of == fragment.datagram => place.flow_hash,
            None => headers.flow_hash,
        }
    }
}
