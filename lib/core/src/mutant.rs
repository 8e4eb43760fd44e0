//! Deliberate bugs: a test that does not notice one of them proves nothing. They exist only in a build with `--cfg mutant`
//! (`make mutants`), which runs one at a time; in every other build [`is`] is false when it is compiled. The same build of the
//! node has crash points.

/// A bug, at the place that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The log's fdatasync is skipped (rule N2).
    NoSync,
    /// An entry counts as committed when the leader has it durably (rule N5).
    AckBeforeCommit,
    /// The applied index is written after the data that it covers, in a batch of its own (rule N8).
    AppliedOutsideBatch,
    /// A read is served from what this member has applied (rule N18).
    LocalRead,
    /// HardState is written in a batch of its own, before the entries that its commit index counts on (rule N2).
    HardStateFirst,
    /// A vote is not written (rule N2).
    VoteNotPersisted,
    /// A last batch without its end is replayed (rule N2).
    TornTailAccepted,
    /// A record's crc does not cover the use of the segment that it belongs to, nor is its batch number looked at (rule N1).
    OldRecordsAccepted,
    /// What follows the last batch is left as it is after a start (rule N1).
    TailNotZeroed,
    /// A membership change is proposed while another one is in flight (rule N3).
    TwoChanges,
    /// The apply thread stores the newest membership instead of the one at its index (rule N3).
    NewestMembershipStored,
    /// Messages leave before the term or vote that they speak of is durable (rule N6).
    EarlyMessages,
    /// A doubled forward is appended twice (rule N5).
    ForwardTwice,
    /// A removed voter is silent from the moment at which it applies its removal (rule N10).
    RemovedIsSilent,
    /// A read joins a round that was stepped already (rule N18).
    ReadJoinsRound,
    /// An offered snapshot is stepped before its file is here (rule N13).
    SnapshotBeforeFile,
}

impl Mutant {
    /// Every one.
    pub const ALL: [Mutant; 16] = [
        Mutant::NoSync,
        Mutant::AckBeforeCommit,
        Mutant::AppliedOutsideBatch,
        Mutant::LocalRead,
        Mutant::HardStateFirst,
        Mutant::VoteNotPersisted,
        Mutant::TornTailAccepted,
        Mutant::OldRecordsAccepted,
        Mutant::TailNotZeroed,
        Mutant::TwoChanges,
        Mutant::NewestMembershipStored,
        Mutant::EarlyMessages,
        Mutant::ForwardTwice,
        Mutant::RemovedIsSilent,
        Mutant::ReadJoinsRound,
        Mutant::SnapshotBeforeFile,
    ];
}

/// Whether this bug is to be there.
#[cfg(not(mutant))]
#[inline(always)]
pub const fn is(_bug: Mutant) -> bool {
    false
}

#[cfg(mutant)]
pub use chosen::{choose, is};

#[cfg(mutant)]
mod chosen {
    use super::Mutant;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// 0: none.
    static CHOSEN: AtomicUsize = AtomicUsize::new(0);

    fn number(bug: Mutant) -> usize {
        bug as usize + 1
    }

    /// From here on the process has this bug, or none.
    pub fn choose(bug: Option<Mutant>) {
        CHOSEN.store(bug.map_or(0, number), Ordering::SeqCst);
    }

    /// Whether this bug is to be there.
    pub fn is(bug: Mutant) -> bool {
        CHOSEN.load(Ordering::Relaxed) == number(bug)
    }
}
