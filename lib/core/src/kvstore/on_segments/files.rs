//! The files of segments in one run: each number is given once, to whoever makes a file, and whoever holds one by its
//! number holds the same one. So a file stays as long as anybody reads, sends or lists it, also while one store takes the
//! place of another.

use crate::mutant::{self, Mutant};
use crate::ports::LogDisk;
use crate::segment::file::parse_file_name;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// A segment's file. Whoever holds it keeps the file from being removed.
#[derive(Debug)]
pub(super) struct File {
    /// The number in its name.
    pub(super) n: u64,
}

/// The files of a data directory, for all who make some.
#[derive(Debug)]
pub struct Files(Mutex<Known>);

#[derive(Debug)]
struct Known {
    next: u64,
    held: BTreeMap<u64, Weak<File>>,
}

impl Files {
    /// Those of a directory: new ones get numbers above all that are there.
    pub fn of(disk: &dyn LogDisk) -> io::Result<Arc<Files>> {
        let next = disk.list()?.iter().filter_map(|name| parse_file_name(name)).max().map_or(0, |n| n + 1);
        Ok(Arc::new(Files(Mutex::new(Known { next, held: BTreeMap::new() }))))
    }

    /// A file that is not there yet.
    pub(super) fn make(&self) -> Arc<File> {
        let mut known = self.known();
        known.held.retain(|_, file| file.strong_count() > 0);
        let file = Arc::new(File { n: known.next });
        known.next += 1;
        known.held.insert(file.n, Arc::downgrade(&file));
        file
    }

    /// The file with this number.
    pub(super) fn get(&self, n: u64) -> Arc<File> {
        let mut known = self.known();
        if let Some(file) = known.held.get(&n).and_then(Weak::upgrade)
            && !mutant::is(Mutant::FileHeldApart)
        {
            return file;
        }
        let file = Arc::new(File { n });
        known.held.insert(n, Arc::downgrade(&file));
        file
    }

    /// No file made from here on has a number below this one.
    pub(super) fn at_least(&self, next: u64) {
        let mut known = self.known();
        known.next = known.next.max(next);
    }

    /// The number of the file that is made next.
    pub(super) fn next(&self) -> u64 {
        self.known().next
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kvstore::testing::MemFiles;
    use crate::segment::file::file_name;

    #[test]
    fn numbers_are_given_once_and_a_number_is_one_file() {
        let disk = MemFiles::default();
        assert_eq!(Files::of(&disk).unwrap().next(), 0);
        disk.create(&file_name(6), 0).unwrap();
        let files = Files::of(&disk).unwrap();
        let made = files.make();
        assert_eq!((made.n, files.make().n, files.next()), (7, 8, 9));
        assert!(Arc::ptr_eq(&made, &files.get(7)));
        let found = files.get(6);
        assert!(Arc::ptr_eq(&found, &files.get(6)));
        drop((made, found));
        assert_eq!(Arc::strong_count(&files.get(7)), 1, "nobody held it any more");
        files.at_least(20);
        files.at_least(3);
        assert_eq!(files.make().n, 20);
    }
}
