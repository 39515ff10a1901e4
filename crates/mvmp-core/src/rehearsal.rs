//! What the policies of a configuration would do with a capture: `mvmp policy test`.
//!
//! The same walk, views and rules that a worker uses, without DPDK, ports or NFs.

use std::path::Path;

use mvmp_policy::Config;
use mvmp_policy::config::{CAPTURE_FRAME_BYTES_DEFAULT, DeviceSpec, Receive, Toward};
use mvmp_policy::rule::{Matcher, Packets};
use mvmp_wire::packet::{LayerSet, Link, Stack, TunnelPorts, View, parse, walk_stack};

use crate::capture::{CaptureError, CaptureReader, FrameMeta};
use crate::layers;

/// Why there was nothing to rehearse.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// No such port.
    #[error("unknown port `{name}`; ports are {known}")]
    Port {
        /// The name that was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The capture cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

/// One cell of the port, and what it has seen so far.
#[derive(Debug)]
pub struct Tally {
    /// The device.
    pub device: String,
    /// Its rule.
    pub rule: String,
    /// Packets that it would be handed.
    pub packets: u64,
    /// Bytes of them, as delivered.
    pub bytes: u64,
    /// How many of these begin further in than they were received.
    pub jumped: u64,
    /// Which packets it receives: those that come in, those that leave, both.
    pub direction: Toward,
    matcher: Matcher,
    jump: LayerSet,
}

/// What one packet is to one cell.
#[derive(Debug)]
pub struct Verdict<'a> {
    /// The device.
    pub device: &'a str,
    /// Its rule.
    pub rule: &'a str,
    /// It would be handed the packet.
    pub wanted: bool,
    /// Which packets it receives; one that came in is not asked of `Out`.
    pub direction: Toward,
    /// The layers that are jumped over or removed, outermost first: `ethernet`, `vlan 7`, ….
    pub jumped: Vec<String>,
    /// Those that the rule is asked of, and the NF sees; last why no more of them are seen, if there may be.
    pub delivered: Vec<String>,
}

/// One packet of the capture.
#[derive(Debug)]
pub struct Rehearsed<'a> {
    /// Its place in the capture, from 1.
    pub number: u64,
    /// Times and lengths.
    pub meta: FrameMeta,
    /// A verdict for each cell of the port. None for a packet that is too long or not supported.
    pub verdicts: Vec<Verdict<'a>>,
}

/// The sums.
#[derive(Debug)]
pub struct Report {
    /// The port.
    pub port: String,
    /// Packets of the capture.
    pub packets: u64,
    /// Those that no device wants: the drop `unmatched`.
    pub unmatched: u64,
    /// Those that are longer than the port's `max_frame`: the drop `too_long`.
    pub too_long: u64,
    /// Those of a link type that is not supported: the drop `link_type`.
    pub link_type: u64,
    /// One for each device with a cell for this port that is not empty, in the order of the file.
    pub devices: Vec<Tally>,
}

/// Plays a capture to the cells of a port. `tell` hears of the first `told` packets.
///
/// # Errors
/// There is no such port, or the capture is damaged (what came before was told).
pub fn rehearse(
    config: &Config,
    port: &str,
    capture: &Path,
    told: u64,
    mut tell: impl FnMut(Rehearsed<'_>),
) -> Result<Report, RehearsalError> {
    let spec = config.port(port).ok_or_else(|| {
        let known: Vec<_> = config
            .ports
            .iter()
            .map(|port| format!("`{}`", port.name))
            .collect();
        RehearsalError::Port {
            name: port.into(),
            known: known.join(", "),
        }
    })?;
    let tally = |device: &DeviceSpec| Some(Tally::new(&device.name, device.receive(port)?));
    let mut report = Report {
        port: port.into(),
        packets: 0,
        unmatched: 0,
        too_long: 0,
        link_type: 0,
        devices: config.devices.iter().filter_map(tally).collect(),
    };
    let ports = &config.platform.tunnel_ports;
    let ports = TunnelPorts::new(&ports.vxlan, &ports.geneve, &ports.gtpu);
    let limit = spec.max_frame.unwrap_or(CAPTURE_FRAME_BYTES_DEFAULT);
    let mut reader = CaptureReader::open(capture, limit)?;
    let (mut frame, mut stack) = (Vec::new(), Stack::default());
    loop {
        frame.clear();
        let Some(mut meta) = reader.read_into(&mut frame)? else {
            return Ok(report);
        };
        meta.length = frame.len() as u32;
        report.packets += 1;
        let mut verdicts = Vec::new();
        if meta.unsupported {
            report.link_type += 1;
        } else if meta.is_too_long() {
            report.too_long += 1;
        } else {
            walk_stack(&frame, meta.link, &ports, &mut stack);
            let mut wanted = false;
            for tally in &mut report.devices {
                let (view, wants) = tally.see(&frame, &meta, &stack);
                wanted |= wants;
                if report.packets <= told {
                    verdicts.push(tally.verdict(&stack, view, wants));
                }
            }
            report.unmatched += u64::from(!wanted);
        }
        if report.packets <= told {
            tell(Rehearsed {
                number: report.packets,
                meta,
                verdicts,
            });
        }
    }
}

impl Tally {
    fn new(device: &str, receive: &Receive) -> Self {
        Self {
            device: device.into(),
            rule: receive.rule.to_string(),
            packets: 0,
            bytes: 0,
            jumped: 0,
            matcher: receive.rule.compile(),
            jump: receive.decap.union(receive.strip),
            direction: receive.direction,
        }
    }

    /// Counts a packet that came in; from where it would be delivered, and whether it would be.
    fn see(&mut self, frame: &[u8], meta: &FrameMeta, stack: &Stack) -> (View, bool) {
        let view = stack.view(self.jump);
        let delivered = view.of(frame);
        let wants = self.direction != Toward::Out
            && self.matcher.match_packets(&Packets {
                headers: &[parse(delivered, view.link)],
                frames: &[delivered],
                outer: &[parse(frame, meta.link)],
                outer_frames: &[frame],
                stacks: &[*stack],
                wire_lengths: &[meta.wire_length],
            }) == 1;
        if wants {
            self.packets += 1;
            self.bytes += delivered.len() as u64;
            self.jumped += u64::from(view.start > 0);
        }
        (view, wants)
    }

    fn verdict(&self, stack: &Stack, view: View, wanted: bool) -> Verdict<'_> {
        let (mut jumped, mut delivered) = (Vec::new(), Vec::new());
        for layer in stack.layers() {
            let list = match layer.offset < view.start {
                true => &mut jumped,
                false => &mut delivered,
            };
            list.push(layers::in_words(layer));
        }
        if delivered.is_empty() {
            delivered.push(link_text(view.link).into());
        }
        delivered.extend(layers::end_in_words(stack.stop()).map(String::from));
        Verdict {
            device: &self.device,
            rule: &self.rule,
            wanted,
            direction: self.direction,
            jumped,
            delivered,
        }
    }
}

fn link_text(link: Link) -> &'static str {
    match link {
        Link::Ethernet => "ethernet",
        Link::Ipv4 => "ipv4",
        Link::Ipv6 => "ipv6",
    }
}
