//! A world as text, and as a hash that does not depend on the numbers that were drawn.

use super::{Claim, Pod, World};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

/// For the hash, a member that lacks more entries than this lacks so many. It is above
/// [`super::raft::CAUGHT_UP_ENTRIES`].
const LAG_MAX: usize = 4;

/// Replaces drawn numbers by the order in which they are met.
#[derive(Default)]
struct Names {
    met: BTreeMap<u128, usize>,
}

impl Names {
    fn of(&mut self, number: impl Into<u128>) -> usize {
        let next = self.met.len();
        *self.met.entry(number.into()).or_insert(next)
    }

    fn hex(&mut self, hex: raftkv_api::Hex128) -> usize {
        self.of(u128::from_be_bytes(hex.0))
    }
}

impl World {
    /// The fingerprint: two worlds in which the same can happen have the same.
    pub fn fingerprint(&self) -> u64 {
        let (mut hash, mut names) = (DefaultHasher::new(), Names::default());
        let seed = |names: &mut Names, seed: Option<raftkv_operator::plan::Seed>| {
            seed.map(|seed| (names.hex(seed.cluster_id), names.hex(seed.incarnation)))
        };
        let super::Spec { replicas, suspend, paused, strict, replace, template } = &self.spec;
        let replace = replace.map(|it| (it.ordinal, it.member_id));
        (replicas, suspend, paused, strict, replace, template).hash(&mut hash);
        (self.deleted, self.room, self.cut, &self.machines, self.budget).hash(&mut hash);
        (&self.faults, self.namespace, self.pods.values().filter(|pod| self.refused.contains_key(&pod.uid)).count())
            .hash(&mut hash);
        self.children
            .iter()
            .map(|(child, owner)| (child, owner.map(|uid| uid == self.uid)))
            .for_each(|it| it.hash(&mut hash));
        for claim in self.claims.values() {
            self.hash_claim(claim, &mut names, &mut hash);
        }
        for (ordinal, pod) in &self.pods {
            ordinal.hash(&mut hash);
            self.hash_pod(*ordinal, pod, &mut names, &mut hash);
        }
        self.claims.keys().for_each(|ordinal| ordinal.hash(&mut hash));
        if let Some(set) = &self.set {
            let ours = set.owner == self.uid;
            (ours, set.replicas, set.template, set.seen_template, seed(&mut names, set.bootstrap)).hash(&mut hash);
        }
        self.latch.cluster_id.map(|id| names.hex(id)).hash(&mut hash);
        (seed(&mut names, self.latch.bootstrap), self.latch.bootstrapped).hash(&mut hash);
        self.memory.members.hash(&mut hash);
        self.memory.failed.is_some().hash(&mut hash);
        for (ordinal, blank) in &self.memory.blank {
            (ordinal, names.hex(*blank)).hash(&mut hash);
        }
        for (genesis, raft) in &self.rafts {
            (names.of(*genesis), names.hex(raft.cluster_id), raft.leader).hash(&mut hash);
            self.hash_conf(*genesis, raft.log.len(), &mut names, &mut hash);
        }
        hash.finish()
    }

    fn hash_pod(&self, ordinal: u32, pod: &Pod, names: &mut Names, hash: &mut DefaultHasher) {
        let stage = std::mem::discriminant(&pod.stage);
        let ill = (self.hung.contains(&pod.uid), self.flaw(ordinal));
        (pod.template, pod.terminating, pod.machine, stage, pod.ready, ill).hash(hash);
        let member = self.disk(ordinal).and_then(|disk| disk.member.as_ref());
        let Some((applied, member)) = self.applied(pod).zip(member) else { return };
        (applied.min(1), self.lag(member.genesis, applied)).hash(hash);
        self.hash_conf(member.genesis, applied.max(1), names, hash);
    }

    /// Entries that somebody lacks; how many does not matter when there are many.
    fn lag(&self, genesis: u64, has: usize) -> usize {
        (self.rafts[&genesis].log.len() - has).min(LAG_MAX)
    }

    fn hash_claim(&self, claim: &Claim, names: &mut Names, hash: &mut DefaultHasher) {
        let owner = claim.owner.map(|it| (names.hex(it.cluster_id), it.member_id, names.hex(it.incarnation)));
        let made_before = self.set.as_ref().map(|set| claim.created < set.created);
        let ours = claim.cluster_uid.map(|uid| uid == self.uid);
        (owner, made_before, ours, claim.terminating, claim.machine).hash(hash);
        let Some(disk) = &claim.disk else { return };
        names.of(disk.incarnation).hash(hash);
        let Some(member) = &disk.member else { return };
        let marks = (member.quarantined, member.diverged, member.told_removed);
        (names.of(member.genesis), member.id, marks).hash(hash);
        let lag = |has| self.lag(member.genesis, has);
        (lag(member.matched), lag(member.durable), member.matched.min(1)).hash(hash);
        self.hash_conf(member.genesis, member.durable.max(1), names, hash);
    }

    fn hash_conf(&self, genesis: u64, at: usize, names: &mut Names, hash: &mut DefaultHasher) {
        let conf = self.rafts[&genesis].conf_at(at).0;
        (&conf.voters, &conf.outgoing, conf.next_id, conf.formed).hash(hash);
        for (id, member) in &conf.members {
            (id, &member.name, names.of(member.incarnation)).hash(hash);
        }
        for (id, (member, _)) in &conf.removed {
            (id, &member.name, names.of(member.incarnation)).hash(hash);
        }
    }

    /// The world in lines, for the reader of a failure.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let spec = &self.spec;
        let _ = writeln!(text, "spec {spec:?}\nlatch {:?} blank {:?}", self.latch, self.memory.blank);
        if let Some(set) = &self.set {
            let _ = writeln!(text, "set replicas {} {:?} bootstrap {:?}", set.replicas, set.template, set.bootstrap);
        }
        for (ordinal, claim) in &self.claims {
            let _ = writeln!(text, "claim {ordinal} {claim:?}");
        }
        for (ordinal, pod) in &self.pods {
            let _ = writeln!(text, "pod {ordinal} {pod:?}");
        }
        for (genesis, raft) in &self.rafts {
            let _ = writeln!(text, "raft {genesis} leader {:?} log {} {:?}", raft.leader, raft.log.len(), raft.conf());
        }
        for condition in &self.status.conditions {
            let (kind, status) = (&condition.type_, &condition.status);
            let _ = writeln!(text, "{kind}={status} {}: {}", condition.reason, condition.message);
        }
        let _ = writeln!(text, "operation {:?} message {:?}", self.status.operation, self.status.message);
        text
    }
}
