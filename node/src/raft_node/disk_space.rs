//! What is known about the space on the disk: the last look at it, the reserve, and which parts of the node wait for
//! space.
//!
//! Enters: looks at the volume, and full disks that writers met. Leaves: refusals and reasons. It writes no file but
//! the reserve.

use crate::disk::reserve::{Reserve, Space};
use raftkv_core::refusal::Refusal;
use raftkv_core::space;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk with less free space than this counts as full, whatever an error says: sled's errors have lost their kind.
const FULL_BYTES: u64 = 1024 * 1024;

/// A part of the node that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Opening the directory.
    Opening,
    /// The log: nothing is acknowledged meanwhile.
    Log,
    /// The kv db: nothing is applied meanwhile.
    Kv,
}

/// Shared by the threads that write, the background task and the code that describes the node.
pub struct DiskSpace {
    /// The reserve file.
    pub reserve: Arc<Reserve>,
    seen: Mutex<Space>,
    stuck: Mutex<BTreeMap<Part, String>>,
    is_stuck: AtomicBool,
}

impl DiskSpace {
    /// The state before the first look; nobody waits.
    pub fn new(reserve: Arc<Reserve>) -> DiskSpace {
        DiskSpace { reserve, seen: Mutex::default(), stuck: Mutex::default(), is_stuck: AtomicBool::new(false) }
    }

    /// The space as it was seen last.
    pub fn seen(&self) -> Space {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Corrects the size of the reserve file and looks at the space.
    pub fn look(&self, is_member: bool) -> io::Result<Space> {
        let space = self.reserve.look(is_member)?;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = space;
        Ok(space)
    }

    /// A write of this part met a full disk and waits. The reserve is given back at once, since it exists for this.
    /// True when the part was not waiting already.
    pub fn met_full_disk(&self, part: Part, what: &str) -> bool {
        self.reserve.release();
        self.wait_for_space(part, what)
    }

    /// This part knows beforehand that there is too little space for it, and waits; true when that is news.
    pub fn wait_for_space(&self, part: Part, what: &str) -> bool {
        let is_news = self.stuck().insert(part, what.to_string()).is_none();
        self.is_stuck.store(true, Ordering::Release);
        if is_news {
            tracing::error!(what, "the disk has no space: {} until there is some", part.waits());
        }
        is_news
    }

    /// This part can write again, or has given up waiting.
    pub fn has_space(&self, part: Part) {
        if !self.is_stuck.load(Ordering::Acquire) {
            return;
        }
        let mut stuck = self.stuck();
        if stuck.remove(&part).is_some() {
            tracing::info!("there is space again: {}", part.goes_on());
        }
        self.is_stuck.store(!stuck.is_empty(), Ordering::Release);
    }

    /// What waits for space, if anything does.
    pub fn who_waits(&self) -> Option<String> {
        if !self.is_stuck.load(Ordering::Acquire) {
            return None;
        }
        let stuck = self.stuck();
        let words: Vec<String> = stuck.iter().map(|(part, what)| format!("{} ({what})", part.waits())).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// The same as a reason, for callers who ask why something is not done.
    pub fn why_full(&self) -> Option<String> {
        self.who_waits().map(|what| format!("the disk is full, make room on it: {what}"))
    }

    /// Why a call that needs this part is refused, while the part waits.
    pub fn refusal(&self, part: Part) -> Option<Refusal> {
        if !self.waits(part) {
            return None;
        }
        self.why_full().map(Refusal::Opening)
    }

    /// Whether this part waits for space.
    pub fn waits(&self, part: Part) -> bool {
        self.is_stuck.load(Ordering::Acquire) && self.stuck().contains_key(&part)
    }

    /// Whether an error of the kv db means that the disk is full.
    pub fn is_full(&self, error: &io::Error) -> bool {
        space::is_full(error) || self.reserve.free_bytes().is_ok_and(|free| free < FULL_BYTES)
    }

    fn stuck(&self) -> MutexGuard<'_, BTreeMap<Part, String>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn waits(self) -> &'static str {
        match self {
            Part::Opening => "the data directory is not opened",
            Part::Log => "nothing is written to the log, nor acknowledged",
            Part::Kv => "nothing is applied, and reads are of what was applied before",
        }
    }

    fn goes_on(self) -> &'static str {
        match self {
            Part::Opening => "opening the data directory",
            Part::Log => "the log is written",
            Part::Kv => "opening the kv db",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::space::Sizes;

    #[test]
    fn each_part_waits_for_itself_and_the_reserve_goes_at_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join(crate::disk::reserve::RESERVE_FILE);
        std::fs::write(&file, [0; 16]).expect("writes");
        let space = DiskSpace::new(Arc::new(Reserve::new(dir.path(), Sizes { least_bytes: 16 })));
        assert_eq!(space.who_waits(), None);
        assert!(space.met_full_disk(Part::Log, "wal-1: no space"));
        assert!(!file.exists());
        assert!(!space.met_full_disk(Part::Log, "wal-1: no space"), "known");
        assert!(space.met_full_disk(Part::Kv, "kv db: no space"));
        space.has_space(Part::Log);
        let waits = space.who_waits().expect("the kv db");
        assert!(waits.contains("kv db: no space") && !waits.contains("wal-1"), "{waits}");
        space.has_space(Part::Kv);
        assert_eq!(space.who_waits(), None);
    }
}
