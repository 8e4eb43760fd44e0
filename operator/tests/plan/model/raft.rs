//! A raftkv cluster: elections, membership, replication, one step at a time.
//!
//! Each node acts on the configuration that it has applied itself, and comes back from a crash with what its disk has.
//! So a survivor that does not know of a removal still waits for the vote of the removed member (rule N10).

use super::{Flaw, MemberDisk, Stage, World};
use raftkv_api::Hex128;
use raftkv_operator::plan::Ordinal;
use std::collections::{BTreeMap, BTreeSet};

/// How many entries a caught-up member may lack.
pub const CAUGHT_UP_ENTRIES: usize = 2;

/// A cluster.
#[derive(Clone, Debug)]
pub struct Raft {
    pub cluster_id: Hex128,
    pub min_voters: usize,
    pub log: Vec<Entry>,
    pub leader: Option<u64>,
    pub term: u64,
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub enum Entry {
    Conf(Conf),
    Write,
}

/// A membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conf {
    pub members: BTreeMap<u64, Identity>,
    pub voters: BTreeSet<u64>,
    /// Voters of the half that a joint change leaves; empty otherwise.
    pub outgoing: BTreeSet<u64>,
    pub removed: BTreeMap<u64, (Identity, usize)>,
    pub next_id: u64,
    pub formed: bool,
}

/// Who a member is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub name: String,
    pub incarnation: u64,
    /// The namespace in which it was added, which is in its URL.
    pub home: u32,
}

impl Conf {
    pub fn joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    pub fn votes(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether these voters are a quorum, in both halves.
    pub fn is_quorum(&self, yes: impl Fn(u64) -> bool) -> bool {
        let half = |set: &BTreeSet<u64>| set.is_empty() || set.iter().filter(|id| yes(**id)).count() > set.len() / 2;
        half(&self.voters) && half(&self.outgoing)
    }
}

impl Raft {
    /// A cluster of one, as `init` makes it.
    pub fn first(cluster_id: Hex128, identity: Identity, min_voters: u32) -> Raft {
        let conf = Conf {
            members: [(1, identity)].into(),
            voters: [1].into(),
            outgoing: BTreeSet::new(),
            removed: BTreeMap::new(),
            next_id: 2,
            formed: min_voters <= 1,
        };
        Raft { cluster_id, min_voters: min_voters as usize, log: vec![Entry::Conf(conf)], leader: None, term: 1 }
    }

    /// The membership after this many entries, and its index.
    pub fn conf_at(&self, applied: usize) -> (&Conf, usize) {
        let newest = self.log[..applied].iter().enumerate().rev().find_map(|(at, entry)| match entry {
            Entry::Conf(conf) => Some((conf, at + 1)),
            Entry::Write => None,
        });
        newest.expect("every log begins with a membership")
    }

    /// The membership that is committed.
    pub fn conf(&self) -> &Conf {
        self.conf_at(self.log.len()).0
    }

    pub fn conf_index(&self) -> usize {
        self.conf_at(self.log.len()).1
    }
}

impl World {
    /// Whether a member answers its leader.
    pub fn is_active(&self, genesis: u64, id: u64) -> bool {
        self.running(genesis, id).is_some()
    }

    /// Whether a member is active and has all entries except the newest.
    pub fn is_caught_up(&self, genesis: u64, id: u64) -> bool {
        let matched = |ordinal| self.disk(ordinal).and_then(|disk| disk.member.as_ref()).map_or(0, |it| it.matched);
        let len = self.rafts[&genesis].log.len();
        self.running(genesis, id).is_some_and(|(at, _)| matched(at) > 0 && len - matched(at) <= CAUGHT_UP_ENTRIES)
    }

    /// Whether a leader works: it runs and reaches a quorum of the configuration that it has applied.
    pub fn leads(&self, genesis: u64, id: u64) -> bool {
        let raft = &self.rafts[&genesis];
        let Some((_, applied)) = self.running(genesis, id) else { return false };
        let conf = raft.conf_at(applied.max(1)).0;
        raft.leader == Some(id) && conf.votes(id) && conf.is_quorum(|peer| self.is_active(genesis, peer))
    }

    /// One step of every cluster.
    pub fn step_rafts(&mut self) {
        for genesis in self.rafts.keys().copied().collect::<Vec<_>>() {
            self.step_raft(genesis);
        }
    }

    fn step_raft(&mut self, genesis: u64) {
        if let Some(id) = self.rafts[&genesis].leader
            && (self.faults.no_elections || !self.leads(genesis, id))
        {
            self.raft(genesis).leader = None;
        }
        if self.rafts[&genesis].leader.is_none() && !self.faults.no_elections {
            self.elect(genesis);
        }
        let Some(leader) = self.rafts[&genesis].leader else { return };
        self.replicate(genesis, leader);
        if self.rafts[&genesis].conf().joint() {
            if !self.faults.joint_stays {
                self.leave_joint(genesis);
            }
        } else if self.rafts[&genesis].conf().formed && self.propose(genesis, Entry::Write).is_ok() {
            self.acknowledged.insert(genesis);
        }
    }

    pub fn raft(&mut self, genesis: u64) -> &mut Raft {
        self.rafts.get_mut(&genesis).unwrap()
    }

    /// The nodes of these that can win an election: (id, entries on disk, entries applied).
    pub fn winners(&self, genesis: u64, nodes: &[(u64, usize, usize)]) -> Vec<(u64, usize)> {
        let raft = &self.rafts[&genesis];
        let wins = |(id, matched, applied): &&(u64, usize, usize)| {
            let conf = raft.conf_at((*applied).max(1)).0;
            let grants = |peer| nodes.iter().any(|(voter, has, _)| *voter == peer && *has <= *matched);
            conf.votes(*id) && conf.is_quorum(grants)
        };
        nodes.iter().filter(wins).map(|(id, matched, _)| (*id, *matched)).collect()
    }

    /// Nodes of a cluster that would take part in an election.
    pub fn electors(&self, genesis: u64) -> Vec<(u64, usize, usize)> {
        let node = |(ordinal, pod): (&Ordinal, &super::Pod)| {
            let member = self.disk(*ordinal)?.member.as_ref()?;
            let fit = member.genesis == genesis && !member.quarantined && !member.told_removed && member.matched > 0;
            let applied = self.applied(pod).filter(|_| !self.hung.contains(&pod.uid))?;
            fit.then_some((member.id, member.matched, applied))
        };
        self.pods.iter().filter_map(node).collect()
    }

    fn elect(&mut self, genesis: u64) {
        let winners = self.winners(genesis, &self.electors(genesis));
        let newest = winners.iter().max_by_key(|(id, matched)| (*matched, std::cmp::Reverse(*id)));
        let Some((id, _)) = newest.copied() else { return };
        let len = self.rafts[&genesis].log.len();
        let matched = self.member_disk(genesis, id).map_or(0, |member| member.matched);
        if matched < len {
            let what =
                format!("member {id} leads with {matched} of {len} committed entries: acknowledged data is lost");
            self.fails(what);
        }
        let raft = self.raft(genesis);
        raft.leader = Some(id);
        raft.term += 1;
        self.settle_leader(genesis, id);
    }

    /// A leader applies and makes durable what is committed.
    pub fn settle_leader(&mut self, genesis: u64, id: u64) {
        let len = self.rafts[&genesis].log.len();
        if let Some(member) = self.member_disk(genesis, id) {
            member.matched = len;
            member.durable = len;
        }
        if let Some((ordinal, _)) = self.running(genesis, id) {
            self.pods.get_mut(&ordinal).unwrap().stage = Stage::Running { applied: len };
        }
    }

    /// Every member moves one step: what it applied becomes durable, what is on its disk is applied, what it lacks
    /// arrives.
    fn replicate(&mut self, genesis: u64, leader: u64) {
        self.settle_leader(genesis, leader);
        let raft = self.rafts[&genesis].clone();
        let (conf, len) = (raft.conf(), raft.log.len());
        for (ordinal, pod) in self.pods.clone() {
            let Some(applied) = self.applied(&pod).filter(|_| !self.hung.contains(&pod.uid)) else { continue };
            let lags = self.flaw(ordinal) == Flaw::NeverCatchesUp;
            let Some(disk) = self.claims.get_mut(&ordinal).and_then(|claim| claim.disk.as_mut()) else { continue };
            let wanted = conf.members.iter().find(|(_, identity)| identity.incarnation == disk.incarnation);
            if let (None, Some((id, _))) = (&disk.member, wanted) {
                disk.member = Some(MemberDisk {
                    genesis,
                    id: *id,
                    matched: 0,
                    durable: 0,
                    quarantined: false,
                    diverged: false,
                    told_removed: false,
                });
                continue;
            }
            let Some(member) = &mut disk.member else { continue };
            if member.genesis != genesis || member.id == leader || member.quarantined {
                continue;
            }
            if conf.removed.contains_key(&member.id) {
                // A member that has received nothing knows nobody, and a frame that tells it of its removal may have
                // been lost.
                member.told_removed = member.matched > 0;
                continue;
            }
            member.durable = applied;
            let applied = member.matched;
            if !lags || member.matched == 0 {
                member.matched = len;
            }
            self.pods.get_mut(&ordinal).unwrap().stage = Stage::Running { applied };
        }
    }

    fn leave_joint(&mut self, genesis: u64) {
        let mut conf = self.rafts[&genesis].conf().clone();
        let leaves: Vec<u64> = conf.outgoing.difference(&conf.voters).copied().collect();
        conf.outgoing.clear();
        // Without a quorum of both halves the change is tried again.
        let _later = self.propose_conf(genesis, conf, &leaves);
    }

    /// Appends a membership. A member that leaves is in neither half of it (rule N4).
    pub fn propose_conf(&mut self, genesis: u64, mut conf: Conf, leaves: &[u64]) -> Result<(), String> {
        let index = self.rafts[&genesis].log.len() + 1;
        for id in leaves {
            let identity = conf.members.remove(id).expect("who leaves is a member");
            conf.removed.insert(*id, (identity, index));
        }
        conf.formed |= conf.voters.len() >= self.rafts[&genesis].min_voters;
        self.propose(genesis, Entry::Conf(conf))
    }

    /// Whether the template of a member's pod keeps it behind.
    fn lags(&self, genesis: u64, id: u64) -> bool {
        let at = self.running(genesis, id).map(|(at, _)| at);
        at.is_some_and(|at| self.flaw(at) == Flaw::NeverCatchesUp)
    }

    /// Writes an entry to the leader's disk and to as few others as make a quorum.
    pub fn propose(&mut self, genesis: u64, entry: Entry) -> Result<(), String> {
        let Some(leader) = self.rafts[&genesis].leader.filter(|id| self.leads(genesis, *id)) else {
            return Err("no leader, or it reaches no quorum".to_string());
        };
        let conf = self.rafts[&genesis].conf().clone();
        self.raft(genesis).log.push(entry);
        let len = self.rafts[&genesis].log.len();
        // The newest members first: those are the ones that a scale-down takes. Those that lag come last.
        let mut on_disk = BTreeSet::from([leader]);
        let (lag, keep_up): (Vec<u64>, Vec<u64>) =
            conf.voters.iter().chain(&conf.outgoing).rev().partition(|id| self.lags(genesis, **id));
        for id in keep_up.iter().chain(&lag) {
            if conf.is_quorum(|id| on_disk.contains(&id)) {
                break;
            }
            if self.is_active(genesis, *id) {
                on_disk.insert(*id);
            }
        }
        assert!(conf.is_quorum(|id| on_disk.contains(&id)), "a working leader reaches a quorum");
        for id in on_disk {
            self.member_disk(genesis, id).unwrap().matched = len;
        }
        self.settle_leader(genesis, leader);
        Ok(())
    }
}
