//! What a port takes of what is sent, as every worker knows it of every port.
//!
//! Called by `sending`, for whole runs, and by `egress`, for each packet that goes by itself.

/// Where a frame's first EtherType lies.
const ETHER_TYPE_AT: usize = 12;
const VLAN: [u8; 2] = [0x81, 0x00];

/// What a port takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// Bytes of the longest frame that it sends, whatever that is.
    pub longest: u32,
    /// The same of frames that begin with an 802.1Q tag: some take it on top.
    pub longest_tagged: u32,
    /// It takes nothing but Ethernet frames.
    pub is_ethernet: bool,
}

impl PortFacts {
    /// Whether it sends a frame of so many bytes that begins with `head`, and goes on with `rest`.
    pub fn sends(&self, length: usize, head: &[u8], rest: &[u8]) -> bool {
        length <= self.longest as usize
            || length <= self.longest_tagged as usize && is_tagged(head, rest)
    }
}

fn is_tagged(head: &[u8], rest: &[u8]) -> bool {
    let mut bytes = head.iter().chain(rest).skip(ETHER_TYPE_AT);
    VLAN.iter().all(|byte| bytes.next() == Some(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_comes_on_top_wherever_the_headers_that_were_put_in_front_end() {
        let facts = PortFacts {
            longest: 100,
            longest_tagged: 104,
            is_ethernet: true,
        };
        let frame = |kind: [u8; 2]| [&[0; 12], &kind[..], &[0; 90]].concat();
        for end in [0, 1, 12, 13, 14, 104] {
            for (kind, longest) in [
                ([0x08, 0x00], 100),
                ([0x81, 0x00], 104),
                ([0x88, 0xa8], 100),
            ] {
                let frame = frame(kind);
                let (head, rest) = frame.split_at(end);
                let sends = |length| facts.sends(length, head, rest);
                assert!(
                    sends(longest) && !sends(longest + 1),
                    "{kind:?} cut at {end}"
                );
            }
        }
        assert!(!facts.sends(101, &[0x81; 13], &[]));
    }
}
