//! Condition types and their reasons. Programs and runbooks match on them: they are never renamed, and each has a
//! heading in `docs/operations.md`.

use std::fmt;

/// The conditions of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// Everything is as the spec asks: `kubectl wait --for=condition=Ready` waits for it.
    Ready,
    /// Clients can read and write.
    Available,
    /// A change is under way.
    Progressing,
    /// Something is wrong that does not go away in a moment.
    Degraded,
}

impl ConditionType {
    /// All of them, in the order in which they are shown.
    pub const ALL: [ConditionType; 4] =
        [ConditionType::Ready, ConditionType::Available, ConditionType::Progressing, ConditionType::Degraded];

    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionType::Ready => "Ready",
            ConditionType::Available => "Available",
            ConditionType::Progressing => "Progressing",
            ConditionType::Degraded => "Degraded",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident: $doc:literal;)*) => {
        /// The reason of a condition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $(#[doc = $doc] $variant,)* }

        impl Reason {
            /// Every reason, in the order of this table.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];
            /// The word in the status.
            pub fn as_str(self) -> &'static str { match self { $(Reason::$variant => stringify!($variant),)* } }
            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str { match self { $(Reason::$variant => $doc,)* } }
        }
    };
}

reasons! {
    AllMembersReady: "Every member that the spec asks for votes and can read linearizably.";
    MembersNotReady: "A member does not vote, or cannot read linearizably, yet.";
    QuorumHealthy: "A quorum of the voters answers and has a leader.";
    Forming: "The cluster has not had the voters yet that make its writes safe, so that it serves no client.";
    Electing: "A quorum of the voters answers and has no leader yet.";
    NoLeader: "A quorum of the voters answers, and for a minute none of them has become leader.";
    QuorumLost: "Too few voters answer. Nothing is changed until enough of them are back.";
    WritesRefused: "The leader refuses puts for lack of room or over its quota. Reads and deletes go on.";
    DiskStalled: "A disk does not answer, so that its member, or every write, waits for it.";
    OperatorCannotReachPods: "The operator cannot reach the pods that Kubernetes calls ready; clients may well reach them.";
    UpToDate: "Nothing is to be done.";
    Bootstrapping: "The first member is being made.";
    Adopting: "Volumes of an earlier cluster of this name are being taken over.";
    ScalingUp: "A member is being added.";
    ScalingDown: "A member is being removed.";
    ReplacingMember: "A member that lost its disk is being replaced by a new one of the same name.";
    RollingUpdate: "Pods are being restarted with a new image or new settings, one at a time.";
    StartingPods: "Pods are starting.";
    Suspending: "Pods are being stopped; volumes and membership stay.";
    Suspended: "No pods run, because spec.suspend is true.";
    Paused: "Nothing is changed, because spec.paused is true.";
    DeadlineExceeded: "A step takes longer than spec.progressDeadlineSeconds. It is still being tried.";
    Healthy: "Nothing is wrong.";
    SeedVolumeLost: "The volume of the first member was lost before the cluster was formed. A person decides.";
    ForeignVolumes: "Volumes of this cluster's names hold data that is not known to be this cluster's. Nothing is touched.";
    NameTaken: "An object with the name that this cluster needs belongs to somebody else. It is left alone.";
    NoSpace: "A member is short of space on its volume.";
    QuotaExceeded: "The database is over its quota.";
    MemberUnreachable: "A member does not answer. Its volume may still be good, so that it is not replaced by itself.";
    DiskLost: "A member came back with an empty volume.";
    MemberQuarantined: "A member does not trust its own data and takes no part.";
    MemberDiverged: "The leader's log contradicts what this member has. Its volume may have the only copy of acknowledged writes.";
    PodNotStarting: "A pod cannot be scheduled, cannot get its image or volume, or keeps crashing.";
    ForeignNode: "A pod answers as a node of another cluster. It is left alone.";
    InvalidSpec: "The spec passed the API server and still cannot be carried out. The running cluster stays as it was.";
    TokenRefused: "A node refuses every token in the cluster's Secret, so that the operator cannot ask it anything.";
    StepFailed: "The API server, or a webhook behind it, failed a write. It is tried again, and the rest goes on.";
    AdmissionDiffers: "An Event: admission in this Kubernetes makes something else of a child than the operator asks for. It is left so.";
}

impl Reason {
    /// The reason that stands in a status; `None` for one of another version.
    pub fn read(text: &str) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_has_its_place_in_the_runbook() {
        let runbook = include_str!("../../docs/operations.md");
        let missing: Vec<_> =
            Reason::ALL.iter().filter(|reason| !runbook.contains(&format!("\n### {reason}\n"))).collect();
        assert!(missing.is_empty(), "docs/operations.md says nothing about {missing:?}");
    }
}
