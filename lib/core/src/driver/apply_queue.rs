//! Committed entries on their way to the apply thread: handed out once, in order, bounded in bytes (rule N17). PURE.
//!
//! Up to [`APPLY_QUEUE_BYTES_MAX`] of entries are on their way; beyond that only the range of indexes is remembered,
//! and the entries are read again from the log when there is room.

use crate::kvstore::Committed;
use crate::limits::APPLY_QUEUE_BYTES_MAX;
use crate::membership::Membership;
use crate::mutant::{self, Mutant};
use crate::types::{Index, RequestId};
use raft::prelude::{Entry, EntryType};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The queue.
#[derive(Debug)]
pub struct ApplyQueue {
    /// Counts installs; an `Applied` of an earlier generation is ignored.
    pub generation: u64,
    /// Everything up to here was handed out by raft. This is what raft calls applied (rule N9): the queue loses nothing
    /// except with the process.
    pub handed_out: Index,
    /// Everything up to here is applied by the store: what readers, cuts and the log's forgetting go by.
    pub applied: Index,
    /// Everything up to here was sent to the apply thread.
    sent: Index,
    /// Last index and bytes of each batch that is on its way.
    on_the_way: VecDeque<(Index, usize)>,
    bytes: usize,
    /// Memberships that result from handed-out conf changes not sent yet.
    memberships: BTreeMap<Index, Arc<Membership>>,
}

impl ApplyQueue {
    /// An empty queue: everything up to `applied` is applied.
    pub fn new(applied: Index) -> ApplyQueue {
        ApplyQueue {
            generation: 0,
            handed_out: applied,
            applied,
            sent: applied,
            on_the_way: VecDeque::new(),
            bytes: 0,
            memberships: BTreeMap::new(),
        }
    }

    /// Notes the membership that results from the conf change at `index`.
    pub fn membership(&mut self, index: Index, membership: Arc<Membership>) {
        self.memberships.insert(index, membership);
    }

    /// Notes the entries that raft handed out, and returns what may be sent now.
    pub fn hand_out(&mut self, entries: Vec<Entry>) -> Option<Vec<Committed>> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return None };
        assert_eq!(first.index, self.handed_out + 1, "raft hands out without gaps");
        self.handed_out = last.index;
        (self.sent + 1 == first.index && self.has_room()).then(|| self.send(entries))
    }

    /// The range to read from the log and give to [`ApplyQueue::send`], when something waits and there is room.
    pub fn waiting(&self) -> Option<(Index, Index)> {
        (self.sent < self.handed_out && self.has_room()).then_some((self.sent + 1, self.handed_out + 1))
    }

    /// Turns entries into items, which are on their way from here on.
    pub fn send(&mut self, entries: Vec<Entry>) -> Vec<Committed> {
        let last = entries.last().expect("only non-empty ranges are sent").index;
        let bytes = entries.iter().map(|e| e.data.len() + 64).sum();
        self.sent = last;
        self.bytes += bytes;
        self.on_the_way.push_back((last, bytes));
        entries.into_iter().map(|entry| self.item(entry)).collect()
    }

    /// Notes that the apply thread has applied everything up to `index`.
    pub fn applied(&mut self, index: Index) {
        self.applied = self.applied.max(index);
        while let Some((_, bytes)) = self.on_the_way.pop_front_if(|(last, _)| *last <= index) {
            self.bytes -= bytes;
        }
    }

    /// A snapshot at `index` replaces everything that is on its way.
    pub fn install(&mut self, index: Index) {
        *self = ApplyQueue { generation: self.generation + 1, ..ApplyQueue::new(index) };
    }

    fn has_room(&self) -> bool {
        self.bytes < APPLY_QUEUE_BYTES_MAX
    }

    fn item(&mut self, entry: Entry) -> Committed {
        let (index, term) = (entry.index, entry.term);
        match entry.get_entry_type() {
            EntryType::EntryNormal => {
                Committed::Normal { index, term, request: RequestId::decode(&entry.context), data: entry.data }
            }
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                let newest = mutant::is(Mutant::NewestMembershipStored)
                    .then(|| self.memberships.last_key_value().map(|(_, membership)| membership.clone()));
                let membership = self.memberships.remove(&index).expect("noted when the entry was handed out");
                Committed::Conf { index, term, membership: newest.flatten().unwrap_or(membership) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::RangeInclusive<u64>, bytes: usize) -> Vec<Entry> {
        range.map(|index| Entry { index, term: 1, data: vec![0; bytes].into(), ..Entry::default() }).collect()
    }

    #[test]
    fn beyond_the_limit_only_the_range_is_kept_and_read_again_later() {
        let mut queue = ApplyQueue::new(10);
        assert_eq!(queue.hand_out(entries(11..=11, APPLY_QUEUE_BYTES_MAX)).map(|items| items.len()), Some(1));
        assert_eq!(queue.hand_out(entries(12..=13, 1)).map(|items| items.len()), None);
        assert_eq!(queue.waiting(), None);
        queue.applied(11);
        assert_eq!(queue.waiting(), Some((12, 14)));
        assert_eq!(queue.send(entries(12..=12, 1)).len(), 1);
        assert_eq!(queue.waiting(), Some((13, 14)));
    }
}
