//! Gathers a kv db's batches in memory and writes many as one: sled's cost is per batch, not per byte.
//!
//! Enters: the batches of apply. Leaves: one batch in their place, as atomic as each of them was, when there are enough
//! of them or nothing more comes. Readers see every batch at once. A crash loses the last batches, but only whole ones,
//! which [`KvDisk`] allows and the log makes good (design section 5). It must never write only a part of what it holds:
//! the store's meta record describes all of it.

use crate::limits;
use crate::ports::KvDisk;
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Keys and their new values; `None` is removed.
type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// How much is gathered before it is written.
#[derive(Clone, Copy, Debug)]
pub struct Gathers {
    /// Bytes of keys and values at which a flush writes.
    pub bytes: usize,
    /// Batches at which a flush writes.
    pub batches: usize,
    /// Bytes at which the batch that reaches them waits for the db.
    pub bytes_max: usize,
}

impl Default for Gathers {
    fn default() -> Gathers {
        let (bytes, bytes_max) = (limits::WRITE_BEHIND_BYTES, limits::WRITE_BEHIND_BYTES_MAX);
        Gathers { bytes, batches: limits::WRITE_BEHIND_BATCHES, bytes_max }
    }
}

/// The gathered batches in front of the db that they go to.
pub struct WriteBehind<D: KvDisk> {
    disk: D,
    gathers: Gathers,
    behind: RwLock<Behind>,
    /// Held while writing to the db: one writer at a time.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Behind {
    /// Not given to the db yet.
    gathered: Writes,
    /// Bytes of keys and values in it.
    bytes: usize,
    /// Batches in it.
    batches: usize,
    /// Given to the db, which may not have all of it yet.
    leaving: Arc<Writes>,
}

impl Behind {
    /// The newest gathered write of a key; `None` when there is none, so that the db has the newest.
    fn get(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.gathered.get(key).or_else(|| self.leaving.get(key))
    }

    /// Whether the next flush writes; nobody waits for a flush.
    fn is_due(&self, gathers: &Gathers) -> bool {
        self.bytes >= gathers.bytes || self.batches >= gathers.batches
    }
}

impl<D: KvDisk> WriteBehind<D> {
    /// Nothing is gathered yet.
    pub fn new(disk: D, gathers: Gathers) -> WriteBehind<D> {
        WriteBehind { disk, gathers, behind: RwLock::default(), writing: Mutex::new(()) }
    }

    fn behind(&self) -> RwLockReadGuard<'_, Behind> {
        self.behind.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn behind_mut(&self) -> RwLockWriteGuard<'_, Behind> {
        self.behind.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn one_writer(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is gathered. After an error readers still see it, but the store takes no further write until the db
    /// is opened again.
    fn write_gathered(&self) -> io::Result<()> {
        let _one = self.one_writer();
        let leaving = {
            let mut behind = self.behind_mut();
            if behind.gathered.is_empty() {
                return Ok(());
            }
            behind.leaving = Arc::new(std::mem::take(&mut behind.gathered));
            (behind.bytes, behind.batches) = (0, 0);
            behind.leaving.clone()
        };
        let batch = leaving.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        self.disk.apply_batch(batch)?;
        // From here on readers may go to the db, which shows all of it.
        self.behind_mut().leaving = Arc::default();
        self.disk.flush()
    }
}

impl<D: KvDisk> KvDisk for WriteBehind<D> {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if let Some(value) = self.behind().get(key) {
            return Ok(value.clone());
        }
        self.disk.get(key)
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        if end.is_some_and(|end| end <= start) {
            return Ok(());
        }
        let over = self.behind().range(start, end);
        let mut over = over.iter().peekable();
        let mut go_on = true;
        self.disk.scan(start, end, &mut |key, value| {
            while let Some((ours, written)) = over.next_if(|(ours, _)| ours.as_slice() < key) {
                go_on = go_on && written.as_ref().is_none_or(|written| visit(ours, written));
            }
            go_on = go_on
                && match over.next_if(|(ours, _)| ours.as_slice() == key) {
                    Some((_, Some(written))) => visit(key, written),
                    Some((_, None)) => true,
                    None => visit(key, value),
                };
            go_on
        })?;
        for (ours, written) in over {
            go_on = go_on && written.as_ref().is_none_or(|written| visit(ours, written));
        }
        Ok(())
    }

    fn apply_batch(&self, batch: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> io::Result<()> {
        let mut behind = self.behind_mut();
        behind.batches += 1;
        for (key, value) in batch {
            behind.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            behind.gathered.insert(key, value);
        }
        let full = behind.bytes >= self.gathers.bytes_max;
        drop(behind);
        if full { self.write_gathered() } else { Ok(()) }
    }

    fn flush(&self) -> io::Result<()> {
        let due = self.behind().is_due(&self.gathers);
        if due { self.write_gathered() } else { Ok(()) }
    }

    fn idle(&self) -> io::Result<()> {
        self.write_gathered()
    }

    fn sync(&self) -> io::Result<()> {
        self.write_gathered()?;
        self.disk.sync()
    }

    fn bytes(&self) -> u64 {
        self.disk.bytes() + self.behind().bytes as u64
    }
}

impl Behind {
    /// The gathered part of a range, with the newest write of each key.
    fn range(&self, start: &[u8], end: Option<&[u8]>) -> Writes {
        let bounds = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
        let mut found = Writes::new();
        for writes in [&*self.leaving, &self.gathered] {
            found.extend(writes.range::<[u8], _>(bounds).map(|(key, value)| (key.clone(), value.clone())));
        }
        found
    }
}

impl<D: KvDisk> Drop for WriteBehind<D> {
    fn drop(&mut self) {
        // This spares the next opening some replay; what cannot be written is still in the log.
        if let Err(error) = self.write_gathered() {
            tracing::debug!(%error, "the last batches stay in the log only");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the db itself holds, and in how many batches it came.
    #[derive(Default)]
    struct Memory {
        records: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
        batches: Mutex<usize>,
    }

    impl KvDisk for Arc<Memory> {
        fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
            Ok(self.records.read().unwrap().get(key).cloned())
        }
        fn scan(
            &self,
            start: &[u8],
            end: Option<&[u8]>,
            visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
        ) -> io::Result<()> {
            let bounds = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
            let _all = self.records.read().unwrap().range::<[u8], _>(bounds).all(|(key, value)| visit(key, value));
            Ok(())
        }
        fn apply_batch(&self, batch: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> io::Result<()> {
            *self.batches.lock().unwrap() += 1;
            let mut records = self.records.write().unwrap();
            for (key, value) in batch {
                match value {
                    Some(value) => drop(records.insert(key, value)),
                    None => drop(records.remove(&key)),
                }
            }
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
        fn bytes(&self) -> u64 {
            0
        }
    }

    fn all(disk: &dyn KvDisk, start: &[u8], end: Option<&[u8]>, most: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut seen = Vec::new();
        disk.scan(start, end, &mut |key, value| {
            seen.push((key.to_vec(), value.to_vec()));
            seen.len() < most
        })
        .unwrap();
        seen
    }

    #[derive(Clone, Debug)]
    enum Step {
        Batch(Vec<(u8, Option<u8>)>),
        WriteOut,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let batch = proptest::collection::vec((0..12u8, any::<Option<u8>>()), 0..6).prop_map(Step::Batch);
        proptest::collection::vec(prop_oneof![4 => batch, 1 => Just(Step::WriteOut)], 0..30)
    }

    proptest! {
        #[test]
        fn it_reads_as_if_every_batch_were_written_at_once(
            steps in steps(), start in 0..13u8, end in proptest::option::of(0..13u8), most in 1..14usize,
        ) {
            let (plain, behind) = (Arc::new(Memory::default()), WriteBehind::new(Arc::new(Memory::default()), Gathers::default()));
            for step in steps {
                match step {
                    Step::Batch(batch) => {
                        let batch = || batch.iter().map(|(key, value)| (vec![*key], value.map(|v| vec![v]))).collect();
                        plain.apply_batch(batch()).unwrap();
                        behind.apply_batch(batch()).unwrap();
                    }
                    Step::WriteOut => behind.idle().unwrap(),
                }
                for key in 0..12u8 {
                    prop_assert_eq!(plain.get(&[key]).unwrap(), behind.get(&[key]).unwrap());
                }
                if end.is_none_or(|end| start <= end) {
                    let end = end.map(|end| vec![end]);
                    let (ours, theirs) = (all(&behind, &[start], end.as_deref(), most), all(&plain, &[start], end.as_deref(), most));
                    prop_assert_eq!(ours, theirs);
                }
            }
        }
    }

    #[test]
    fn batches_reach_the_db_as_one_when_they_are_enough() {
        let memory = Arc::new(Memory::default());
        let behind = WriteBehind::new(memory.clone(), Gathers::default());
        let value = vec![7; limits::WRITE_BEHIND_BYTES / 4];
        for key in 0..4u8 {
            assert_eq!(*memory.batches.lock().unwrap(), 0, "before batch {key}");
            behind.apply_batch(vec![(vec![key], Some(value.clone()))]).unwrap();
            behind.flush().unwrap();
        }
        assert_eq!((*memory.batches.lock().unwrap(), memory.records.read().unwrap().len()), (1, 4));
    }

    #[test]
    fn what_is_gathered_is_written_by_a_sync_and_at_the_end() {
        let memory = Arc::new(Memory::default());
        let behind = WriteBehind::new(memory.clone(), Gathers::default());
        behind.apply_batch(vec![(b"a".to_vec(), Some(b"1".to_vec()))]).unwrap();
        behind.sync().unwrap();
        assert_eq!(memory.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
        behind.apply_batch(vec![(b"a".to_vec(), None)]).unwrap();
        drop(behind);
        assert_eq!(memory.get(b"a").unwrap(), None);
    }
}
