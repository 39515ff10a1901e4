//! Faces of a port: its cells (Table 1), put together by how they see its packets.
//!
//! Cells with the same `decap` and `strip` look at the same bytes, so what lies there is parsed
//! once for all of them, and their rules are asked in one go.

use std::sync::Arc;

use mvmp_policy::rule::{Classifier, Needs, Packets};
use mvmp_wire::packet::{Headers, LayerSet, Link, Stack, TunnelPorts, parse, parse_into, walk_on};

use super::buffers::{BURST, Buffers};
use super::item::Item;
use super::mask::ones;
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
    pub fn classify(&self, packets: &Packets<'_>, asked: u64, wanted: &mut [u64; CELLS]) {
        self.classifier.classify_for(packets, asked, wanted);
    }

    /// What its cells see of a frame that begins at `base` within its buffer's.
    #[inline(always)]
    fn view(&self, stack: &Stack, whole: Part, base: u16) -> (Part, View) {
        let shown = Part::from(stack.view(self.jumped()));
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

    /// The same of a whole frame of which its cells see the last level of the stack.
    #[inline(always)]
    fn level_view(&self, stack: &Stack) -> (Part, View) {
        let level = Part::from(stack.level());
        let view = if level.start == 0 {
            View::default()
        } else if self.strip.is_empty() {
            View::showing(level)
        } else {
            View::new(level, stack.view(self.strip).into())
        };
        (level, view)
    }

    /// All that is jumped over.
    #[inline(always)]
    fn jumped(&self) -> LayerSet {
        self.decap.union(self.strip)
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
        let items = &self.items[..count];
        let walked = self.stacks.iter_mut().zip(&mut self.inner);
        for ((item, headers), (stack, inner)) in items.iter().zip(&self.headers).zip(walked) {
            walk_on(buffers.frame(*item), headers, ports, stack, inner);
        }
        let noted = self.headers.iter_mut().zip(&mut self.wire_lengths);
        for ((item, stack), (headers, wire_length)) in items.iter().zip(&self.stacks).zip(noted) {
            headers.flow_hash = stack.innermost_hash();
            *wire_length = buffers.note_flow(item.granule, headers.flow_hash);
        }
    }

    /// Looks at one packet, at its whole stack, and records its innermost flow.
    pub fn look_at(&mut self, item: Item, link: Link, buffers: &Buffers, ports: &TunnelPorts) {
        self.items[0] = item;
        parse_into(buffers.frame(item), link, &mut self.headers[0]);
        self.look_deeper(buffers, 1, ports);
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
            let frames = frames_of(&self.items[..count], buffers);
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
        let levels = self.see_levels(face, count);
        for at in ones(all_of(count) & !levels) {
            self.see(face, at, 0, buffers);
        }
        self.ask_seen(buffers, count, levels, asks);
        &self.seen[..count]
    }

    /// One packet on its way out, `base` bytes into its buffer's frame, as a face sees it; `hop` NFs have handed it on.
    pub fn seen_outbound(
        &mut self,
        face: &Face,
        base: u16,
        hop: u8,
        buffers: &Buffers,
        asks: impl FnOnce(&Packets<'_>),
    ) -> &[Item] {
        self.see(face, 0, base, buffers);
        self.seen[0] = self.seen[0].outbound().passed_on(hop);
        self.ask_seen(buffers, 1, 0, asks);
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
            self.items[at] = Item::showing(item.granule, View::default(), &record);
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

    /// The first `count` packets as a face sees them, where that is the last level of their
    /// stacks, whose headers are known: a bit for each of these. The others are seen wrongly.
    #[inline(always)]
    fn see_levels(&mut self, face: &Face, count: usize) -> u64 {
        let (jumped, mut levels) = (face.jumped(), 0);
        let packets = self.items[..count].iter().zip(&self.stacks);
        for ((at, seen), (item, stack)) in self.seen.iter_mut().enumerate().zip(packets) {
            levels |= u64::from(stack.shows_level(jumped)) << at;
            let (part, view) = face.level_view(stack);
            *seen = item.shown(part, view);
        }
        levels
    }

    /// One packet as a face sees it, with its headers.
    #[inline(never)]
    fn see(&mut self, face: &Face, at: usize, base: u16, buffers: &Buffers) {
        let (item, stack) = (self.items[at], &self.stacks[at]);
        let whole = Part {
            start: 0,
            end: item.length(),
            link: self.headers[at].link,
        };
        let (part, view) = face.view(stack, whole, base);
        self.seen[at] = item.shown(part, view);
        self.seen_headers[at] = if part == whole {
            self.headers[at]
        } else if stack.shows_level(face.jumped()) {
            self.inner[at]
        } else {
            parse(buffers.frame(self.seen[at]), part.link)
        };
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
        let headers = if levels == all_of(count) {
            &self.inner
        } else {
            for at in ones(levels) {
                self.seen_headers[at] = self.inner[at];
            }
            &self.seen_headers
        };
        let (items, seen) = (&self.items[..count], &self.seen[..count]);
        asks(&Packets {
            headers: &headers[..count],
            frames: &frames_of(seen, buffers)[..count],
            outer: &self.headers[..count],
            outer_frames: &frames_of(items, buffers)[..count],
            stacks: &self.stacks[..count],
            wire_lengths: &self.wire_lengths[..count],
        });
    }
}

/// The bytes of at most [`BURST`] items.
#[inline(always)]
fn frames_of<'a>(items: &[Item], buffers: &'a Buffers) -> [&'a [u8]; BURST] {
    let mut frames: [&[u8]; BURST] = [&[]; BURST];
    for (frame, item) in frames.iter_mut().zip(items) {
        *frame = buffers.frame(*item);
    }
    frames
}

/// A bit for each of `count` packets.
#[inline(always)]
fn all_of(count: usize) -> u64 {
    u64::MAX.unbounded_shr((BURST - count) as u32)
}

/// These rules ask for what [`Arrivals::look_deeper`] finds.
pub fn asks_deeper(needs: Needs) -> bool {
    needs.stack || needs.wire_length
}
