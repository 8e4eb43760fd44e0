//! A disk in memory that keeps exactly what [`LogDisk`] promises; how much more survives a power loss is left to
//! chance.
//!
//! Every file has two states: what reads see, and what is durable. A write changes the first and waits; `sync` moves it
//! to the second. Names have two states in the same way, with `sync_dir` between them. [`SimDisk::crash`] loses a
//! random part of all that waits, torn at sectors; [`SimDisk::kill`] is the end of the process alone and loses nothing.
//! Everything follows from the seeds: there is no clock and no other randomness. A disk that is full writes half of
//! what it is given and fails, until [`SimDisk::set_full`] says otherwise or the process ends.
//!
//! # Caveats
//! A sector is written whole or not at all, as real disks promise. Bit rot comes only by [`SimDisk::flip`].

use raftkv_core::ports::LogDisk;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

/// Unit of tearing at a power loss: sectors of this size are written whole or not at all; [`SimDisk::set_sector`]
/// changes it.
pub const SECTOR_BYTES: u64 = 512;

/// Which writes that were not synced may survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashModel {
    /// None survives.
    Nothing,
    /// A prefix of the writes to each file, the last one cut at a sector; a prefix of the changes of names.
    InOrder,
    /// All but the last write to each file, which is cut at a sector; all changes of names.
    Torn,
    /// Any sectors of any writes, any changes of names.
    Reordered,
}

/// What a power loss did to the writes that were not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Lost altogether.
    pub lost: u64,
    /// Lost in part.
    pub torn: u64,
    /// Kept, at least in part, although an earlier write is not whole.
    pub reordered: u64,
}

/// A call of [`LogDisk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`LogDisk::list`]
    List,
    /// [`LogDisk::len`]
    Len,
    /// [`LogDisk::read`]
    Read,
    /// [`LogDisk::create`]
    Create,
    /// [`LogDisk::write`]
    Write,
    /// [`LogDisk::sync`]
    Sync,
    /// [`LogDisk::rename`], named by its target
    Rename,
    /// [`LogDisk::remove`]
    Remove,
    /// [`LogDisk::sync_dir`], with an empty name
    SyncDir,
}

/// An error that will come once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which call fails.
    pub call: Call,
    /// It fails on names that begin with this.
    pub prefix: String,
    /// This many such calls succeed first.
    pub skip: u64,
    /// The kind of error.
    pub kind: io::ErrorKind,
}

/// Where the power fails, once: at the `left`-th such call from here on, before or after the call's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The call.
    pub call: Call,
    /// The names begin with this.
    pub prefix: &'static str,
    /// Whether the call has its effect first.
    pub after: bool,
    /// How many such calls are left, with the one that fails.
    pub left: u64,
}

impl Trap {
    /// Whether the trap is meant for this name. A spare that is still being made does not count.
    fn is_at(&self, name: &str) -> bool {
        name.starts_with(self.prefix) && !(self.prefix == "spare-" && name.ends_with(".tmp"))
    }
}

/// The disk.
pub struct SimDisk {
    inner: Mutex<Inner>,
}

type FileId = u64;

#[derive(Clone)]
struct Inner {
    sector_bytes: u64,
    /// Names that reads see.
    names: BTreeMap<String, FileId>,
    durable_names: BTreeMap<String, FileId>,
    name_changes: Vec<NameChange>,
    files: BTreeMap<FileId, SimFile>,
    next_id: FileId,
    faults: Vec<Fault>,
    trap: Option<Trap>,
    /// The power is gone: nothing works until [`SimDisk::crash`] decides what is left.
    dead: bool,
    /// Whether the disk has no space left.
    full: bool,
    /// Number of calls that were refused for want of space.
    refused: u64,
    /// Files that once were segments.
    recycled: BTreeSet<FileId>,
    /// How often such a file became a segment again.
    reused: u64,
    calls: BTreeMap<Call, u64>,
}

#[derive(Clone, Default)]
struct SimFile {
    /// What reads see.
    bytes: Vec<u8>,
    durable: Vec<u8>,
    waiting: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Empty,
    Write { offset: u64, bytes: Vec<u8> },
}

#[derive(Clone)]
enum NameChange {
    Create { name: String, id: FileId },
    Rename { from: String, to: String },
    Remove { name: String },
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl SimDisk {
    /// An empty directory.
    pub fn new() -> SimDisk {
        SimDisk { inner: Mutex::new(Inner::new()) }
    }

    /// Sets the size of a sector for the writes from here on.
    pub fn set_sector(&self, bytes: u64) {
        self.lock().sector_bytes = bytes;
    }

    /// Power loss: what waits is lost, except for a part that `seed` chooses; reads then see what is durable.
    pub fn crash(&self, seed: u64, model: CrashModel) -> Losses {
        let mut losses = Losses::default();
        let mut random = Random(seed);
        let mut inner = self.lock();
        inner.faults.clear();
        (inner.dead, inner.full) = (false, false);
        let changes = std::mem::take(&mut inner.name_changes);
        let kept = random.survivors(changes.len(), model);
        for (change, _) in changes.into_iter().zip(kept).filter(|(_, kept)| *kept) {
            change.apply(&mut inner.durable_names);
        }
        inner.names = inner.durable_names.clone();
        let sector_bytes = inner.sector_bytes;
        for file in inner.files.values_mut() {
            file.crash(&mut random, (model, sector_bytes), &mut losses);
        }
        inner.forget_nameless();
        losses
    }

    /// A copy of the disk as a power loss at this moment would leave it.
    pub fn copy(&self, seed: u64, model: CrashModel) -> SimDisk {
        let copy = SimDisk { inner: Mutex::new(self.lock().clone()) };
        copy.crash(seed, model);
        let mut inner = copy.lock();
        (inner.trap, inner.reused, inner.refused) = (None, 0, 0);
        drop(inner);
        copy
    }

    /// Whether a file whose name begins with this has writes that wait for a sync.
    pub fn is_dirty(&self, prefix: &str) -> bool {
        let inner = self.lock();
        let waits = |id: &FileId| inner.files.get(id).is_some_and(|file| !file.waiting.is_empty());
        inner.names.iter().any(|(name, id)| name.starts_with(prefix) && waits(id))
    }

    /// Calls that were refused for want of space since this was last asked.
    pub fn take_refused(&self) -> u64 {
        std::mem::take(&mut self.lock().refused)
    }

    /// How often an old segment's file became a segment since this was last asked.
    pub fn take_reused(&self) -> u64 {
        std::mem::take(&mut self.lock().reused)
    }

    /// Loses the file durably: all of it, or only its content.
    pub fn lose(&self, name: &str, all_of_it: bool) {
        let mut inner = self.lock();
        if all_of_it {
            inner.names.remove(name);
            inner.durable_names.remove(name);
            inner.forget_nameless();
        } else {
            let file = inner.file(name).expect("the file to damage exists");
            (file.bytes, file.durable, file.waiting) = Default::default();
        }
    }

    /// End of the process: nothing is lost, and what waits goes on waiting. Injected faults are forgotten.
    pub fn kill(&self) {
        let mut inner = self.lock();
        inner.faults.clear();
        inner.full = false;
    }

    /// Makes one call fail. A failed `sync` loses what waited, although reads still see it, like a kernel that drops
    /// its dirty pages.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Sets whether the disk is full from here on.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// Lays a trap.
    pub fn set_trap(&self, trap: Trap) {
        self.lock().trap = Some(trap);
    }

    /// Takes the trap away and returns it; `None` when it has sprung.
    pub fn take_trap(&self) -> Option<Trap> {
        self.lock().trap.take()
    }

    /// Bit rot: flips one bit of a file, durably.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) {
        let mut inner = self.lock();
        let file = inner.file(name).expect("the file to damage exists");
        let at = offset as usize;
        file.bytes[at] ^= 1 << bit;
        if let Some(byte) = file.durable.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }

    /// The bytes that reads see.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.lock().file(name).expect("the file to look at exists").bytes.clone()
    }

    /// Names that reads see, sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// How often a call was made.
    pub fn calls(&self, call: Call) -> u64 {
        self.lock().calls.get(&call).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the disk panics")
    }

    /// Counts a call, and fails it if a fault or a trap is due.
    fn enter(&self, call: Call, name: &str) -> Result<MutexGuard<'_, Inner>, (MutexGuard<'_, Inner>, io::Error)> {
        let mut inner = self.lock();
        *inner.calls.entry(call).or_default() += 1;
        if let Err(error) = inner.spring(call, name, false) {
            return Err((inner, error));
        }
        let fault = inner.faults.iter().position(|fault| fault.call == call && name.starts_with(&fault.prefix));
        match fault {
            Some(at) if inner.faults[at].skip == 0 => {
                let fault = inner.faults.remove(at);
                Err((inner, io::Error::new(fault.kind, format!("injected: {call:?} {name}"))))
            }
            Some(at) => {
                inner.faults[at].skip -= 1;
                Ok(inner)
            }
            None => Ok(inner),
        }
    }

    fn enter_or_fail(&self, call: Call, name: &str) -> io::Result<MutexGuard<'_, Inner>> {
        self.enter(call, name).map_err(|(_, error)| error)
    }
}

impl LogDisk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.enter_or_fail(Call::List, "")?.names.keys().cloned().collect())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self.enter_or_fail(Call::Len, name)?.file(name)?.bytes.len() as u64)
    }

    fn read(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.enter_or_fail(Call::Read, name)?;
        let bytes = &inner.file(name)?.bytes;
        let rest = bytes.get(offset as usize..).unwrap_or(&[]);
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<()> {
        let mut inner = self.enter_or_fail(Call::Create, name)?;
        if !inner.names.contains_key(name) {
            let id = inner.next_id;
            inner.next_id += 1;
            inner.files.insert(id, SimFile::default());
            inner.change_name(NameChange::Create { name: name.to_string(), id });
        }
        inner.file(name)?.change(Change::Empty);
        if inner.full {
            return Err(inner.refuse());
        }
        inner.file(name)?.change(Change::Write { offset: 0, bytes: vec![0; len as usize] });
        inner.spring(Call::Create, name, true)
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.enter_or_fail(Call::Write, name)?;
        if inner.full {
            let half = bytes[..bytes.len() / 2].to_vec();
            inner.file(name)?.change(Change::Write { offset, bytes: half });
            return Err(inner.refuse());
        }
        inner.file(name)?.change(Change::Write { offset, bytes: bytes.to_vec() });
        inner.spring(Call::Write, name, true)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        match self.enter(Call::Sync, name) {
            Ok(mut inner) => {
                let file = inner.file(name)?;
                file.waiting.drain(..).for_each(|change| change.apply(&mut file.durable));
                inner.spring(Call::Sync, name, true)
            }
            Err((inner, error)) if inner.dead => Err(error),
            Err((mut inner, error)) => {
                inner.file(name)?.waiting.clear();
                Err(error)
            }
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.enter_or_fail(Call::Rename, to)?;
        inner.file(from)?;
        inner.note_recycling(from, to);
        inner.change_name(NameChange::Rename { from: from.to_string(), to: to.to_string() });
        inner.spring(Call::Rename, to, true)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.enter_or_fail(Call::Remove, name)?;
        inner.file(name)?;
        inner.change_name(NameChange::Remove { name: name.to_string() });
        inner.spring(Call::Remove, name, true)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut inner = self.enter_or_fail(Call::SyncDir, "")?;
        inner.name_changes.clear();
        inner.durable_names = inner.names.clone();
        inner.forget_nameless();
        inner.spring(Call::SyncDir, "", true)
    }
}

impl Inner {
    fn new() -> Inner {
        Inner {
            sector_bytes: SECTOR_BYTES,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            files: BTreeMap::new(),
            next_id: 0,
            faults: Vec::new(),
            trap: None,
            dead: false,
            full: false,
            refused: 0,
            recycled: BTreeSet::new(),
            reused: 0,
            calls: BTreeMap::new(),
        }
    }

    /// Fails when the power is gone, or when the trap springs at this call.
    fn spring(&mut self, call: Call, name: &str, after: bool) -> io::Result<()> {
        if let Some(trap) = &mut self.trap
            && (trap.call, trap.after) == (call, after)
            && trap.is_at(name)
        {
            trap.left -= 1;
            if trap.left == 0 {
                (self.trap, self.dead) = (None, true);
            }
        }
        if self.dead { Err(io::Error::other(format!("no power: {call:?} {name}"))) } else { Ok(()) }
    }

    /// The error of a call on a full disk.
    fn refuse(&mut self) -> io::Error {
        self.refused += 1;
        io::Error::new(io::ErrorKind::StorageFull, "injected: no space")
    }

    fn note_recycling(&mut self, from: &str, to: &str) {
        let Some(id) = self.names.get(from).copied() else { return };
        match (from.starts_with("wal-"), to.starts_with("wal-")) {
            (true, false) => drop(self.recycled.insert(id)),
            (false, true) => self.reused += u64::from(self.recycled.contains(&id)),
            (true, true) | (false, false) => (),
        }
    }

    fn file(&mut self, name: &str) -> io::Result<&mut SimFile> {
        let id = self.names.get(name).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, name.to_string()))?;
        Ok(self.files.get_mut(id).expect("a name's file is kept"))
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn forget_nameless(&mut self) {
        let Inner { names, durable_names, files, name_changes, .. } = self;
        let waiting = |id: &FileId| {
            name_changes.iter().any(|change| matches!(change, NameChange::Create { id: created, .. } if created == id))
        };
        files.retain(|id, _| {
            names.values().any(|named| named == id) || durable_names.values().any(|named| named == id) || waiting(id)
        });
    }
}

impl NameChange {
    /// A change is lost too if its file is missing because an earlier change was lost.
    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            NameChange::Create { name, id } => {
                names.insert(name.clone(), *id);
            }
            NameChange::Rename { from, to } => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            NameChange::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

impl SimFile {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.waiting.push(change);
    }

    fn crash(&mut self, random: &mut Random, (model, sector_bytes): (CrashModel, u64), losses: &mut Losses) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut whole = random.survivors(waiting.len(), model);
        if model == CrashModel::Torn
            && let Some(last) = waiting.iter().rposition(|change| matches!(change, Change::Write { .. }))
        {
            whole[last] = false;
        }
        let first_lost = whole.iter().position(|kept| !kept);
        for (at, change) in waiting.into_iter().enumerate() {
            let follows_a_loss = first_lost.is_some_and(|first| first < at);
            match change {
                change if whole[at] => {
                    change.apply(&mut self.durable);
                    losses.reordered += u64::from(follows_a_loss);
                }
                Change::Write { offset, bytes } if model == CrashModel::Reordered || first_lost == Some(at) => {
                    let pieces = sectors(offset, bytes.len(), sector_bytes);
                    let kept = match model {
                        CrashModel::Torn => random.torn(pieces.len()),
                        _ => random.survivors(pieces.len(), model),
                    };
                    match kept.iter().filter(|kept| **kept).count() {
                        0 => losses.lost += 1,
                        some if some < pieces.len() => losses.torn += 1,
                        _ => losses.reordered += u64::from(follows_a_loss),
                    }
                    for (piece, _) in pieces.into_iter().zip(kept).filter(|(_, kept)| *kept) {
                        let place = offset + piece.start as u64;
                        Change::Write { offset: place, bytes: bytes[piece].to_vec() }.apply(&mut self.durable);
                    }
                }
                Change::Write { .. } => losses.lost += 1,
                Change::Empty => (),
            }
        }
        self.bytes = self.durable.clone();
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Empty => bytes.clear(),
            Change::Write { offset, bytes: new } => {
                let start = *offset as usize;
                let range = start..start + new.len();
                if bytes.len() < range.end {
                    bytes.resize(range.end, 0);
                }
                bytes[range].copy_from_slice(new);
            }
        }
    }
}

/// The parts of a write, each of which lies in one sector.
fn sectors(offset: u64, length: usize, sector_bytes: u64) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < length {
        let in_sector = ((offset + start as u64) % sector_bytes) as usize;
        let end = length.min(start + sector_bytes as usize - in_sector);
        pieces.push(start..end);
        start = end;
    }
    pieces
}

/// SplitMix64, which is enough to choose what survives.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Some of the first pieces of a write, but not all.
    fn torn(&mut self, count: usize) -> Vec<bool> {
        let kept = self.next() as usize % count.max(1);
        (0..count).map(|at| at < kept).collect()
    }

    /// Which of `count` changes in a row survive: often all, often none.
    fn survivors(&mut self, count: usize, model: CrashModel) -> Vec<bool> {
        let prefix = match self.next() % 4 {
            _ if model == CrashModel::Nothing => 0,
            _ if model == CrashModel::Torn => count,
            0 => 0,
            1 => count,
            _ if model == CrashModel::Reordered => return (0..count).map(|_| self.next().is_multiple_of(2)).collect(),
            _ => (self.next() % (count as u64 + 1)) as usize,
        };
        (0..count).map(|at| at < prefix).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_every_crash() {
        for seed in 0..200 {
            for model in [CrashModel::InOrder, CrashModel::Torn, CrashModel::Reordered] {
                let disk = durable_file(b"old");
                disk.write("f", 0, b"new").expect("write");
                disk.sync("f").expect("sync");
                disk.crash(seed, model);
                assert_eq!(disk.bytes("f"), b"new");
            }
        }
    }

    #[test]
    fn what_was_not_synced_is_kept_lost_and_torn_at_sectors() {
        let (mut kept, mut lost, mut torn, mut holes) = (0, 0, 0, 0);
        for seed in 0..400 {
            let disk = durable_file(&[0; 2048]);
            disk.write("f", 100, &[1; 1500]).expect("write");
            disk.crash(seed, if seed % 2 == 0 { CrashModel::InOrder } else { CrashModel::Reordered });
            let bytes = disk.bytes("f");
            let ones = bytes.iter().filter(|byte| **byte == 1).count();
            let edges = bytes.windows(2).filter(|pair| pair[0] != pair[1]).count();
            match (ones, edges) {
                (0, _) => lost += 1,
                (1500, _) => kept += 1,
                (_, 2) => torn += 1,
                (_, _) => holes += 1,
            }
            assert!(ones == 0 || bytes[..100].iter().all(|byte| *byte == 0));
        }
        assert!([kept, lost, torn, holes].iter().all(|count| *count > 5), "{kept} {lost} {torn} {holes}");
    }

    #[test]
    fn a_torn_write_loses_its_end_and_nothing_before_it() {
        for seed in 0..100 {
            let disk = durable_file(&[0; 2048]);
            disk.write("f", 0, &[1; 512]).expect("write");
            disk.write("f", 512, &[2; 1536]).expect("write");
            let losses = disk.crash(seed, CrashModel::Torn);
            let bytes = disk.bytes("f");
            assert!(bytes[..512].iter().all(|byte| *byte == 1));
            let kept = bytes.iter().filter(|byte| **byte == 2).count();
            assert!(kept < 1536 && kept.is_multiple_of(512), "{kept}");
            let expected = if kept == 0 { (1, 0, 0) } else { (0, 1, 0) };
            assert_eq!((losses.lost, losses.torn, losses.reordered), expected);
        }
    }

    #[test]
    fn a_full_disk_writes_half_and_says_so_until_the_process_ends() {
        let disk = durable_file(b"old!");
        disk.set_full(true);
        assert_eq!(disk.write("f", 0, b"new?").expect_err("full").kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.bytes("f"), b"ned!");
        assert_eq!(disk.create("g", 1).expect_err("full").kind(), io::ErrorKind::StorageFull);
        assert_eq!((disk.take_refused(), disk.take_refused()), (2, 0));
        disk.kill();
        disk.write("f", 0, b"new?").expect("there is space again");
        assert_eq!(disk.bytes("f"), b"new?");
    }

    #[test]
    fn a_copy_is_what_a_power_loss_would_leave() {
        let disk = durable_file(b"old");
        disk.write("f", 0, b"new").expect("write");
        assert_eq!(disk.copy(0, CrashModel::Nothing).bytes("f"), b"old");
        assert_eq!(disk.bytes("f"), b"new", "the original is left alone");
        let copy = disk.copy(0, CrashModel::Nothing);
        copy.lose("f", false);
        assert_eq!(copy.bytes("f"), b"");
        copy.lose("f", true);
        assert!(copy.names().is_empty());
        assert_eq!(disk.names(), ["f"]);
    }

    #[test]
    fn a_segment_made_of_an_old_one_is_counted() {
        let disk = SimDisk::new();
        disk.create("wal-1", 8).expect("create");
        disk.rename("wal-1", "spare-1").expect("rename");
        disk.create("spare-2", 8).expect("create");
        disk.rename("spare-2", "wal-2").expect("rename");
        assert_eq!(disk.take_reused(), 0);
        disk.rename("spare-1", "wal-3").expect("rename");
        assert_eq!((disk.take_reused(), disk.take_reused()), (1, 0));
    }

    #[test]
    fn names_wait_for_sync_dir() {
        let outcomes: std::collections::BTreeSet<Vec<String>> = (0..100)
            .map(|seed| {
                let disk = durable_file(b"x");
                disk.rename("f", "g").expect("rename");
                disk.create("h", 1).expect("create");
                disk.crash(seed, CrashModel::Reordered);
                disk.names()
            })
            .collect();
        assert_eq!(outcomes.len(), 4, "each change is kept or lost: {outcomes:?}");
        let disk = durable_file(b"x");
        disk.remove("f").expect("remove");
        disk.sync_dir().expect("sync_dir");
        disk.crash(0, CrashModel::InOrder);
        assert!(disk.names().is_empty());
    }

    #[test]
    fn a_kill_loses_nothing_and_what_waits_goes_on_waiting() {
        let disk = durable_file(b"old");
        disk.write("f", 0, b"new").expect("write");
        disk.kill();
        assert_eq!(disk.bytes("f"), b"new");
        let lost = (0..50).any(|seed| {
            let disk = durable_file(b"old");
            disk.write("f", 0, b"new").expect("write");
            disk.kill();
            disk.crash(seed, CrashModel::InOrder);
            disk.bytes("f") == b"old"
        });
        assert!(lost);
    }

    #[test]
    fn faults_come_once_after_so_many_calls_and_a_failed_sync_loses_what_waited() {
        let disk = durable_file(b"old");
        let kind = io::ErrorKind::Other;
        disk.inject(Fault { call: Call::Sync, prefix: "f".to_string(), skip: 1, kind });
        disk.sync("f").expect("skipped");
        disk.write("f", 0, b"new").expect("write");
        assert_eq!(disk.sync("f").expect_err("injected").kind(), kind);
        disk.sync("f").expect("claims success");
        assert_eq!(disk.bytes("f"), b"new", "from the cache");
        disk.crash(1, CrashModel::InOrder);
        assert_eq!(disk.bytes("f"), b"old");
    }

    fn durable_file(bytes: &[u8]) -> SimDisk {
        let disk = SimDisk::new();
        disk.create("f", bytes.len() as u64).expect("create");
        disk.write("f", 0, bytes).expect("write");
        disk.sync("f").expect("sync");
        disk.sync_dir().expect("sync_dir");
        disk
    }
}
