//! Data directories that are not what they were: an older copy comes back, or files are missing.
//!
//! A copy of the directory is examined beforehand, to know what must happen: a directory that contradicts itself keeps
//! its node from running (rules N2, N7, N8), and one that still holds all that the member ever promised runs on. One
//! that forgot a promise cannot know it: whoever was given the promise finds it out (rule N20). Such a directory comes
//! back only while a leader that remembers can be reached, since the rules promise nothing when only others see the
//! copy.

use crate::disk::{CrashModel, SimDisk};
use crate::invariants::{Check, Violation, broken};
use crate::kv::MemHome;
use crate::net::Slot;
use crate::node::{Life, SimNode};
use crate::swarm::Fault;
use crate::world::World;
use raft::prelude::{Message, MessageType};
use raftkv_core::identity::{self, Found};
use raftkv_core::limits::MIN_ELECTION_TICKS;
use raftkv_core::open::OpenError;
use raftkv_core::types::{Index, MemberId, Term};
use std::collections::BTreeMap;

/// Chance in a step, in parts of a million, that a copy of a directory is kept.
const BACKUP_PER_MILLION: u64 = 2_000;

/// A copy of a data directory.
pub(crate) struct Directory {
    disk: SimDisk,
    home: MemHome,
}

/// What a member told a process. It is remembered here, apart from the driver, whose memory is under test.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    boots: u64,
    /// Highest term of an acknowledgement.
    term: Term,
    /// Highest index that was acknowledged in the highest term of an append's acknowledgement.
    appended: (Term, Index),
}

/// What a directory means for its member.
enum Verdict {
    /// The directory keeps its node from running, for this reason.
    Refused(String),
    /// Nothing is missing that was promised.
    Whole,
    /// Promises are missing; the member would start from this term and last index, and knows these members.
    Forgetful { term: Term, last_index: Index, members: Vec<MemberId> },
    /// The directory is not one of a member.
    Other,
}

impl World {
    /// Remembers what an arriving message promises.
    pub(crate) fn heard(&mut self, slot: Slot, message: &Message) {
        let is_append = match message.get_msg_type() {
            MessageType::MsgAppendResponse => true,
            MessageType::MsgHeartbeatResponse | MessageType::MsgRequestVoteResponse => false,
            _ => return,
        };
        let boots = self.nodes[slot].boots;
        let heard = self.troubles.heard.entry((slot, message.from)).or_default();
        if heard.boots != boots {
            *heard = Heard { boots, ..Heard::default() };
        }
        if !message.reject {
            heard.term = heard.term.max(message.term);
        }
        if is_append && !message.reject {
            heard.appended = heard.appended.max((message.term, message.index));
        }
    }

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
        self.kill(slot);
        let verdict = self.look_into(slot, &directory);
        let fits = match &verdict {
            Verdict::Whole => true,
            Verdict::Refused(_) => self.can_do_without(slot),
            Verdict::Forgetful { term, last_index, members } => {
                self.can_do_without(slot) && self.leader_remembers(slot, *term, *last_index, members)
            }
            Verdict::Other => false,
        };
        if !fits {
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
                self.nodes[slot].quarantine(why);
            }
            Verdict::Forgetful { .. } => self.start_forgetful(slot)?,
        }
        Ok(true)
    }

    fn look_into(&self, slot: Slot, directory: &Directory) -> Verdict {
        let copy = directory.disk.copy(0, CrashModel::Nothing);
        let mut twin = self.nodes[slot].twin(copy, directory.home.copy());
        match identity::find(&*twin.disk) {
            Ok(Found::Member(_)) => {}
            Ok(Found::Quarantined { why, .. }) => return Verdict::Refused(why),
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
        let (term, last_index) = running.driver.durable_position();
        Verdict::Forgetful { term, last_index, members: running.members.members.keys().copied().collect() }
    }

    /// Rule N20: whether the leader was promised more than this directory knows, and the two can reach each other.
    fn leader_remembers(&self, slot: Slot, term: Term, last_index: Index, known: &[MemberId]) -> bool {
        let Some((leader, status)) = self.leader() else { return false };
        let Some(id) = self.nodes[slot].member_id() else { return false };
        let linked = leader != slot
            && !self.paused.contains_key(&leader)
            && !self.net.is_blocked(slot, leader)
            && !self.net.is_blocked(leader, slot);
        let is_member =
            status.membership.members.get(&id).map(|member| member.incarnation) == Some(self.nodes[slot].incarnation);
        let heard = self.troubles.heard.get(&(leader, id)).copied().unwrap_or_default();
        let more = heard.boots == self.nodes[leader].boots
            && (heard.term > term
                || (term == status.term && heard.appended.0 == term && heard.appended.1 > last_index));
        linked && is_member && known.contains(&status.id) && more
    }

    /// Starts a node that forgot promises: it dials everyone, and hears what it forgot before it says anything.
    fn start_forgetful(&mut self, slot: Slot) -> Check {
        let nonce = self.rng.bits();
        if let Err(e) = self.nodes[slot].boot(nonce, MIN_ELECTION_TICKS, &self.logger) {
            return broken("opening", format!("{} opened once, not twice: {e}", self.nodes[slot].name));
        }
        self.counts.boots += 1;
        self.troubles.suspects.insert(slot);
        let known: BTreeMap<MemberId, _> = self.nodes[slot]
            .running()
            .map(|running| running.members.members.iter().map(|(id, member)| (*id, member.incarnation)).collect())
            .unwrap_or_default();
        for (id, incarnation) in known {
            let is_there = |node: &SimNode| node.incarnation == incarnation && node.running().is_some();
            let target = self.nodes.iter().position(is_there).filter(|target| *target != slot);
            if let Some(target) = target.filter(|target| !self.paused.contains_key(target)) {
                self.connect(slot, target, id)?;
            }
        }
        self.troubles.suspects.remove(&slot);
        match self.nodes[slot].life {
            Life::Quarantined(_) => Ok(()),
            _ => {
                broken("rolled_back", format!("{} forgot what it told the leader, and runs on", self.nodes[slot].name))
            }
        }
    }

    /// A peer knows more than the node's own disk: that is right only for a directory that forgot promises.
    pub(crate) fn is_rolled_back(&mut self, slot: Slot, why: String) -> Check {
        if !self.troubles.suspects.contains(&slot) {
            return broken("quarantine", format!("{} on an honest disk: {why}", self.nodes[slot].name));
        }
        if self.nodes[slot].running().is_some() {
            self.trace.line(self.now, &format!("{} hears that it is rolled back: {why}", self.nodes[slot].name));
            self.process_ends(slot);
            self.nodes[slot].quarantine(why);
        }
        Ok(())
    }
}
