//! The index of an opening: built from the tables of all segments, without reading a record (rules D7, D28).

use super::open::progress_every;
use super::store::Store;
use crate::kvstore::StoreError;
use crate::kvstore::hash::{self, Sum};
use crate::kvstore::index::KeyIndex;
use crate::kvstore::moment::Moment;
use crate::kvstore::place::{Place, RecordAt};
use crate::kvstore::versions::KeyVersion;
use crate::mutant::{self, Mutant};
use crate::ports::LogDisk;
use crate::segment::file::{self, SegmentError};
use crate::segment::merge::{Broken, Source, merge};
use crate::segment::{Foot, Line, Listed, Sealed};
use crate::types::Revision;
use std::collections::BTreeMap;

/// A segment whose table goes into the index.
pub(super) struct Indexed {
    /// Its number in this run.
    pub(super) segment: u32,
    pub(super) from: From,
}

/// Where its table is.
pub(super) enum From {
    File { n: u64, listed: Listed, foot: Foot },
    Memory(Sealed),
}

/// What the tables come to.
#[derive(Default)]
pub(super) struct Built {
    pub(super) index: KeyIndex,
    pub(super) keys: u64,
    pub(super) keys_sum: Sum,
    /// Bytes of records in each segment that nobody needs any more.
    pub(super) dead: BTreeMap<u32, u64>,
}

impl Built {
    fn dies(&mut self, version: &KeyVersion) {
        Store::dies(&mut self.dead, version.at);
    }

    /// An index that is not what the start says serves nothing (rule D7).
    pub(super) fn expect(&self, said: &Moment) -> Result<(), StoreError> {
        if (self.keys, self.keys_sum) == (said.keys, said.keys_sum) || mutant::is(Mutant::SumNotCompared) {
            return Ok(());
        }
        let (found, sum) = (self.keys_sum.to_hex(), said.keys_sum.to_hex());
        let what = format!("the tables have {} keys of {}, and their sum is {found}, not {sum}", self.keys, said.keys);
        Err(StoreError::Unproved(what))
    }
}

/// Merges all tables. A table that is damaged behind a good foot is made again from the records of its file. `progress`
/// gets the lines done so far and in all.
pub(super) fn build(
    disk: &dyn LogDisk,
    indexed: &mut [Indexed],
    swept: Revision,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Built, StoreError> {
    let all = indexed.iter().map(|indexed| u64::from(indexed.foot().records)).sum();
    loop {
        let mut building = Building { swept, built: Built::default(), key: Vec::new(), versions: Vec::new() };
        let mut sources: Vec<Source> = indexed.iter().map(Indexed::source).collect();
        let mut lines = 0;
        let merged = merge(disk, &mut sources, &mut |source, line| {
            building.line(indexed[source].segment, line);
            lines += 1;
            progress_every(lines, all, progress);
        });
        match merged {
            Ok(()) => {
                building.end_of_key();
                return Ok(building.built);
            }
            Err(Broken { source, error: SegmentError::Damaged(_) }) => indexed[source].make_table_again(disk)?,
            Err(Broken { error, .. }) => return Err(error.into()),
        }
    }
}

impl Indexed {
    fn foot(&self) -> &Foot {
        match &self.from {
            From::File { foot, .. } => foot,
            From::Memory(sealed) => &sealed.foot,
        }
    }

    fn source(&self) -> Source {
        match &self.from {
            From::File { n, foot, .. } => Source::file(*n, foot),
            From::Memory(sealed) => Source::memory(sealed),
        }
    }

    fn make_table_again(&mut self, disk: &dyn LogDisk) -> Result<(), StoreError> {
        let From::File { n, listed, .. } = &self.from else {
            return Err(StoreError::Unproved(
                "a table that was just made is damaged: this memory can't be trusted".into(),
            ));
        };
        self.from = From::Memory(file::mend(disk, *n, listed)?);
        Ok(())
    }
}

struct Building {
    swept: Revision,
    built: Built,
    /// The key whose versions are being gathered, oldest first.
    key: Vec<u8>,
    versions: Vec<KeyVersion>,
}

impl Building {
    fn line(&mut self, segment: u32, line: &Line<'_>) {
        let Line { key, stamp, offset, len } = *line;
        if self.key != key || self.versions.is_empty() {
            self.end_of_key();
            self.key.clear();
            self.key.extend_from_slice(key);
        }
        let at = RecordAt { revision: stamp.at.main, place: Place { segment, offset, len } };
        let (create_revision, version, tombstone) = (stamp.create, stamp.version, stamp.tombstone);
        self.versions.push(KeyVersion { at, create_revision, version, tombstone });
    }

    /// All versions of a key are here: those that a compaction which is carried out left go into the index.
    fn end_of_key(&mut self) {
        let Some(newest) = self.versions.last() else { return };
        if !newest.tombstone {
            self.built.keys += 1;
            self.built.keys_sum.add(hash::of_key(&self.key, newest));
        }
        let upto = self.versions.partition_point(|version| version.at.revision <= self.swept);
        let dead = upto.saturating_sub(1);
        let garbage = self.versions[..dead].iter().filter(|version| !version.tombstone).count();
        self.versions[..dead].iter().for_each(|version| self.built.dies(version));
        for version in &self.versions[dead..] {
            self.built.index.append(&self.key, *version);
        }
        if garbage > 0 {
            self.built.index.add_garbage(&self.key, garbage);
        }
        let forgets = upto > 0
            && garbage == 0
            && self.versions[upto - 1].tombstone
            && self.versions[upto - 1].at.revision < self.swept;
        if forgets {
            self.built.dies(&self.versions[upto - 1]);
            self.built.index.forget_oldest(&self.key, 1);
        }
        self.versions.clear();
    }
}
