//! Members whose data directory was put back to an older copy, so that it forgot a promise (rule N20).
//!
//! Such a member cannot know it. Whoever was shown more, in whatever role, must object before the member votes or
//! campaigns. It starts now or later, and only while a process that remembers can be reached; when there is none any
//! more, its power fails before it does harm: what nobody alive knows is beyond what the rule promises.

use crate::directory::Verdict;
use crate::invariants::{Check, broken};
use crate::net::Slot;
use crate::node::Life;
use crate::world::World;
use raft::prelude::{Message, MessageType};
use raftkv_core::identity::Finding;
use raftkv_core::limits::{HELLO_WAIT_TICKS, MAX_ELECTION_TICKS, MIN_ELECTION_TICKS};
use raftkv_core::membership::Membership;
use raftkv_core::types::{Index, MemberId, Term};

/// Chance in a step, in parts of a million, that such a member is to be started.
const START_PER_MILLION: u64 = 10_000;

/// What a member showed a process of its disk. It is remembered here, apart from the driver, whose memory is under test.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    boots: u64,
    /// Highest term in which it acknowledged something, voted, asked for a vote, or led.
    term: Term,
    /// Highest index that it acknowledged, or called durable as its leader, in that term.
    index: Index,
}

impl World {
    /// Remembers what an arriving message shows of its sender's disk.
    pub(crate) fn heard(&mut self, slot: Slot, message: &Message) {
        let index = match message.get_msg_type() {
            MessageType::MsgAppendResponse if !message.reject => message.index,
            MessageType::MsgHeartbeatResponse | MessageType::MsgRequestVoteResponse if !message.reject => 0,
            MessageType::MsgRequestVote | MessageType::MsgSnapshot => 0,
            MessageType::MsgAppend | MessageType::MsgHeartbeat => message.reject_hint,
            _ => return,
        };
        let boots = self.nodes[slot].boots;
        let heard = self.troubles.heard.entry((slot, message.from)).or_default();
        if heard.boots != boots || heard.term < message.term {
            let term = if heard.boots == boots { heard.term.max(message.term) } else { message.term };
            *heard = Heard { boots, term, index: 0 };
        }
        if heard.term == message.term {
            heard.index = heard.index.max(index);
        }
    }

    /// Whether a process that was shown more than a directory with this term and last index has could object to it.
    /// `known` is the membership in that directory. With `reached`, the two must be able to speak to each other now.
    pub(crate) fn is_remembered(
        &self,
        slot: Slot,
        (term, last_index): (Term, Index),
        known: &Membership,
        reached: bool,
    ) -> bool {
        let Some(id) = self.nodes[slot].member_id() else { return false };
        let incarnation = self.nodes[slot].incarnation;
        let is_paused = |other: Slot| self.paused.contains_key(&other);
        let linked = |other: Slot| !self.net.is_blocked(slot, other) && !self.net.is_blocked(other, slot);
        (0..self.nodes.len()).filter(|other| *other != slot).any(|other| {
            let node = &self.nodes[other];
            let (Some(running), Some(other_id)) = (node.running(), node.member_id()) else { return false };
            // Voters only: the member does not wait for the answers of others.
            let is_asked = known.votes(other_id)
                && known.members.get(&other_id).is_some_and(|member| member.incarnation == node.incarnation);
            let answers = running.members.members.get(&id).is_some_and(|member| member.incarnation == incarnation);
            let heard = self.troubles.heard.get(&(other, id)).copied().unwrap_or_default();
            let more = heard.term > term || (heard.term == term && heard.index > last_index);
            let can_speak = !reached || (linked(other) && !is_paused(other));
            is_asked && answers && can_speak && heard.boots == node.boots && more
        })
    }

    /// The same for a process that runs, by what it would say in its hello at this moment.
    fn is_remembered_now(&self, slot: Slot) -> bool {
        let Some(running) = self.nodes[slot].running() else { return false };
        self.is_remembered(slot, running.driver.durable_position(), running.driver.membership(), true)
    }

    /// Looks after the members that forgot a promise.
    pub(crate) fn watch_forgetful(&mut self) -> Check {
        for slot in self.troubles.forgetful.clone() {
            match &self.nodes[slot].life {
                Life::Running(running) => {
                    let is_late = running.ticks() > HELLO_WAIT_TICKS;
                    if !self.is_remembered_now(slot) {
                        self.trace.line(self.now, &format!("nobody can object to {}", self.nodes[slot].name));
                        self.power_off(slot);
                    } else if is_late {
                        let what = format!("{} forgot what it showed to others, and runs on", self.nodes[slot].name);
                        return broken("rolled_back", what);
                    }
                }
                Life::Down if self.peace => {
                    self.troubles.forgetful.remove(&slot);
                    self.nodes[slot].life = Life::Lost;
                }
                Life::Down => {
                    if self.rng.below(1_000_000) < START_PER_MILLION {
                        self.start_forgetful(slot)?;
                    }
                }
                Life::Blank | Life::Quarantined(_) | Life::Removed | Life::Lost => {
                    self.troubles.forgetful.remove(&slot);
                }
            }
        }
        Ok(())
    }

    /// Starts a member that forgot promises, if anybody who remembers them can object.
    fn start_forgetful(&mut self, slot: Slot) -> Check {
        match self.look_into_own(slot) {
            Verdict::Forgetful { position, known } => {
                if !self.is_remembered(slot, position, &known, true) {
                    return Ok(());
                }
            }
            // It has learned again what it had forgotten.
            Verdict::Whole => {
                self.troubles.forgetful.remove(&slot);
                return Ok(());
            }
            Verdict::Refused(why) => {
                self.troubles.forgetful.remove(&slot);
                self.nodes[slot].quarantine(Finding::new(why));
                return Ok(());
            }
            Verdict::Other => return Ok(()),
        }
        let nonce = self.rng.bits();
        let ticks = self.rng.between(MIN_ELECTION_TICKS as u64, MAX_ELECTION_TICKS as u64) as usize;
        let out = match self.nodes[slot].boot(nonce, ticks, &self.logger) {
            Ok(out) => out,
            Err(e) => return broken("opening", format!("{} opened once, not twice: {e}", self.nodes[slot].name)),
        };
        self.counts.boots += 1;
        self.trace.line(self.now, &format!("{} starts on an older directory", self.nodes[slot].name));
        self.took(slot, out)
    }

    /// Whether a message may leave: a member that forgot a promise neither votes nor campaigns before anybody could
    /// object.
    pub(crate) fn may_speak(&self, from: Slot, message: &Message) -> Result<bool, crate::invariants::Violation> {
        let votes = matches!(
            message.get_msg_type(),
            MessageType::MsgRequestVote
                | MessageType::MsgRequestVoteResponse
                | MessageType::MsgRequestPreVote
                | MessageType::MsgRequestPreVoteResponse
        );
        if !votes || !self.troubles.forgetful.contains(&from) {
            return Ok(true);
        }
        match self.is_remembered_now(from) {
            true => broken("rolled_back", format!("{} votes before anybody could object", self.nodes[from].name)),
            // Its power fails before anything else happens.
            false => Ok(false),
        }
    }

    /// A peer knows more than the node's own disk: that is right only for a directory that forgot promises.
    pub(crate) fn is_rolled_back(&mut self, slot: Slot, why: String) -> Check {
        if self.nodes[slot].running().is_some() {
            self.process_ends(slot);
            let finding = Finding::new(why);
            self.nodes[slot].quarantine(finding.clone());
            return self.lost_trust(slot, &finding);
        }
        Ok(())
    }

    /// A node does not trust its data. No disk lies in these runs: that is right only for one that was put back.
    pub(crate) fn lost_trust(&mut self, slot: Slot, finding: &Finding) -> Check {
        let (name, why) = (&self.nodes[slot].name, &finding.why);
        if !self.troubles.forgetful.remove(&slot) || finding.diverged {
            return broken("quarantine", format!("{name} on an honest disk: {why}"));
        }
        self.trace.line(self.now, &format!("{name} is told that it was put back: {why}"));
        Ok(())
    }

    /// Other members that this membership names.
    pub(crate) fn others_in(known: &Membership, id: Option<MemberId>) -> Vec<(MemberId, raftkv_api::Hex128)> {
        let members = known.members.iter().filter(|(other, _)| Some(**other) != id);
        members.map(|(other, member)| (*other, member.incarnation)).collect()
    }
}
