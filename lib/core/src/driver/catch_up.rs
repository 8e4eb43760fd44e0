//! Members that catch up: what they lack is read from the log elsewhere, and little of it is on its way at a time (rule
//! N17). PURE.
//!
//! Enters: what raft wants to send from below the log's window, and what was read. Leaves: reads to be done, and raft's
//! messages. raft asks again at each answer of the member, so that a read that is not begun now is none that is lost.

use super::{Driver, Effect};
use crate::identity::Finding;
use crate::limits::{
    CATCH_UP_BYTES_MAX, CATCH_UP_BYTES_PER_SECOND, CATCH_UP_PERCENT_OF_WRITES, LOG_READS_MAX, TICK_MS,
};
use crate::log::ReadFailed;
use crate::types::Index;
use raft::prelude::Entry;
use raft::{GetEntriesContext, ProgressState};

/// What may be read anew with each tick, at least.
const BYTES_PER_TICK_MIN: u64 = CATCH_UP_BYTES_PER_SECOND * TICK_MS / 1000;
/// So many unused ticks are saved up: a member whose last answer is older than that is asked by a heartbeat.
const TICKS_SAVED_MAX: u64 = 4;

/// The reads of the log that are under way, and how much more may be read.
#[derive(Debug, Default)]
pub struct CatchUp {
    reads: Vec<LogRead>,
    bytes_left: u64,
    /// The log's last index at the last tick.
    last_index: Index,
}

/// A read of the log that is under way.
#[derive(Debug)]
struct LogRead {
    first: Index,
    /// raft's notes of what it is for: one for each time that it asked.
    contexts: Vec<GetEntriesContext>,
}

impl Driver {
    /// A tick passed: more may be read.
    pub(super) fn tick_catch_up(&mut self) {
        let log = self.log();
        let (written, last_index) = (log.bytes_since(self.catch_up.last_index), log.last_index());
        let more = BYTES_PER_TICK_MIN.max(written * CATCH_UP_PERCENT_OF_WRITES / 100);
        self.catch_up.last_index = last_index;
        self.catch_up.bytes_left = (self.catch_up.bytes_left + more).min(TICKS_SAVED_MAX * more);
    }

    /// Begins the reads that raft wants, as far as there is room on the way to the members they are for.
    pub(super) fn start_log_reads(&mut self) {
        for (first, context) in self.node.store().take_asked() {
            let CatchUp { reads, bytes_left, last_index: _ } = &mut self.catch_up;
            if let Some(read) = reads.iter_mut().find(|read| read.first == first) {
                if read.contexts.len() < LOG_READS_MAX {
                    read.contexts.push(context);
                }
            } else if reads.len() < LOG_READS_MAX && *bytes_left > 0 && self.has_room_on_the_way(first) {
                let plan = self.log().plan_read(first, self.message_bytes_max);
                self.catch_up.bytes_left = self.catch_up.bytes_left.saturating_sub(plan.bytes());
                self.catch_up.reads.push(LogRead { first, contexts: vec![context] });
                self.emit(Effect::ReadLog { plan });
            }
        }
    }

    /// Whether some member that is sent `next` next has room for it. One in Probe has nothing else on its way.
    fn has_room_on_the_way(&self, next: Index) -> bool {
        let log = self.log();
        // Both the log's base and its window may have moved on since raft asked.
        let is_there = next >= log.first_index() && log.is_below_window(next);
        is_there
            && self.node.raft.prs().iter().any(|(_, progress)| {
                let on_the_way = log.bytes_between(progress.matched + 1, next);
                let is_probe = progress.state != ProgressState::Replicate;
                progress.next_idx == next && (is_probe || on_the_way < CATCH_UP_BYTES_MAX)
            })
    }

    /// Gives raft what was read; it sends it, and asks for what comes next.
    pub(super) fn log_read(&mut self, first: Index, result: Result<Vec<Entry>, ReadFailed>) {
        let reads = &mut self.catch_up.reads;
        let Some(at) = reads.iter().position(|read| read.first == first) else { return };
        let read = reads.swap_remove(at);
        let entries = match result {
            Ok(entries) => entries,
            // Its segment is used for something else by now: the member gets a snapshot.
            Err(_) if first < self.log().first_index() => return,
            Err(failed) => return self.halt_unreadable("entries for a member that catches up", failed),
        };
        // Another leader may have put other entries there since.
        if !entries.iter().all(|entry| self.log_has(entry.index, entry.term)) {
            return;
        }
        self.node.mut_store().fetched = entries;
        for context in read.contexts {
            self.node.on_entries_fetched(context);
        }
        self.node.mut_store().fetched = Vec::new();
    }

    /// Ends the member phase, since `what` cannot be read from the log.
    pub(super) fn halt_unreadable(&mut self, what: &str, failed: ReadFailed) {
        let why = format!("{what} cannot be read: {}", failed.why);
        // A disk that fails proves nothing about what it holds (rule N7).
        self.halt(match failed.damaged {
            true => Effect::Quarantine { finding: Finding::new(why) },
            false => Effect::Fatal { why },
        });
    }
}
