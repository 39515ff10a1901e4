//! A device as a worker sees it: who receives from it, and where what is sent over it goes.
//!
//! Built by control, owned by the worker. Receivers are either everybody (each gets every packet)
//! or members of a group (each flow has one member). Exits answer for one packet at a time and
//! keep what that needs: a bond its turn, a bridge the stations that it has learned.

use mvmp_wire::packet::encap::Encap;

use super::buffers::BURST;

mod bond;
mod bridge;

pub use bond::{Bond, Spread};
pub use bridge::{Bridge, stations};

/// What a device is, for a worker.
#[derive(Clone, Debug)]
pub enum Exits {
    /// What is sent leaves by this port.
    Direct(u16),
    /// What came by one leaves by another.
    Bridge(Bridge),
    /// What is sent leaves by one of several that lead to the same place.
    Bond(Bond),
    /// What is sent goes to all others that receive.
    Rootless,
}

/// Where one packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By this port.
    Port(u16),
    /// By every port of the bridge but this one.
    Flood { except: u16 },
    /// That cannot be said.
    Unknown,
}

/// What the ways out ask about one packet: only what they need is found out.
#[derive(Clone, Copy, Debug)]
pub struct Asked<D, F> {
    /// The port that it came by, or is to be taken to have come by.
    pub in_port: u16,
    /// Its destination on the Ethernet, 0 without one.
    pub destination: D,
    /// Symmetric hash of its innermost flow.
    pub flow_hash: F,
}

/// A device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Where its NFs' packets go.
    pub exits: Exits,
    /// Slots of the lanes that get every packet on this worker.
    pub receivers: Vec<u8>,
    /// Lanes that share the flows among them.
    pub groups: Vec<Group>,
    /// While no NF is there to send, the worker sends on.
    pub bypass: bool,
    /// Handles that may send over it.
    pub senders: u32,
    /// How packets are made ready for the ports that need it, by the port's number.
    pub shapes: Vec<(u16, Encap)>,
}

impl Device {
    /// A device that nobody has open yet.
    pub fn new(exits: Exits) -> Self {
        Self {
            exits,
            receivers: Vec::new(),
            groups: Vec::new(),
            bypass: false,
            senders: 0,
            shapes: Vec::new(),
        }
    }

    /// Every slot that receives, groups or not.
    pub fn listeners(&self) -> impl Iterator<Item = u8> + '_ {
        let grouped = self.groups.iter().flat_map(|group| group.members.iter());
        self.receivers
            .iter()
            .copied()
            .chain(grouped.map(|member| member.slot))
    }

    /// Nobody is there to send, and the worker sends on.
    #[inline(always)]
    pub fn bypasses(&self) -> bool {
        self.bypass && self.senders == 0
    }

    /// Nobody receives.
    pub fn is_deaf(&self) -> bool {
        self.receivers.is_empty() && self.groups.iter().all(|group| group.members.is_empty())
    }

    /// A lane begins to receive; in a group it takes over its part of the flows.
    pub fn admit(&mut self, slot: u8, seat: Option<&Seat>) {
        let Some(seat) = seat else {
            return self.receivers.push(slot);
        };
        let at = self
            .groups
            .iter()
            .position(|group| group.name == seat.group);
        let at = at.unwrap_or_else(|| {
            self.groups.push(Group::new(seat.group.clone()));
            self.groups.len() - 1
        });
        self.groups[at].join(Member {
            slot,
            identity: seat.identity,
        });
    }

    /// A lane stops receiving; its flows go to the others of its group.
    pub fn dismiss(&mut self, slot: u8) {
        self.receivers.retain(|&receiver| receiver != slot);
        self.groups.iter_mut().for_each(|group| group.leave(slot));
        self.groups.retain(|group| !group.members.is_empty());
    }

    /// How a packet is made ready for this port, if it has to be.
    #[inline(always)]
    pub fn shape(&self, port: u16) -> Option<&Encap> {
        self.shapes
            .iter()
            .find(|(number, _)| *number == port)
            .map(|(_, encap)| encap)
    }

    /// The ports that its exits name.
    pub fn ports(&self) -> &[u16] {
        match &self.exits {
            Exits::Direct(port) => std::slice::from_ref(port),
            Exits::Bridge(bridge) => &bridge.ports,
            Exits::Bond(bond) => &bond.ports,
            Exits::Rootless => &[],
        }
    }

    /// By how many ports one packet leaves at the most.
    pub fn fan_out(&self) -> usize {
        match &self.exits {
            Exits::Bridge(bridge) => bridge.ports.len().saturating_sub(1).max(1),
            _ => 1,
        }
    }

    /// Where this packet leaves; `up` says which ports have a link.
    #[inline(always)]
    pub fn exit<D, F>(&mut self, asked: Asked<D, F>, up: impl Fn(u16) -> bool) -> Exit
    where
        D: FnOnce() -> u64,
        F: FnOnce() -> u32,
    {
        match &mut self.exits {
            Exits::Direct(port) => Exit::Port(*port),
            Exits::Bridge(bridge) => bridge.exit(asked.in_port, asked.destination),
            Exits::Bond(bond) => bond.exit(asked.flow_hash, up),
            Exits::Rootless => Exit::Unknown,
        }
    }
}

/// A handle's place in a group.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The group's name.
    pub group: String,
    /// What its share of the flows follows from: the same for an NF that comes back under its name.
    pub identity: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    slot: u8,
    identity: u64,
}

/// Buckets of a group: flows are dealt out by these.
const BUCKETS: usize = 4096;
/// Members of a group: slots that a platform has.
const MEMBERS_MAX: usize = 256;

/// Handles among which flows are balanced. Each bucket of flows belongs to the member that scores
/// highest for it (rendezvous hashing), so that a member that comes or goes moves its own only.
#[derive(Clone, Debug)]
pub struct Group {
    name: String,
    members: Vec<Member>,
    /// The member of each bucket, by its place in `members`.
    buckets: Box<[u8]>,
}

impl Group {
    fn new(name: String) -> Self {
        Self {
            name,
            members: Vec::new(),
            buckets: vec![0; BUCKETS].into_boxed_slice(),
        }
    }

    /// For each member, in the order of [`Self::slots`], the packets whose flow is its.
    #[inline]
    pub fn parts(&self, packets: usize, flows: &[u32; BURST]) -> [u64; MEMBERS_MAX] {
        let mut parts = [0; MEMBERS_MAX];
        for (at, flow_hash) in flows.iter().enumerate().take(packets) {
            // The hash is multiplied out: its low bits alone are not to decide.
            let bucket = (flow_hash.wrapping_mul(0x9e37_79b1) >> 20) as usize;
            let member = self.buckets[bucket % BUCKETS] as usize;
            parts[member % MEMBERS_MAX] |= 1 << at;
        }
        parts
    }

    /// Slots of all members.
    pub fn slots(&self) -> impl Iterator<Item = u8> + '_ {
        self.members.iter().map(|member| member.slot)
    }

    fn join(&mut self, member: Member) {
        self.members.push(member);
        self.deal();
    }

    fn leave(&mut self, slot: u8) {
        let before = self.members.len();
        self.members.retain(|member| member.slot != slot);
        if self.members.len() != before {
            self.deal();
        }
    }

    fn deal(&mut self) {
        for (bucket, owner) in self.buckets.iter_mut().enumerate() {
            let best = self
                .members
                .iter()
                .enumerate()
                .max_by_key(|(_, member)| score(member.identity, bucket as u64));
            *owner = best.map_or(0, |(at, _)| at as u8);
        }
    }
}

/// A well-mixed number from a member and a bucket (the finalizer of SplitMix64).
fn score(identity: u64, bucket: u64) -> u64 {
    let mut x = identity ^ bucket.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flows_that_must_move_do() {
        let mut device = Device::new(Exits::Rootless);
        let seat = |identity| Seat {
            group: "dpi".into(),
            identity,
        };
        for slot in 0..4 {
            device.admit(slot, Some(&seat(u64::from(slot) + 100)));
        }
        let owners = |device: &Device| -> Vec<u8> {
            let group = &device.groups[0];
            let slot = |&at: &u8| group.members[at as usize].slot;
            group.buckets.iter().map(slot).collect()
        };
        let before = owners(&device);
        for slot in 0..4 {
            let part = before.iter().filter(|&&owner| owner == slot).count();
            assert!(
                (824..1224).contains(&part),
                "slot {slot} has {part} of {BUCKETS}"
            );
        }
        device.dismiss(2);
        let after = owners(&device);
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(was, is)| was == is || *was == 2)
        );
        assert!(!after.contains(&2));
        device.admit(9, Some(&seat(102)));
        let back: Vec<u8> = owners(&device)
            .into_iter()
            .map(|slot| if slot == 9 { 2 } else { slot })
            .collect();
        assert_eq!(back, before, "the same name has the same flows again");
    }
}
