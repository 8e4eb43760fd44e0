//! The simulated network: frames on their way between data directories, late, lost, doubled or out of order by seed.
//!
//! Nodes are numbered slots (one per data directory). The net decides whether and when a frame arrives; the world
//! decides what the sender of a lost frame hears of it.

use crate::rng::Rng;
use raftkv_core::types::MemberId;
use raftkv_core::wire::Frame;
use std::collections::{BTreeMap, BTreeSet};

/// One node's place in the world; never reused.
pub type Slot = usize;

/// How bad the network is, in steps and per mille.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetRates {
    /// Longest delay of a frame.
    pub delay_steps_max: u64,
    /// Frames that are lost.
    pub loss_per_mille: u64,
    /// Frames that arrive twice.
    pub double_per_mille: u64,
    /// Frames that overtake others.
    pub reorder_per_mille: u64,
}

/// A frame on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Sending slot.
    pub from: Slot,
    /// Receiving slot.
    pub to: Slot,
    /// Sending member.
    pub from_member: MemberId,
    /// What is sent.
    pub frame: Frame,
}

/// The network.
#[derive(Debug, Default)]
pub struct SimNet {
    /// Sorted by due step, then by order of sending.
    queue: BTreeMap<(u64, u64), Packet>,
    sent: u64,
    /// Last due step of each direction: without reordering, streams keep their order.
    last_due: BTreeMap<(Slot, Slot), u64>,
    /// Directions that are cut.
    blocked: BTreeSet<(Slot, Slot)>,
    /// The rates in force.
    pub rates: NetRates,
    /// What happened to frames.
    pub counts: NetCounts,
}

/// What happened to frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetCounts {
    /// Lost on an open line.
    pub lost: u64,
    /// Sent twice.
    pub doubled: u64,
    /// Overtook another one.
    pub reordered: u64,
}

/// What became of a frame that was given to the net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// On its way.
    Taken,
    /// Gone.
    Lost,
}

impl SimNet {
    /// Takes a frame.
    pub fn send(&mut self, now: u64, packet: Packet, rng: &mut Rng) -> Sent {
        if self.is_blocked(packet.from, packet.to) {
            return Sent::Lost;
        }
        if rng.chance(self.rates.loss_per_mille) {
            self.counts.lost += 1;
            return Sent::Lost;
        }
        if rng.chance(self.rates.double_per_mille) {
            self.counts.doubled += 1;
            self.enqueue(now, packet.clone(), rng);
        }
        self.enqueue(now, packet, rng);
        Sent::Taken
    }

    fn enqueue(&mut self, now: u64, packet: Packet, rng: &mut Rng) {
        let direction = (packet.from, packet.to);
        let mut due = now + 1 + rng.below(self.rates.delay_steps_max + 1);
        let last_due = self.last_due.get(&direction).copied().unwrap_or(0);
        if rng.chance(self.rates.reorder_per_mille) {
            self.counts.reordered += u64::from(due < last_due);
        } else {
            due = due.max(last_due);
            self.last_due.insert(direction, due);
        }
        self.sent += 1;
        self.queue.insert((due, self.sent), packet);
    }

    /// The next frame that is due; frames of a direction that was cut meanwhile are dropped.
    pub fn deliver(&mut self, now: u64) -> Option<Packet> {
        while let Some(first) = self.queue.first_entry() {
            if first.key().0 > now {
                return None;
            }
            let packet = first.remove();
            if !self.is_blocked(packet.from, packet.to) {
                return Some(packet);
            }
        }
        None
    }

    /// Keeps a frame until `due`, for a process that does not run at the moment.
    pub fn hold(&mut self, due: u64, packet: Packet) {
        self.sent += 1;
        self.queue.insert((due, self.sent), packet);
    }

    /// Drops all frames of this node that are on their way.
    pub fn forget(&mut self, from: Slot) {
        self.queue.retain(|_, packet| packet.from != from);
    }

    /// Number of frames on their way.
    pub fn on_the_way(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing gets from `from` to `to`.
    pub fn is_blocked(&self, from: Slot, to: Slot) -> bool {
        self.blocked.contains(&(from, to))
    }

    /// Cuts one direction.
    pub fn block(&mut self, from: Slot, to: Slot) {
        self.blocked.insert((from, to));
    }

    /// Cuts everything between two groups, in both directions; `inside` is true for one of them.
    pub fn partition(&mut self, slots: usize, inside: impl Fn(Slot) -> bool) {
        for from in 0..slots {
            for to in 0..slots {
                if inside(from) != inside(to) {
                    self.block(from, to);
                }
            }
        }
    }

    /// Ends all cuts.
    pub fn heal(&mut self) {
        self.blocked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::wire::Report;

    fn packet(applied: u64) -> Packet {
        let report = Report { applied, ..Report::default() };
        Packet { from: 0, to: 1, from_member: 1, frame: Frame::Report(report) }
    }

    fn drain(net: &mut SimNet) -> Vec<u64> {
        let mut out = Vec::new();
        while let Some(packet) = net.deliver(u64::MAX) {
            if let Frame::Report(report) = packet.frame {
                out.push(report.applied);
            }
        }
        out
    }

    #[test]
    fn streams_keep_their_order_unless_reordering_is_asked_for() {
        let mut rng = Rng::new(1);
        let mut net = SimNet { rates: NetRates { delay_steps_max: 50, ..NetRates::default() }, ..SimNet::default() };
        (0..50).for_each(|n| assert_eq!(net.send(n, packet(n), &mut rng), Sent::Taken));
        assert_eq!(drain(&mut net), (0..50).collect::<Vec<_>>());
        net.rates.reorder_per_mille = 500;
        (0..50).for_each(|n| assert_eq!(net.send(n, packet(n), &mut rng), Sent::Taken));
        let mut seen = drain(&mut net);
        assert_ne!(seen, (0..50).collect::<Vec<_>>());
        seen.sort_unstable();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_partition_also_drops_what_is_on_its_way() {
        let mut rng = Rng::new(1);
        let mut net = SimNet::default();
        net.send(0, packet(1), &mut rng);
        net.partition(2, |slot| slot == 0);
        assert_eq!(net.send(0, packet(2), &mut rng), Sent::Lost);
        assert!(net.deliver(10).is_none());
        net.heal();
        assert_eq!(net.send(0, packet(3), &mut rng), Sent::Taken);
        assert_eq!(drain(&mut net), [3]);
    }
}
