//! Log matching: if two logs contain an entry with the same index and term, they are identical up to that entry.
//!
//! By induction it is enough that (index, term) decides an entry's content and the term of the entry before it. Only
//! durable entries count: an entry that was lost before anyone was told of it may be written again with other content.

use super::witness::Witness;
use super::{Check, broken};
use raftkv_core::types::{Index, MemberId, Term};
use std::collections::BTreeMap;

/// Every entry that was ever durable on any disk.
#[derive(Debug, Default)]
pub struct Entries {
    seen: BTreeMap<(Index, Term), (u64, Option<Term>, MemberId)>,
}

impl Entries {
    /// Checks the entries from `low` on, which became durable.
    pub fn check(&mut self, id: MemberId, witness: &Witness, low: Index) -> Check {
        for (index, kept) in witness.entries.range(low..) {
            let before = witness.term_at(index - 1);
            let seen = self.seen.entry((*index, kept.term)).or_insert((kept.hash, before, id));
            let same_before = seen.1.is_none() || before.is_none() || seen.1 == before;
            if seen.0 != kept.hash || !same_before {
                let what = format!(
                    "members {} and {id} hold different entries at index {index} term {} (before it: {:?}, {before:?})",
                    seen.2, kept.term, seen.1
                );
                return broken("log_matching", what);
            }
        }
        Ok(())
    }
}
