//! Whose a data directory is: the identity file, and what a directory that was found turns out to be (rule N7).
//!
//! Enters: the names in a directory and the files read through [`LogDisk`]. Leaves: [`Found`], which is either proved
//! or quarantines the node and names the file. Nothing is concluded from a missing file: a directory that lost one must
//! never start as a member with an empty log and an empty vote.
//!
//! The writing order is fixed. Join: segment 1, then identity Member. Init: segment 1, snapshot 1-1, mark batch, then
//! identity Member. So if the identity is Blank, those files are from a join or init that was cut short and never
//! answered.

use crate::log::{self, Content, FileKind, LogError, LogOp};
use crate::mutant::{self, Mutant};
use crate::other_format::OtherFormat;
use crate::ports::LogDisk;
use crate::types::{Index, MemberIdentity, Term};
use raftkv_api::Hex128;
use serde::{Deserialize, Serialize};
use std::io;

/// The identity file.
pub const IDENTITY_FILE: &str = "identity";
/// Carries the flock of the process that uses the directory.
pub const LOCK_FILE: &str = "lock";
/// The identity file being written.
const UNFINISHED_FILE: &str = "identity.tmp";
/// The format that this build writes, and the only one that it reads.
const FORMAT: u32 = 2;
/// Index and term of the snapshot that init writes.
const INIT_INDEX: Index = 1;
/// A larger identity file is not ours.
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;

/// What the identity file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Identity {
    /// Belongs to no cluster.
    Blank {
        /// The directory's id, kept when it becomes a member's.
        incarnation: Hex128,
    },
    /// Belongs to a member.
    Member(MemberIdentity),
    /// Belonged to a member that its cluster removed.
    Removed {
        /// The identity that it had.
        identity: MemberIdentity,
        /// Index of the removal.
        index: Index,
        /// Term of that index.
        term: Term,
    },
    /// Belongs to a member, and was found not to be trustworthy; only `reset` ends that (rule N7).
    Quarantined {
        /// The identity of the member.
        identity: MemberIdentity,
        /// What was found.
        why: String,
        /// See [`Finding::diverged`].
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        diverged: bool,
    },
}

/// Why a directory must not be trusted (rule N7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found, as a sentence for people.
    pub why: String,
    /// A leader's log contradicts what is committed here (rule N20). Nobody knows which of the two is right: this
    /// directory may hold the only copy of acknowledged writes, so it is given up only by whoever knows that.
    pub diverged: bool,
}

impl Finding {
    /// The directory lost something, or contradicts itself.
    pub fn new(why: impl Into<String>) -> Finding {
        Finding { why: why.into(), diverged: false }
    }

    /// A leader's log contradicts what is committed here.
    pub fn divergence(why: impl Into<String>) -> Finding {
        Finding { why: why.into(), diverged: true }
    }
}

/// What a data directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing but `lost+found`, our lock and what `reset` set aside: write [`Identity::Blank`] with a new incarnation.
    Empty,
    /// Belongs to no cluster.
    Blank {
        /// The directory's id.
        incarnation: Hex128,
        /// Steps that remove a join or init that was cut short; to be executed before any port is opened.
        cut_short: Vec<LogOp>,
    },
    /// Belongs to a member, and the log's headers agree.
    Member(MemberIdentity),
    /// Belongs to a removed member; its log is here and is still needed (rule N10).
    Removed {
        /// The identity that it had.
        identity: MemberIdentity,
        /// Index of the removal.
        index: Index,
        /// Term of that index.
        term: Term,
    },
    /// Not to be trusted: no vote, no ack, no read.
    Quarantined {
        /// The reason, which names the file.
        finding: Finding,
        /// Whose directory it is, as far as that can be read: then the finding can be made durable, or is already.
        identity: Option<MemberIdentity>,
    },
}

/// Why nothing can be said about a directory.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error("{file}: {source}")]
    Io {
        /// The file; `.` is the directory.
        file: String,
        /// The disk's error.
        source: io::Error,
    },
    /// Another raftkv wrote it. Nothing is wrong with the data, and the process stops.
    #[error(transparent)]
    Format(#[from] OtherFormat),
}

/// The content of the file; the crc covers the JSON of `identity` as this build writes it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    crc32c: u32,
    identity: Identity,
}

/// Read first, to tell a file of another format from a damaged one.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// The steps that make `identity` durable; they replace whatever was there atomically.
pub fn write_ops(identity: &Identity) -> Vec<LogOp> {
    let file = IdentityFile { format: FORMAT, crc32c: crc_of(identity), identity: identity.clone() };
    let mut bytes = serde_json::to_vec_pretty(&file).expect("plain data has a JSON form");
    bytes.push(b'\n');
    vec![
        LogOp::Create { file: UNFINISHED_FILE.to_string(), len: bytes.len() as u64 },
        LogOp::Write { file: UNFINISHED_FILE.to_string(), offset: 0, bytes: bytes.into() },
        LogOp::Sync { file: UNFINISHED_FILE.to_string() },
        LogOp::Rename { from: UNFINISHED_FILE.to_string(), to: IDENTITY_FILE.to_string() },
        LogOp::SyncDir,
    ]
}

/// Makes `identity` durable.
pub fn write(disk: &dyn LogDisk, identity: &Identity) -> io::Result<()> {
    log::execute(disk, &write_ops(identity))
}

/// Makes it durable that a member's directory must not be trusted: from here on only `reset` ends that (rule N7).
pub fn quarantine(disk: &dyn LogDisk, identity: &MemberIdentity, finding: &Finding) -> io::Result<()> {
    if mutant::is(Mutant::QuarantineForgotten) {
        return Ok(());
    }
    let Finding { why, diverged } = finding.clone();
    write(disk, &Identity::Quarantined { identity: *identity, why, diverged })
}

/// Looks at a directory and decides what it is. It only reads; the caller holds the lock.
pub fn find(disk: &dyn LogDisk) -> Result<Found, IdentityError> {
    let mut names = disk.list().map_err(io_error("."))?;
    names.sort_unstable();
    if !names.iter().any(|name| name == IDENTITY_FILE) {
        // identity.tmp alone is the very first identity, which was being written.
        let data = names.iter().find(|name| !is_nothing(name) && *name != UNFINISHED_FILE);
        return Ok(data.map_or(Found::Empty, |name| quarantined(format!("{name} is here, but no identity file"))));
    }
    match read(disk)? {
        Err(why) => Ok(quarantined(why)),
        Ok(Identity::Blank { incarnation }) => find_blank(disk, &names, incarnation),
        Ok(Identity::Member(identity)) => find_member(disk, &identity, Found::Member(identity)),
        Ok(Identity::Removed { identity, index, term }) => {
            find_member(disk, &identity, Found::Removed { identity, index, term })
        }
        Ok(Identity::Quarantined { identity, why, diverged }) => {
            Ok(Found::Quarantined { finding: Finding { why, diverged }, identity: Some(identity) })
        }
    }
}

/// The identity file, which exists. The inner error is the reason to quarantine.
fn read(disk: &dyn LogDisk) -> Result<Result<Identity, String>, IdentityError> {
    let length = disk.len(IDENTITY_FILE).map_err(io_error(IDENTITY_FILE))?;
    if length > IDENTITY_BYTES_MAX {
        return Ok(Err(format!("{IDENTITY_FILE}: {length} bytes are not an identity")));
    }
    let mut bytes = vec![0; length as usize];
    let count = disk.read(IDENTITY_FILE, 0, &mut bytes).map_err(io_error(IDENTITY_FILE))?;
    let bytes = &bytes[..count];
    if let Ok(FormatOnly { format }) = serde_json::from_slice(bytes)
        && let Some(other) = OtherFormat::of(IDENTITY_FILE, format, FORMAT)
    {
        return Err(other.into());
    }
    Ok(match serde_json::from_slice::<IdentityFile>(bytes) {
        Err(error) => Err(format!("{IDENTITY_FILE}: {error}")),
        Ok(file) if file.format != FORMAT => Err(format!("{IDENTITY_FILE}: there is no format {}", file.format)),
        Ok(file) if file.crc32c != crc_of(&file.identity) => Err(format!("{IDENTITY_FILE}: the checksum is wrong")),
        Ok(file) => Ok(file.identity),
    })
}

fn find_blank(disk: &dyn LogDisk, names: &[String], incarnation: Hex128) -> Result<Found, IdentityError> {
    let mut logs = Vec::new();
    let mut snapshots = Vec::new();
    let mut unfinished = Vec::new();
    for name in names.iter().filter(|name| !is_nothing(name) && *name != IDENTITY_FILE) {
        if name.ends_with(".tmp") {
            unfinished.push(name.clone());
        } else if FileKind::of(name) == FileKind::Segment(1) {
            logs.push(name.clone());
        } else if snapshot_of(name) == Some((INIT_INDEX, INIT_INDEX)) {
            snapshots.push(name.clone());
        } else {
            return Ok(quarantined(format!("{name} is here, but {IDENTITY_FILE} says that the directory is blank")));
        }
    }
    if let Some(log) = logs.first()
        && let Some(why) = not_cut_short(disk, log, incarnation, !snapshots.is_empty())?
    {
        return Ok(quarantined(why));
    }
    // The log is removed durably before the snapshot: a snapshot 1-1 alone still counts as an init that was cut short,
    // while a log with a mark and no snapshot would not.
    let mut cut_short = Vec::new();
    for group in [logs, snapshots, unfinished] {
        let removed = !group.is_empty();
        cut_short.extend(group.into_iter().map(|file| LogOp::Remove { file }));
        cut_short.extend(removed.then_some(LogOp::SyncDir));
    }
    Ok(Found::Blank { incarnation, cut_short })
}

/// Why the log in a blank directory is not from a join or init that was cut short; `None` if it is.
fn not_cut_short(
    disk: &dyn LogDisk,
    log: &str,
    incarnation: Hex128,
    has_first_snapshot: bool,
) -> Result<Option<String>, IdentityError> {
    let header = match trusted(log::read_header(disk, 1))? {
        Ok(header) => header,
        Err(why) => return Ok(Some(why)),
    };
    if header.identity.incarnation != incarnation {
        let theirs = header.identity.incarnation;
        return Ok(Some(format!("{log} is of incarnation {theirs}, {IDENTITY_FILE} is of {incarnation}")));
    }
    Ok(match trusted(log::content(disk))? {
        Err(why) => Some(why),
        Ok(None | Some(Content::Nothing)) => None,
        Ok(Some(Content::OnlyMark(mark))) if mark.index == INIT_INDEX && has_first_snapshot => None,
        Ok(Some(Content::OnlyMark(mark))) => {
            Some(format!("{log} begins with a snapshot at {}, which is not here", mark.index))
        }
        Ok(Some(Content::More)) => Some(format!("{log} holds records, but {IDENTITY_FILE} is blank")),
    })
}

fn find_member(disk: &dyn LogDisk, identity: &MemberIdentity, found: Found) -> Result<Found, IdentityError> {
    let untrusted = |why: String| Found::Quarantined { finding: Finding::new(why), identity: Some(*identity) };
    let seqs = match trusted(log::segment_seqs(disk))? {
        Ok(seqs) => seqs,
        Err(why) => return Ok(untrusted(why)),
    };
    if seqs.is_empty() {
        let why = format!("{IDENTITY_FILE} is that of member {}, but there is no log (wal-*)", identity.member_id);
        return Ok(untrusted(why));
    }
    for seq in seqs {
        match trusted(log::read_header(disk, seq))? {
            Err(why) => return Ok(untrusted(why)),
            Ok(header) if header.identity != *identity => {
                let (name, theirs) = (log::segment_name(seq), header.identity);
                return Ok(untrusted(format!("{name} is of {theirs:?}, but {IDENTITY_FILE} is of {identity:?}")));
            }
            Ok(_) => (),
        }
    }
    Ok(found)
}

/// Splits a result of the log into an answer, a reason to quarantine, and an error that says nothing about the data.
fn trusted<T>(answer: Result<T, LogError>) -> Result<Result<T, String>, IdentityError> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(LogError::Io { file, source }) => Err(IdentityError::Io { file, source }),
        Err(LogError::Format(other)) => Err(other.into()),
        Err(error @ LogError::Corrupt { .. }) => Ok(Err(error.to_string())),
    }
}

/// Names that say nothing about the directory.
fn is_nothing(name: &str) -> bool {
    name == LOCK_FILE || name == "lost+found" || name.starts_with("trash-")
}

/// Term and index in a snapshot's name.
fn snapshot_of(name: &str) -> Option<(Term, Index)> {
    let (term, index) = name.strip_prefix("snapshot-")?.split_once('-')?;
    Some((term.parse().ok()?, index.parse().ok()?))
}

fn crc_of(identity: &Identity) -> u32 {
    crc32c::crc32c(&serde_json::to_vec(identity).expect("plain data has a JSON form"))
}

fn quarantined(why: String) -> Found {
    Found::Quarantined { finding: Finding::new(why), identity: None }
}

fn io_error(file: &str) -> impl FnOnce(io::Error) -> IdentityError {
    move |source| IdentityError::Io { file: file.to_string(), source }
}
