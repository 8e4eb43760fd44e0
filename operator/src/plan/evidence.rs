//! What proves that an act may be taken: one function for each act that cannot be undone, or that takes a vote away for a
//! while (rule O33). PURE.
//!
//! All that a function asks for is of this pass. What is missing comes back as a [`Lack`], and then the act is not planned.

use crate::plan::facts::{Certainty, Facts, Seat, quorum};
use crate::plan::guards::{self, Lack};
use crate::plan::table::{self, Cell, On, Row, Task};
use crate::plan::world::{ClaimOwner, ClaimSeen, Container, NodeSeen, Ordinal, PodSeen, Seed};
use crate::plan::{former, machines, rows};
use raftkv_api::{Hex128, NodeState, Status};
use raftkv_crds::child;

/// Whether the act may be taken.
pub(crate) type Proof = Result<(), Lack>;

/// The id that `init` gives to the first member.
pub(crate) const FIRST_MEMBER_ID: u64 = 1;
/// A learner that is silent for so long, to the operator and to the leader, is dropped.
const LEARNER_SILENT_S_MAX: i64 = rows::COMING_S_MAX;

fn lacks<T>(on: On, text: impl Into<String>) -> Result<T, Lack> {
    Err(Lack::of(on, text))
}

/// What the seed's claim says before `init` is sent.
pub(crate) fn seed_owner(seed: Seed) -> ClaimOwner {
    ClaimOwner { cluster_id: seed.cluster_id, member_id: FIRST_MEMBER_ID, incarnation: seed.incarnation }
}

/// Claims that say whose data they hold, the seed's excepted. They are the third place of the latch: where one is, a
/// cluster was formed (rule O1).
pub(crate) fn owned_claims<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (Ordinal, &'a ClaimSeen)> {
    let seed = latched(facts).map(seed_owner);
    let claims = facts.seen.claims.iter().map(|(ordinal, claim)| (*ordinal, claim));
    claims.filter(move |(_, claim)| claim.owner.is_some() && claim.owner != seed)
}

/// The seed by the status, else by the StatefulSet.
fn latched(facts: &Facts<'_>) -> Option<Seed> {
    facts.seen.latch.bootstrap.or(facts.seen.ours()?.bootstrap)
}

/// **`init`**: no claim names a member but the seed's; status and StatefulSet agree; the node is Blank with the seed's
/// incarnation, in two passes; its claim says so.
pub(crate) fn init(facts: &Facts<'_>, seed: Seed) -> Proof {
    let noted = facts.seen.ours().and_then(|set| set.bootstrap);
    if facts.seen.latch.bootstrap != Some(seed) || noted != Some(seed) {
        return lacks(On::Clock, "the status and the StatefulSet do not name the same data directory");
    }
    if let Some((ordinal, _)) = owned_claims(facts).next() {
        return lacks(On::Person, format!("{} says that it holds a member's data", facts.desired.claim(ordinal)));
    }
    let first = facts.desired.pod(0);
    if facts.blank(0) != Some(seed.incarnation) {
        return lacks(On::Start, format!("waiting for {first}: {}", facts.trouble(0)));
    }
    if facts.seen.memory.blank.get(&0) != Some(&seed.incarnation) {
        return lacks(On::Clock, format!("{first} shows an empty volume; looking a second time"));
    }
    match facts.claim(0).and_then(|claim| claim.owner) == Some(seed_owner(seed)) {
        true => Ok(()),
        false => lacks(On::Clock, format!("the claim of {first} does not name its member yet")),
    }
}

/// Why the node in this pod may not be taken over: a member keeps its name and its peer URL for life, so a node under
/// another one runs on the volume of another cluster or place (rule O34).
pub(crate) fn misplaced(facts: &Facts<'_>, ordinal: Ordinal, status: &Status) -> Option<String> {
    let own = status.members.iter().find(|member| Some(member.id) == status.member_id)?;
    let (pod, url) = (facts.desired.pod(ordinal), facts.desired.peer_url(ordinal));
    if own.name != pod {
        return Some(format!("{pod} runs on the volume of {}, a member of another cluster or place", own.name));
    }
    (own.peer_url != url).then(|| {
        format!(
            "{pod} runs on the volume of a member whose peers know it at {}, and here it is at {url}: the cluster may still run there",
            own.peer_url
        )
    })
}

/// **add a learner**: a leader; the node is Blank with this incarnation, in two passes; no member has it or had it; the
/// claim stays.
pub(crate) fn add_learner(facts: &Facts<'_>, ordinal: Ordinal, incarnation: Hex128) -> Proof {
    guards::leader(facts)?;
    guards::joint(facts)?;
    let name = facts.desired.pod(ordinal);
    if facts.blank(ordinal) != Some(incarnation) || facts.pod(ordinal).is_none_or(|pod| pod.terminating) {
        return lacks(On::Start, format!("waiting for {name}: {}", facts.trouble(ordinal)));
    }
    if facts.seen.memory.blank.get(&ordinal) != Some(&incarnation) {
        return lacks(On::Clock, format!("{name} shows an empty volume; looking a second time"));
    }
    if facts.roster.seats.iter().any(|seat| seat.incarnation == Some(incarnation)) {
        return lacks(On::Report, format!("{name} is a member already"));
    }
    if former::is_spent(facts, incarnation) {
        return lacks(On::Kube, format!("{name} needs a new volume: a removed member was on it"));
    }
    match facts.claim(ordinal).is_some_and(|claim| claim.terminating) {
        true => lacks(On::Kube, format!("the volume claim of {name} is being deleted")),
        false => Ok(()),
    }
}

/// **promote**: the learner has caught up. The leader checks it again (rule O6).
pub(crate) fn promote(facts: &Facts<'_>, seat: &Seat) -> Proof {
    guards::leader(facts)?;
    guards::joint(facts)?;
    match facts.is_caught_up(seat) {
        true => Ok(()),
        false => lacks(On::CatchUp, format!("waiting for the learner {} to catch up", seat.name)),
    }
}

/// **remove a voter**: the spec asks for fewer, and the others that are well and keep their data are a quorum of those
/// that remain.
pub(crate) fn remove_voter(facts: &Facts<'_>, seat: &Seat) -> Proof {
    guards::leader(facts)?;
    guards::joint(facts)?;
    if facts.is_left_alone(seat) {
        return lacks(On::Person, format!("{} may have the only copy of acknowledged writes", seat.name));
    }
    let stays = |it: &&Seat| it.id != seat.id && it.ordinal.is_some_and(|ordinal| ordinal < facts.replicas());
    let behind = |it: &&Seat| table::cell(rows::member(facts, it), Task::Down) == Cell::Wait(On::CatchUp);
    if let Some(behind) = facts.roster.voters().filter(stays).find(behind) {
        return lacks(On::CatchUp, guards::trouble(facts, behind));
    }
    guards::lasting_margin(facts, seat, quorum(facts.roster.voters().count() - 1))
}

/// **drop a learner**: it is unwanted, and this is why.
pub(crate) fn drop_learner(facts: &Facts<'_>, seat: &Seat) -> Option<&'static str> {
    guards::leader(facts).ok()?;
    let ordinal = seat.ordinal?;
    if facts.is_left_alone(seat) {
        return None;
    }
    if ordinal >= facts.replicas() {
        return Some("the spec asks for fewer members");
    }
    let lost = facts.blank(ordinal).is_some_and(|incarnation| Some(incarnation) != seat.incarnation);
    if lost {
        return Some("its volume was lost");
    }
    if facts.is_doomed(seat) && facts.pod(ordinal).is_some() {
        return Some("its volume claim is being deleted");
    }
    if facts.answers(seat).is_some_and(|status| status.state == NodeState::Quarantined) {
        return Some("it does not trust its data");
    }
    if facts.status(ordinal).is_some() {
        return None;
    }
    if facts.is_tied_to_lost(ordinal) {
        return Some("its machine is gone");
    }
    let heard = facts.peer(seat.id).is_none_or(|peer| peer.active);
    (!heard && facts.silent_s(ordinal) >= LEARNER_SILENT_S_MAX).then_some("it has been silent for five minutes")
}

/// **reset**: the node is Removed or Quarantined now, and either it is removed by the leader's word, or it is a voter and
/// the leader holds without it. Never one that diverged.
pub(crate) fn reset(facts: &Facts<'_>, status: &Status) -> Proof {
    guards::leader(facts)?;
    let gives_up = match status.state {
        NodeState::Removed | NodeState::Quarantined => !status.diverged,
        NodeState::Opening | NodeState::Blank | NodeState::Learner | NodeState::Voter => false,
    };
    if !gives_up {
        return lacks(On::Person, "its data may still be needed");
    }
    let votes = facts.roster.voters().any(|seat| status.member_id.is_some_and(|id| id.0 == seat.id));
    let removed = former::is_former(facts, status);
    match removed || votes && facts.is_ours(status) && status.state == NodeState::Quarantined {
        true => Ok(()),
        false => lacks(On::Report, "the leader does not know it"),
    }
}

/// **delete the claim of a removed member** (rule O4), whose removal a quorum of the others has on disk. One condition that
/// does not hold is enough to leave it alone.
pub(crate) fn delete_removed_claim(facts: &Facts<'_>, ordinal: Ordinal, claim: &ClaimSeen) -> bool {
    if facts.roster.certainty != Certainty::Linearizable || facts.desired.suspend {
        return false;
    }
    let Some(owner) = claim.owner else { return false };
    let Some(members) = &facts.seen.members else { return false };
    let Some(set) = facts.seen.ours() else { return false };
    let ours = facts.seen.latch.cluster_id == Some(owner.cluster_id) && members.cluster_id == owner.cluster_id;
    let labelled = claim.cluster_uid.as_ref() == Some(&facts.desired.uid);
    let needed = quorum(facts.roster.voters().count());
    let removed = members.removed.iter().any(|member| {
        member.id.0 == owner.member_id
            && member.incarnation == owner.incarnation
            && child::ordinal(&member.name, &facts.desired.name) == Some(ordinal)
            && facts.durable_at(member.index) >= needed
    });
    let present = members.members.iter().any(|member| member.id.0 == owner.member_id) || facts.roster.has(ordinal);
    let beyond = ordinal >= set.replicas && ordinal >= facts.replicas();
    let unused = facts.pod(ordinal).is_none() && !claim.terminating;
    ours && labelled && removed && !present && beyond && unused
}

/// (c) and (d) of a lost node: the others are a quorum of three or more without it, none of them reads its data, and no
/// other claim is about to go.
pub(crate) fn others_hold(facts: &Facts<'_>, seat: &Seat, ordinal: Ordinal) -> Proof {
    guards::leader(facts)?;
    guards::joint(facts)?;
    let voters = facts.roster.voters().count();
    if voters < rows::VOTERS_MIN {
        return lacks(On::Margin, format!("with {voters} voters there is no quorum without it"));
    }
    if let Some(opening) = facts.opening().filter(|opening| opening.id != seat.id) {
        return lacks(On::Report, format!("{} is still opening its data", opening.name));
    }
    guards::margin(facts, seat, quorum(voters))?;
    let runs = |at: &Ordinal| facts.pod(*at).is_some_and(|pod| pod.container == Container::Running);
    let mut claims = facts.seen.claims.iter().filter(|(at, claim)| **at != ordinal && claim.terminating);
    match claims.find(|(at, _)| !runs(at)) {
        Some((at, _)) => lacks(On::Kube, format!("the volume claim {} is being deleted", facts.desired.claim(*at))),
        None => Ok(()),
    }
}

/// **delete the claim of a lost node**: its volume is tied to the machine that is gone, or a person names the member whose
/// data the claim holds; and the others hold.
pub(crate) fn delete_lost_claim(facts: &Facts<'_>, seat: &Seat, ordinal: Ordinal, claim: &ClaimSeen) -> Proof {
    if machines::machine_lost(facts, seat, ordinal).is_none() {
        return lacks(On::Clock, "there is no evidence that its machine is lost");
    }
    if claim.terminating || !machines::is_given_up(facts, seat, ordinal) && !facts.is_tied_to_lost(ordinal) {
        return lacks(On::Start, "its volume can leave the machine");
    }
    others_hold(facts, seat, ordinal)
}

/// **delete a pod with grace 0**: its machine is gone for good, or a person named the member and it is silent.
pub(crate) fn delete_pod_now(facts: &Facts<'_>, ordinal: Ordinal, pod: &PodSeen, named: bool) -> bool {
    let silent = facts.status(ordinal).is_none() && !pod.ready;
    silent && (named || machines::is_stranded(facts, pod) || facts.is_tied_to_lost(ordinal))
}

/// What a person is told about a member whose claim is being deleted and that the others cannot do without.
fn doomed_words(facts: &Facts<'_>, seat: &Seat) -> String {
    let claim = seat.ordinal.map_or(String::new(), |ordinal| facts.desired.claim(ordinal));
    format!(
        "the volume claim {claim} is being deleted, and the data of {} goes when its pod stops. The others cannot do without it: do not \
         restart it; save the data with raftkvctl export, or scale up to 3 members or more first",
        seat.name
    )
}

/// **delete a doomed pod**, whose volume goes with it: the others that are well and whose claims stay are a quorum, of
/// three voters or more, and nobody is on its way back.
pub(crate) fn delete_doomed_pod(facts: &Facts<'_>, seat: &Seat) -> Proof {
    guards::leader(facts)?;
    guards::joint(facts)?;
    let voters = facts.roster.voters().count();
    if voters < rows::VOTERS_MIN {
        return lacks(On::Person, doomed_words(facts, seat));
    }
    let others = || facts.roster.voters().filter(|it| it.id != seat.id);
    if others().all(|it| facts.is_doomed(it)) {
        return lacks(On::Person, doomed_words(facts, seat));
    }
    if let Some(coming) = others().find(|it| rows::member(facts, it) == Row::Coming) {
        return lacks(On::Margin, guards::trouble(facts, coming));
    }
    guards::lasting_margin(facts, seat, quorum(voters))
}

/// **restart a broken pod**: its template is an older one, and nobody needs it: its container does not run, or its node is
/// no voter by a quorum's membership, and knows that. A pod that the kubelet calls ready, and one whose volume would go
/// with it, is left alone. While there is no leader, a pod that answers may be needed for its vote.
pub(crate) fn restart_broken(facts: &Facts<'_>, ordinal: Ordinal, pod: &PodSeen) -> bool {
    let doomed = rows::is_doomed(facts, ordinal) && facts.roster.seats.iter().any(|it| it.ordinal == Some(ordinal));
    let diverged = facts.status(ordinal).is_some_and(|status| status.diverged);
    if pod.ready || doomed || diverged {
        return false;
    }
    let may_vote = facts.roster.certainty != Certainty::Linearizable || facts.roster.voter_at(ordinal).is_some();
    match (&pod.container, &pod.node) {
        (Container::Unscheduled(_) | Container::Failing(_) | Container::Starting, _) => true,
        (Container::Running, NodeSeen::Unreachable(_)) => !may_vote || is_stuck_unformed(facts, ordinal),
        (Container::Running, NodeSeen::Answered(status)) => match status.state {
            NodeState::Voter => false,
            // A learner may just have been promoted, and the vote of a removed member may be needed to confirm its
            // removal.
            NodeState::Opening => !may_vote || is_stuck_unformed(facts, ordinal),
            NodeState::Learner | NodeState::Removed => !may_vote,
            NodeState::Blank | NodeState::Quarantined => true,
        },
    }
}

/// Whether there is no membership yet by which a pod could be told to be nobody's, and nothing has come of it for so long
/// that its template may be why. A restart loses nothing, since disks stay.
fn is_stuck_unformed(facts: &Facts<'_>, ordinal: Ordinal) -> bool {
    let silent = facts.status(ordinal).is_none() && facts.silent_s(ordinal) < table::OUTDATED_AFTER_S;
    facts.roster.seats.is_empty() && !silent && facts.leaderless_s() >= table::OUTDATED_AFTER_S
}

/// **restart a pod of a voter** (rule O8): the others can do without its vote, nobody is on its way, and, if it serves,
/// the newest template is known to serve or not tried yet.
pub(crate) fn restart(facts: &Facts<'_>, seat: &Seat) -> Proof {
    guards::leader(facts)?;
    guards::joint(facts)?;
    let others = || facts.roster.voters().filter(|it| it.id != seat.id);
    for other in others() {
        strict(facts, other)?;
    }
    let voters = facts.roster.voters().count();
    if voters < rows::VOTERS_MIN {
        guards::margin(facts, seat, voters - 1)?;
    } else if facts.is_active(seat) {
        guards::margin(facts, seat, quorum(voters))?;
    }
    if !facts.serves(seat) {
        return Ok(());
    }
    let newest = || others().filter(|it| it.ordinal.and_then(|at| facts.pod(at)).is_some_and(|pod| !pod.outdated));
    match newest().next().is_none() || newest().any(|it| facts.serves(it)) {
        true => Ok(()),
        false => lacks(On::Start, newest().map(|it| guards::trouble(facts, it)).collect::<Vec<_>>().join("; ")),
    }
}

/// Whether another voter is to be waited for, whatever the margin is.
fn strict(facts: &Facts<'_>, other: &Seat) -> Proof {
    let row = rows::member(facts, other);
    if table::cell(row, Task::Roll) == Cell::Person {
        return lacks(On::Person, guards::trouble(facts, other));
    }
    match table::waits_on(row, Task::Roll) {
        None | Some(On::Margin) => Ok(()),
        Some(on) => lacks(on, guards::trouble(facts, other)),
    }
}

/// **restart without a leader**: it answers, its volume stays, every voter that has the newest template votes again, and
/// no pod fails with that template. It loses nothing, since disks stay.
pub(crate) fn restart_one_by_one(facts: &Facts<'_>, seat: &Seat) -> Proof {
    let answers = seat.ordinal.is_some_and(|ordinal| facts.status(ordinal).is_some());
    if facts.is_doomed(seat) || facts.is_left_alone(seat) || !answers {
        return lacks(On::Leader, guards::trouble(facts, seat));
    }
    let newest =
        |it: &&Seat| it.ordinal.and_then(|at| facts.pod(at)).is_some_and(|pod| !pod.outdated || pod.terminating);
    let away =
        |it: &&Seat| it.ordinal.is_some_and(|at| facts.pod(at).is_none() && facts.silent_s(at) < rows::COMING_S_MAX);
    let mut others = facts.roster.voters().filter(|it| it.id != seat.id).filter(|it| newest(it) || away(it));
    // One that knows that it was removed votes no more: the membership that it stands in is an old one.
    let removed = |it: &&Seat| facts.answers(it).is_some_and(|status| status.state == NodeState::Removed);
    let stops = |it: &&Seat| it.ordinal.and_then(|at| facts.pod(at)).is_some_and(|pod| pod.terminating);
    if let Some(other) = others.find(|it| stops(it) || !rows::says_voter(facts, it) && !removed(it)) {
        return lacks(On::Start, guards::trouble(facts, other));
    }
    let fails = |pod: &PodSeen| !pod.outdated && matches!(pod.container, Container::Failing(_));
    match facts.seen.pods.iter().find(|(_, pod)| fails(pod)) {
        Some((at, _)) => lacks(On::Start, format!("{}: {}", facts.desired.pod(*at), facts.trouble(*at))),
        None => Ok(()),
    }
}
