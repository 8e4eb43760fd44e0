//! Faults, and how they end. The run's swarm decides which of them can happen and how often.
//!
//! `ambush` has the faults that wait for an occasion, `directory` those of whole directories.

use crate::ambush::Ambush;
use crate::directory::Directory;
use crate::disk::{Call, Fault as DiskFault, Losses};
use crate::invariants::{Check, Violation};
use crate::net::Slot;
use crate::node::Life;
use crate::put_back::Heard;
use crate::swarm::Fault;
use crate::twins::Twin;
use crate::world::World;
use raftkv_core::driver::Event;
use raftkv_core::membership::Membership;
use raftkv_core::types::MemberId;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

/// Chance in a step, in parts of a million, that all cuts of the network heal.
const HEAL_PER_MILLION: u64 = 1_500;
/// Chance in a step, in parts of a million, that one of the nodes that are down starts.
const RESTART_PER_MILLION: u64 = 4_000;
/// Longest pause of a node, in steps.
const PAUSE_STEPS_MAX: u64 = 1_500;
/// Longest time of a full or slow disk, in steps.
const DISK_STEPS_MAX: u64 = 3_000;
/// Longest time of a sync, and of a kv db, that stands still, in steps.
const STILL_STEPS_MAX: u64 = 6_000;
/// The same of all syncs at once: they move no leadership.
const ALL_SLOW_STEPS_MAX: u64 = 600;
/// Speeds of a clock, per mille.
const CLOCKS: [u64; 5] = [500, 700, 1_000, 1_400, 2_000];

/// Faults that last, faults that wait, and what they need to know.
#[derive(Default)]
pub(crate) struct Troubles {
    /// Slow disks: the step at which this ends, and one in how many turns the disk works.
    slow: BTreeMap<Slot, (u64, u64)>,
    /// Full disks, each with the step at which this ends.
    full: BTreeMap<Slot, u64>,
    /// Kv dbs that take nothing, until then.
    stalled: BTreeMap<Slot, u64>,
    /// Speeds of the clocks that go wrong.
    clocks: BTreeMap<Slot, u64>,
    loops: BTreeMap<Slot, CrashLoop>,
    pub(crate) ambushes: Vec<Ambush>,
    /// Voters at the last look at each node's membership.
    pub(crate) voters: BTreeMap<Slot, usize>,
    /// Older copies of data directories.
    pub(crate) backups: BTreeMap<Slot, Directory>,
    /// What each member showed each process of its disk.
    pub(crate) heard: BTreeMap<(Slot, MemberId), Heard>,
    /// Nodes whose directory was put back and forgot a promise, until they know it.
    pub(crate) forgetful: BTreeSet<Slot>,
    /// Second processes on copies of data directories.
    pub(crate) twins: Vec<Twin>,
}

/// A node whose power fails again and again.
struct CrashLoop {
    left: u64,
    /// The next failure comes from this step on, as soon as a write waits for its sync; at `latest` it comes in any
    /// case.
    at: u64,
    latest: u64,
}

impl World {
    /// Lets faults begin and end.
    pub(crate) fn faults(&mut self) -> Check {
        self.paused.retain(|_, until| *until > self.now);
        self.disks_recover();
        self.watch_forgetful()?;
        if self.peace {
            return Ok(());
        }
        for at in 0..self.swarm.faults.len() {
            let (fault, per_million) = self.swarm.faults[at];
            if self.rng.below(1_000_000) < per_million && self.strike(fault)? {
                self.counts.add(fault, 1);
            }
        }
        self.keep_a_backup();
        self.spring_ambushes();
        self.twins_speak()?;
        self.go_on_with_loops()?;
        if self.rng.below(1_000_000) < HEAL_PER_MILLION {
            self.net.heal();
        }
        if self.rng.below(1_000_000) < RESTART_PER_MILLION {
            let mut down: Vec<Slot> = self.down();
            let has_finding = |slot: &Slot| {
                matches!(self.nodes[*slot].life, Life::Quarantined(_)) && self.nodes[*slot].finding.is_some()
            };
            down.extend((0..self.nodes.len()).filter(has_finding));
            if let Some(slot) = self.rng.pick(&down).copied() {
                self.boot(slot)?;
            }
        }
        Ok(())
    }

    /// Ends all lasting faults.
    pub(crate) fn end_troubles(&mut self) {
        self.paused.clear();
        let Troubles { slow, full, stalled, clocks, loops, ambushes, .. } = &mut self.troubles;
        full.keys().for_each(|slot| self.nodes[*slot].disk.set_full(false));
        slow.clear();
        full.clear();
        stalled.clear();
        clocks.clear();
        loops.clear();
        ambushes.clear();
    }

    fn disks_recover(&mut self) {
        let now = self.now;
        self.troubles.slow.retain(|_, (until, _)| *until > now);
        self.troubles.stalled.retain(|_, until| *until > now);
        self.troubles.full.retain(|slot, until| {
            if *until <= now {
                self.nodes[*slot].disk.set_full(false);
            }
            *until > now
        });
    }

    /// Slots that could start.
    pub(crate) fn down(&self) -> Vec<Slot> {
        let may_start = |slot: &Slot| !self.held.contains(slot) && !self.troubles.forgetful.contains(slot);
        let down = |slot: &Slot| matches!(self.nodes[*slot].life, Life::Down) && may_start(slot);
        (0..self.nodes.len()).filter(down).collect()
    }

    /// Slots whose process runs.
    fn up(&self) -> Vec<Slot> {
        (0..self.nodes.len()).filter(|slot| self.nodes[*slot].running().is_some()).collect()
    }

    /// Lets a fault strike; true when it found a victim and counts.
    fn strike(&mut self, fault: Fault) -> Result<bool, Violation> {
        let slots = self.nodes.len();
        let up = self.up();
        let Some(slot) = self.rng.pick(&up).copied() else { return Ok(false) };
        self.trace.line(self.now, &format!("fault {fault:?} {}", self.nodes[slot].name));
        match fault {
            Fault::Crash if self.rng.chance(500) => self.power_off(slot),
            // The power fails as soon as a write waits for its sync.
            Fault::Crash => {
                let latest = self.now + 200;
                self.troubles.loops.insert(slot, CrashLoop { left: 1, at: self.now, latest });
            }
            Fault::Blackout => up.into_iter().for_each(|slot| self.power_off(slot)),
            Fault::CrashLoop => {
                let (left, at) = (self.rng.between(2, 12), self.now);
                self.troubles.loops.insert(slot, CrashLoop { left, at, latest: at + 200 });
            }
            Fault::Kill => self.kill(slot),
            Fault::Stop => self.step_node(slot, Event::Close)?,
            // These count when they hit.
            Fault::SyncError => return Ok(self.lay_error(slot, &[Call::Sync, Call::SyncDir])),
            Fault::WriteError => {
                return Ok(self.lay_error(slot, &[Call::Write, Call::Write, Call::Create, Call::Rename, Call::Remove]));
            }
            Fault::FullDisk => {
                let until = self.now + self.rng.between(200, DISK_STEPS_MAX);
                self.nodes[slot].disk.set_full(true);
                self.troubles.full.insert(slot, until);
                return Ok(false);
            }
            Fault::SlowDisk => {
                let until = self.now + self.rng.between(200, DISK_STEPS_MAX);
                self.troubles.slow.insert(slot, (until, 1 << self.rng.between(1, 8)));
            }
            Fault::HungSync => self.hang_syncs(&up),
            Fault::StalledApply => {
                let until = self.now + self.rng.between(200, STILL_STEPS_MAX);
                self.troubles.stalled.insert(slot, until);
            }
            Fault::DiskLost => return Ok(self.lose_disk(slot)),
            Fault::RolledBack => return self.roll_back(slot),
            Fault::HalfEmpty => return self.lose_files(slot),
            Fault::Twin => return Ok(self.start_twin(slot)),
            Fault::Partition => {
                let group = self.rng.bits();
                self.net.partition(slots, |slot| group >> slot & 1 == 1);
            }
            Fault::OneWay => self.cut_one_way(slot, slots),
            Fault::Pause => {
                let until = self.now + self.rng.between(50, PAUSE_STEPS_MAX);
                self.paused.insert(slot, until);
            }
            Fault::Transfer => return self.transfer(),
            Fault::Change => self.admin.wakes(&mut self.rng, self.swarm.wishes),
            Fault::Clock
            | Fault::JoinCut
            | Fault::InstallCut
            | Fault::JointCut
            | Fault::SurvivorCut
            | Fault::LostWrite
            | Fault::TornWrite
            | Fault::ReorderedWrite
            | Fault::Recycled
            | Fault::LostFrame
            | Fault::DoubledFrame
            | Fault::ReorderedFrame => unreachable!("{fault:?} is not drawn by step"),
        }
        Ok(true)
    }

    fn lay_error(&mut self, slot: Slot, calls: &[Call]) -> bool {
        let call = *self.rng.pick(calls).expect("the list is not empty");
        let skip = self.rng.below(20);
        self.nodes[slot].disk.inject(DiskFault { call, prefix: String::new(), skip, kind: ErrorKind::Other });
        false
    }

    /// Cuts the way from one node to another, or all that one node hears, or all that it says.
    fn cut_one_way(&mut self, slot: Slot, slots: usize) {
        let others = (0..slots).filter(|other| *other != slot);
        match self.rng.below(4) {
            0 => others.for_each(|other| self.net.block(other, slot)),
            1 => others.for_each(|other| self.net.block(slot, other)),
            _ => {
                let other = self.rng.index(slots);
                self.net.block(slot, other);
            }
        }
    }

    /// Power loss of a node.
    pub(crate) fn power_off(&mut self, slot: Slot) {
        self.process_ends(slot);
        self.lose_unsynced(slot);
    }

    /// Ends the process alone; the disk stays as it is.
    pub(crate) fn kill(&mut self, slot: Slot) {
        self.process_ends(slot);
        self.nodes[slot].kill();
    }

    fn lose_unsynced(&mut self, slot: Slot) {
        let seed = self.rng.bits();
        let model = *self.rng.pick(&self.swarm.crash_models).expect("a run has a model");
        let Losses { lost, torn, reordered } = self.nodes[slot].crash(seed, model);
        self.counts.add(Fault::LostWrite, lost);
        self.counts.add(Fault::TornWrite, torn);
        self.counts.add(Fault::ReorderedWrite, reordered);
    }

    /// A call of the disk failed, and the process ends. Sometimes the power fails with it, else the page cache stays as
    /// it is.
    pub(crate) fn disk_failed(&mut self, slot: Slot, why: &str) {
        self.trace.line(self.now, &format!("{} disk fails: {why}", self.nodes[slot].name));
        self.process_ends(slot);
        let fault = match why {
            _ if why.contains("injected: Sync") => Some(Fault::SyncError),
            _ if why.contains("injected") => Some(Fault::WriteError),
            _ => None,
        };
        if let Some(fault) = fault {
            self.counts.add(fault, 1);
        }
        match fault.is_some() && self.rng.chance(600) {
            true => self.nodes[slot].kill(),
            false => self.lose_unsynced(slot),
        }
    }

    /// Whether a slow disk does nothing in this turn.
    pub(crate) fn disk_dawdles(&mut self, slot: Slot) -> bool {
        self.troubles.slow.get(&slot).is_some_and(|(_, one_in)| self.rng.below(*one_in) > 0)
    }

    /// Syncs stand still: one, those of a minority, or all for a short time.
    fn hang_syncs(&mut self, up: &[Slot]) {
        let (few, most) = match self.rng.below(4) {
            0 => (up.len(), ALL_SLOW_STEPS_MAX),
            1 => (up.len().saturating_sub(1) / 2, STILL_STEPS_MAX),
            _ => (1, STILL_STEPS_MAX),
        };
        let first = self.rng.index(up.len());
        for nth in 0..few.max(1) {
            let until = self.now + self.rng.between(100, most);
            self.disk_hangs(up[(first + nth) % up.len()], until);
        }
    }

    /// Whether the kv db of this node takes nothing at present.
    pub(crate) fn is_stalled(&self, slot: Slot) -> bool {
        self.troubles.stalled.contains_key(&slot)
    }

    /// Stops the disk of a node until that step, but for one turn in a million.
    pub(crate) fn disk_hangs(&mut self, slot: Slot, until: u64) {
        self.troubles.slow.insert(slot, (until, 1 << 20));
    }

    /// Draws the speed of a starting node's clock: some runs have bad clocks.
    pub(crate) fn draw_clock(&mut self, slot: Slot) {
        self.troubles.clocks.remove(&slot);
        if self.meets(Fault::Clock) {
            let speed = *self.rng.pick(&CLOCKS).expect("the list is not empty");
            if speed != 1_000 {
                self.troubles.clocks.insert(slot, speed);
                self.counts.add(Fault::Clock, 1);
            }
        }
    }

    /// Whose clock ticks next.
    pub(crate) fn next_clock(&mut self) -> Option<Slot> {
        let slots = self.awake(|_| true);
        if self.troubles.clocks.is_empty() {
            return self.rng.pick(&slots).copied();
        }
        let speed = |slot: &Slot| self.troubles.clocks.get(slot).copied().unwrap_or(1_000);
        let all: u64 = slots.iter().map(speed).sum();
        let mut draw = if all == 0 { 0 } else { self.rng.below(all) };
        slots.into_iter().find(|slot| {
            let hit = draw < speed(slot);
            draw = draw.saturating_sub(speed(slot));
            hit
        })
    }

    fn go_on_with_loops(&mut self) -> Check {
        let now = self.now;
        let due = |(slot, one): (&Slot, &CrashLoop)| (one.at <= now).then_some(*slot);
        let slots: Vec<Slot> = self.troubles.loops.iter().filter_map(due).collect();
        for slot in slots {
            let Some(mut one) = self.troubles.loops.remove(&slot) else { continue };
            match self.nodes[slot].life {
                Life::Running(_) if one.latest > now && !self.nodes[slot].disk.is_dirty("wal-") => {}
                Life::Running(_) => {
                    // Now and then only the process ends.
                    match one.left > 1 && self.rng.chance(300) {
                        true => self.kill(slot),
                        false => self.power_off(slot),
                    }
                    (one.left, one.at) = (one.left - 1, now + self.short_time());
                }
                Life::Down if self.held.contains(&slot) || self.troubles.forgetful.contains(&slot) => continue,
                Life::Down => {
                    self.boot(slot)?;
                    one.at = now + self.short_time();
                    one.latest = one.at + 100;
                }
                Life::Blank | Life::Quarantined(_) | Life::Removed | Life::Lost => continue,
            }
            if one.left > 0 {
                self.troubles.loops.insert(slot, one);
            }
        }
        Ok(())
    }

    /// A number of steps, of a random order of magnitude.
    fn short_time(&mut self) -> u64 {
        let most = 1 << self.rng.between(2, 9);
        self.rng.between(1, most)
    }

    /// Whether the cluster can do without this node, now and after any single change that may be in flight.
    pub(crate) fn can_do_without(&self, slot: Slot) -> bool {
        let Some(id) = self.nodes[slot].member_id() else { return false };
        let Some((_, leader)) = self.leader() else { return false };
        let membership: &Membership = &leader.membership;
        let alive = |other: u64| {
            let lives = |life: &Life| !matches!(life, Life::Lost | Life::Removed | Life::Quarantined(_));
            let is_it = |slot: &Slot| self.nodes[*slot].member_id() == Some(other) && lives(&self.nodes[*slot].life);
            let mut all = (0..self.nodes.len()).filter(|slot| !self.troubles.forgetful.contains(slot));
            other != id && all.any(|slot| is_it(&slot))
        };
        let voters = membership.voters.len();
        let alive_voters = membership.voters.iter().filter(|id| alive(**id)).count();
        !membership.is_joint() && alive_voters > voters / 2 + 1
    }

    fn lose_disk(&mut self, slot: Slot) -> bool {
        let fits = self.can_do_without(slot);
        if fits {
            self.process_ends(slot);
            self.nodes[slot].life = Life::Lost;
        }
        fits
    }
}
