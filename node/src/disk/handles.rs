//! The open files of a data directory, by name.
//!
//! Enters: files that were opened. Leaves: the same files, as often as they are asked for. Of segments, whose number
//! grows with the data, only so many stay open; the one that was used longest ago is closed for a new one. A file that
//! is closed while somebody uses it stays open until he is done.
//!
//! A file with writes that were not synced is never closed here: the kernel tells an error of writing it back to those
//! who had it open then, and a sync through another handle might claim success (rule N11).

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Bound;
use std::sync::Arc;

/// The names of segments lie between these two.
const SEGMENTS: (Bound<&str>, Bound<&str>) = (Bound::Included("kv-"), Bound::Excluded("kv."));

/// The open files.
pub(super) struct Handles {
    open: BTreeMap<String, Handle>,
    /// So many segments stay open.
    segments_max: usize,
    /// Counts uses.
    uses: u64,
}

struct Handle {
    file: Arc<File>,
    /// What `uses` was when it was used last.
    used: u64,
    unsynced: bool,
}

impl Handles {
    /// None is open.
    pub(super) fn new(segments_max: usize) -> Handles {
        Handles { open: BTreeMap::new(), segments_max, uses: 0 }
    }

    /// The open file of that name.
    pub(super) fn get(&mut self, name: &str) -> Option<Arc<File>> {
        let handle = self.open.get_mut(name)?;
        self.uses += 1;
        handle.used = self.uses;
        Some(handle.file.clone())
    }

    /// Keeps a file that was opened or made, in place of one that had its name.
    pub(super) fn insert(&mut self, name: &str, file: Arc<File>) {
        self.uses += 1;
        self.open.insert(name.to_string(), Handle { file, used: self.uses, unsynced: false });
        self.close_too_many();
    }

    /// A write to the file begins.
    pub(super) fn written(&mut self, name: &str) {
        self.set_unsynced(name, true);
    }

    /// A sync of the file begins.
    pub(super) fn synced(&mut self, name: &str) {
        self.set_unsynced(name, false);
    }

    /// Forgets a file that is gone, and returns it.
    pub(super) fn remove(&mut self, name: &str) -> Option<Arc<File>> {
        self.open.remove(name).map(|handle| handle.file)
    }

    /// A file has another's name; returns that other one.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> Option<Arc<File>> {
        let replaced = self.remove(to);
        if let Some(handle) = self.open.remove(from) {
            self.open.insert(to.to_string(), handle);
            self.close_too_many();
        }
        replaced
    }

    fn set_unsynced(&mut self, name: &str, unsynced: bool) {
        if let Some(handle) = self.open.get_mut(name) {
            handle.unsynced = unsynced;
        }
    }

    /// This looks at all of them, but only after one was opened, which takes longer. That one stays, whatever happens:
    /// it is about to be written, or read.
    fn close_too_many(&mut self) {
        while self.open.range::<str, _>(SEGMENTS).count() > self.segments_max {
            let may_go = |handle: &Handle| !handle.unsynced && handle.used < self.uses;
            let segments = self.open.range::<str, _>(SEGMENTS).filter(|(_, handle)| may_go(handle));
            let Some((oldest, _)) = segments.min_by_key(|(_, handle)| handle.used) else { return };
            let oldest = oldest.clone();
            self.open.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handles() -> Handles {
        Handles::new(2)
    }

    fn open(handles: &mut Handles, name: &str) {
        handles.insert(name, Arc::new(File::open("/dev/null").expect("opens")));
    }

    fn names(handles: &Handles) -> Vec<&str> {
        handles.open.keys().map(String::as_str).collect()
    }

    #[test]
    fn the_segment_used_longest_ago_is_closed_and_nothing_else_is() {
        let mut handles = handles();
        for name in ["log-1", "kv-1", "kv-2", "identity", "kv.", "kv", "snapshot-1-1"] {
            open(&mut handles, name);
        }
        assert!(handles.get("kv-1").is_some());
        open(&mut handles, "kv-3");
        assert!(handles.get("kv-2").is_none(), "the other one was used later");
        assert_eq!(names(&handles), ["identity", "kv", "kv-1", "kv-3", "kv.", "log-1", "snapshot-1-1"]);
    }

    #[test]
    fn a_segment_with_writes_that_were_not_synced_stays_open() {
        let mut handles = handles();
        open(&mut handles, "kv-1");
        handles.written("kv-1");
        for name in ["kv-2", "kv-3", "kv-4"] {
            open(&mut handles, name);
            assert_eq!(names(&handles), ["kv-1", name]);
        }
        handles.written("kv-4");
        open(&mut handles, "kv-5");
        assert_eq!(names(&handles), ["kv-1", "kv-4", "kv-5"], "no other may go");
        handles.synced("kv-1");
        open(&mut handles, "kv-6");
        assert_eq!(names(&handles), ["kv-4", "kv-6"]);
    }

    #[test]
    fn a_file_that_is_gone_or_replaced_is_handed_back() {
        let mut handles = handles();
        open(&mut handles, "kv-1");
        open(&mut handles, "new");
        let kept = handles.get("new").expect("open");
        assert!(handles.rename("new", "kv-1").is_some());
        assert_eq!(names(&handles), ["kv-1"]);
        assert!(Arc::ptr_eq(&kept, &handles.get("kv-1").expect("renamed")));
        assert!(handles.rename("unknown", "kv-1").is_some(), "who is replaced by a file that is not open is closed");
        assert!(handles.remove("kv-1").is_none());
    }
}
