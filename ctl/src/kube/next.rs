//! What to do next: from the reasons of the conditions, and from what the nodes and the operator's Deployment show. PURE.
//!
//! Each piece of advice is a sentence and commands that can be copied as they stand. Advice never deletes data unless its
//! sentence says that data is deleted. A reason of another version asks for nothing here.

use crate::judged;
use crate::kube::context::Flags;
use crate::kube::objects::{pod_of_claim, selector_of};
use crate::kube::rows::NO_POD;
use crate::kube::screen::{Advice, Level, MemberRow, OperatorRow, Screen};
use crate::kube::seen::{Nodes, Seen};
use raftkv_crds::{Reason, annotation};

/// The short name of the kind, for commands that people read.
const SHORT: &str = "rkv";
/// Beginning of the advice that is worth nothing beside any other.
const WAIT: &str = "wait; ";

/// What each reason means and what to do, at length.
const RUNBOOK: &str = "https://github.com/raftkv/raftkv/blob/main/docs/operations.md";

/// Everything that is to be done, the most urgent first.
pub(crate) fn advise(seen: &Seen, screen: &Screen) -> Vec<Advice> {
    let facts = Facts { flags: &seen.flags, screen };
    let mut advice: Vec<Advice> = facts.divergence(seen).into_iter().collect();
    let told = matters(screen);
    advice.extend(told.iter().flat_map(|reason| facts.for_reason(reason).unwrap_or_default()));
    // Where the operator says nothing of it, because it is down or older than what happened, the nodes do.
    if screen.level == Level::Down && !told.contains(&Reason::QuorumLost.as_str()) && advice.is_empty() {
        advice.extend(facts.for_reason(Reason::QuorumLost.as_str()).unwrap_or_default());
    }
    advice.extend(facts.operator());
    if advice.is_empty() && screen.level == Level::Degraded {
        advice.extend(facts.for_reason(Reason::MemberUnreachable.as_str()).unwrap_or_default());
    }
    if advice.iter().any(|advice| !is_wait(advice)) {
        advice.retain(|advice| !is_wait(advice));
    }
    advice.dedup();
    advice
}

fn is_wait(advice: &Advice) -> bool {
    advice.text.starts_with(WAIT)
}

/// The heading of the runbook about the worst reason, when something is to be done about it.
pub(crate) fn more(screen: &Screen) -> Option<String> {
    let reason = matters(screen).first()?.to_lowercase();
    (screen.level >= Level::Degraded).then(|| format!("{RUNBOOK}#{reason}"))
}

/// Reasons of the conditions that are not as they should be. Waiting for something is said last, and only when nothing
/// else is to be done.
fn matters(screen: &Screen) -> Vec<&str> {
    let reason = |kind: &str, wrong: &[&str]| {
        let found = screen.conditions.iter().find(|condition| condition.kind == kind)?;
        wrong.contains(&found.status.as_str()).then_some(found.reason.as_str())
    };
    let wrong: Vec<&str> =
        [reason("Degraded", &["True"]), reason("Available", &["False", "Unknown"])].into_iter().flatten().collect();
    let stuck = reason("Progressing", &["False"])
        .filter(|reason| ![Reason::UpToDate.as_str(), Reason::Healthy.as_str()].contains(reason));
    let waiting = reason("Progressing", &["True"]).or_else(|| reason("Ready", &["False", "Unknown"]));
    let patience = if wrong.is_empty() && stuck.is_none() { waiting } else { None };
    // While it is paused nothing else can come right.
    let paused = stuck.filter(|reason| *reason == Reason::Paused.as_str());
    let mut reasons: Vec<&str> = paused.into_iter().chain(wrong).chain(stuck).chain(patience).collect();
    let mut seen_before = std::collections::BTreeSet::new();
    reasons.retain(|reason| seen_before.insert(*reason));
    reasons
}

struct Facts<'a> {
    flags: &'a Flags,
    screen: &'a Screen,
}

impl Facts<'_> {
    /// What one reason asks for: nothing, for the good ones. `None` when it is not known here.
    fn for_reason(&self, reason: &str) -> Option<Vec<Advice>> {
        let name = &self.screen.cluster;
        Some(match Reason::read(reason)? {
            Reason::AllMembersReady | Reason::QuorumHealthy | Reason::UpToDate | Reason::Healthy => vec![],
            Reason::Bootstrapping
            | Reason::Adopting
            | Reason::ScalingUp
            | Reason::ScalingDown
            | Reason::ReplacingMember
            | Reason::RollingUpdate
            | Reason::StartingPods
            | Reason::Suspending
            | Reason::DiskLost
            | Reason::MembersNotReady
            | Reason::Forming
            | Reason::Electing => {
                vec![self.wait()]
            }
            Reason::QuorumLost => vec![self.bring_back(), self.read_stale()],
            Reason::WritesRefused | Reason::NoSpace | Reason::QuotaExceeded => vec![self.make_room()],
            Reason::DiskStalled => vec![self.look_at_disks()],
            Reason::OperatorCannotReachPods => vec![self.network()],
            Reason::Suspended => vec![self.patch("suspended by spec.suspend; to start it again", "suspend")],
            Reason::Paused => vec![self.patch("paused by spec.paused; to go on", "paused")],
            Reason::DeadlineExceeded | Reason::PodNotStarting => vec![self.look_at_pods()],
            Reason::SeedVolumeLost => vec![self.seed_lost()],
            Reason::ForeignVolumes => self.foreign_volumes(),
            Reason::NameTaken => vec![Advice::new(
                "an object of that name is somebody else's: remove or rename it, or give this cluster another name",
                [self.flags.kubectl(&format!(
                    "get statefulset,service,secret,poddisruptionbudget --show-labels | grep {name}"
                ))],
            )],
            Reason::MemberUnreachable => self.unreachable(),
            Reason::NoLeader => vec![self.no_leader()],
            Reason::MemberQuarantined => vec![self.quarantined()],
            Reason::MemberDiverged => vec![self.diverged()],
            Reason::ForeignNode => vec![Advice::new(
                "a pod answers as a node of another cluster: see whose volume it has, and give that back or remove it",
                [self.flags.kubectl(&format!("get pods,pvc -l {} -o wide", selector_of(name)))],
            )],
            Reason::InvalidSpec => vec![Advice::new(
                "correct the spec; the running cluster stays as it was until then",
                [self.flags.kubectl(&format!("edit {SHORT} {name}"))],
            )],
            Reason::TokenRefused => vec![Advice::new(
                "a node runs with another token than the Secret has: add that token to it as another line",
                [self.flags.kubectl(&format!("edit secret {name}-auth"))],
            )],
            Reason::StepFailed => vec![Advice::new(
                "a write of the operator fails: most often a webhook is down, or a right of the operator is missing",
                [self.flags.kubectl(&format!("describe {SHORT} {name}"))],
            )],
            Reason::AdmissionDiffers => vec![Advice::new(
                "a webhook or a policy changes what the operator writes: see whether that is meant",
                [self.flags.kubectl("get mutatingwebhookconfigurations,mutatingadmissionpolicies")],
            )],
        })
    }

    fn wait(&self) -> Advice {
        let progress = self.screen.conditions.iter().find(|row| row.kind == "Progressing" && row.status == "True");
        let told = self.screen.message.as_ref().or_else(|| progress.map(|row| &row.message));
        let what = match told.filter(|text| !text.is_empty()) {
            Some(text) => format!("the operator says: {text}"),
            None => "nothing is to be done by hand".to_string(),
        };
        Advice::new(format!("{WAIT}{what}"), [self.flags.ours(&format!("status {} --watch", self.screen.cluster))])
    }

    /// Members whose nodes do not take part.
    fn silent(&self) -> Vec<&MemberRow> {
        let votes = |row: &MemberRow| ["voter", "learner"].iter().any(|state| row.state.starts_with(state));
        self.screen.members.iter().filter(|row| row.id.is_some() && !votes(row)).collect()
    }

    fn bring_back(&self) -> Advice {
        let place = |row: &&MemberRow| {
            let node = row.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
            let claim = row.claim.as_ref().map(|claim| format!(" with {claim}")).unwrap_or_default();
            format!("{}{node}{claim}", row.pod)
        };
        let silent = self.silent();
        let (voters, quorum) = (self.screen.voters, self.screen.quorum);
        let whom = match silent.as_slice() {
            [] => "the pods that do not answer".to_string(),
            rows => rows.iter().map(place).collect::<Vec<_>>().join(", "),
        };
        let text = format!(
            "bring back {whom}: {quorum} of {voters} voters must answer. Start the machines and pods, with the volumes as \
             they are; delete no volume claim and no RaftKvCluster"
        );
        let there: Vec<&MemberRow> = silent.into_iter().filter(|row| row.state != NO_POD).collect();
        let look = match there.as_slice() {
            [] => format!("get statefulset,pods -l {} -o wide", selector_of(&self.screen.cluster)),
            rows => format!("describe pod {}", pods(rows)),
        };
        Advice::new(text, [self.flags.kubectl(&look)])
    }

    fn read_stale(&self) -> Advice {
        let command = format!("get KEY --stale --cluster {}", self.screen.cluster);
        Advice::new("meanwhile one node's data can be read, as it had it last", [self.flags.ours(&command)])
    }

    fn network(&self) -> Advice {
        let text = "the operator reaches no pod's port 2381, though Kubernetes calls them ready: look for a NetworkPolicy or \
                    a service mesh in between";
        Advice::new(text, [self.flags.kubectl("get networkpolicy -o wide")])
    }

    fn patch(&self, text: &str, field: &str) -> Advice {
        let spec = format!(r#"'{{"spec":{{"{field}":false}}}}'"#);
        let command = format!("patch {SHORT} {} --type merge -p {spec}", self.screen.cluster);
        Advice::new(text, [self.flags.kubectl(&command)])
    }

    fn look_at_pods(&self) -> Advice {
        let subject = self.screen.operation.as_ref().and_then(|operation| operation.member.clone());
        let runs = |row: &&MemberRow| ["voter", "learner", "blank", "opening"].iter().any(|s| row.state.starts_with(s));
        let stuck = || self.screen.members.iter().find(|row| !runs(row)).map(|row| row.pod.clone());
        let why =
            "see why it does not get on: a scheduler without room, an image or a volume that is not there, a crash";
        match stuck().or(subject) {
            None => Advice::new(why, [self.flags.kubectl("get events --sort-by=.lastTimestamp")]),
            Some(pod) => {
                let commands = [format!("describe pod {pod}"), format!("logs {pod} --previous --tail 50")];
                Advice::new(format!("{pod}: {why}"), commands.map(|command| self.flags.kubectl(&command)))
            }
        }
    }

    fn seed_lost(&self) -> Advice {
        let name = &self.screen.cluster;
        let text = "ONLY if nothing of value can have been on the volume that is gone, start over with an empty cluster: \
                    delete it with its volumes, and apply its manifest again. Else bring that volume back";
        let commands = [format!("delete {SHORT} {name}"), format!("delete pvc --selector {}", selector_of(name))];
        Advice::new(text, commands.map(|command| self.flags.kubectl(&command)))
    }

    fn foreign_volumes(&self) -> Vec<Advice> {
        let foreign = || self.screen.claims.iter().filter(|claim| claim.foreign).map(|claim| claim.name.as_str());
        let claims = foreign().collect::<Vec<_>>().join(" ");
        let users = foreign().filter_map(pod_of_claim).collect::<Vec<_>>().join(" ");
        let keep = "to keep their data: bring the missing volumes back under their names; when a quorum of the members on \
                    them answers, the data is taken over by itself";
        let drop = "ONLY if nobody needs their data, start empty: delete the claims, which deletes the data, and the pods \
                    that use them";
        let delete = [format!("delete pvc {claims} --wait=false"), format!("delete pod {users} --ignore-not-found")];
        vec![
            Advice::new(keep, [self.flags.kubectl(&format!("describe pvc {claims}"))]),
            Advice::new(drop, delete.map(|command| self.flags.kubectl(&command))),
        ]
    }

    fn unreachable(&self) -> Vec<Advice> {
        let silent = self.silent();
        let machines = silent.iter().filter_map(|row| row.node.clone()).collect::<std::collections::BTreeSet<_>>();
        let mut look = vec![self.flags.kubectl(&format!("describe pod {}", pods(&silent)))];
        if !machines.is_empty() {
            let names = machines.into_iter().collect::<Vec<_>>().join(" ");
            look.push(self.flags.kubectl(&format!("get node {names}")));
        }
        let mut advice = vec![Advice::new("see why it does not answer; it comes back with its volume by itself", look)];
        if let [row] = silent.as_slice()
            && let Some(id) = &row.id
        {
            let text = format!(
                "ONLY if the machine of {} is gone for good: replace the member, and give its volume up",
                row.pod
            );
            let (cluster, annotation) = (&self.screen.cluster, annotation::REPLACE);
            let annotate = format!("annotate {SHORT} {cluster} {annotation}={}/{id}", row.pod);
            advice.push(Advice::new(text, [self.flags.kubectl(&annotate)]));
        }
        if silent.is_empty() {
            advice = vec![self.look_at_pods()];
        }
        advice
    }

    fn make_room(&self) -> Advice {
        let text = "make room: delete keys that are not needed, or raise spec.config.quota while the volumes have room for it. \
                    Deletes and reads go on; what is deleted frees space once history is compacted";
        let cluster = &self.screen.cluster;
        Advice::new(text, [self.flags.kubectl(&format!("edit {SHORT} {cluster}"))])
    }

    fn look_at_disks(&self) -> Advice {
        let text = "look at the volumes and machines of the pods that are named: a disk there does not answer. Keep every volume";
        let pods = selector_of(&self.screen.cluster);
        Advice::new(text, [self.flags.kubectl(&format!("get pods,pvc -l {pods} -o wide"))])
    }

    fn no_leader(&self) -> Advice {
        let text = "no member becomes leader: see whether they reach each other on port 2380, and whether their disks are \
                    full or hang";
        let pods = self.flags.kubectl(&format!("get pods -l {} -o wide", selector_of(&self.screen.cluster)));
        Advice::new(text, [pods, self.flags.kubectl("get networkpolicy -o wide")])
    }

    /// The pod of the first member that does not trust its data, or whose data a leader contradicts.
    fn untrusted(&self, diverged: bool) -> &str {
        let is_it =
            |row: &&MemberRow| row.state.starts_with("quarantined") && row.state.contains("diverged") == diverged;
        self.screen.members.iter().find(is_it).map_or("POD", |row| row.pod.as_str())
    }

    fn diverged(&self) -> Advice {
        let pod = self.untrusted(true);
        let text = format!(
            "{pod} and a leader contradict each other, and {pod} may hold the only copy of acknowledged writes: it is left alone. \
             Keep every volume, and compare what its log says with the member that it names"
        );
        Advice::new(text, [self.flags.kubectl(&format!("logs {pod} --tail 50"))])
    }

    fn quarantined(&self) -> Advice {
        let pod = self.untrusted(false);
        let text = format!(
            "{pod} does not trust its data. It is replaced by itself as long as the others are a quorum; look for the cause, a \
             failing disk or a volume that was restored from a snapshot"
        );
        Advice::new(text, [self.flags.kubectl(&format!("logs {pod} --tail 50"))])
    }

    /// Two members that hold different data: nothing is more urgent.
    fn divergence(&self, seen: &Seen) -> Option<Advice> {
        let Nodes::Asked(nodes, _) = &seen.nodes else { return None };
        judged::data_differs(nodes).then(|| {
            let text = "stop writing, keep every volume, and compare the exports of the pods that are named above";
            let export = format!("export --format jsonl --cluster {} --pod POD POD.jsonl", self.screen.cluster);
            Advice::new(text, [self.flags.ours(&export), self.flags.ours(&format!("report {}", self.screen.cluster))])
        })
    }

    fn operator(&self) -> Option<Advice> {
        match &self.screen.operator {
            OperatorRow::Up { .. } | OperatorRow::Unknown { .. } if self.screen.level == Level::Unknown => {
                Some(Advice::new(
                    "the operator has said nothing of this cluster yet: wait, or look at its log",
                    [self.flags.kubectl(&format!("describe {SHORT} {}", self.screen.cluster))],
                ))
            }
            OperatorRow::Up { .. } | OperatorRow::Unknown { .. } => None,
            OperatorRow::Down { namespace, name, wanted: 0 } => Some(Advice::new(
                "the operator is scaled to zero: until it is back nothing is repaired, scaled or updated. Clients do not need it",
                [self.flags.kubectl_in(namespace, &format!("scale deployment {name} --replicas=1"))],
            )),
            OperatorRow::Down { namespace, name, .. } => Some(Advice::new(
                "the operator does not run: until it is back nothing is repaired, scaled or updated. Clients do not need it",
                ["describe", "logs"].map(|verb| {
                    let what = if verb == "logs" { "--tail 50" } else { "" };
                    self.flags.kubectl_in(namespace, format!("{verb} deployment/{name} {what}").trim_end())
                }),
            )),
            OperatorRow::Absent => Some(Advice::new(
                format!(
                    "no operator watches namespace {}: install the chart raftkv-operator, or add the namespace to its watchNamespaces",
                    self.screen.namespace
                ),
                ["helm list -A".to_string()],
            )),
        }
    }
}

fn pods(rows: &[&MemberRow]) -> String {
    let names: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.pod.as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::testing;

    #[test]
    fn a_reason_of_another_version_has_no_answer() {
        let screen = testing::screen();
        let facts = Facts { flags: &Flags::default(), screen: &screen };
        assert_eq!(facts.for_reason("Dancing"), None);
    }

    #[test]
    fn a_reason_asks_for_nothing_exactly_when_all_is_well() {
        let screen = testing::screen();
        let facts = Facts { flags: &Flags::default(), screen: &screen };
        let good = [Reason::AllMembersReady, Reason::QuorumHealthy, Reason::UpToDate, Reason::Healthy];
        for reason in Reason::ALL {
            let silent = facts.for_reason(reason.as_str()).is_some_and(|advice| advice.is_empty());
            assert_eq!(silent, good.contains(reason), "{reason}");
        }
    }

    #[test]
    fn what_deletes_data_says_so() {
        let mut screen = testing::screen();
        for claim in &mut screen.claims {
            claim.foreign = true;
        }
        let facts = Facts { flags: &Flags::default(), screen: &screen };
        for advice in Reason::ALL.iter().filter_map(|reason| facts.for_reason(reason.as_str())).flatten() {
            let deletes = advice.run.iter().any(|run| run.contains("delete pvc") || run.contains("annotate"));
            assert!(!deletes || advice.text.starts_with("ONLY if"), "{advice:?}");
        }
    }
}
