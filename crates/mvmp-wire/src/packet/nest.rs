//! Frames for tests, built layer by layer from the inside out.

/// A frame that is built from the inside out.
#[derive(Clone, Debug, Default)]
pub(super) struct Nest {
    pub(super) bytes: Vec<u8>,
}

impl Nest {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
        }
    }

    pub(super) fn within(mut self, header: &[u8]) -> Self {
        self.bytes.splice(0..0, header.iter().copied());
        self
    }

    pub(super) fn ethernet(self, ether_type: u16) -> Self {
        let mut header = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        header.extend(ether_type.to_be_bytes());
        self.within(&header)
    }

    /// A tag; `inner` is the EtherType that it announces. The frame around says `0x8100`.
    pub(super) fn vlan(self, id: u16, inner: u16) -> Self {
        let header = [id.to_be_bytes(), inner.to_be_bytes()].concat();
        self.within(&header)
    }

    pub(super) fn ipv4(self, protocol: u8) -> Self {
        let total = (self.bytes.len() + 20) as u16;
        let mut header = vec![0x45, 0];
        header.extend(total.to_be_bytes());
        header.extend([
            0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, protocol, 10, 0, 1, 1,
        ]);
        self.within(&header)
    }

    pub(super) fn ipv6(self, next: u8) -> Self {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend((self.bytes.len() as u16).to_be_bytes());
        header.extend([next, 64]);
        header.extend([0x20; 16]);
        header.extend([0x30 + next; 16]);
        self.within(&header)
    }

    pub(super) fn udp(self, port: u16) -> Self {
        let length = (self.bytes.len() + 8) as u16;
        let header = [5555u16, port, length, 0].map(u16::to_be_bytes).concat();
        self.within(&header)
    }

    pub(super) fn vxlan(self, vni: u32) -> Self {
        let mut header = vec![8, 0, 0, 0];
        header.extend((vni << 8).to_be_bytes());
        self.within(&header)
    }

    pub(super) fn geneve(self, vni: u32, proto: u16, options: u8) -> Self {
        let mut header = vec![options, 0];
        header.extend(proto.to_be_bytes());
        header.extend((vni << 8).to_be_bytes());
        header.extend(vec![0xaa; usize::from(options) * 4]);
        self.within(&header)
    }

    pub(super) fn gre(self, flags: u16, proto: u16, fields: &[u32]) -> Self {
        let mut header = [flags.to_be_bytes(), proto.to_be_bytes()].concat();
        header.extend(fields.iter().flat_map(|field| field.to_be_bytes()));
        self.within(&header)
    }
}
