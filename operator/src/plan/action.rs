//! What a plan says: actions in order, each fenced by what the plan saw; and the status. PURE.

use crate::plan::table::On;
use crate::plan::world::{Child, ClaimOwner, Memory, Ordinal, Seed};
use raftkv_api::Hex128;
use raftkv_crds::{OperationKind, RaftKvClusterStatus, Reason};

/// What to do and what to report.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Steps to be carried out in order. The first that fails ends the pass.
    pub steps: Vec<Step>,
    /// The status that follows from what was seen. Latches that a step writes are not in it.
    pub status: RaftKvClusterStatus,
    /// Events: what became bad or good since the last pass.
    pub notes: Vec<Note>,
    /// How soon to look again when nothing wakes the task.
    pub pace: Pace,
    /// What the next pass is to know.
    pub memory: Memory,
}

impl Plan {
    /// The actions alone.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.steps.iter().map(|step| &step.action)
    }
}

/// How soon to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Something is under way.
    Brisk,
    /// Nothing is to be done.
    Calm,
}

/// One action, and what to report when it succeeded.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// The event to send when it succeeded.
    pub note: Option<Note>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is a warning; otherwise it tells of a step forward.
    pub warning: bool,
    /// A word that is never renamed.
    pub reason: &'static str,
    /// A sentence.
    pub text: String,
}

/// A change of the world. Everything that can hurt carries what the plan saw: a resourceVersion, a uid, or the index of
/// the membership (rule O9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a child that is absent.
    CreateChild(Child),
    /// Change a child of this cluster to what it should be.
    ApplyChild(Child),
    /// Make the StatefulSet.
    CreateSet {
        /// Its replicas.
        replicas: u32,
    },
    /// Change the StatefulSet to what it should be.
    ApplySet {
        /// Its replicas.
        replicas: u32,
        /// The fence.
        resource_version: String,
    },
    /// Annotate the StatefulSet with the data directory that may form the cluster.
    AnnotateSeed {
        /// Which one, and the cluster's id.
        seed: Seed,
        /// The fence.
        resource_version: String,
    },
    /// Set the disruption budget.
    SetBudget {
        /// Pods that must stay available.
        min_available: u32,
    },
    /// Write into the status which data directory may form the cluster.
    LatchSeed(Seed),
    /// Write into the status that the cluster was formed.
    LatchFormed {
        /// Its id.
        cluster_id: Hex128,
    },
    /// Label a volume claim as this cluster's.
    LabelClaim {
        /// Which one.
        ordinal: Ordinal,
        /// The fence.
        uid: String,
        /// The fence.
        resource_version: String,
    },
    /// Annotate a volume claim with whose data it holds.
    AnnotateClaim {
        /// Which one.
        ordinal: Ordinal,
        /// The fence.
        uid: String,
        /// The fence.
        resource_version: String,
        /// Whose data.
        owner: ClaimOwner,
    },
    /// Delete a volume claim.
    DeleteClaim {
        /// Which one.
        ordinal: Ordinal,
        /// The fence.
        uid: String,
        /// The fence.
        resource_version: String,
    },
    /// End a pod; its StatefulSet makes a new one.
    DeletePod {
        /// Which one.
        ordinal: Ordinal,
        /// The fence.
        uid: String,
        /// The fence.
        resource_version: String,
        /// In which way.
        how: Ending,
    },
    /// Tell a Blank node to form the cluster.
    Init {
        /// Which one, and the cluster's id.
        seed: Seed,
        /// The node.
        ordinal: Ordinal,
        /// How many voters the cluster must have had before it serves clients.
        min_voters: u32,
    },
    /// Set a node's data aside.
    Reset {
        /// The node.
        ordinal: Ordinal,
        /// The data directory.
        incarnation: Hex128,
    },
    /// Add a Blank node as a learner.
    AddLearner {
        /// The node that leads.
        leader: Ordinal,
        /// The Blank node.
        ordinal: Ordinal,
        /// Its data directory.
        incarnation: Hex128,
        /// The fence.
        conf_index: u64,
    },
    /// Make a learner a voter.
    Promote {
        /// The node that leads.
        leader: Ordinal,
        /// The learner.
        id: u64,
        /// A voter that leaves in the same joint change.
        replaces: Option<u64>,
        /// The fence.
        conf_index: u64,
    },
    /// Remove a member.
    Remove {
        /// The node that leads.
        leader: Ordinal,
        /// The member.
        id: u64,
        /// The fence.
        conf_index: u64,
    },
    /// Move leadership.
    Transfer {
        /// The node that leads.
        leader: Ordinal,
        /// The voter to lead next.
        to: u64,
    },
}

/// How a pod is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The API server is asked for its eviction, and counts the disruption budgets as it does for a drain.
    Evict,
    /// It is deleted.
    Delete,
    /// It is deleted, and the kubelet, which is gone, is not waited for.
    Kill,
}

/// The one change that is under way, before it has a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Underway {
    /// What kind.
    pub kind: OperationKind,
    /// A word for the step that is never renamed.
    pub step: &'static str,
    /// The pod that it concerns.
    pub member: Option<String>,
    /// What is waited for or done, in a sentence.
    pub text: String,
}

/// What one part of the plan decides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Turn {
    /// Nothing to do here.
    Nothing,
    /// Take these steps; then the pass ends.
    Act(Underway, Vec<Step>),
    /// Do nothing until a fact of the world changes. The next task is asked.
    Wait(Wait),
}

/// What a task waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// The fact.
    pub on: On,
    /// What is shown.
    pub underway: Underway,
    /// Whether it is only watched: a condition tells it when it lasts, and it is never the operation.
    pub watched: bool,
}

impl Turn {
    /// A wait that holds a step up.
    pub(crate) fn wait(on: On, underway: Underway) -> Turn {
        Turn::Wait(Wait { on, underway, watched: false })
    }

    /// A wait of a task that has no step to take meanwhile.
    pub(crate) fn watch(on: On, underway: Underway) -> Turn {
        Turn::Wait(Wait { on, underway, watched: true })
    }
}

/// Something that is wrong and does not go away in a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The reason.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub text: String,
}

/// What an action is about. Each kind carries the action's word: the `action` of an Event, the `kind` of a metric. A word is
/// never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// An object that the API server may refuse because of what the user asked for, or that admission keeps from being
    /// written. The rest of the plan does not depend on it: a cluster is repaired all the same.
    Child(&'static str),
    /// The membership, or who leads it.
    Membership(&'static str),
    /// Everything else.
    Upkeep(&'static str),
}

impl ActionKind {
    /// The action's word.
    pub fn word(self) -> &'static str {
        match self {
            ActionKind::Child(word) | ActionKind::Membership(word) | ActionKind::Upkeep(word) => word,
        }
    }

    /// Whether it is a write of a child, whose failure does not end the pass.
    pub fn is_child(self) -> bool {
        match self {
            ActionKind::Child(_) => true,
            ActionKind::Membership(_) | ActionKind::Upkeep(_) => false,
        }
    }

    /// Whether it changes the membership, or who leads it.
    pub fn changes_members(self) -> bool {
        match self {
            ActionKind::Membership(_) => true,
            ActionKind::Child(_) | ActionKind::Upkeep(_) => false,
        }
    }
}

impl Action {
    /// What the action is about.
    pub fn kind(&self) -> ActionKind {
        match self {
            Action::CreateChild(_) => ActionKind::Child("CreateChild"),
            Action::ApplyChild(_) => ActionKind::Child("ApplyChild"),
            Action::CreateSet { .. } => ActionKind::Child("CreateSet"),
            Action::ApplySet { .. } => ActionKind::Child("ApplySet"),
            Action::AnnotateSeed { .. } => ActionKind::Upkeep("AnnotateSeed"),
            Action::SetBudget { .. } => ActionKind::Child("SetBudget"),
            Action::LatchSeed(_) => ActionKind::Upkeep("LatchSeed"),
            Action::LatchFormed { .. } => ActionKind::Upkeep("LatchFormed"),
            Action::LabelClaim { .. } => ActionKind::Upkeep("LabelClaim"),
            Action::AnnotateClaim { .. } => ActionKind::Upkeep("AnnotateClaim"),
            Action::DeleteClaim { .. } => ActionKind::Upkeep("DeleteClaim"),
            Action::DeletePod { .. } => ActionKind::Upkeep("DeletePod"),
            Action::Init { .. } => ActionKind::Membership("Init"),
            Action::Reset { .. } => ActionKind::Upkeep("Reset"),
            Action::AddLearner { .. } => ActionKind::Membership("AddLearner"),
            Action::Promote { .. } => ActionKind::Membership("Promote"),
            Action::Remove { .. } => ActionKind::Membership("Remove"),
            Action::Transfer { .. } => ActionKind::Membership("Transfer"),
        }
    }
}

impl Step {
    /// An action without an event.
    pub(crate) fn quiet(action: Action) -> Step {
        Step { action, note: None }
    }

    /// An action and its event.
    pub(crate) fn told(action: Action, reason: &'static str, text: String) -> Step {
        Step { action, note: Some(Note { warning: false, reason, text }) }
    }
}
