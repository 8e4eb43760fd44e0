//! Membership changes: one at a time, in log order, never without a quorum (rules N3, N4, N10, O6). PURE.
//!
//! Enters: calls, committed conf-change entries, proofs of removal. Leaves: conf-change entries, the membership that
//! results, answers. What an entry does must never depend on anything but the membership state.

use super::leadership::Purpose;
use super::proposals::Waiting;
use super::{Answer, Driver, Effect};
use crate::driver::{ChangeDone, MembershipCall};
use crate::identity::Finding;
use crate::kvstore::StoreError;
use crate::membership::{Change, Membership, Refused};
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;
use crate::types::{Index, MemberId, RequestId, Term};
use protobuf::Message as _;
use raft::prelude::{ConfChangeV2, Entry, EntryType};
use std::sync::Arc;

/// A change that a call appended here, until it is refused, or applied (a joint one: left) and durable.
#[derive(Debug)]
pub struct PendingChange {
    /// The request that asked for it.
    pub request: RequestId,
    /// Index of its entry.
    pub index: Index,
    term: Term,
    id: MemberId,
    /// Some member leaves by it.
    removes: bool,
    joint: bool,
    /// Set once it is applied (a joint one: left); it may not be durable yet.
    done: Option<ChangeDone>,
}

impl Driver {
    pub(super) fn change(&mut self, request: RequestId, call: MembershipCall, if_match: Index) {
        if !self.proposals.wait(Waiting::Change { request, call, if_match }) {
            self.refuse(request, Refusal::Overloaded("the propose queue"));
        }
    }

    pub(super) fn step_change(&mut self, request: RequestId, call: &MembershipCall, if_match: Index) {
        match self.try_change(request, call, if_match) {
            Ok(Some(done)) => self.answer(request, Answer::Changed(done)),
            Ok(None) => {}
            Err(refusal) => self.refuse(request, refusal),
        }
    }

    /// `Ok(None)`: the change is appended, or leadership is moved first; the answer comes later.
    fn try_change(
        &mut self,
        request: RequestId,
        call: &MembershipCall,
        if_match: Index,
    ) -> Result<Option<ChangeDone>, Refusal> {
        if !self.is_leader() {
            return Err(Refusal::NotLeader);
        }
        let current = self.membership.conf_index;
        if let MembershipCall::Add(add) = call
            && let Some((id, _)) = self.membership.members.iter().find(|(_, m)| m.incarnation == add.incarnation)
        {
            return Ok(Some(ChangeDone { id: *id, conf_index: current }));
        }
        if let Some(why) = self.refused_for_space(false) {
            return Err(Refusal::NoSpace(why.to_string()));
        }
        if if_match != current {
            return Err(Refusal::MembersMoved { expected: if_match, current });
        }
        // Rule N10: the commit of the last change is durable here before the next one is appended.
        let raft = &self.node.raft;
        let pending = raft.has_pending_conf() || self.change.is_some() || self.durable.conf_index < current;
        if mutant::is(Mutant::TwoChanges) {
            self.node.raft.pending_conf_index = 0;
        } else if pending || self.membership.is_joint() || !raft.commit_to_current_term() {
            return Err(Refusal::ChangePending);
        }
        let change = self.as_change(call);
        let conf_change = self.membership.decide(&change).map_err(refusal_of)?;
        self.check_quorum_kept(&change)?;
        let leaves = match &change {
            Change::AddLearner { .. } => None,
            Change::Promote { id: _, replaces } => *replaces,
            Change::Remove { id } => Some(*id),
        };
        if leaves == Some(self.identity.member_id) {
            return self.start_transfer(request, None, Purpose::BeforeRemoval).map(|()| None);
        }
        self.append_change(request, &change, &conf_change)?;
        Ok(None)
    }

    fn as_change(&self, call: &MembershipCall) -> Change {
        match call {
            MembershipCall::Add(add) => Change::AddLearner {
                id: self.membership.next_member_id,
                name: add.name.clone(),
                peer: add.peer.clone(),
                incarnation: add.incarnation,
            },
            MembershipCall::Promote { id, replaces } => Change::Promote { id: *id, replaces: *replaces },
            MembershipCall::Remove { id } => Change::Remove { id: *id },
        }
    }

    /// Rule O6: every half of the resulting configuration keeps a quorum of active, caught-up voters.
    fn check_quorum_kept(&self, change: &Change) -> Result<(), Refusal> {
        let mut after = self.membership.voters.clone();
        match change {
            Change::AddLearner { .. } => return Ok(()),
            Change::Promote { id, replaces } => {
                if !self.is_healthy(*id) {
                    let behind = self.node.raft.raft_log.last_index().saturating_sub(self.peer_status(*id).matched);
                    let why =
                        format!("learner {id} is not caught up: it does not answer, or is {behind} entries behind");
                    return Err(Refusal::WouldLoseQuorum(why));
                }
                after.insert(*id);
                if let Some(old) = replaces {
                    after.remove(old);
                    self.check_majority(&self.membership.voters)?;
                }
            }
            Change::Remove { id } => {
                if !after.remove(id) {
                    return Ok(());
                }
            }
        }
        self.check_can_commit()?;
        self.check_majority(&after)
    }

    /// Rule O6: what is to be committed needs a quorum of the present configuration that answers.
    fn check_can_commit(&self) -> Result<(), Refusal> {
        let own = self.identity.member_id;
        let is_active = |id: MemberId| id == own || self.peers.is_active(id, self.now_tick);
        if self.membership.is_quorum(is_active) || mutant::is(Mutant::RemovalByTheResultAlone) {
            return Ok(());
        }
        let silent: Vec<MemberId> = self.membership.voters.iter().copied().filter(|id| !is_active(*id)).collect();
        Err(Refusal::WouldLoseQuorum(format!(
            "this change could not be committed: of the voters {:?}, {silent:?} do not answer",
            self.membership.voters
        )))
    }

    fn check_majority(&self, voters: &std::collections::BTreeSet<MemberId>) -> Result<(), Refusal> {
        let (healthy, missing): (Vec<MemberId>, Vec<MemberId>) = voters.iter().partition(|id| self.is_healthy(**id));
        if healthy.len() > voters.len() / 2 {
            return Ok(());
        }
        Err(Refusal::WouldLoseQuorum(format!(
            "of the voters {voters:?} that would have to agree, {missing:?} do not answer or are not caught up"
        )))
    }

    fn is_healthy(&self, id: MemberId) -> bool {
        id == self.identity.member_id || self.peer_status(id).caught_up
    }

    fn append_change(&mut self, request: RequestId, change: &Change, to_raft: &ConfChangeV2) -> Result<(), Refusal> {
        let mut context = request.encode().to_vec();
        serde_json::to_writer(&mut context, change).expect("a change is plain data");
        let data = to_raft.write_to_bytes().expect("a conf change of ours encodes");
        let mut entry = Entry { context: context.into(), data: data.into(), ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        // What a client wrote is in it, and each member would stop at an entry that it cannot read, at every start anew.
        if read_change(&entry).as_ref() != Ok(&Some(change.clone())) {
            return Err(Refusal::ChangeRefused("it cannot be written so that every member reads it".to_string()));
        }
        self.step_proposal(vec![entry]).map_err(Refusal::Dropped)?;
        let raft = &self.node.raft;
        let index = raft.raft_log.last_index();
        // raft turns a change that it does not accept into an empty entry, without an error (rule N3).
        if raft.pending_conf_index != index {
            return Err(Refusal::ChangePending);
        }
        let id = match change {
            Change::AddLearner { id, .. } | Change::Promote { id, .. } | Change::Remove { id } => *id,
        };
        let removes = match change {
            Change::Remove { .. } | Change::Promote { replaces: Some(_), .. } => true,
            Change::AddLearner { .. } | Change::Promote { replaces: None, .. } => false,
        };
        self.change = Some(PendingChange { request, index, term: raft.term, id, removes, joint: false, done: None });
        Ok(())
    }

    /// Takes a committed entry that is handed out: a conf change is decided from the membership state alone and applied
    /// to raft.
    ///
    /// One that this build cannot read ends the process, as a command does that is none: its checksum is right, so
    /// another version wrote it, and whoever passed over it would have another membership than the rest.
    pub(super) fn change_handed_out(&mut self, entry: &Entry) {
        let result = match entry.get_entry_type() {
            EntryType::EntryNormal => Ok(()),
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                let asked = match read_change(entry) {
                    Ok(asked) => asked,
                    Err(what) => {
                        let newer = StoreError::Newer(format!("the entry at index {}: {what}", entry.index));
                        return self.halt(Effect::Fatal { why: newer.to_string() });
                    }
                };
                let result = self.apply_change(entry, asked);
                self.apply.membership(entry.index, self.membership.clone());
                result
            }
        };
        self.settle_change(entry, result);
    }

    fn apply_change(&mut self, entry: &Entry, asked: Option<Change>) -> Result<(), Refused> {
        let to_raft = self.decide_change(asked.as_ref())?;
        let conf_state = match self.node.apply_conf_change(&to_raft) {
            Ok(conf_state) => conf_state,
            Err(e) => {
                let why = format!("conf change {} does not fit the configuration: {e}", entry.index);
                let finding = Finding::new(why.clone());
                let effect = if self.can_lead { Effect::Quarantine { finding } } else { Effect::DistrustKv { why } };
                self.halt(effect);
                return Err(Refused::NoChange);
            }
        };
        let next = self.membership.applied(asked.as_ref(), &conf_state, entry.index, entry.term);
        self.switch_membership(next);
        Ok(())
    }

    /// What raft is told, if the membership state allows it; every member decides the same.
    fn decide_change(&self, asked: Option<&Change>) -> Result<ConfChangeV2, Refused> {
        match asked {
            Some(change) => self.membership.decide(change),
            None if self.membership.is_joint() => Ok(ConfChangeV2::default()),
            None => Err(Refused::NoChange),
        }
    }

    fn switch_membership(&mut self, next: Membership) {
        let own = self.identity.member_id;
        let own_is_removed = next.is_removed(own) && !self.membership.is_removed(own);
        self.membership = Arc::new(next);
        self.node.mut_store().added_at = self.membership.added_at.clone();
        let membership = self.membership.clone();
        self.peers.retain(|id| membership.members.contains_key(&id));
        self.proposals.retain_origins(|id| !membership.is_removed(id));
        self.emit(Effect::Members(membership));
        if own_is_removed {
            self.own_removal_applied();
        }
    }

    fn settle_change(&mut self, entry: &Entry, result: Result<(), Refused>) {
        let is_joint = self.membership.is_joint();
        let conf_index = self.membership.conf_index;
        let Some(pending) = &mut self.change else { return };
        let (request, id) = (pending.request, pending.id);
        let answer = if entry.index == pending.index && entry.term != pending.term {
            Answer::Refused(Refusal::Dropped("another leader's entry took its place".to_string()))
        } else if let (true, Err(refused)) = (entry.index == pending.index, result) {
            Answer::Refused(refusal_of(refused))
        } else if entry.index < pending.index {
            return;
        } else if is_joint {
            pending.joint = true;
            return;
        } else if entry.index > pending.index && !pending.joint {
            return;
        } else {
            pending.done = Some(ChangeDone { id, conf_index });
            return;
        };
        self.change = None;
        self.answer(request, answer);
    }

    /// A change is answered when its application is durable here, and a removal when it is safe (rule N4), so that
    /// nobody deletes a disk because of an answer that this member may forget, or that survivors do not know of.
    pub(super) fn answer_durable_change(&mut self) {
        let (durable, safe) = (self.durable.conf_index, self.removals_safe);
        let is_durable = |pending: &mut PendingChange| {
            let settled = if pending.removes { durable.min(safe) } else { durable };
            pending.done.is_some_and(|done| done.conf_index <= settled)
        };
        if let Some(PendingChange { request, done: Some(done), .. }) = self.change.take_if(is_durable) {
            self.answer(request, Answer::Changed(done));
        }
    }

    /// Leadership was lost while a change was in flight: the next leader decides whether it happens, and its caller
    /// should not have to wait for a timeout before it reads the members again.
    pub(super) fn change_noticed(&mut self) {
        if !self.is_leader()
            && let Some(pending) = self.change.take_if(|pending| pending.done.is_none())
        {
            let why = "leadership moved before the change was applied; read the members again".to_string();
            self.refuse(pending.request, Refusal::Unknown(why));
        }
    }

    /// raft-rs 0.7 never leaves a joint state by itself if the leader stepped down before it applied the entry.
    pub(super) fn leave_joint_if_stuck(&mut self) {
        let raft = &self.node.raft;
        let stuck = self.membership.is_joint() && !raft.has_pending_conf() && raft.commit_to_current_term();
        if stuck && self.is_leader() && self.syncing.is_none() && raft.lead_transferee.is_none() {
            let mut entry = Entry::default();
            entry.set_entry_type(EntryType::EntryConfChangeV2);
            // Refused only when a change is pending after all; the next tick tries again.
            let _refused = self.step_proposal(vec![entry]);
        }
    }
}

/// What a conf-change entry asks for; `None` is raft's own entry that leaves a joint configuration, and has no context.
/// Or why this build cannot read it.
fn read_change(entry: &Entry) -> Result<Option<Change>, String> {
    if entry.get_entry_type() != EntryType::EntryConfChangeV2 {
        return Err("a membership change in raft's first form".to_string());
    }
    let to_raft = ConfChangeV2::parse_from_bytes(&entry.data).map_err(|e| format!("no membership change: {e}"))?;
    if entry.context.is_empty() {
        let leaves = to_raft.changes.is_empty();
        return if leaves {
            Ok(None)
        } else {
            Err("a membership change that does not say whom it is about".to_string())
        };
    }
    let json = entry.context.get(RequestId::BYTES..).ok_or_else(|| "a membership change cut short".to_string())?;
    serde_json::from_slice(json).map(Some).map_err(|e| format!("no membership change that is known here: {e}"))
}

fn refusal_of(refused: Refused) -> Refusal {
    match refused {
        Refused::Joint => Refusal::ChangePending,
        Refused::NotAMember(id) => Refusal::MemberNotFound(id),
        Refused::WrongId(_)
        | Refused::KnownIncarnation(_)
        | Refused::NameTaken(_)
        | Refused::NotALearner(_)
        | Refused::NotAVoter(_)
        | Refused::LastVoter(_)
        | Refused::NoChange => Refusal::ChangeRefused(refused.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_port::HostPort;
    use bytes::Bytes;
    use proptest::prelude::*;
    use raftkv_api::Hex128;

    fn entry(context: &[u8], to_raft: &ConfChangeV2) -> Entry {
        let data = to_raft.write_to_bytes().expect("it encodes");
        let context = Bytes::copy_from_slice(context);
        let mut entry = Entry { index: 7, term: 1, context, data: data.into(), ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry
    }

    fn context(json: &[u8]) -> Vec<u8> {
        [&RequestId { origin: 1, nonce: 2, seq: 3 }.encode()[..], json].concat()
    }

    proptest! {
        /// Nothing that a client may say makes an entry that members cannot read.
        #[test]
        fn a_change_travels_as_json_behind_the_request_id(
            kind in 0..3, id: u64, name in "(?s).*", port in 1..=u16::MAX, replaces: Option<u64>, bytes: [u8; 16],
        ) {
            let peer = HostPort::parse(&format!("n:{port}")).expect("an address");
            let change = match kind {
                0 => Change::AddLearner { id, name, peer, incarnation: Hex128(bytes) },
                1 => Change::Promote { id, replaces },
                _ => Change::Remove { id },
            };
            let json = serde_json::to_vec(&change).expect("plain data");
            let read = read_change(&entry(&context(&json), &ConfChangeV2::default()));
            prop_assert_eq!(read, Ok(Some(change)));
        }
    }

    #[test]
    fn an_entry_without_a_context_leaves_the_joint_configuration() {
        assert_eq!(read_change(&entry(b"", &ConfChangeV2::default())), Ok(None));
    }

    #[test]
    fn what_no_build_like_this_one_wrote_is_not_read() {
        let mut first_form = entry(b"", &ConfChangeV2::default());
        first_form.set_entry_type(EntryType::EntryConfChange);
        let no_data = Entry { data: Bytes::from_static(b"\xff"), ..entry(b"", &ConfChangeV2::default()) };
        let mut someone = ConfChangeV2::default();
        someone.mut_changes().push(Default::default());
        let of = |json: &str| entry(&context(json.as_bytes()), &ConfChangeV2::default());
        for (entry, why) in [
            (first_form, "first form"),
            (no_data, "no membership change"),
            (entry(b"", &someone), "whom it is about"),
            (entry(b"short", &ConfChangeV2::default()), "cut short"),
            (of(""), "EOF"),
            (of("null"), "known here"),
            (of(r#"{"demote":{"id":2}}"#), "unknown variant `demote`"),
            (of(r#"{"remove":{"id":2,"keeps_data":true}}"#), "unknown field `keeps_data`"),
            (of(r#"{"remove":{}}"#), "missing field `id`"),
            (of(r#"{"remove":{"id":2}} "more""#), "trailing characters"),
        ] {
            let read = read_change(&entry).expect_err(why);
            assert!(read.contains(why), "{read}");
        }
    }

    /// It stands in logs: what was written is read for ever.
    #[test]
    fn a_new_member_is_written_as_it_is_known() {
        let peer = HostPort::parse("http://n4:2380").expect("an address");
        let add = Change::AddLearner { id: 4, name: "n4".into(), peer, incarnation: Hex128([4; 16]) };
        let json = serde_json::to_string(&add).expect("plain data");
        let incarnation = "04".repeat(16);
        let expected =
            format!(r#"{{"add_learner":{{"id":4,"name":"n4","peer":"n4:2380","incarnation":"{incarnation}"}}}}"#);
        assert_eq!(json, expected);
    }
}
