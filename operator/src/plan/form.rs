//! How a cluster begins: it is formed once on one proved-empty disk (rule O1), or found again on volumes that hold it
//! (rule O2). PURE. `Init` is planned only here, and only for the data directory that was latched before.

use crate::plan::action::{Action, Problem, Step, Turn, Underway};
use crate::plan::evidence::{self, FIRST_MEMBER_ID};
use crate::plan::facts::{Certainty, ELECTING_S_MAX, Facts, answer, quorum};
use crate::plan::table::On;
use crate::plan::world::{ClaimSeen, Ordinal, Seed};
use raftkv_api::{Hex128, MemberRole, NodeState, Status};
use raftkv_crds::{OperationKind, Reason};
use std::collections::BTreeSet;

/// Whether a claim is older than this cluster, or was another cluster's. A claim that this cluster's StatefulSet has
/// just made has no label yet.
pub(crate) fn is_foreign(facts: &Facts<'_>, claim: &ClaimSeen) -> bool {
    match (&claim.cluster_uid, facts.seen.ours()) {
        (Some(uid), _) => *uid != facts.desired.uid,
        // Times are whole seconds, so that a foreign claim may seem to be as young as the StatefulSet.
        (None, Some(set)) => !claim.by_set || claim.created < set.created,
        (None, None) => true,
    }
}

fn foreign<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (Ordinal, &'a ClaimSeen)> {
    let claims = facts.seen.claims.iter().map(|(ordinal, claim)| (*ordinal, claim));
    claims.filter(|(_, claim)| is_foreign(facts, claim))
}

/// One more than the highest ordinal of a foreign claim, as long as it is not known whose data the claims hold.
pub(crate) fn foreign_span(facts: &Facts<'_>) -> Option<u32> {
    if facts.seen.latch.bootstrapped {
        return None;
    }
    foreign(facts).map(|(ordinal, _)| ordinal + 1).max()
}

/// How many pods there were, by the claims that name a member; 0 when a membership is known and a StatefulSet says how many
/// there are. Without a leader for a minute they count again: a survivor that does not know of a removal yet waits for the
/// vote of the removed member (rule N10).
pub(crate) fn claimed_span(facts: &Facts<'_>) -> u32 {
    let led = facts.roster.certainty == Certainty::Linearizable;
    let stuck = !led && facts.leaderless_s() >= ELECTING_S_MAX;
    if !facts.roster.seats.is_empty() && facts.seen.ours().is_some() && !stuck {
        return 0;
    }
    let ours = |id: Hex128| facts.seen.latch.cluster_id.is_none_or(|known| known == id);
    let owned = facts.seen.claims.iter().filter(|(_, claim)| claim.owner.is_some_and(|owner| ours(owner.cluster_id)));
    owned.map(|(ordinal, _)| ordinal + 1).max().unwrap_or(0)
}

/// ADOPT: finds the cluster that the volumes hold.
pub(crate) fn adopt(facts: &Facts<'_>) -> Turn {
    if is_over(facts) || !is_in_question(facts) { Turn::Nothing } else { found(facts) }
}

/// FORM: the next step towards a formed cluster.
pub(crate) fn form(facts: &Facts<'_>) -> Turn {
    if is_over(facts) || is_in_question(facts) { Turn::Nothing } else { seed(facts) }
}

fn is_over(facts: &Facts<'_>) -> bool {
    facts.seen.latch.bootstrapped || facts.desired.suspend
}

/// Whether the volumes may hold a cluster: they were there before, a node on them belongs to one, or their claims say so.
/// Then nobody is told to form another one.
fn is_in_question(facts: &Facts<'_>) -> bool {
    foreign_span(facts).is_some() || claimants(facts).next().is_some() || is_owned(facts)
}

/// Whether a claim says that it holds a member's data, and does not prove itself that nothing was formed.
fn is_owned(facts: &Facts<'_>) -> bool {
    let mut owned = evidence::owned_claims(facts).filter(|(ordinal, _)| *ordinal != 0 || cut_short(facts).is_none());
    owned.next().is_some()
}

/// The seed of a forming that was cut short before `init`: its claim was named, and its node is still Blank with that
/// incarnation. So nothing was formed, and the same seed is latched again.
fn cut_short(facts: &Facts<'_>) -> Option<Seed> {
    let owner = facts.claim(0)?.owner.filter(|owner| owner.member_id == FIRST_MEMBER_ID)?;
    let seed = Seed { cluster_id: owner.cluster_id, incarnation: owner.incarnation };
    (facts.blank(0) == Some(seed.incarnation)).then_some(seed)
}

/// Whether a node belongs to any cluster.
pub(crate) fn has_claimants(facts: &Facts<'_>) -> bool {
    claimants(facts).next().is_some()
}

/// The nodes that belong to any cluster.
fn claimants<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (Ordinal, &'a Status)> {
    let answers = facts.seen.pods.iter().filter_map(|(ordinal, pod)| Some((*ordinal, answer(pod)?)));
    answers.filter(|(_, status)| status.cluster_id.is_some())
}

/// What can be concluded from the nodes that belong to a cluster.
enum Finding {
    /// A quorum of the voters of the newest configuration answers.
    Quorum(Hex128),
    /// A quorum may still answer: these have not answered yet.
    Unclear(Vec<String>),
    /// The volumes cannot be taken over, for this reason.
    Refused(String),
}

fn finding(facts: &Facts<'_>) -> Finding {
    let clusters: BTreeSet<_> = claimants(facts).map(|(_, status)| (status.cluster_id, status.genesis)).collect();
    if clusters.len() > 1 {
        return Finding::Refused("the volumes hold data of more than one cluster".to_string());
    }
    if let Some(why) = unlike_seed(facts).or_else(|| misplaced(facts)) {
        return Finding::Refused(why);
    }
    let newest = claimants(facts).filter(|(_, status)| !status.members.is_empty());
    let newest = newest.max_by_key(|(_, status)| (status.generation, status.conf_index));
    let (answering, voters) = newest.map_or((0, 0), |(_, status)| count(facts, status));
    let silent: Vec<String> = silent(facts);
    match claimants(facts).next().and_then(|(_, status)| status.cluster_id) {
        Some(id) if voters > 0 && answering >= quorum(voters) => Finding::Quorum(id),
        Some(_) | None if !silent.is_empty() => Finding::Unclear(silent),
        Some(_) => {
            Finding::Refused(format!("{answering} of the {voters} voters answer, and {} are needed", quorum(voters)))
        }
        None => Finding::Refused("no node on them says that it belongs to a cluster".to_string()),
    }
}

/// Why the nodes contradict the latched seed, which names the one cluster that may be found.
fn unlike_seed(facts: &Facts<'_>) -> Option<String> {
    let known = facts.seen.latch.bootstrap.or(facts.seen.ours()?.bootstrap)?.cluster_id;
    let other = claimants(facts).find(|(_, status)| status.cluster_id != Some(known))?;
    Some(format!(
        "{} belongs to another cluster than the one that was being formed, {known}",
        facts.desired.pod(other.0)
    ))
}

fn misplaced(facts: &Facts<'_>) -> Option<String> {
    claimants(facts).find_map(|(ordinal, status)| evidence::misplaced(facts, ordinal, status))
}

/// How many voters of this configuration answer as voters, and how many there are.
fn count(facts: &Facts<'_>, configuration: &Status) -> (usize, usize) {
    let voters = configuration.members.iter().filter(|member| member.role != MemberRole::Learner);
    let answers = |id| {
        let mut nodes = claimants(facts).map(|(_, status)| status);
        nodes.any(|status| status.member_id == Some(id) && status.state == NodeState::Voter)
    };
    let (mut answering, mut all) = (0, 0);
    for voter in voters {
        all += 1;
        answering += usize::from(answers(voter.id));
    }
    (answering, all)
}

/// The pods that have not yet said what is on the volumes in question.
fn silent(facts: &Facts<'_>) -> Vec<String> {
    let span = foreign_span(facts).unwrap_or(0).max(claimed_span(facts));
    let unread = |ordinal: &Ordinal| facts.status(*ordinal).is_none_or(|status| status.state == NodeState::Opening);
    let trouble = |ordinal| format!("{}: {}", facts.desired.pod(ordinal), facts.trouble(ordinal));
    (0..span).filter(unread).map(trouble).collect()
}

fn found(facts: &Facts<'_>) -> Turn {
    let formed_here = foreign_span(facts).is_none() && facts.seen.latch.bootstrap.is_some();
    let kind = if formed_here { OperationKind::Bootstrap } else { OperationKind::Adopt };
    let underway = |step, text: String| Underway { kind, step, member: None, text };
    match finding(facts) {
        Finding::Quorum(cluster_id) => {
            let (reason, text) = match (formed_here, foreign_span(facts)) {
                (true, _) => ("ClusterFormed", format!("formed cluster {cluster_id}")),
                (false, Some(_)) => {
                    ("VolumesAdopted", format!("found cluster {cluster_id} on volumes and took it over"))
                }
                (false, None) => ("ClusterFound", format!("found cluster {cluster_id} on its own volumes")),
            };
            let step = Step::told(Action::LatchFormed { cluster_id }, reason, text.clone());
            Turn::Act(underway("LatchFormed", text), vec![step])
        }
        Finding::Unclear(silent) => {
            let text = format!("waiting for what is on the volumes: {}", silent.join("; "));
            Turn::wait(On::Start, underway("WaitForVolumes", text))
        }
        Finding::Refused(why) => Turn::wait(On::Person, underway("Refused", why)),
    }
}

fn seed(facts: &Facts<'_>) -> Turn {
    let Some(set) = facts.seen.ours() else { return Turn::Nothing };
    let first = facts.desired.pod(0);
    let underway =
        |step, text: String| Underway { kind: OperationKind::Bootstrap, step, member: Some(first.clone()), text };
    let latch = |seed| {
        let text = format!("{first} will form the cluster {}", seed_text(&seed));
        Turn::Act(underway("LatchSeed", text), vec![Step::quiet(Action::LatchSeed(seed))])
    };
    let waits = |text| Turn::wait(On::Start, underway("WaitForFirstPod", text));
    match (facts.seen.latch.bootstrap, set.bootstrap) {
        (None, Some(noted)) => latch(noted),
        (None, None) => match (cut_short(facts), facts.blank(0)) {
            (Some(seed), _) => latch(seed),
            (None, Some(incarnation)) => latch(Seed { cluster_id: facts.seen.fresh_cluster_id, incarnation }),
            (None, None) => waits(format!("waiting for {first}: {}", facts.trouble(0))),
        },
        (Some(seed), noted) if noted != Some(seed) => {
            let action = Action::AnnotateSeed { seed, resource_version: set.resource_version.clone() };
            Turn::Act(underway("AnnotateSeed", format!("noting {first} at the StatefulSet")), vec![Step::quiet(action)])
        }
        (Some(seed), _) if facts.blank(0) == Some(seed.incarnation) => {
            init(facts, seed, underway("Init", format!("telling {first} to form the cluster")))
        }
        (Some(_), _) => waits(format!("waiting for {first}: {}", facts.trouble(0))),
    }
}

fn seed_text(seed: &Seed) -> String {
    format!("{} on its data directory {}", seed.cluster_id, seed.incarnation)
}

/// The claim is annotated first, while its node can only be Blank. It is the third place of the latch.
fn init(facts: &Facts<'_>, seed: Seed, underway: Underway) -> Turn {
    let owner = evidence::seed_owner(seed);
    if let Some(claim) = facts.claim(0).filter(|claim| claim.owner != Some(owner) && !claim.terminating) {
        let (uid, resource_version) = (claim.uid.clone(), claim.resource_version.clone());
        let action = Action::AnnotateClaim { ordinal: 0, uid, resource_version, owner };
        return Turn::Act(underway, vec![Step::quiet(action)]);
    }
    if let Err(lack) = evidence::init(facts, seed) {
        return lack.wait(underway.kind, underway.member);
    }
    let voters = usize::try_from(facts.desired.replicas).unwrap_or(1);
    let min_voters = u32::try_from(quorum(voters)).unwrap_or(1);
    let text = format!("told {} to form the cluster {}", facts.desired.pod(0), seed_text(&seed));
    let step = Step::told(Action::Init { seed, ordinal: 0, min_voters }, "ClusterInitialized", text);
    Turn::Act(underway, vec![step])
}

/// What keeps a cluster from being formed and needs a person.
pub(crate) fn problem(facts: &Facts<'_>) -> Option<Problem> {
    if facts.seen.latch.bootstrapped {
        return None;
    }
    if is_in_question(facts) {
        return match finding(facts) {
            Finding::Refused(why) => Some(foreign_problem(facts, &why)),
            Finding::Quorum(_) | Finding::Unclear(_) => None,
        };
    }
    let (seed, blank) = (facts.seen.latch.bootstrap?, facts.blank(0)?);
    (blank != seed.incarnation).then(|| Problem {
        reason: Reason::SeedVolumeLost,
        text: format!(
            "{first} was chosen to form the cluster on the data directory {chosen}, and came back with the empty directory {blank}. \
             If the cluster was formed, writes that it acknowledged were on the lost volume alone. To start over with an empty cluster: \
             kubectl delete rkv {name}, kubectl delete pvc -l {label}={name}, and apply it again",
            first = facts.desired.pod(0), chosen = seed.incarnation, name = facts.desired.name, label = raftkv_crds::label::CLUSTER,
        ),
    })
}

fn foreign_problem(facts: &Facts<'_>, why: &str) -> Problem {
    let span = foreign_span(facts).unwrap_or(0);
    let in_question: BTreeSet<Ordinal> = match span {
        0 => claimants(facts).map(|it| it.0).chain(evidence::owned_claims(facts).map(|it| it.0)).collect(),
        _ => foreign(facts).map(|it| it.0).collect(),
    };
    let claims: Vec<String> = in_question.iter().map(|ordinal| facts.desired.claim(*ordinal)).collect();
    let span = span.max(in_question.last().map_or(0, |last| last + 1));
    let pods: Vec<String> = (0..span).map(|ordinal| facts.desired.pod(ordinal)).collect();
    let claims = claims.join(" ");
    Problem {
        reason: Reason::ForeignVolumes,
        text: format!(
            "volumes of this cluster's names were there before it ({claims}): {why}. Nothing was written to them. \
             To take the data over, bring back the missing volumes under their names. To give the data up and start empty: \
             kubectl delete pvc {claims} --wait=false; kubectl delete pod {}",
            pods.join(" ")
        ),
    }
}
