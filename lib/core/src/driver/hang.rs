//! A sync that does not return is a fault of this member, not of the cluster (rule N26). PURE.
//!
//! Enters: ticks, and what the others report of their own syncs. Leaves: leadership, to a voter whose disk works, or no
//! leadership at all. It must never move leadership where the others could not lead without this member: there it would
//! cost the reads too, and turn slow writes into unknown ones.

use super::Driver;
use crate::limits::{ELECTION_TICKS, HANG_MEMORY_MS, TICK_MS};
use crate::mutant::{self, Mutant};
use crate::types::MemberId;

/// A sync hangs from this many ticks on.
pub(super) const HANG_TICKS: u64 = ELECTION_TICKS as u64;
/// The first attempt to hand leadership over comes this many ticks later, when the reports of those that sync the same
/// batch are here.
const REPORTS_TICKS: u64 = 2;
/// A leader whose sync runs for this many ticks steps down, whoever was to take over; if the others cannot do without
/// it, writes count as stalled from then on.
pub(super) const STEP_DOWN_TICKS: u64 = 3 * HANG_TICKS;

impl Driver {
    /// For how many ticks a batch is being synced. One that waits for space is no such sync (rule N11).
    pub(super) fn sync_ticks(&self) -> u64 {
        let waits_for_space = self.own_space.stuck.is_some();
        let running = self.syncing.as_ref().filter(|_| !waits_for_space);
        running.map_or(0, |syncing| self.now_tick - syncing.since_tick())
    }

    /// Whether the running sync hangs.
    pub(super) fn hangs(&self) -> bool {
        self.sync_ticks() >= HANG_TICKS
    }

    /// Hands leadership over, again after each election timeout, and steps down in the end.
    pub(super) fn tick_hang(&mut self) {
        if !self.is_leader() || mutant::is(Mutant::HungLeaderLeads) {
            return;
        }
        let ticks = self.sync_ticks();
        let since_first = ticks.checked_sub(HANG_TICKS + REPORTS_TICKS);
        if ticks >= STEP_DOWN_TICKS && self.others_suffice(|driver, id| driver.works(id)) {
            return self.step_down();
        }
        let Some(since_first) = since_first.filter(|since| since.is_multiple_of(HANG_TICKS)) else { return };
        let is_first = since_first == 0;
        // Where all disks take a second or two, leadership would only move from one slow disk to the next.
        let may_lead = |driver: &Driver, id| driver.works(id) && (!is_first || driver.is_quick(id));
        if self.transfer.is_some() || !self.others_suffice(may_lead) {
            return;
        }
        if let Some(to) = self.best_successor_of(|id| may_lead(self, id)) {
            self.node.transfer_leader(to);
        }
    }

    /// Rule O6's word active: it answers, and its own sync does not hang.
    pub(super) fn works(&self, id: MemberId) -> bool {
        self.peers.is_active(id, self.now_tick) && self.peers.report(id).stalled_ms < HANG_TICKS * TICK_MS
    }

    /// It may lead, and its sync has not hung for a while.
    fn is_quick(&self, id: MemberId) -> bool {
        let memory_ticks = HANG_MEMORY_MS / TICK_MS;
        let hung_lately = self.peers.hung_at(id).is_some_and(|tick| self.now_tick - tick <= memory_ticks);
        self.peers.report(id).can_lead && !hung_lately
    }

    /// Whether the other voters of which this holds are a quorum, of both halves if joint: this member's own vote for a
    /// successor would wait for the same disk.
    fn others_suffice(&self, holds: impl Fn(&Driver, MemberId) -> bool) -> bool {
        self.membership.is_quorum(|id| id != self.identity.member_id && holds(self, id))
    }
}
