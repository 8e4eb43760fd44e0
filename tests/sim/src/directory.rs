//! Data directories that are not what they were: an older copy comes back, or files are missing.
//!
//! A copy of the directory is examined beforehand, to know what must happen: a directory that contradicts itself keeps
//! its node from running (rules N2, N7, N8), one that still holds all that the member ever promised runs on, and one that
//! forgot a promise comes back only if somebody remembers it (`put_back`).

use crate::disk::{CrashModel, SimDisk};
use crate::invariants::{Check, Violation};
use crate::kv::MemHome;
use crate::net::Slot;
use crate::node::Life;
use crate::swarm::Fault;
use crate::world::World;
use raftkv_core::identity::{self, Finding, Found};
use raftkv_core::limits::MIN_ELECTION_TICKS;
use raftkv_core::membership::Membership;
use raftkv_core::open::OpenError;
use raftkv_core::types::{Index, Term};

/// Chance in a step, in parts of a million, that a copy of a directory is kept.
const BACKUP_PER_MILLION: u64 = 2_000;

/// A copy of a data directory.
pub(crate) struct Directory {
    disk: SimDisk,
    home: MemHome,
}

/// What a directory means for its member.
pub(crate) enum Verdict {
    /// The directory keeps its node from running, for this reason.
    Refused(String),
    /// Nothing is missing that was promised.
    Whole,
    /// Promises are missing; the member would start from this term and last index, with this membership.
    Forgetful { position: (Term, Index), known: Membership },
    /// The directory is not one of a member.
    Other,
}

impl World {
    pub(crate) fn keep_a_backup(&mut self) {
        let wanted = self.swarm.faults.iter().any(|(fault, _)| *fault == Fault::RolledBack);
        if !wanted || self.rng.below(1_000_000) >= BACKUP_PER_MILLION {
            return;
        }
        let slots = self.awake(|_| true);
        let Some(slot) = self.rng.pick(&slots).copied() else { return };
        let node = &self.nodes[slot];
        let disk = node.disk.copy(self.rng.bits(), CrashModel::InOrder);
        self.troubles.backups.insert(slot, Directory { disk, home: node.home.copy() });
    }

    /// Brings an older copy back: of everything, of the log's files, or of the kv db.
    pub(crate) fn roll_back(&mut self, slot: Slot) -> Result<bool, Violation> {
        // The directory of a member that is down can be exchanged, too.
        let down: Vec<Slot> = self.down();
        let slot = if self.rng.chance(300) { self.rng.pick(&down).copied().unwrap_or(slot) } else { slot };
        let Some(Directory { disk, home }) = self.troubles.backups.get(&slot) else { return Ok(false) };
        let node = &self.nodes[slot];
        let seed = self.rng.bits();
        let (disk, home) = match self.rng.below(4) {
            0 => (node.disk.copy(seed, CrashModel::InOrder), home.copy()),
            1 => (disk.copy(seed, CrashModel::Nothing), node.home.copy()),
            _ => (disk.copy(seed, CrashModel::Nothing), home.copy()),
        };
        self.exchange(slot, Directory { disk, home })
    }

    /// Loses files, or leaves them empty.
    pub(crate) fn lose_files(&mut self, slot: Slot) -> Result<bool, Violation> {
        let disk = self.nodes[slot].disk.copy(self.rng.bits(), CrashModel::InOrder);
        let names = disk.names();
        let kinds = ["wal-", "snapshot-", "spare-", "CURRENT", "identity"];
        let kind = *self.rng.pick(&kinds).expect("the list is not empty");
        let how = self.rng.below(4);
        let one = self.rng.index(names.len());
        let is_lost = |at: usize, name: &String, world: &mut World| match how {
            0 => at == one,
            1 => name.starts_with(kind),
            _ => world.rng.chance(500),
        };
        let lost: Vec<&String> =
            names.iter().enumerate().filter(|(at, name)| is_lost(*at, name, self)).map(|(_, n)| n).collect();
        if lost.is_empty() || lost.len() == names.len() {
            return Ok(false);
        }
        let all_of_it = self.rng.chance(700);
        lost.into_iter().for_each(|name| disk.lose(name, all_of_it));
        let home = if self.rng.chance(300) { MemHome::new() } else { self.nodes[slot].home.copy() };
        self.exchange(slot, Directory { disk, home })
    }

    /// Loses the kv db of this member, if its process runs: the log and a snapshot restore it.
    pub fn lose_kv(&mut self, slot: Slot) -> Check {
        if self.nodes[slot].running().is_none() || self.nodes[slot].identity.is_none() {
            return Ok(());
        }
        let disk = self.nodes[slot].disk.copy(self.rng.bits(), CrashModel::InOrder);
        self.exchange(slot, Directory { disk, home: MemHome::new() }).map(drop)
    }

    /// Lets the node go on with another directory, if it is known what must follow. False: the node was only killed.
    fn exchange(&mut self, slot: Slot, directory: Directory) -> Result<bool, Violation> {
        let spared = self.can_do_without(slot);
        self.kill(slot);
        let verdict = self.look_into(slot, &directory);
        let fits = match &verdict {
            Verdict::Whole => true,
            Verdict::Refused(_) => spared,
            Verdict::Forgetful { position, known } => spared && self.is_remembered(slot, *position, known, false),
            Verdict::Other => false,
        };
        if !fits || self.troubles.forgetful.contains(&slot) {
            return Ok(false);
        }
        let node = self.nodes[slot].twin(directory.disk, directory.home);
        self.nodes[slot] = node;
        self.troubles.backups.remove(&slot);
        match verdict {
            // It starts when other nodes start.
            Verdict::Whole | Verdict::Other => {}
            Verdict::Refused(why) => {
                self.trace.line(self.now, &format!("{} does not run on: {why}", self.nodes[slot].name));
                self.nodes[slot].quarantine(Finding::new(why));
            }
            Verdict::Forgetful { .. } => {
                self.trace.line(self.now, &format!("{} is put back", self.nodes[slot].name));
                // To exchange a directory takes longer than a frame is on its way.
                self.net.forget(slot);
                self.troubles.forgetful.insert(slot);
            }
        }
        Ok(true)
    }

    /// The verdict on a node's own directory, while it is down.
    pub(crate) fn look_into_own(&self, slot: Slot) -> Verdict {
        let node = &self.nodes[slot];
        let directory = Directory { disk: node.disk.copy(0, CrashModel::Nothing), home: node.home.copy() };
        self.look_into(slot, &directory)
    }

    fn look_into(&self, slot: Slot, directory: &Directory) -> Verdict {
        let copy = directory.disk.copy(0, CrashModel::Nothing);
        let mut twin = self.nodes[slot].twin(copy, directory.home.copy());
        match identity::find(&*twin.disk) {
            Ok(Found::Member(_)) => {}
            Ok(Found::Quarantined { finding, .. }) => return Verdict::Refused(finding.why),
            Ok(Found::Empty | Found::Blank { .. } | Found::Removed { .. }) | Err(_) => return Verdict::Other,
        }
        match twin.boot(0, MIN_ELECTION_TICKS, &self.logger) {
            Err(e @ (OpenError::Log(_) | OpenError::Store(_) | OpenError::Stop(_))) => {
                return Verdict::Refused(e.to_string());
            }
            Err(OpenError::Io(_) | OpenError::KvStuck(_) | OpenError::Quarantined(_)) => return Verdict::Other,
            Ok(_) => {}
        }
        if let Life::Quarantined(why) = &twin.life {
            return Verdict::Refused(why.clone());
        }
        let Some(running) = twin.running() else { return Verdict::Other };
        let status = running.driver.status();
        if self.invariants.keeps(&status, running.driver.log()) {
            return Verdict::Whole;
        }
        let known = running.driver.membership().as_ref().clone();
        Verdict::Forgetful { position: running.driver.durable_position(), known }
    }
}
