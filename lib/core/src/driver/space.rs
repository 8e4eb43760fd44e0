//! What the leader refuses for lack of space, judged by its own room and by that of a quorum (rule N11). PURE.
//!
//! Every member stores every entry, and a follower cannot refuse one. So the leader decides beforehand, by what each
//! member reports about itself every second. It does so at each tick and each report, not at each command. A leader
//! that is short while a quorum is not does not refuse for long: it hands over to a voter that has room.

use super::Driver;
use crate::space::{Level, OwnSpace, Room};
use crate::types::MemberId;
use std::collections::BTreeSet;

/// Why something is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSpace {
    /// How much is refused; never [`Level::Plenty`].
    pub level: Level,
    /// The reason, for whoever asked and for the person on call.
    pub why: String,
    /// It is not room that is missing: the database is over its quota.
    pub over_quota: bool,
}

impl Driver {
    /// Takes this node's own space, as it was last seen.
    pub(super) fn own_space(&mut self, own: OwnSpace) {
        let has_space_again = self.own_space.stuck.is_some() && own.stuck.is_none();
        self.own_space = own;
        if has_space_again && let Some(syncing) = &mut self.syncing {
            syncing.begins_anew(self.now_tick);
        }
        self.judge_space();
    }

    /// Why a command is refused, if it is: one that grows the database, or any other.
    pub(super) fn refused_for_space(&self, grows: bool) -> Option<&str> {
        let refused = self.no_space.as_ref().filter(|no_space| grows || no_space.level == Level::Nothing)?;
        Some(&refused.why)
    }

    pub(super) fn judge_space(&mut self) {
        self.no_space = self.short_myself().into_iter().chain(self.short_quorum()).max_by_key(|short| short.level);
    }

    /// Whether another voter should lead because space is short here: either nothing can be written here, and a voter
    /// that can lead would take deletes at least; or puts are refused here although a quorum has room for them, and a
    /// voter with room can lead. So members that are all short do not hand over in circles. A quota is no reason: it
    /// holds for all members.
    pub(super) fn should_hand_over(&self) -> bool {
        let OwnSpace { room, stuck, .. } = &self.own_space;
        let is_short_alone = || room.level() > Level::Plenty && self.short_quorum().is_none();
        let has_heir = |most: Level| self.best_successor().is_some_and(|id| self.room_of(id).level() <= most);
        let takes_nothing = stuck.is_some() && has_heir(Level::NoPuts);
        self.is_leader() && (takes_nothing || is_short_alone() && has_heir(Level::Plenty))
    }

    fn name(&self, id: MemberId) -> String {
        let name = self.membership.members.get(&id).map_or("this node", |member| &member.name);
        format!("{name} (member {id})")
    }

    fn short_myself(&self) -> Option<NoSpace> {
        let OwnSpace { room, over_quota, stuck } = &self.own_space;
        if let Some(what) = stuck {
            let why = format!("the disk of {} is full: {what}; make room on it", self.name(self.identity.member_id));
            return Some(NoSpace { level: Level::Nothing, why, over_quota: false });
        }
        if room.level() > Level::Plenty {
            let why = format!("{} is short of space: {}; enlarge it", self.name(self.identity.member_id), room.words());
            return Some(NoSpace { level: room.level(), why, over_quota: false });
        }
        over_quota.clone().map(|why| NoSpace { level: Level::NoPuts, why, over_quota: true })
    }

    /// A majority of each half of the configuration must have room. Only members that answer count, since they would
    /// have to agree. Without a majority that answers there is nothing to refuse, because nothing is committed.
    fn short_quorum(&self) -> Option<NoSpace> {
        let halves = [&self.membership.voters, &self.membership.outgoing];
        let short = |half: &&BTreeSet<MemberId>| self.short_half(half);
        halves.into_iter().filter(|half| !half.is_empty()).filter_map(|half| short(&half)).max_by_key(|no| no.level)
    }

    fn short_half(&self, voters: &BTreeSet<MemberId>) -> Option<NoSpace> {
        let own = self.identity.member_id;
        let answers: Vec<MemberId> =
            voters.iter().copied().filter(|id| *id == own || self.peers.is_active(*id, self.now_tick)).collect();
        let quorum = voters.len() / 2 + 1;
        let mut levels: Vec<Level> = answers.iter().map(|id| self.room_of(*id).level()).collect();
        levels.sort_unstable();
        // The best level that a quorum of them has.
        let level = *levels.get(quorum - 1).filter(|level| **level > Level::Plenty)?;
        let short = answers.into_iter().filter(|id| self.room_of(*id).level() > Level::Plenty);
        let share = |id| format!("{} has {}", self.name(id), self.room_of(id).share(level));
        let each = short.map(share).collect::<Vec<_>>().join(", ");
        let needed = match level {
            Level::Plenty | Level::NoPuts => "puts need (deletes, compaction and membership changes go on)",
            Level::Nothing => "any write needs",
        };
        let why =
            format!("too few voters have the room that {needed}: {each}; enlarge their volumes or make room there");
        Some(NoSpace { level, why, over_quota: false })
    }

    pub(super) fn room_of(&self, id: MemberId) -> Room {
        if id == self.identity.member_id { self.own_space.room } else { self.peers.report(id).room() }
    }
}
