//! The usual level of a stack: Ethernet, IP without anything between, TCP or UDP. Its layers are
//! the same each time, but for where they begin, so they are noted by a copy.

use super::stack_layer::StackLayer;
use super::tunnel_ports::{TunnelPorts, UdpTunnel};
use super::{Headers, Layer, LayerKind};

const L3: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;

/// The layers of a usual level.
pub(super) struct Usual {
    /// Offsets are from where the level begins.
    pub(super) layers: [StackLayer; 3],
    /// Bit k: one of them is of kind k; all are below 16.
    pub(super) kinds: u16,
    /// Where the UDP header begins, if there is one.
    pub(super) udp: Option<usize>,
    packed: u64,
}

impl Usual {
    /// The one that has these headers.
    #[inline(always)]
    pub(super) fn of(headers: &Headers) -> Option<&'static Self> {
        let packed = packed(headers.layers);
        if packed == IPV4_UDP.packed {
            Some(&IPV4_UDP)
        } else if packed == IPV4_TCP.packed {
            Some(&IPV4_TCP)
        } else if packed == IPV6_TCP.packed {
            Some(&IPV6_TCP)
        } else if packed == IPV6_UDP.packed {
            Some(&IPV6_UDP)
        } else {
            None
        }
    }

    /// The tunnel that a level with these headers carries, as [`TunnelPorts::at_once`] says.
    #[inline(always)]
    pub(super) fn tunnel(
        &self,
        headers: &Headers,
        ports: &TunnelPorts,
    ) -> Option<Option<UdpTunnel>> {
        match self.udp {
            Some(_) => ports.at_once(headers.dst_port as u16),
            None => Some(None),
        }
    }

    const fn new(ip: LayerKind, ip_bytes: usize, upper: LayerKind) -> Self {
        let l4 = L3 + ip_bytes;
        Self {
            layers: [
                StackLayer::new(LayerKind::Ethernet, 0, None),
                StackLayer::new(ip, L3 as u16, None),
                StackLayer::new(upper, l4 as u16, None),
            ],
            kinds: 1 << LayerKind::Ethernet as u16 | 1 << ip as u16 | 1 << upper as u16,
            udp: match upper {
                LayerKind::Udp => Some(l4),
                _ => None,
            },
            packed: packed([
                Layer::new(LayerKind::Ethernet, 0),
                Layer::new(ip, L3 as u16),
                Layer::new(upper, l4 as u16),
                Layer(0),
            ]),
        }
    }
}

pub(super) static IPV4_UDP: Usual = Usual::new(LayerKind::Ipv4, IPV4_BYTES, LayerKind::Udp);
static IPV4_TCP: Usual = Usual::new(LayerKind::Ipv4, IPV4_BYTES, LayerKind::Tcp);
static IPV6_UDP: Usual = Usual::new(LayerKind::Ipv6, IPV6_BYTES, LayerKind::Udp);
static IPV6_TCP: Usual = Usual::new(LayerKind::Ipv6, IPV6_BYTES, LayerKind::Tcp);

/// Four layers in one word, to be compared at once.
#[inline(always)]
const fn packed([a, b, c, d]: [Layer; 4]) -> u64 {
    a.0 as u64 | (b.0 as u64) << 16 | (c.0 as u64) << 32 | (d.0 as u64) << 48
}
