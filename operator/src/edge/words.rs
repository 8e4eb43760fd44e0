//! Actions in words: for logs, Events and errors. PURE.

use crate::plan::{Action, Desired, Ending};

/// What is being done, to be followed by what came of it.
pub fn doing(action: &Action, of: &Desired) -> String {
    match action {
        Action::CreateChild(child) => format!("creating {}", of.object(*child)),
        Action::ApplyChild(child) => format!("updating {}", of.object(*child)),
        Action::CreateSet { replicas } => format!("creating StatefulSet {} with {replicas} replicas", of.name),
        Action::ApplySet { replicas, .. } => format!("updating StatefulSet {} with {replicas} replicas", of.name),
        Action::AnnotateSeed { seed, .. } => {
            format!("noting at StatefulSet {} that {} may form the cluster", of.name, seed.incarnation)
        }
        Action::SetBudget { min_available } => {
            format!("setting PodDisruptionBudget {} to {min_available} pods", of.name)
        }
        Action::LatchSeed(seed) => format!("noting in the status that {} may form the cluster", seed.incarnation),
        Action::LatchFormed { cluster_id } => format!("noting in the status that cluster {cluster_id} was formed"),
        Action::LabelClaim { ordinal, .. } => format!("labelling PersistentVolumeClaim {}", of.claim(*ordinal)),
        Action::AnnotateClaim { ordinal, owner, .. } => {
            format!("noting at PersistentVolumeClaim {} that it holds member {}", of.claim(*ordinal), owner.member_id)
        }
        Action::DeleteClaim { ordinal, .. } => format!("deleting PersistentVolumeClaim {}", of.claim(*ordinal)),
        Action::DeletePod { ordinal, how: Ending::Evict, .. } => format!("evicting Pod {}", of.pod(*ordinal)),
        Action::DeletePod { ordinal, how: Ending::Delete | Ending::Kill, .. } => {
            format!("deleting Pod {}", of.pod(*ordinal))
        }
        Action::Init { ordinal, .. } => format!("telling {} to form the cluster", of.pod(*ordinal)),
        Action::Reset { ordinal, .. } => format!("telling {} to set its data aside", of.pod(*ordinal)),
        Action::AddLearner { leader, ordinal, .. } => {
            format!("adding {} as a learner at {}", of.pod(*ordinal), of.pod(*leader))
        }
        Action::Promote { leader, id, replaces: None, .. } => {
            format!("making member {id} a voter at {}", of.pod(*leader))
        }
        Action::Promote { leader, id, replaces: Some(old), .. } => {
            format!("making member {id} a voter in place of {old} at {}", of.pod(*leader))
        }
        Action::Remove { leader, id, .. } => format!("removing member {id} at {}", of.pod(*leader)),
        Action::Transfer { leader, to } => format!("moving leadership from {} to member {to}", of.pod(*leader)),
    }
}
