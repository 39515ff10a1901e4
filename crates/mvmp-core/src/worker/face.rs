//! Faces of a port: its cells (Table 1), put together by how they see its packets.
//!
//! Cells with the same `decap` and `strip` look at the same bytes, so what lies there is parsed
//! once for all of them, and their rules are asked in one go.

use std::sync::Arc;

use mvmp_policy::rule::{Classifier, Needs, Packets};
use mvmp_wire::packet::{Headers, LayerSet, Stack, TunnelPorts, parse_into, walk_on};

use super::buffers::{BURST, Buffers};
use super::item::Item;
use super::view::{Part, View};

/// Cells that a face can have: a platform has as many devices.
pub const CELLS: usize = 64;

/// The cells of one port that see its packets alike.
#[derive(Clone)]
pub struct Face {
    /// Layers that are jumped over, and go out again.
    pub decap: LayerSet,
    /// Layers that are jumped over for good.
    pub strip: LayerSet,
    /// The rules of the cells.
    pub classifier: Arc<Classifier>,
    /// The device of each cell.
    pub devices: Vec<usize>,
}

impl Face {
    /// The packets are seen as they came.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.decap.is_empty() && self.strip.is_empty()
    }

    /// Which packets each of the cells in `asked` wants, a bit for each packet.
    #[inline(always)]
    pub fn wanted(&self, packets: &Packets<'_>, asked: u64) -> [u64; CELLS] {
        let mut wanted = [0; CELLS];
        self.classifier.classify_for(packets, asked, &mut wanted);
        wanted
    }

    /// What its cells see of a frame that begins at `base` within its buffer's.
    #[inline(always)]
    fn view(&self, stack: &Stack, whole: Part, base: u16) -> (Part, View) {
        let shown = Part::from(stack.view(self.decap.union(self.strip)));
        if shown == whole && base == 0 {
            return (shown, View::default());
        }
        if self.strip.is_empty() && base == 0 {
            return (shown, View::showing(shown));
        }
        let sent = if self.strip.is_empty() {
            whole
        } else {
            stack.view(self.strip).into()
        };
        (shown, View::new(shown.after(base), sent.after(base)))
    }
}

/// One burst: the frames as they came, or as they are to be sent, and what is known of them.
pub struct Arrivals {
    pub items: [Item; BURST],
    pub headers: [Headers; BURST],
    /// Filled only where something asks for tunnels.
    pub stacks: [Stack; BURST],
    /// Headers of what each stack's last level shows: what most faces see. Filled with the stacks.
    inner: [Headers; BURST],
    pub wire_lengths: [u32; BURST],
    /// The same packets as one face, or one handle, sees them.
    seen: [Item; BURST],
    seen_headers: [Headers; BURST],
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            items: [Item::default(); BURST],
            headers: [Headers::default(); BURST],
            stacks: [Stack::default(); BURST],
            inner: [Headers::default(); BURST],
            wire_lengths: [0; BURST],
            seen: [Item::default(); BURST],
            seen_headers: [Headers::default(); BURST],
        }
    }
}

impl Arrivals {
    /// Walks the whole stack of each of the first `count` packets, and records the innermost flow.
    pub fn look_deeper(&mut self, buffers: &Buffers, count: usize, ports: &TunnelPorts) {
        for at in 0..count {
            let (item, headers, stack) =
                (self.items[at], &mut self.headers[at], &mut self.stacks[at]);
            let inner = &mut self.inner[at];
            walk_on(buffers.frame(item), headers, ports, stack, inner);
            headers.flow_hash = stack.innermost_hash();
            let record = buffers.note_flow(item.granule, headers.flow_hash);
            self.wire_lengths[at] = record.wire_length;
        }
    }

    /// The first `count` packets as a face sees them; `asks` looks at them before they are lent.
    #[inline(always)]
    pub fn seen_by(
        &mut self,
        face: &Face,
        buffers: &Buffers,
        count: usize,
        asks: impl FnOnce(&Packets<'_>),
    ) -> &[Item] {
        if face.is_plain() {
            let mut frames: [&[u8]; BURST] = [&[]; BURST];
            for (frame, item) in frames.iter_mut().zip(&self.items[..count]) {
                *frame = buffers.frame(*item);
            }
            let headers = &self.headers[..count];
            asks(&Packets {
                headers,
                frames: &frames[..count],
                outer: headers,
                outer_frames: &frames[..count],
                stacks: &self.stacks[..count],
                wire_lengths: &self.wire_lengths[..count],
            });
            return &self.items[..count];
        }
        let mut levels = 0;
        for at in 0..count {
            levels |= u64::from(self.see(face, at, 0, buffers)) << at;
        }
        self.ask_seen(buffers, count, levels, asks);
        &self.seen[..count]
    }

    /// One packet on its way out, `base` bytes into its buffer's frame, as a face sees it.
    pub fn seen_outbound(
        &mut self,
        face: &Face,
        base: u16,
        buffers: &Buffers,
        asks: impl FnOnce(&Packets<'_>),
    ) -> &[Item] {
        let level = self.see(face, 0, base, buffers);
        self.seen[0].view = self.seen[0].view.outbound();
        self.ask_seen(buffers, 1, u64::from(level), asks);
        &self.seen[..1]
    }

    /// Packets that an NF has passed on, as it saw them itself.
    pub fn seen_alike(
        &mut self,
        shown: &[Item],
        buffers: &Buffers,
        tunnels: Option<&TunnelPorts>,
        asks: impl FnOnce(&Packets<'_>),
    ) {
        for (at, item) in shown.iter().enumerate() {
            let record = buffers.record(item.granule);
            self.items[at] = Item::default_at(item.granule).showing(View::default(), &record);
            let whole = buffers.frame(self.items[at]);
            parse_into(whole, record.link, &mut self.headers[at]);
            self.wire_lengths[at] = record.wire_length;
            if let Some(ports) = tunnels {
                let (stack, inner) = (&mut self.stacks[at], &mut self.inner[at]);
                walk_on(whole, &self.headers[at], ports, stack, inner);
            }
            self.seen[at] = *item;
            let link = item.view.shown(&record).link;
            parse_into(buffers.frame(*item), link, &mut self.seen_headers[at]);
        }
        self.ask_seen(buffers, shown.len(), 0, asks);
    }

    /// One packet as a face sees it. True: it is the last level of its stack, whose headers are
    /// known; else `seen_headers` has them.
    #[inline(always)]
    fn see(&mut self, face: &Face, at: usize, base: u16, buffers: &Buffers) -> bool {
        let item = self.items[at];
        let whole = Part {
            start: 0,
            end: item.length,
            link: self.headers[at].link,
        };
        let stack = &self.stacks[at];
        let (part, view) = face.view(stack, whole, base);
        self.seen[at] = Item {
            offset: item.offset + part.start,
            length: part.length(),
            link: part.link as u8,
            view,
            ..item
        };
        if stack.shows_level(face.decap.union(face.strip)) {
            return true;
        }
        if part == whole {
            self.seen_headers[at] = self.headers[at];
        } else {
            let frame = buffers.frame(self.seen[at]);
            parse_into(frame, part.link, &mut self.seen_headers[at]);
        }
        false
    }

    /// Asks about packets as they are seen, those in `levels` as the last level of their stacks.
    #[inline(always)]
    fn ask_seen(
        &mut self,
        buffers: &Buffers,
        count: usize,
        levels: u64,
        asks: impl FnOnce(&Packets<'_>),
    ) {
        let all = u64::MAX.unbounded_shr((BURST - count) as u32);
        let headers = if levels == all {
            &self.inner
        } else {
            let mut left = levels;
            while left != 0 {
                let at = left.trailing_zeros() as usize;
                left &= left - 1;
                self.seen_headers[at] = self.inner[at];
            }
            &self.seen_headers
        };
        let mut outer_frames: [&[u8]; BURST] = [&[]; BURST];
        let mut frames: [&[u8]; BURST] = [&[]; BURST];
        for at in 0..count {
            outer_frames[at] = buffers.frame(self.items[at]);
            frames[at] = buffers.frame(self.seen[at]);
        }
        asks(&Packets {
            headers: &headers[..count],
            frames: &frames[..count],
            outer: &self.headers[..count],
            outer_frames: &outer_frames[..count],
            stacks: &self.stacks[..count],
            wire_lengths: &self.wire_lengths[..count],
        });
    }
}

/// These rules ask for what [`Arrivals::look_deeper`] finds.
pub fn asks_deeper(needs: Needs) -> bool {
    needs.stack || needs.wire_length
}
