//! The membership state: who is in the cluster, decided by conf-change entries alone, in log order (rule N3). PURE.
//!
//! Every member computes the same state from the same log prefix: [`Membership::decide`] looks at nothing else. The
//! state is stored with each applied batch and in each snapshot, so that a ConfState is always the one at its index.

use crate::host_port::HostPort;
use crate::limits::{NUMBER_MAX, REMOVED_KEPT};
use crate::types::{Index, MemberId, Term};
use raft::prelude::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use raftkv_api::Hex128;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A present member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's name.
    pub name: String,
    /// Where peers dial it; fixed for its life.
    pub peer: HostPort,
    /// Its data directory.
    pub incarnation: Hex128,
}

/// A member of the past; its id is never used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The name that it had.
    pub name: String,
    /// Its data directory.
    pub incarnation: Hex128,
    /// Index of the removal; for a joint change, of the entry that leaves the joint state (rule N4).
    pub index: Index,
    /// Term of that entry.
    pub term: Term,
}

/// A membership change; it is the context of its conf-change entry, after the request id. A field that is not known here
/// makes it another version's change, which nobody may carry out without that field.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// A Blank node becomes a learner under `id`, which the leader took from `next_member_id`.
    AddLearner { id: MemberId, name: String, peer: HostPort, incarnation: Hex128 },
    /// A learner becomes a voter; with `replaces` that voter leaves in the same joint change.
    Promote { id: MemberId, replaces: Option<MemberId> },
    /// A member leaves.
    Remove { id: MemberId },
}

/// Why a change is refused; then the entry changes nothing on any member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A joint configuration is in force.
    #[error("a joint change is in flight")]
    Joint,
    /// Another change took this id, or the leader's view was old.
    #[error("member id {0} is not the next one")]
    WrongId(MemberId),
    /// The data directory belongs, or belonged, to a member.
    #[error("incarnation {0} is, or was, a member")]
    KnownIncarnation(Hex128),
    /// Two present members have the name already.
    #[error("the name '{0}' is taken by two members")]
    NameTaken(String),
    /// There is no such member.
    #[error("{0} is not a member")]
    NotAMember(MemberId),
    /// Only a learner can be promoted.
    #[error("{0} is not a learner")]
    NotALearner(MemberId),
    /// Only a voter can be replaced.
    #[error("{0} is not a voter")]
    NotAVoter(MemberId),
    /// The cluster would have no voter.
    #[error("{0} is the last voter")]
    LastVoter(MemberId),
    /// An entry that leaves a joint configuration, when none is in force.
    #[error("the entry carries no change")]
    NoChange,
}

/// The membership state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Voters (of the incoming half, if joint).
    pub voters: BTreeSet<MemberId>,
    /// Voters of the outgoing half; empty unless joint.
    pub outgoing: BTreeSet<MemberId>,
    /// Learners.
    pub learners: BTreeSet<MemberId>,
    /// Voters that become learners when the joint state is left.
    pub learners_next: BTreeSet<MemberId>,
    /// Whether raft leaves the joint state by itself.
    pub auto_leave: bool,
    /// Everyone in any of the sets above.
    pub members: BTreeMap<MemberId, Member>,
    /// The [`REMOVED_KEPT`] that left last: what they are told of their removal, and the directories that may not come
    /// back. Who left before them is known by its id alone (see [`Membership::is_removed`]), so that this state does
    /// not grow with the members that there ever were.
    pub removed: BTreeMap<MemberId, Removed>,
    /// The id of the next member.
    pub next_member_id: MemberId,
    /// Index of the last entry that changed this state.
    pub conf_index: Index,
    /// Index at which each present member was added: a snapshot below it does not know that member (rule N12).
    pub added_at: BTreeMap<MemberId, Index>,
    /// Number of voters that the cluster must once have had before it serves clients.
    pub min_voters: u32,
    /// Whether it has had them.
    pub formed: bool,
}

impl Membership {
    /// The first voter of a new cluster, at log index 1.
    pub fn first(member: Member, min_voters: u32) -> Membership {
        let mut first = Membership { next_member_id: 2, conf_index: 1, min_voters, ..Membership::default() };
        first.voters.insert(1);
        first.members.insert(1, member);
        first.added_at.insert(1, 1);
        first.formed = min_voters <= 1;
        first
    }

    /// The same as a ConfState, for raft.
    pub fn conf_state(&self) -> ConfState {
        let list = |set: &BTreeSet<MemberId>| set.iter().copied().collect::<Vec<_>>();
        ConfState {
            voters: list(&self.voters),
            voters_outgoing: list(&self.outgoing),
            learners: list(&self.learners),
            learners_next: list(&self.learners_next),
            auto_leave: self.auto_leave,
            ..ConfState::default()
        }
    }

    /// Checks a state that came from elsewhere for what raft and [`Membership::applied`] take for granted, and panic
    /// without.
    pub fn check(&self) -> Result<(), String> {
        let Membership { voters, outgoing, learners, learners_next, auto_leave, .. } = self;
        let all = || [voters, outgoing, learners, learners_next].into_iter().flatten();
        let joint = !outgoing.is_empty();
        let contradiction = all().any(|id| *id == 0)
            || learners.iter().any(|id| voters.contains(id) || outgoing.contains(id))
            || learners_next.iter().any(|id| !outgoing.contains(id) || voters.contains(id))
            || (!joint && *auto_leave);
        if contradiction {
            return Err(format!("no configuration: {:?}", self.conf_state()));
        }
        let ids: BTreeSet<MemberId> = all().copied().collect();
        if !ids.iter().eq(self.members.keys()) || !ids.iter().eq(self.added_at.keys()) {
            return Err(format!("the configuration has {ids:?}, the members are {:?}", self.members.keys()));
        }
        if let Some(id) = ids.iter().find(|id| self.removed.contains_key(id)) {
            return Err(format!("{id} is a member and was removed"));
        }
        let last = ids.last().max(self.removed.keys().next_back()).copied().unwrap_or_default();
        if self.next_member_id <= last || self.next_member_id > NUMBER_MAX {
            return Err(format!("the next member's id is {}, the last one's {last}", self.next_member_id));
        }
        Ok(())
    }

    /// Whether `id` was a member and is none any more: ids are given in order, and none is given twice.
    pub fn is_removed(&self, id: MemberId) -> bool {
        (1..self.next_member_id).contains(&id) && !self.members.contains_key(&id)
    }

    /// Index and term of the removal of `id`, if it is removed. Those of one whose record is gone are the oldest
    /// record's, which came later: who has that one durably, has the removal of `id`, too (rule N4).
    pub fn removal(&self, id: MemberId) -> Option<(Index, Term)> {
        let own = self.removed.get(&id);
        let oldest = || self.removed.values().min_by_key(|removed| removed.index).filter(|_| self.is_removed(id));
        own.or_else(oldest).map(|removed| (removed.index, removed.term))
    }

    /// Whether two configurations are in force.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` counts towards a quorum in either half.
    pub fn votes(&self, id: MemberId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether `yes` holds a majority of each half that is in force.
    pub fn is_quorum(&self, yes: impl Fn(MemberId) -> bool) -> bool {
        let majority =
            |set: &BTreeSet<MemberId>| set.is_empty() || set.iter().filter(|id| yes(**id)).count() > set.len() / 2;
        majority(&self.voters) && majority(&self.outgoing)
    }

    /// Decides a change from this state alone: the change for raft, or why it is refused. The caller applies it to raft
    /// and then calls [`Membership::applied`].
    pub fn decide(&self, change: &Change) -> Result<ConfChangeV2, Refused> {
        if self.is_joint() {
            return Err(Refused::Joint);
        }
        match change {
            Change::AddLearner { id, name, incarnation, .. } => {
                if *id != self.next_member_id {
                    return Err(Refused::WrongId(*id));
                }
                let known =
                    self.members.values().map(|m| m.incarnation).chain(self.removed.values().map(|r| r.incarnation));
                if known.into_iter().any(|i| i == *incarnation) {
                    return Err(Refused::KnownIncarnation(*incarnation));
                }
                if self.members.values().filter(|m| m.name == *name).count() > 1 {
                    return Err(Refused::NameTaken(name.clone()));
                }
                Ok(conf_change(&[(ConfChangeType::AddLearnerNode, *id)]))
            }
            Change::Promote { id, replaces } => {
                if !self.learners.contains(id) {
                    return Err(if self.members.contains_key(id) {
                        Refused::NotALearner(*id)
                    } else {
                        Refused::NotAMember(*id)
                    });
                }
                match replaces {
                    None => Ok(conf_change(&[(ConfChangeType::AddNode, *id)])),
                    Some(old) if !self.voters.contains(old) => Err(Refused::NotAVoter(*old)),
                    Some(old) => Ok(conf_change(&[(ConfChangeType::AddNode, *id), (ConfChangeType::RemoveNode, *old)])),
                }
            }
            Change::Remove { id } => {
                if !self.members.contains_key(id) {
                    return Err(Refused::NotAMember(*id));
                }
                if self.voters.len() == 1 && self.voters.contains(id) {
                    return Err(Refused::LastVoter(*id));
                }
                Ok(conf_change(&[(ConfChangeType::RemoveNode, *id)]))
            }
        }
    }

    /// The state after the entry at (`index`, `term`) was applied to raft, which answered `conf_state`.
    /// `change` is `None` for raft's own entry that leaves a joint state.
    pub fn applied(&self, change: Option<&Change>, conf_state: &ConfState, index: Index, term: Term) -> Membership {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        let mut next = Membership {
            voters: set(&conf_state.voters),
            outgoing: set(&conf_state.voters_outgoing),
            learners: set(&conf_state.learners),
            learners_next: set(&conf_state.learners_next),
            auto_leave: conf_state.auto_leave,
            conf_index: index,
            ..self.clone()
        };
        if let Some(Change::AddLearner { id, name, peer, incarnation }) = change {
            next.members.insert(*id, Member { name: name.clone(), peer: peer.clone(), incarnation: *incarnation });
            next.added_at.insert(*id, index);
            next.next_member_id = id + 1;
        }
        // A member has left when it is in no half of the configuration, and only then (rule N4).
        let gone: Vec<MemberId> = next.members.keys().copied().filter(|id| !next.holds(*id)).collect();
        for id in gone {
            let member = next.members.remove(&id).expect("taken from the keys of this map");
            next.added_at.remove(&id);
            next.removed.insert(id, Removed { name: member.name, incarnation: member.incarnation, index, term });
        }
        while next.removed.len() > REMOVED_KEPT {
            let oldest = next.removed.iter().min_by_key(|(_, removed)| removed.index).map(|(id, _)| *id);
            next.removed.remove(&oldest.expect("there are some"));
        }
        next.formed |= next.voters.len() >= next.min_voters as usize;
        assert!(next.members.keys().all(|id| !next.removed.contains_key(id)), "a removed id is never used again");
        next
    }

    fn holds(&self, id: MemberId) -> bool {
        [&self.voters, &self.outgoing, &self.learners, &self.learners_next].iter().any(|set| set.contains(&id))
    }
}

fn conf_change(changes: &[(ConfChangeType, MemberId)]) -> ConfChangeV2 {
    let single = |(kind, id): &(ConfChangeType, MemberId)| {
        let mut change = ConfChangeSingle::default();
        change.set_change_type(*kind);
        change.node_id = *id;
        change
    };
    let mut all = ConfChangeV2::default();
    all.set_changes(changes.iter().map(single).collect::<Vec<_>>().into());
    all
}
