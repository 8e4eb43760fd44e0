//! Deliberate bugs: if the tests do not notice one of them, they prove nothing. Only a build with `--cfg mutant` has
//! them (see `make mutants`), and it runs one at a time; in every other build [`is`] is false at compile time. The same
//! build of the node has crash points.

/// A bug; the place in the code that would have it asks for it by [`is`].
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
    /// A record's crc does not cover the use of the segment that it belongs to, and its batch number is not checked
    /// (rule N1).
    OldRecordsAccepted,
    /// A start leaves what follows the last batch as it is (rule N1).
    TailNotZeroed,
    /// A membership change is proposed while another one is in flight (rule N3).
    TwoChanges,
    /// The apply thread stores the newest membership instead of the one at its index (rule N3).
    NewestMembershipStored,
    /// Messages leave before the term or vote that they speak of is durable (rule N6).
    EarlyMessages,
    /// A duplicated forward is appended twice (rule N5).
    ForwardTwice,
    /// A removed voter is silent from the moment at which it applies its removal (rule N10).
    RemovedIsSilent,
    /// A read joins a round that was stepped already (rule N18).
    ReadJoinsRound,
    /// An offered snapshot is stepped before its file is here (rule N13).
    SnapshotBeforeFile,
    /// raft is told that entries are applied when the kv db has them, not when they are handed out (rule N9).
    AppliedIsTheStores,
    /// A removal that the present configuration can't commit is accepted (rule O6).
    RemovalByTheResultAlone,
    /// A removed member is told so on the word of one member that applied it (rule N4).
    ToldByOneWitness,
    /// A leader whose sync hangs goes on leading (rule N26).
    HungLeaderLeads,
    /// A finding that quarantines is forgotten at a restart (rule N7).
    QuarantineForgotten,
    /// What a member showed of its disk while it led is not remembered (rule N20).
    LeaderNotRemembered,
    /// A starting member campaigns and votes before anybody could object (rule N20).
    NoWaitAtStart,
    /// A second process of a member takes the place of the first, which answers (rule N27).
    TwinAccepted,
    /// What a leader sends is not compared with what is committed here (rule N20).
    DivergenceNotSeen,
    /// A file goes although the durable manifest lists it (rule D2).
    UnlinkBeforeManifest,
    /// A segment is listed before its file is synced (rule D1).
    ManifestBeforeSync,
    /// What no manifest lists is believed without its hash (rule D4).
    ClaimUnproved,
    /// A claim comes one set before the records that it speaks of (rule D5).
    SetSplit,
    /// A tombstone goes while values that it hides stand in some segment (rule D6).
    TombstoneFirst,
    /// And what an opening finds is not compared with what there was (rule D7).
    SumNotCompared,
    /// A window ends with the batch that fills it (rule D8).
    SealAtBatch,
    /// A window ends where a manifest was cut (rule D8).
    WindowEndsAtCut,
    /// A compaction counts as carried out before its last group is in the list (rule D9).
    SweptEarly,
    /// A read compares no crc, key or revision (rule D11).
    ReadUnchecked,
    /// A damaged record is written anew under a good crc (rule D11).
    DamageCopied,
    /// Chunks go when their window is full, not when a claim names its file (rule D25).
    ChunksFirst,
    /// Of a claim all files count, also those that the newest manifest has replaced (rule D26).
    ClaimByNumber,
    /// A snapshot that was fetched takes the place of the old one before the log has restarted behind it (rule D13).
    InstallInPlace,
    /// An installation removes what neither the old store nor the new one names, also what another snapshot that is arriving
    /// has fetched (rule D2).
    OrphansAtInstall,
    /// After an installation a file is held apart by each who holds it, so it goes while another one needs it (rule D2).
    FileHeldApart,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 41] = [
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
        Mutant::AppliedIsTheStores,
        Mutant::RemovalByTheResultAlone,
        Mutant::ToldByOneWitness,
        Mutant::HungLeaderLeads,
        Mutant::QuarantineForgotten,
        Mutant::LeaderNotRemembered,
        Mutant::NoWaitAtStart,
        Mutant::TwinAccepted,
        Mutant::DivergenceNotSeen,
        Mutant::UnlinkBeforeManifest,
        Mutant::ManifestBeforeSync,
        Mutant::ClaimUnproved,
        Mutant::SetSplit,
        Mutant::TombstoneFirst,
        Mutant::SumNotCompared,
        Mutant::SealAtBatch,
        Mutant::WindowEndsAtCut,
        Mutant::SweptEarly,
        Mutant::ReadUnchecked,
        Mutant::DamageCopied,
        Mutant::ChunksFirst,
        Mutant::ClaimByNumber,
        Mutant::InstallInPlace,
        Mutant::OrphansAtInstall,
        Mutant::FileHeldApart,
    ];
}

/// Whether this bug is switched on.
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

    /// The number of the bug; 0 is none.
    static CHOSEN: AtomicUsize = AtomicUsize::new(0);

    fn number(bug: Mutant) -> usize {
        bug as usize + 1
    }

    /// From here on the process has this bug, or none.
    pub fn choose(bug: Option<Mutant>) {
        CHOSEN.store(bug.map_or(0, number), Ordering::SeqCst);
    }

    /// Whether this bug is switched on.
    pub fn is(bug: Mutant) -> bool {
        CHOSEN.load(Ordering::Relaxed) == number(bug)
    }
}
