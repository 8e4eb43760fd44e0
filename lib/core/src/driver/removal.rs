//! Removals: when a removal is safe, who is told then, and what a member does about its own (rules N4, N10). PURE.
//!
//! One member that applied a removal is not enough to say so: the removed voter's own answer may have been part of the
//! quorum that committed it, and if that one member is lost, the survivors still count a vote that never comes. So
//! "removed" is said only when, of the voters of the teller's own durable configuration, a quorum has reported a durable
//! configuration that has the removal. A survivor that lags among them learns the commit from the vote request that it
//! rejects (raft-rs 0.7 hands it on).

use super::{Driver, Effect};
use crate::membership::Removed;
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;
use crate::types::{Index, MemberId};
use crate::wire::RemovedRecord;
use raftkv_api::Hex128;

impl Driver {
    /// Something became durable here or was reported by a peer: removals may have become safe. Their members are told,
    /// and whoever asked for them is answered.
    pub(super) fn note_safe_removals(&mut self) {
        let before = self.removals_safe;
        self.removals_safe = self.safe_removals();
        if self.removals_safe > before {
            self.tell_removed(before);
        }
        self.answer_durable_change();
    }

    /// The index up to which every removal is safe: the highest that a quorum reports. Once safe, a removal stays so:
    /// whoever acknowledges a later change of the configuration has the commit of the earlier one in the same batch.
    /// This is asked at every sync, so it looks at the voters alone, and only while a removal may wait.
    fn safe_removals(&self) -> Index {
        let conf_index = self.membership.conf_index;
        // A configuration that is not durable yet may have other voters than the durable one.
        if self.removals_safe >= conf_index || conf_index > self.durable.conf_index {
            return self.removals_safe;
        }
        let own = self.identity.member_id;
        let durable_at = |id: MemberId| match id == own || mutant::is(Mutant::ToldByOneWitness) {
            true => self.durable.conf_index,
            false => self.peers.report(id).durable_conf_index,
        };
        let voters = self.membership.voters.iter().chain(&self.membership.outgoing);
        let reported = voters.map(|id| durable_at(*id).min(conf_index)).filter(|index| *index > self.removals_safe);
        let safe = reported.filter(|index| self.membership.is_quorum(|id| durable_at(id) >= *index)).max();
        safe.unwrap_or(self.removals_safe)
    }

    fn tell_removed(&mut self, safe_before: Index) {
        let own = self.identity.member_id;
        let is_news = |index: Index| index > safe_before.max(self.removals_at_start) && index <= self.removals_safe;
        let removed = self.membership.removed.iter();
        let news: Vec<MemberId> =
            removed.filter(|(id, removed)| **id != own && is_news(removed.index)).map(|(id, _)| *id).collect();
        news.into_iter().for_each(|to| self.tell_if_removed(to));
    }

    /// Tells a member that its removal is safe, as long as there is a record of it; one that left before is told when it
    /// says hello.
    pub(super) fn tell_if_removed(&mut self, to: MemberId) {
        let incarnation = self.membership.removed.get(&to).map(|removed| removed.incarnation);
        if let Some(record) = incarnation.and_then(|incarnation| self.removed_record(to, incarnation)) {
            self.emit(Effect::TellRemoved { to, record: Box::new(record) });
        }
    }

    /// The proof of a removal that is safe (rule N4), for a member that says that it is this one at `incarnation`. A
    /// removed member that still has a record is another one at any other incarnation; of one that has none any more,
    /// only its word says which directory it had.
    pub(super) fn removed_record(&self, id: MemberId, incarnation: Hex128) -> Option<RemovedRecord> {
        let (index, term) = self.membership.removal(id).filter(|(index, _)| *index <= self.removals_safe)?;
        let kept = self.membership.removed.get(&id);
        if kept.is_some_and(|removed| removed.incarnation != incarnation) {
            return None;
        }
        let name = kept.map_or_else(String::new, |removed| removed.name.clone());
        let removed = Removed { name, incarnation, index, term };
        let own = &self.identity;
        Some(RemovedRecord {
            cluster_id: own.cluster_id,
            genesis: own.genesis,
            generation: own.generation,
            member_id: id,
            removed,
        })
    }

    /// A peer has applied our removal, so it is safe to stop (rules N4, N10), provided that the record means exactly
    /// this member.
    pub(super) fn told_removed(&mut self, record: &RemovedRecord) {
        let own = &self.identity;
        let meant = record.cluster_id == own.cluster_id
            && record.genesis == own.genesis
            && record.generation == own.generation
            && record.member_id == own.member_id
            && record.removed.incarnation == own.incarnation;
        if meant {
            self.halt(Effect::Gone { index: record.removed.index, term: record.removed.term });
        }
    }

    /// Rule N10: a leader that applied its own removal steps down before anything else is stepped. It still answers
    /// votes and appends, until its removal is known to be safe.
    pub(super) fn own_removal_applied(&mut self) {
        self.removed = self.membership.removal(self.identity.member_id);
        for request in self.proposals.fail_all() {
            self.refuse(request, Refusal::Unknown("this member was removed".to_string()));
        }
        let reads = self.reads.fail_all();
        self.emit(Effect::ReadFailed { reads, why: Refusal::Removed });
        if self.is_leader() {
            self.step_down();
        }
    }
}
