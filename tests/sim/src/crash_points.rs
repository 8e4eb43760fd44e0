//! Power that fails at an exact place: before or after a call of the log's disk, a frame, a membership, an applied
//! batch.
//!
//! Chance also gets between any two steps; a sweep over these places guarantees that each of them was tried, by a
//! leader, by a follower and by an only voter. `tests/identity_states.rs` sweeps over a join and an init in an empty
//! directory.

use crate::admin::Admin;
use crate::disk::{Call, Trap};
use crate::invariants::{Check, Violation};
use crate::net::Slot;
use crate::node::Out;
use crate::swarm::Fault;
use crate::world::World;
use raftkv_core::driver::Role;

/// A place at which the power can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A call of the log's disk on names that begin with this.
    Disk(Call, &'static str),
    /// A frame leaves the node.
    Send,
    /// A conf change takes effect.
    Membership,
    /// The apply thread has taken a turn, but has told nobody yet.
    Apply,
}

impl Place {
    /// The place that this output of a node passes, if any.
    pub(crate) fn of(out: &Out) -> Option<Place> {
        match out {
            Out::Frame { .. } => Some(Place::Send),
            Out::Members(_) => Some(Place::Membership),
            Out::Answer { .. }
            | Out::Applied { .. }
            | Out::ReadReady { .. }
            | Out::ReadFailed { .. }
            | Out::Persists { .. }
            | Out::Fetch { .. }
            | Out::Cut { .. }
            | Out::StoreReady { .. }
            | Out::Gone { .. }
            | Out::Quarantined(_)
            | Out::DistrustsKv(_)
            | Out::Closed
            | Out::DiskFailed(_) => None,
        }
    }
}

/// Every place with its name for people. A segment's header is written while its file is still a spare.
pub const PLACES: [(&str, Place); 15] = [
    ("log-write", Place::Disk(Call::Write, "wal-")),
    ("log-sync", Place::Disk(Call::Sync, "wal-")),
    ("header-write", Place::Disk(Call::Write, "spare-")),
    ("header-sync", Place::Disk(Call::Sync, "spare-")),
    ("segment-begin", Place::Disk(Call::Rename, "wal-")),
    ("segment-spare", Place::Disk(Call::Rename, "spare-")),
    ("segment-remove", Place::Disk(Call::Remove, "wal-")),
    ("snapshot-write", Place::Disk(Call::Write, "snapshot-")),
    ("snapshot-sync", Place::Disk(Call::Sync, "snapshot-")),
    ("snapshot-rename", Place::Disk(Call::Rename, "snapshot-")),
    ("install-switch", Place::Disk(Call::Rename, "CURRENT")),
    ("directory-sync", Place::Disk(Call::SyncDir, "")),
    ("send", Place::Send),
    ("membership", Place::Membership),
    ("apply", Place::Apply),
];

/// Whose power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A leader with followers.
    Leader,
    /// A member that does not lead.
    Follower,
    /// The only voter.
    Single,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Leader, Part::Follower, Part::Single];
}

/// A planned failure of power: at which place, on which node, and how many passes come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    /// The place.
    pub place: Place,
    /// Whether the power fails after the place's effect.
    pub after: bool,
    /// Which member's power fails.
    pub part: Part,
    /// The failure comes at this pass of the place, counted from here on; at least 1.
    pub left: u64,
}

/// What brings members to rare places: a fault with its chance in a step, in parts of a million.
const FAULTS: [(Fault, u64); 4] =
    [(Fault::Change, 5_000), (Fault::Crash, 300), (Fault::Partition, 500), (Fault::HalfEmpty, 300)];

impl World {
    /// A world with many segments, snapshots, installs and membership changes, and with one failure of power to come.
    /// At an even `left`, spares are made of old segments only.
    pub fn with_crash_point(seed: u64, armed: Armed) -> Result<World, Violation> {
        let mut world = World::build(
            seed,
            |swarm| {
                let is_single = armed.part == Part::Single;
                swarm.voters = if is_single { 1 } else { swarm.voters.clamp(3, 5) };
                swarm.wishes = if is_single { (1, 2) } else { (3, 5) };
                swarm.sizes.snapshot_log_bytes_min = 1 << 11;
                (swarm.sizes.log.segment_bytes, swarm.sizes.log.batch_bytes_max) = (1 << 13, 1 << 12);
                swarm.faults = FAULTS.to_vec();
                swarm.occasions.clear();
                swarm.spare_per_mille = if armed.left.is_multiple_of(2) { 0 } else { 1_000 };
                (swarm.traffic.put_per_mille, swarm.traffic.value_bytes_max) = (500, 1 << 10);
            },
            Admin::new,
            |number| format!("n{number}"),
        )?;
        world.armed = Some(armed);
        Ok(world)
    }

    /// Whether the failure of power is still to come.
    pub fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Sets the trap on the node's disk for one turn, if the node plays the part that is meant; false: it does not.
    pub(crate) fn lay_trap(&mut self, slot: Slot) -> bool {
        let Some(Armed { place: Place::Disk(call, prefix), after, part, left }) = self.armed else { return false };
        let is_meant = self.part(slot) == Some(part);
        if is_meant {
            self.nodes[slot].disk.set_trap(Trap { call, prefix, after, left });
        }
        is_meant
    }

    /// Takes the trap back after the turn, in which the node may have changed its part. If the trap has sprung, the
    /// power of this node fails, and the effects of its turn are lost.
    pub(crate) fn take_trap(&mut self, slot: Slot) {
        let left = self.nodes[slot].disk.take_trap().map(|trap| trap.left);
        self.armed = self.armed.zip(left).map(|(armed, left)| Armed { left, ..armed });
    }

    /// Passes a place; true when the power failed there.
    pub(crate) fn loses_power(&mut self, slot: Slot, place: Place, after: bool) -> bool {
        let part = self.part(slot);
        let Some(armed) = &mut self.armed else { return false };
        if (armed.place, armed.after, Some(armed.part)) != (place, after, part) {
            return false;
        }
        armed.left -= 1;
        if armed.left > 0 {
            return false;
        }
        self.armed = None;
        self.trace.line(self.now, &format!("{} loses power at {place:?}", self.nodes[slot].name));
        self.power_off(slot);
        true
    }

    /// Lets the invariants see what was applied, although nobody was told of it.
    pub(crate) fn witness(&mut self, slot: Slot, out: &[Out]) -> Check {
        let Some(id) = self.nodes[slot].member_id() else { return Ok(()) };
        for one in out {
            if let Out::Applied { items, results, hash } = one {
                self.invariants.applied(id, items, results, hash)?;
            }
        }
        Ok(())
    }

    fn part(&self, slot: Slot) -> Option<Part> {
        let status = self.nodes[slot].status()?;
        let alone = status.membership.voters.len() == 1 && status.membership.voters.contains(&status.id);
        Some(match status.role {
            _ if alone => Part::Single,
            Role::Leader => Part::Leader,
            Role::Follower | Role::Candidate => Part::Follower,
        })
    }
}
