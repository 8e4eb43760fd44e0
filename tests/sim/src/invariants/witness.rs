//! What a member's disk promised to keep: followed from outside the process, and compared with what a restart finds.

use crate::trace::hash_of;
use raft::prelude::{Entry, EntryType};
use raftkv_core::log::{Log, Mark};
use raftkv_core::types::{Index, Term};
use std::collections::BTreeMap;

/// A durable entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its term.
    pub term: Term,
    /// Hash of its type, context and data.
    pub hash: u64,
    /// Whether it is a membership change.
    pub conf: bool,
}

/// The durable log of one member.
#[derive(Debug, Default)]
pub struct Witness {
    /// The snapshot or compaction point before the first entry.
    pub base: Mark,
    /// The entries behind it.
    pub entries: BTreeMap<Index, Kept>,
    /// Durable term.
    pub term: Term,
    /// Set when the process ended while a batch that replaces entries from here on was being written: these may be
    /// gone.
    pub replacing_from: Option<Index>,
}

impl Witness {
    /// Last durable index.
    pub fn last(&self) -> Index {
        self.entries.last_key_value().map_or(self.base.index, |(index, _)| *index)
    }

    /// Term of the entry at an index, if it is known.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entries.get(&index).map(|kept| kept.term)
    }

    /// Whether the disk holds this entry, or a snapshot above it.
    pub fn holds(&self, index: Index, term: Term) -> bool {
        index < self.base.index || self.term_at(index) == Some(term)
    }

    /// The process ends: what its log holds in memory may be on the disk or not.
    pub fn interrupted(&mut self, log: &Log) {
        let base = log.base();
        let mut same = log.last_index().min(self.last());
        while same > base.index && self.term_at(same) != log.term(same) {
            same -= 1;
        }
        let restarts = same <= base.index && self.term_at(base.index).is_none_or(|term| term != base.term);
        let from = if restarts && base.index >= self.base.index { self.base.index + 1 } else { same + 1 };
        self.replacing_from = (from <= self.last()).then_some(from);
    }

    /// The same for a directory that was put back: what its member promised before stays known, and what it has by now
    /// counts besides.
    pub fn learn(&mut self, log: &Log, last: Index) {
        let low = log.base().index.max(self.base.index) + 1;
        let entries = if low > last { Vec::new() } else { log.entries(low, last + 1, u64::MAX).expect("it has them") };
        self.entries.extend(entries.iter().map(|entry| (entry.index, kept(entry))));
    }

    /// The log is durable up to `last`: takes over what is new, and returns the first new index.
    pub fn follow(&mut self, log: &Log, last: Index) -> Index {
        let base = log.base();
        let mut same = last.min(self.last());
        while same > base.index && self.term_at(same) != log.term(same) {
            same -= 1;
        }
        let same = same.max(base.index);
        self.entries.split_off(&(same + 1));
        if base.index > self.base.index {
            self.entries = self.entries.split_off(&(base.index + 1));
            self.base = base;
        }
        let mut next = same + 1;
        while next <= last {
            let entries = log.entries(next, last + 1, u64::MAX).expect("the simulated disk reads what it wrote");
            for entry in &entries {
                self.entries.insert(entry.index, kept(entry));
            }
            next += entries.len() as u64;
        }
        same + 1
    }
}

fn kept(entry: &Entry) -> Kept {
    let conf = entry.get_entry_type() != EntryType::EntryNormal;
    let hash = hash_of(&entry.context) ^ hash_of(&entry.data).rotate_left(1) ^ u64::from(conf);
    Kept { term: entry.term, hash, conf }
}
