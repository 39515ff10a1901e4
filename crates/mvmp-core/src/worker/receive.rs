//! From the ports to the NFs: receive, classify, deliver, and free what nobody wants.

use mvmp_wire::packet::Headers;

use super::buffers::{BURST, Buffers, Item};
use super::delivery::deliver;
use super::{Device, Lane, Worker, lane_at};
use crate::counters::DropReason;

impl Worker {
    /// One burst from each port; returns how many packets there were.
    pub(super) fn receive(&mut self, now_ns: i64) -> usize {
        let mut work = 0;
        for at in 0..self.ports.len() {
            let most = if self.parts.lossless {
                self.lossless_room(at)
            } else {
                BURST
            };
            work += self.receive_from(at, most, now_ns);
        }
        work
    }

    /// How many packets every receiver of this port's devices takes for sure.
    fn lossless_room(&mut self, at: usize) -> usize {
        let mut room = BURST as u32;
        let pool = self.ports[at].pool;
        for cell in 0..self.ports[at].cells.len() {
            let device = self.ports[at].cells[cell].device;
            room = room.min(self.room_of_receivers(pool, device, None, BURST as u32));
        }
        room as usize
    }

    fn receive_from(&mut self, at: usize, most: usize, now_ns: i64) -> usize {
        let port = &mut self.ports[at];
        if port.ended || most == 0 {
            return 0;
        }
        let buffers = &mut self.parts.pools[port.pool];
        let Arrivals { items, headers } = &mut *self.arrivals;
        let count = port.receive(buffers, most, now_ns, items, headers);
        if count == 0 {
            if port.source_ended() {
                self.end_port(at);
            }
            return 0;
        }
        let books = classify(
            port,
            buffers,
            &mut self.parts.devices,
            &mut self.lanes,
            &mut self.to_wake,
            &items[..count],
            &headers[..count],
            self.tsc,
        );
        port.counters.dispatched.add(u64::from(books.dispatched));
        if books.dispatched as usize != count {
            port.counters
                .drops
                .add(DropReason::Unmatched, u64::from(books.unmatched));
            port.counters
                .drops
                .add(DropReason::NoNf, u64::from(books.no_nf));
        }
        count
    }

    /// A source has played to its end: its handles end with it.
    fn end_port(&mut self, at: usize) {
        self.ports[at].ended = true;
        self.ports[at].counters.ended.set(1);
        let devices: Vec<usize> = self.ports[at]
            .cells
            .iter()
            .map(|cell| cell.device)
            .collect();
        for device in devices {
            let feeds = |port: &super::port::Port| {
                !port.ended && port.cells.iter().any(|cell| cell.device == device)
            };
            if self.ports.iter().any(feeds) {
                continue;
            }
            for slot in self.parts.devices[device].receivers.clone() {
                self.end_handle(slot);
            }
        }
    }
}

/// One burst as it was received.
#[derive(Debug)]
pub(super) struct Arrivals {
    items: [Item; BURST],
    headers: [Headers; BURST],
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            items: [Item::default(); BURST],
            headers: [Headers::default(); BURST],
        }
    }
}

struct Books {
    dispatched: u32,
    unmatched: u32,
    no_nf: u32,
}

/// Offers each packet to each handle of each device whose policy wants it.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one worker, borrowed apart"
)]
fn classify(
    port: &super::port::Port,
    buffers: &mut Buffers,
    devices: &mut [Device],
    lanes: &mut [Option<Box<Lane>>],
    to_wake: &mut Vec<u8>,
    items: &[Item],
    headers: &[Headers],
    tsc: u64,
) -> Books {
    let all = u64::MAX >> (64 - items.len());
    let (mut matched, mut offered, mut all_lent) = (0, 0, false);
    for cell in &port.cells {
        let wanted = if cell.matcher.is_all() {
            all
        } else {
            matches(&cell.matcher, buffers, items, headers)
        };
        matched |= wanted;
        if wanted == 0 {
            continue;
        }
        for &slot in &devices[cell.device].receivers {
            let Some(lane) = lane_at(lanes, slot) else {
                continue;
            };
            let narrowed = match &lane.matcher {
                None => wanted,
                Some(matcher) => wanted & matches(matcher, buffers, items, headers),
            };
            if narrowed != 0 {
                offered |= narrowed;
                all_lent |=
                    deliver(lane, buffers, to_wake, items, narrowed, tsc) as usize == items.len();
            }
        }
    }
    for item in if all_lent { &[] } else { items } {
        if !buffers.ledger.is_lent(item.granule) {
            buffers.go_home(item.granule);
        }
    }
    // Wanted by a device but by none of its handles' own matches: unmatched too, if it has handles.
    let nobody = |cell: &super::port::Cell| devices[cell.device].receivers.is_empty();
    let lonely = if port.cells.iter().all(nobody) {
        matched & !offered
    } else {
        0
    };
    Books {
        dispatched: offered.count_ones(),
        no_nf: lonely.count_ones(),
        unmatched: (all & !offered & !lonely).count_ones(),
    }
}

fn matches(
    matcher: &mvmp_policy::Matcher,
    buffers: &Buffers,
    items: &[Item],
    headers: &[Headers],
) -> u64 {
    let mut frames: [&[u8]; BURST] = [&[]; BURST];
    for (frame, item) in frames.iter_mut().zip(items) {
        *frame = buffers.frame(*item);
    }
    matcher.match_burst(headers, &frames[..items.len()])
}
