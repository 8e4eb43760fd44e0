//! What follows from the observation, before anything is decided: who leads, who the members are, who is well. PURE.

use crate::plan::world::{ClaimSeen, Container, Desired, Machine, NodeSeen, Observed, Ordinal, PodSeen, SetSeen};
use raftkv_api::{Hex128, Member, MemberRole, NodeState, Peer, Serves, Status};
use raftkv_crds::{ConditionType, child};
use raftkv_judge::{Answer, Judgement, Report};

/// A node that was silent for this long is called unreachable. A container takes less time to start.
const UNREACHABLE_AFTER_S: i64 = 15;

/// A cluster without a leader for longer has a fault, and not an election.
pub(crate) const ELECTING_S_MAX: i64 = 60;

/// How many of `voters` voters must agree.
pub(crate) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// A member, as the best known membership has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub id: u64,
    /// `None` for a member that somebody added under a name which no pod of this cluster can have.
    pub ordinal: Option<Ordinal>,
    pub name: String,
    pub role: MemberRole,
    pub incarnation: Option<Hex128>,
}

impl Seat {
    /// Whether it counts towards a quorum. In a joint change the outgoing voters count as well.
    pub(crate) fn votes(&self) -> bool {
        match self.role {
            MemberRole::Voter | MemberRole::Outgoing => true,
            MemberRole::Learner => false,
        }
    }
}

/// How sure the membership is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// It was read linearizably in this pass. A removal or a deletion may rest on nothing less.
    Linearizable,
    /// It was reported by the node that has the newest configuration of those that answer.
    Reported,
    /// It was taken from the status.
    Remembered,
}

/// The best known membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roster {
    pub certainty: Certainty,
    pub seats: Vec<Seat>,
    pub joint: bool,
    pub conf_index: u64,
}

impl Roster {
    pub(crate) fn voters(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().filter(|seat| seat.votes())
    }

    pub(crate) fn learners(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().filter(|seat| !seat.votes())
    }

    pub(crate) fn voter_at(&self, ordinal: Ordinal) -> Option<&Seat> {
        self.voters().find(|seat| seat.ordinal == Some(ordinal))
    }

    pub(crate) fn has(&self, ordinal: Ordinal) -> bool {
        self.seats.iter().any(|seat| seat.ordinal == Some(ordinal))
    }

    /// One more than the highest ordinal of a member.
    pub(crate) fn span(&self) -> u32 {
        self.seats.iter().filter_map(|seat| seat.ordinal).max().map_or(0, |highest| highest + 1)
    }
}

/// The node that leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leader<'a> {
    pub ordinal: Ordinal,
    pub id: u64,
    pub status: &'a Status,
}

/// Everything that decisions look at.
pub(crate) struct Facts<'a> {
    pub desired: &'a Desired,
    pub seen: &'a Observed,
    pub leader: Option<Leader<'a>>,
    pub roster: Roster,
    /// What the nodes' reports mean together.
    pub judgement: Judgement,
}

impl<'a> Facts<'a> {
    pub(crate) fn of(desired: &'a Desired, seen: &'a Observed) -> Self {
        let leader = leader(seen);
        let (roster, judgement) = (roster(desired, seen, leader), judgement(desired, seen));
        Facts { desired, seen, leader, roster, judgement }
    }

    /// How many members to have. When a cluster was formed, it was told how many voters it needs before it serves
    /// clients. Until it has had that many it grows, even if the spec asks for fewer by then; after that it shrinks.
    pub(crate) fn replicas(&self) -> u32 {
        let forming =
            self.roster.certainty == Certainty::Linearizable && self.leader.is_some_and(|leader| !leader.status.formed);
        let voters = u32::try_from(self.roster.voters().count()).expect("a cluster has at most a few members");
        if forming { self.desired.replicas.max(voters + 1) } else { self.desired.replicas }
    }

    pub(crate) fn pod(&self, ordinal: Ordinal) -> Option<&'a PodSeen> {
        self.seen.pods.get(&ordinal)
    }

    pub(crate) fn claim(&self, ordinal: Ordinal) -> Option<&'a ClaimSeen> {
        self.seen.claims.get(&ordinal)
    }

    /// The status of the node with this ordinal, if it answers.
    pub(crate) fn status(&self, ordinal: Ordinal) -> Option<&'a Status> {
        self.pod(ordinal).and_then(answer)
    }

    /// The data directory of the node with this ordinal, if the node is Blank.
    pub(crate) fn blank(&self, ordinal: Ordinal) -> Option<Hex128> {
        self.status(ordinal).filter(|status| status.state == NodeState::Blank)?.incarnation
    }

    /// Whether a status is of the cluster that the latch names.
    pub(crate) fn is_ours(&self, status: &Status) -> bool {
        status.cluster_id.is_some() && status.cluster_id == self.seen.latch.cluster_id
    }

    /// The status of a member's node, if it answers as that very member.
    pub(crate) fn answers(&self, seat: &Seat) -> Option<&'a Status> {
        let status = self.status(seat.ordinal?)?;
        (self.is_ours(status) && status.member_id.is_some_and(|id| id.0 == seat.id)).then_some(status)
    }

    /// Whether a voter runs, answers as a voter, and answers its leader as well.
    pub(crate) fn is_healthy(&self, seat: &Seat) -> bool {
        let Some(ordinal) = seat.ordinal else {
            return self.peer(seat.id).is_some_and(|peer| peer.active);
        };
        let runs = self.pod(ordinal).is_some_and(|pod| !pod.terminating);
        let votes = self.answers(seat).is_some_and(|status| status.state == NodeState::Voter);
        runs && votes && (self.leads(seat.id) || self.peer(seat.id).is_some_and(|peer| peer.active))
    }

    /// Whether it has all that the leader has, except for the last moment.
    pub(crate) fn is_caught_up(&self, seat: &Seat) -> bool {
        self.leads(seat.id) || self.peer(seat.id).is_some_and(|peer| peer.caught_up)
    }

    /// Whether it is healthy and caught up.
    pub(crate) fn is_well(&self, seat: &Seat) -> bool {
        self.is_healthy(seat) && self.is_caught_up(seat)
    }

    /// Whether it is well, and ready by the kubelet's word and by its own, so that clients are sent to it and answered.
    pub(crate) fn serves(&self, seat: &Seat) -> bool {
        let ready = seat.ordinal.and_then(|ordinal| self.pod(ordinal)).is_some_and(|pod| pod.ready);
        // Nodes of older versions do not say it.
        let says_no = self.answers(seat).and_then(|status| status.serves).is_some_and(|serves| serves != Serves::Yes);
        self.is_well(seat) && ready && !says_no
    }

    /// Whether its volume claim is being deleted, so that only the running pod keeps the data.
    pub(crate) fn is_doomed(&self, seat: &Seat) -> bool {
        seat.ordinal.and_then(|ordinal| self.claim(ordinal)).is_some_and(|claim| claim.terminating)
    }

    /// Whether it is silent to the operator and, by the word of a leader with a quorum, to the leader.
    pub(crate) fn is_mute(&self, seat: &Seat) -> bool {
        let silent = seat.ordinal.is_some_and(|ordinal| self.status(ordinal).is_none());
        let led = self.leader.is_some() && self.roster.certainty == Certainty::Linearizable;
        silent && led && self.peer(seat.id).is_some_and(|peer| !peer.active)
    }

    /// For how many seconds it has been mute, by this pass and an earlier one; `None` when it is not, or not yet twice.
    pub(crate) fn mute_s(&self, seat: &Seat) -> Option<i64> {
        let since = self.seen.memory.mute.get(&seat.id).filter(|_| self.is_mute(seat))?;
        Some(self.seen.now.as_second() - since.as_second())
    }

    /// For how many seconds the cluster has not been available, by the status; 0 when that is not known.
    pub(crate) fn leaderless_s(&self) -> i64 {
        let mut conditions = self.seen.memory.conditions.iter();
        let available = conditions.find(|it| it.type_ == ConditionType::Available.as_str() && it.status != "True");
        available.map_or(0, |since| self.seen.now.as_second() - since.last_transition_time.0.as_second())
    }

    /// Whether its vote counts, by the leader's word.
    pub(crate) fn is_active(&self, seat: &Seat) -> bool {
        self.leads(seat.id) || self.peer(seat.id).is_some_and(|peer| peer.active)
    }

    /// Whether its data contradicts the leader's log, so that it may be the only copy of acknowledged writes. Member, pod
    /// and claim are left to a person.
    pub(crate) fn is_left_alone(&self, seat: &Seat) -> bool {
        self.answers(seat).is_some_and(|status| status.diverged)
    }

    /// Whether the StatefulSet's controller has seen the newest template, so that it is known which pods are outdated.
    pub(crate) fn is_settled(&self) -> bool {
        self.seen.ours().is_some_and(|set| set.settled && !set.differs)
    }

    pub(crate) fn leads(&self, id: u64) -> bool {
        self.leader.is_some_and(|leader| leader.id == id)
    }

    pub(crate) fn peer(&self, id: u64) -> Option<&'a Peer> {
        self.leader?.status.peers.iter().find(|peer| peer.id.0 == id)
    }

    /// How many voters other than this one are well.
    pub(crate) fn well_without(&self, excluded: u64) -> usize {
        self.roster.voters().filter(|seat| seat.id != excluded && self.is_well(seat)).count()
    }

    /// How many voters other than this one are well and keep their data.
    pub(crate) fn lasting_without(&self, excluded: u64) -> usize {
        let lasts = |seat: &&Seat| seat.id != excluded && self.is_well(seat) && !self.is_doomed(seat);
        self.roster.voters().filter(lasts).count()
    }

    /// A voter whose node is still reading its data.
    pub(crate) fn opening(&self) -> Option<&Seat> {
        self.roster.voters().find(|seat| {
            let status = seat.ordinal.and_then(|ordinal| self.status(ordinal));
            status.is_some_and(|status| status.state == NodeState::Opening)
        })
    }

    /// How many voters have the membership of this index on disk and applied.
    pub(crate) fn durable_at(&self, conf_index: u64) -> usize {
        let durable = |seat: &&Seat| match self.leader {
            Some(leader) if leader.id == seat.id => leader.status.durable_conf_index >= conf_index,
            Some(_) | None => self.peer(seat.id).is_some_and(|peer| peer.durable_conf_index >= conf_index),
        };
        self.roster.voters().filter(durable).count()
    }

    /// The Kubernetes node that the pod runs on, or that its volume is tied to.
    pub(crate) fn machine(&self, ordinal: Ordinal) -> Option<(&'a str, Machine)> {
        let of_pod = self.pod(ordinal).and_then(|pod| pod.machine.as_deref());
        let of_claim = || self.claim(ordinal).and_then(|claim| claim.machine.as_deref());
        let name = of_pod.or_else(of_claim)?;
        Some((name, self.seen.machines.get(name).copied().unwrap_or(Machine::Unknown)))
    }

    /// Whether its volume cannot be attached to another machine, and its machine is gone.
    pub(crate) fn is_tied_to_lost(&self, ordinal: Ordinal) -> bool {
        let machine = self.claim(ordinal).and_then(|claim| claim.machine.as_ref());
        let state = machine.and_then(|name| self.seen.machines.get(name));
        state.is_some_and(|state| state.is_gone_for_good())
    }

    /// Whether it has been silent for a moment only.
    pub(crate) fn is_new_to_silence(&self, ordinal: Ordinal) -> bool {
        self.silent_s(ordinal) < UNREACHABLE_AFTER_S
    }

    /// For how many seconds it has not answered; 0 when that is not known.
    pub(crate) fn silent_s(&self, ordinal: Ordinal) -> i64 {
        let since = self.seen.memory.silent.get(&ordinal).copied().unwrap_or(self.seen.now);
        self.seen.now.as_second() - since.as_second()
    }

    /// Why a pod does not answer, in words that stay the same while nothing changes.
    pub(crate) fn trouble(&self, ordinal: Ordinal) -> String {
        let Some(pod) = self.pod(ordinal) else { return "there is no such pod".to_string() };
        if pod.terminating {
            return "it is stopping".to_string();
        }
        match (&pod.container, &pod.node) {
            (Container::Unscheduled(why), _) => format!("it cannot be scheduled: {why}"),
            (Container::Starting, _) => "its container is being made".to_string(),
            (Container::Failing(why), _) => format!("its container does not run: {why}"),
            (Container::Running, NodeSeen::Unreachable(why)) => format!("it does not answer: {why}"),
            (Container::Running, NodeSeen::Answered(status)) => state_words(status),
        }
    }
}

/// What a node reports about itself, in words that stay the same while nothing changes.
fn state_words(status: &Status) -> String {
    match status.state {
        NodeState::Opening => "it is opening its data".to_string(),
        NodeState::Blank => "its volume is empty".to_string(),
        NodeState::Learner => "it is a learner".to_string(),
        NodeState::Voter => "it votes".to_string(),
        NodeState::Removed => "it was removed from the cluster".to_string(),
        NodeState::Quarantined => {
            format!("it does not trust its data: {}", status.reason.as_deref().unwrap_or("it gives no reason"))
        }
    }
}

/// The status of a node that answers.
pub(crate) fn answer(pod: &PodSeen) -> Option<&Status> {
    match &pod.node {
        NodeSeen::Answered(status) => Some(status),
        NodeSeen::Unreachable(_) => None,
    }
}

/// Of the nodes of this cluster that say that they lead, the one with the highest term. A deposed leader may not know
/// yet that it is deposed.
fn leader(seen: &Observed) -> Option<Leader<'_>> {
    let statuses = seen.pods.iter().filter_map(|(ordinal, pod)| answer(pod).map(|status| (*ordinal, status)));
    statuses
        .filter(|(_, status)| status.cluster_id.is_some() && status.cluster_id == seen.latch.cluster_id)
        .filter_map(|(ordinal, status)| Some(Leader { ordinal, id: status.member_id?.0, status }))
        .filter(|leader| leader.status.leader_id.is_some_and(|id| id.0 == leader.id))
        .max_by_key(|leader| leader.status.term)
}

/// What the nodes' reports mean together.
fn judgement(desired: &Desired, seen: &Observed) -> Judgement {
    let pods = seen.pods.iter();
    let asked: Vec<_> = pods.map(|(ordinal, pod)| (desired.pod(*ordinal), &pod.node)).collect();
    let mut reports = Vec::new();
    for (pod, node) in &asked {
        let answer = match node {
            NodeSeen::Answered(status) => Answer::Status(status),
            NodeSeen::Unreachable(why) => Answer::Unreachable(why),
        };
        reports.push(Report { at: pod, answer });
    }
    raftkv_judge::judge(&reports)
}

fn roster(desired: &Desired, seen: &Observed, leader: Option<Leader<'_>>) -> Roster {
    let ours = |members: &&raftkv_api::Members| Some(members.cluster_id) == seen.latch.cluster_id;
    if let (Some(members), Some(_)) = (seen.members.as_ref().filter(ours), leader) {
        return Roster {
            certainty: Certainty::Linearizable,
            seats: seats(desired, &members.members),
            joint: members.joint,
            conf_index: members.conf_index,
        };
    }
    let statuses = seen.pods.values().filter_map(answer);
    let ours = statuses.filter(|status| status.cluster_id.is_some() && status.cluster_id == seen.latch.cluster_id);
    let newest = ours.filter(|status| !status.members.is_empty()).max_by_key(|status| status.conf_index);
    match newest {
        Some(status) => Roster {
            certainty: Certainty::Reported,
            seats: seats(desired, &status.members),
            joint: status.joint,
            conf_index: status.conf_index,
        },
        None => remembered(desired, seen),
    }
}

fn seats(desired: &Desired, members: &[Member]) -> Vec<Seat> {
    let seat = |member: &Member| Seat {
        id: member.id.0,
        ordinal: child::ordinal(&member.name, &desired.name),
        name: member.name.clone(),
        role: member.role,
        incarnation: Some(member.incarnation),
    };
    members.iter().map(seat).collect()
}

fn remembered(desired: &Desired, seen: &Observed) -> Roster {
    let seat = |(id, ordinal): (&u64, &Ordinal)| Seat {
        id: *id,
        ordinal: Some(*ordinal),
        name: desired.pod(*ordinal),
        role: MemberRole::Voter,
        incarnation: None,
    };
    let seats = seen.memory.members.iter().map(seat).collect();
    Roster { certainty: Certainty::Remembered, seats, joint: false, conf_index: 0 }
}

impl Observed {
    /// This cluster's StatefulSet.
    pub(crate) fn ours(&self) -> Option<&crate::plan::world::Set> {
        match &self.set {
            SetSeen::Ours(set) => Some(set),
            SetSeen::Absent | SetSeen::Leaving | SetSeen::Taken(_) => None,
        }
    }
}
