//! What can be wrong, and what a person does about it. PURE.
//!
//! Plain data: [`crate::ills`] finds it. An advice never costs data that may be the only copy.

/// What is wrong, the worst first: that is the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Illness {
    /// Two members hold different data at one index.
    DataDiffers,
    /// A node that was asked belongs to another cluster.
    OtherCluster,
    /// No node says how it is.
    NobodyAnswers,
    /// No node belongs to a cluster.
    NoCluster,
    /// Too few voters work for anything to be decided.
    NoQuorum,
    /// Enough voters work, and none leads.
    NoLeader,
    /// The cluster has not yet had the voters that `init` asked for.
    Forming,
    /// Writes wait for disks that do not answer.
    WritesStall,
    /// Writes are refused for lack of room.
    NoSpace,
    /// Writes are refused: the database is over its quota.
    OverQuota,
    /// Two processes say that they are this member.
    Doubled,
    /// A member's disk does not answer.
    DiskStalled,
    /// A member has too little room.
    ShortOfSpace,
    /// A member's data cannot be trusted.
    Quarantined,
    /// Another node, or an empty one, is where a member was.
    DiskLost,
    /// A member does not answer.
    Unreachable,
    /// Nobody knows yet where this member can be asked.
    Unheard,
    /// A node refuses our token.
    Unauthorized,
    /// A node has no room for another call.
    Overloaded,
    /// A member answers at its admin port, and not its clients.
    Deaf,
    /// A member answers us, and its leader does not hear it.
    CutOff,
    /// A member is behind and does not catch up by itself within a moment.
    Behind,
    /// A node reads its directory.
    Opening,
    /// A voter's store is not up to date.
    StoreOpening,
    /// A member was started with another name or URL than the members know.
    Misplaced,
    /// A node that was removed still runs.
    Removed,
    /// A member does not vote yet.
    Learner,
    /// A node belongs to no cluster.
    Blank,
}

impl Illness {
    /// Whether it is the cluster's and not one member's: clients cannot rely on it.
    pub fn is_the_clusters(self) -> bool {
        self < Illness::Doubled
    }

    /// A word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Illness::DataDiffers => "data_differs",
            Illness::OtherCluster => "other_cluster",
            Illness::NobodyAnswers => "nobody_answers",
            Illness::NoCluster => "no_cluster",
            Illness::NoQuorum => "no_quorum",
            Illness::NoLeader => "no_leader",
            Illness::Forming => "forming",
            Illness::WritesStall => "writes_stall",
            Illness::NoSpace => "no_space",
            Illness::OverQuota => "over_quota",
            Illness::Doubled => "doubled",
            Illness::DiskStalled => "disk_stalled",
            Illness::ShortOfSpace => "short_of_space",
            Illness::Quarantined => "quarantined",
            Illness::DiskLost => "disk_lost",
            Illness::Unreachable => "unreachable",
            Illness::Unheard => "unheard",
            Illness::Unauthorized => "unauthorized",
            Illness::Overloaded => "overloaded",
            Illness::Deaf => "deaf",
            Illness::CutOff => "cut_off",
            Illness::Behind => "behind",
            Illness::Opening => "opening",
            Illness::StoreOpening => "store_opening",
            Illness::Misplaced => "misplaced",
            Illness::Removed => "removed",
            Illness::Learner => "learner",
            Illness::Blank => "blank",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ill {
    /// What it is.
    pub illness: Illness,
    /// The name of the node that is ill; `None` when it is the cluster.
    pub who: Option<String>,
    /// One clause for people.
    pub what: String,
    /// What a person does about it.
    pub next: Next,
}

/// What a person does who runs the nodes himself: one command, or one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This.
    Do(String),
    /// Makes the node at this admin URL the first voter of a cluster.
    Init {
        /// Its admin URL.
        at: String,
    },
    /// Adds the node at this admin URL.
    Add {
        /// Its admin URL.
        at: String,
    },
    /// Adds the node at this admin URL, and lets it vote in place of a member that is gone.
    AddInPlaceOf {
        /// Its admin URL.
        at: String,
        /// The member that is gone.
        id: u64,
    },
    /// Lets a learner vote, once it has caught up.
    Promote {
        /// The learner.
        id: u64,
    },
    /// Stops a removed node, or lets it join anew.
    ResetRemoved {
        /// Its admin URL.
        at: String,
        /// Why it says that it was removed.
        why: String,
    },
    /// Sets the data of a quarantined member aside, and replaces it.
    ResetQuarantined {
        /// Its admin URL.
        at: String,
        /// The member.
        id: u64,
        /// Why its data cannot be trusted.
        why: String,
    },
}

impl Next {
    /// As a sentence in which URLs are words of a shell; `word` makes them so.
    pub fn by_hand(&self, word: impl Fn(&str) -> String) -> String {
        match self {
            Next::Do(text) => text.clone(),
            Next::Init { at } => format!("raftkvctl init --admin-url {}", word(at)),
            Next::Add { at } => format!("raftkvctl add --admin-url {}", word(at)),
            Next::AddInPlaceOf { at, id } => format!(
                "raftkvctl add --admin-url {}, then raftkvctl promote the new id --replaces {id}, once it has caught up",
                word(at)
            ),
            Next::Promote { id } => {
                format!("when its lag is below {}: raftkvctl promote {id}", crate::CAUGHT_UP_ENTRIES)
            }
            Next::ResetRemoved { at, why } => {
                format!("stop it, or let it join anew: raftkvctl reset --admin-url {} ({why})", word(at))
            }
            Next::ResetQuarantined { at, id, why } => {
                let at = word(at);
                format!(
                    "raftkvctl reset --admin-url {at}, then add --admin-url {at}, then promote the new id --replaces \
                     {id}; its data are kept aside ({why})"
                )
            }
        }
    }
}
