//! When the next tick is due..
//!
//! Enters: when a tick was due and when it came. Leaves: when the next one is. Ticks keep their own beat: counted from
//! each wake-up they would fall into step with the leader's messages, on all followers alike, and two of them that drew
//! the same timeout would campaign in the same instant. Ticks lost to a stall are not made up: a stalled node must not
//! rush into an election.

use raftkv_core::limits;
use std::time::{Duration, Instant};

/// The tick behind one that was due at `due` and came at `now`.
pub fn after(due: Instant, now: Instant) -> Instant {
    let tick = Duration::from_millis(limits::TICK_MS);
    let next = due + tick;
    if next > now { next } else { now + tick }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_their_beat_and_those_lost_to_a_stall_are_not_made_up() {
        let due = Instant::now();
        let after = |late_ms| after(due, due + Duration::from_millis(late_ms)) - due;
        let tick = Duration::from_millis(limits::TICK_MS);
        assert_eq!(after(0), tick);
        assert_eq!(after(limits::TICK_MS - 1), tick, "late by less than a tick: the next one is in time");
        assert_eq!(after(10 * limits::TICK_MS), 11 * tick);
    }
}
