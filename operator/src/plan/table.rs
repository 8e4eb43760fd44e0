//! The plan as a table: what each task does about each fault. PURE.
//!
//! A [`Task`] is one thing that is wanted: a column. A [`Row`] is how a member or the cluster is. [`cell`] says what the
//! task does in that row. What a task waits for is an [`On`], a fact of the world; no variant of it names a task, so no
//! cell can wait for another cell. [`Task::waits`] declares what each task waits for by [`Rank`], and a test proves that
//! every wait is ended by the world or by a task of a lower rank: so nothing waits in a circle.

use raftkv_crds::Reason;

/// One thing that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Children, template and size are as the spec asks.
    Apply,
    /// No pods run.
    Suspend,
    /// The cluster is found again on its volumes.
    Adopt,
    /// The cluster is formed.
    Form,
    /// Outdated pods that do nobody any good are made anew.
    Mend,
    /// Learners vote, or go.
    Finish,
    /// Members without data or machine have successors.
    Repair,
    /// Members that the spec does not ask for are removed.
    Down,
    /// Members that are lacking are added.
    Up,
    /// No pod is outdated.
    Roll,
}

/// What a task, or a part of it, needs of the cluster. A wait falls in rank: the world ends it, or a task of a lower rank
/// does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Nothing.
    Nothing,
    /// A leader, and no joint change.
    Leader,
    /// That the others can do without a member, or that everybody reports.
    Margin,
    /// A person.
    Person,
}

/// What is waited for: a fact of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// Raft elects a leader that a quorum confirms.
    Leader,
    /// Raft leaves a joint change.
    Joint,
    /// A controller of Kubernetes: a StatefulSet settled, an object gone.
    Kube,
    /// A pod starts: scheduler, kubelet, the spec.
    Start,
    /// The other voters become well.
    Margin,
    /// A member catches up.
    CatchUp,
    /// A member says something of itself.
    Report,
    /// Time passes.
    Clock,
    /// The storage driver.
    Resizer,
    /// A member has room on its volume.
    Space,
    /// A person decides.
    Person,
}

/// How a member or the cluster is. Of a member the first that is true counts; of the cluster several may be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Nothing is wrong with the member.
    None,
    /// Its claim is being deleted, and its pod runs.
    Doomed,
    /// Its pod is being made, its node reads its data, or it is silent for less than five minutes.
    Coming,
    /// Its container does not run, and its template is an older one.
    BrokenOld,
    /// Its container does not run or its pod cannot be made, and its template is the newest.
    BrokenNew,
    /// It votes, is not ready, and its template is an older one.
    UnreadyOld,
    /// It votes, is not ready, and its template is the newest.
    UnreadyNew,
    /// The kubelet calls it ready, and it does not answer the operator.
    Unseen,
    /// It votes and has not caught up.
    Behind,
    /// It has too little room for a put.
    Short,
    /// A call to its disk does not return.
    Hung,
    /// Its data is lost; its pod runs on an empty volume, or on what is left of another member.
    Blank,
    /// It does not trust its data.
    Quarantined,
    /// There is evidence that its machine will not come back, or a person says so.
    LostNode,
    /// It is silent, and there is no such evidence.
    Silent,
    /// A learner that is silent for five minutes.
    LearnerSilent,
    /// A membership change is in flight.
    Joint,
    /// No leader for less than a minute, or nobody knows.
    Electing,
    /// No leader for a minute, and a quorum says that it votes.
    Leaderless,
    /// For a minute fewer than a quorum say that they vote.
    QuorumLost,
    /// There is no StatefulSet, or it is about to go.
    SetGone,
    /// The StatefulSet is somebody else's.
    SetTaken,
    /// Another child is somebody else's.
    ChildTaken,
    /// The newest spec is invalid or refused.
    BadSpec,
    /// The API server, or a webhook, fails a write to a child.
    Refusing,
}

/// What a task does in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// `+`: as if the fault were not there.
    Go,
    /// `o`: goes on with the others; this member last, or not at all.
    Others,
    /// `M`: this member first, since this is its cure.
    First,
    /// `M beyond`: first, if the spec does not ask for it.
    Beyond,
    /// `M outdated`: first, if its template is an older one and it is in this row for [`OUTDATED_AFTER_S`]; else it is
    /// waited for.
    Outdated,
    /// `w:X`: waits.
    Wait(On),
    /// `one by one`: outdated pods, one after the other votes again.
    OneByOne,
    /// `keeps`: what runs stays as it is.
    Keeps,
    /// `P`: a person.
    Person,
    /// `veto`: nothing is done about this member.
    Veto,
    /// `.`: cannot be.
    Never,
}

/// For so many seconds an outdated member must be in its row before its template is taken for the cause.
pub const OUTDATED_AFTER_S: i64 = 300;

/// The table.
pub fn cell(row: Row, task: Task) -> Cell {
    use Cell::{Beyond, First, Go, Keeps, Never, OneByOne, Others, Outdated, Person, Veto, Wait};
    use On::{CatchUp, Clock, Joint, Kube, Leader, Margin, Space, Start};
    #[rustfmt::skip]
    let [apply, mend, repair, down, up, roll] = match row {
        Row::None          => [Go,          Never,      Never,         Go,            Go,           Go],
        Row::Doomed        => [Go,          Never,      First,         Beyond,        Go,           Others],
        Row::Coming        => [Go,          Never,      Wait(Clock),   Wait(Margin),  Go,           Outdated],
        Row::BrokenOld     => [Go,          First,      Never,         Wait(Margin),  Go,           Others],
        Row::BrokenNew     => [Go,          Never,      Person,        Wait(Margin),  Others,       Wait(Start)],
        Row::UnreadyOld    => [Go,          Never,      Never,         Wait(Margin),  Go,           First],
        Row::UnreadyNew    => [Go,          Never,      Person,        Wait(Margin),  Go,           Wait(Margin)],
        Row::Unseen        => [Go,          Never,      Veto,          Wait(Margin),  Others,       Wait(Margin)],
        Row::Behind        => [Go,          Never,      Wait(CatchUp), Wait(CatchUp), Go,           Outdated],
        Row::Short         => [Go,          Never,      Go,            Go,            Wait(Space),  Go],
        Row::Hung          => [Go,          Never,      Person,        Wait(Margin),  Others,       First],
        Row::Blank         => [Go,          First,      First,         Beyond,        Go,           Others],
        Row::Quarantined   => [Go,          First,      First,         Beyond,        Go,           Others],
        Row::LostNode      => [Go,          Never,      First,         Beyond,        Others,       Others],
        Row::Silent        => [Go,          Never,      Person,        Wait(Margin),  Others,       Wait(Margin)],
        Row::LearnerSilent => [Go,          First,      Go,            Go,            Others,       Go],
        Row::Joint         => [Go,          Go,         Wait(Joint),   Wait(Joint),   Wait(Joint),  Wait(Joint)],
        Row::Electing      => [Go,          Go,         Wait(Leader),  Wait(Leader),  Wait(Leader), Wait(Leader)],
        Row::Leaderless    => [Go,          Go,         Wait(Leader),  Wait(Leader),  Wait(Leader), OneByOne],
        Row::QuorumLost    => [Go,          Go,         Person,        Person,        Person,       OneByOne],
        Row::SetGone       => [First,       Wait(Kube), Go,            Wait(Kube),    Go,           Wait(Kube)],
        Row::SetTaken      => [Person,      Person,     Person,        Person,        Person,       Person],
        Row::ChildTaken    => [Person,      Go,         Go,            Go,            Go,           Go],
        Row::BadSpec       => [Keeps,       Go,         Go,            Go,            Go,           Go],
        Row::Refusing      => [Wait(Clock), Go,         Go,            Go,            Go,           Go],
    };
    match task {
        Task::Apply => apply,
        Task::Mend => mend,
        Task::Repair => repair,
        Task::Down => down,
        Task::Up => up,
        Task::Roll => roll,
        // A learner votes under the same conditions of the cluster under which one is added.
        Task::Finish if row.is_of_the_cluster() => up,
        Task::Finish => Go,
        Task::Suspend if row == Row::Joint => Wait(Joint),
        Task::Suspend if row == Row::Doomed => Person,
        Task::Suspend | Task::Adopt | Task::Form if row == Row::SetTaken => Person,
        Task::Suspend | Task::Adopt | Task::Form => Go,
    }
}

impl Task {
    /// All of them, in the order in which they are asked. The first that acts has the turn.
    pub const ALL: [Task; 10] = [
        Task::Apply,
        Task::Suspend,
        Task::Adopt,
        Task::Form,
        Task::Mend,
        Task::Finish,
        Task::Repair,
        Task::Down,
        Task::Up,
        Task::Roll,
    ];

    /// Whether it rests while no pods are asked for.
    pub fn rests_while_suspended(self) -> bool {
        match self {
            Task::Apply | Task::Suspend | Task::Mend => false,
            Task::Adopt | Task::Form | Task::Finish | Task::Repair | Task::Down | Task::Up | Task::Roll => true,
        }
    }

    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Task::Apply => "Apply",
            Task::Suspend => "Suspend",
            Task::Adopt => "Adopt",
            Task::Form => "Form",
            Task::Mend => "Mend",
            Task::Finish => "Finish",
            Task::Repair => "Repair",
            Task::Down => "Down",
            Task::Up => "Up",
            Task::Roll => "Roll",
        }
    }

    /// What it waits for, by the rank of the part that waits.
    pub fn waits(self) -> &'static [(Rank, &'static [On])] {
        match self {
            Task::Apply => &[(Rank::Nothing, &[On::Kube, On::Clock]), (Rank::Person, &[On::Person])],
            Task::Suspend => &[(Rank::Leader, &[On::Joint]), (Rank::Person, &[On::Person])],
            Task::Adopt => &[(Rank::Leader, &[On::Start]), (Rank::Person, &[On::Person])],
            Task::Form => &[(Rank::Leader, &[On::Start, On::Clock]), (Rank::Person, &[On::Person])],
            Task::Mend => &[(Rank::Nothing, &[On::Kube])],
            Task::Finish => &[
                (Rank::Leader, &[On::Leader, On::Joint, On::CatchUp, On::Start, On::Clock]),
                (Rank::Person, &[On::Person]),
            ],
            Task::Repair => &[
                (Rank::Leader, &[On::Leader, On::Joint, On::Kube, On::CatchUp, On::Start, On::Clock]),
                (Rank::Margin, &[On::Margin, On::Report]),
                (Rank::Person, &[On::Person]),
            ],
            Task::Down => &[
                (Rank::Margin, &[On::Leader, On::Joint, On::Kube, On::Margin, On::CatchUp, On::Report]),
                (Rank::Person, &[On::Person]),
            ],
            Task::Up => &[
                (Rank::Leader, &[On::Leader, On::Joint, On::Kube, On::Start, On::CatchUp, On::Clock, On::Space]),
                (Rank::Person, &[On::Person]),
            ],
            Task::Roll => &[
                (
                    Rank::Margin,
                    &[On::Leader, On::Joint, On::Kube, On::Start, On::Margin, On::CatchUp, On::Report, On::Clock],
                ),
                (Rank::Person, &[On::Person]),
            ],
        }
    }
}

/// What the task waits for in this row. A member whose template may be the cause is waited for as well, as long as that is
/// not known.
pub fn waits_on(row: Row, task: Task) -> Option<On> {
    match cell(row, task) {
        Cell::Wait(on) => Some(on),
        Cell::Outdated if row == Row::Behind => Some(On::CatchUp),
        Cell::Outdated => Some(On::Start),
        Cell::Go
        | Cell::Others
        | Cell::First
        | Cell::Beyond
        | Cell::OneByOne
        | Cell::Keeps
        | Cell::Person
        | Cell::Veto
        | Cell::Never => None,
    }
}

impl On {
    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            On::Leader => "Leader",
            On::Joint => "Joint",
            On::Kube => "Kube",
            On::Start => "Start",
            On::Margin => "Margin",
            On::CatchUp => "CatchUp",
            On::Report => "Report",
            On::Clock => "Clock",
            On::Resizer => "Resizer",
            On::Space => "Space",
            On::Person => "Person",
        }
    }

    /// The tasks, and the ranks of their parts, that may have to act before the world can end such a wait.
    pub fn ended_by(self) -> &'static [(Task, Rank)] {
        match self {
            // A bad template may keep voters from starting.
            On::Leader => &[(Task::Mend, Rank::Nothing)],
            On::Margin | On::Report => {
                &[(Task::Mend, Rank::Nothing), (Task::Finish, Rank::Leader), (Task::Repair, Rank::Leader)]
            }
            On::Joint | On::Kube | On::Start | On::CatchUp | On::Clock | On::Resizer | On::Space | On::Person => &[],
        }
    }
}

macro_rules! rows {
    ($($row:ident $word:literal $reason:expr;)*) => {
        impl Row {
            /// All of them, in the order of the table.
            pub const ALL: &[Row] = &[$(Row::$row,)*];

            /// The name of the row.
            pub fn as_str(self) -> &'static str {
                match self { $(Row::$row => $word,)* }
            }

            /// The reason of the condition that tells it when it lasts.
            pub fn reason(self) -> Option<Reason> {
                match self { $(Row::$row => $reason,)* }
            }
        }
    };
}

rows! {
    None "none" Option::None;
    Doomed "doomed" Some(Reason::DiskLost);
    Coming "coming" Some(Reason::MembersNotReady);
    BrokenOld "broken_old" Some(Reason::PodNotStarting);
    BrokenNew "broken_new" Some(Reason::PodNotStarting);
    UnreadyOld "unready_old" Some(Reason::MembersNotReady);
    UnreadyNew "unready_new" Some(Reason::MembersNotReady);
    Unseen "unseen" Some(Reason::OperatorCannotReachPods);
    Behind "behind" Some(Reason::MembersNotReady);
    Short "short" Some(Reason::NoSpace);
    Hung "hung" Some(Reason::DiskStalled);
    Blank "blank" Some(Reason::DiskLost);
    Quarantined "quarantined" Some(Reason::MemberQuarantined);
    LostNode "lost_node" Some(Reason::MemberUnreachable);
    Silent "silent" Some(Reason::MemberUnreachable);
    LearnerSilent "learner_silent" Some(Reason::MembersNotReady);
    Joint "joint" Some(Reason::DeadlineExceeded);
    Electing "electing" Some(Reason::Electing);
    Leaderless "leaderless" Some(Reason::NoLeader);
    QuorumLost "quorum_lost" Some(Reason::QuorumLost);
    SetGone "set_gone" Some(Reason::StartingPods);
    SetTaken "set_taken" Some(Reason::NameTaken);
    ChildTaken "child_taken" Some(Reason::NameTaken);
    BadSpec "bad_spec" Some(Reason::InvalidSpec);
    Refusing "refusing" Some(Reason::StepFailed);
}

impl Row {
    /// Whether it is a row of the cluster, and not of a member.
    pub fn is_of_the_cluster(self) -> bool {
        self >= Row::Joint
    }
}

impl Cell {
    /// How the table writes it.
    pub fn text(self) -> String {
        match self {
            Cell::Go => "+".to_string(),
            Cell::Others => "o".to_string(),
            Cell::First => "M".to_string(),
            Cell::Beyond => "M beyond".to_string(),
            Cell::Outdated => "M outdated".to_string(),
            Cell::Wait(on) => format!("w:{}", on.as_str()),
            Cell::OneByOne => "one by one".to_string(),
            Cell::Keeps => "keeps".to_string(),
            Cell::Person => "P".to_string(),
            Cell::Veto => "veto".to_string(),
            Cell::Never => ".".to_string(),
        }
    }
}
