//! The small state: what the store holds besides keys, which changes entry by entry and is written whole with a
//! manifest. PURE.
//!
//! It is a map from (kind, key) to a value. Claims have its sum, so that a head whose state is not that of its claim is
//! found.

use super::hash::{self, Sum};
use std::collections::{BTreeMap, BTreeSet};

/// What an entry of the small state is. The numbers are on disk: never change or reuse one. Reserved: 2 lease,
/// 3 once-window, 4 auth, 5 user, 6 role.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The membership, whose key is empty. A manifest has it in its header.
    Membership = 1,
}

impl Kind {
    /// The kind of that number; `None` when a newer build has it.
    pub(crate) fn of(number: u8) -> Option<Kind> {
        (number == Kind::Membership as u8).then_some(Kind::Membership)
    }
}

/// The name of an entry.
pub(crate) type Name = (Kind, Vec<u8>);

/// Number of entries, and the sum over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateSum {
    pub(crate) count: u64,
    pub(crate) sum: Sum,
}

/// The small state, and what of it the head does not have yet.
#[derive(Debug, Default)]
pub(crate) struct Small {
    entries: BTreeMap<Name, Vec<u8>>,
    sum: Sum,
    changed: BTreeSet<Name>,
}

impl Small {
    /// Sets an entry, or removes it.
    pub(crate) fn set(&mut self, kind: Kind, key: &[u8], value: Option<Vec<u8>>) {
        let name = (kind, key.to_vec());
        let before = match value {
            Some(value) => {
                self.sum.add(hash_of(&name, &value));
                self.entries.insert(name.clone(), value)
            }
            None => self.entries.remove(&name),
        };
        if let Some(before) = before {
            self.sum.subtract(hash_of(&name, &before));
        }
        self.changed.insert(name);
    }

    /// The value of an entry.
    pub(crate) fn get(&self, kind: Kind, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(&(kind, key.to_vec())).map(Vec::as_slice)
    }

    /// Number of entries, and the sum over them.
    pub(crate) fn sum(&self) -> StateSum {
        StateSum { count: self.entries.len() as u64, sum: self.sum }
    }

    /// Bytes of names and values that the head does not have yet.
    pub(crate) fn changed_bytes(&self) -> usize {
        let bytes = |name: &Name| name.1.len() + self.entries.get(name).map_or(0, Vec::len);
        self.changed.iter().map(bytes).sum()
    }

    /// What changed since it was asked last, with the value that it has now.
    pub(crate) fn take_changes(&mut self) -> Vec<(Name, Option<Vec<u8>>)> {
        let names = std::mem::take(&mut self.changed);
        names.into_iter().map(|name| (name.clone(), self.entries.get(&name).cloned())).collect()
    }

    /// Counts everything as changed, since a new head has nothing yet.
    pub(crate) fn all_changed(&mut self) {
        self.changed = self.entries.keys().cloned().collect();
    }

    /// Counts nothing as changed: the head has it all.
    pub(crate) fn none_changed(&mut self) {
        self.changed.clear();
    }
}

fn hash_of((kind, key): &Name, value: &[u8]) -> u128 {
    hash::of_record(&[&[*kind as u8][..], key].concat(), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_what_is_there_whatever_was_there_before() {
        let mut small = Small::default();
        small.set(Kind::Membership, b"", Some(b"one".to_vec()));
        small.set(Kind::Membership, b"", Some(b"two".to_vec()));
        let mut plain = Small::default();
        plain.set(Kind::Membership, b"", Some(b"two".to_vec()));
        assert_eq!((small.sum(), small.sum().count), (plain.sum(), 1));
        assert_ne!(small.sum(), StateSum::default());
        small.set(Kind::Membership, b"", None);
        assert_eq!(small.sum(), StateSum::default());
    }

    #[test]
    fn changes_are_taken_once_with_the_newest_value() {
        let mut small = Small::default();
        small.set(Kind::Membership, b"", Some(b"one".to_vec()));
        small.set(Kind::Membership, b"", Some(b"three".to_vec()));
        assert_eq!(small.changed_bytes(), 5);
        let name = (Kind::Membership, Vec::new());
        assert_eq!(small.take_changes(), [(name.clone(), Some(b"three".to_vec()))]);
        assert_eq!((small.take_changes(), small.changed_bytes()), (vec![], 0));
        small.all_changed();
        assert_eq!(small.take_changes().len(), 1);
        small.set(Kind::Membership, b"", None);
        assert_eq!(small.take_changes(), [(name, None)]);
    }

    #[test]
    fn kinds_that_a_newer_build_has_are_unknown() {
        assert_eq!(Kind::of(1), Some(Kind::Membership));
        assert!([0, 2, 3, 255].into_iter().all(|number| Kind::of(number).is_none()));
    }
}
