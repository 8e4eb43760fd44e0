//! When the store was at which revision, so that history of a certain age can be compacted, also after a restart. PURE.
//!
//! A member notes the wall clock now and then and keeps that in its manifest. A clock that goes back stands still until
//! it has caught up; one that jumps forward lets history go early, once. Only how long history is kept depends on it.

use super::manifest::SAMPLES_MAX;
use crate::types::Revision;
use std::collections::VecDeque;

/// Samples of (milliseconds since 1970, revision), ascending in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionClock {
    samples: VecDeque<(u64, Revision)>,
}

impl RetentionClock {
    /// The samples that a manifest has. Any that do not ascend are dropped.
    pub(crate) fn of(samples: &[(u64, Revision)]) -> RetentionClock {
        let mut clock = RetentionClock::default();
        samples.iter().for_each(|(wall_ms, revision)| clock.push(*wall_ms, *revision));
        clock
    }

    pub(crate) fn samples(&self) -> Vec<(u64, Revision)> {
        self.samples.iter().copied().collect()
    }

    /// Notes the revision of this moment, if the last sample is old enough that not all of them fall into a part of the
    /// retention.
    pub fn note(&mut self, now_ms: u64, revision: Revision, retention_ms: u64) {
        let apart = retention_ms / (SAMPLES_MAX as u64 - 1);
        if self.samples.back().is_none_or(|(last, _)| now_ms >= last.saturating_add(apart.max(1))) {
            self.push(now_ms, revision);
        }
    }

    fn push(&mut self, wall_ms: u64, revision: Revision) {
        let ascends = |(last_ms, last): &(u64, Revision)| wall_ms > *last_ms && revision >= *last;
        if self.samples.back().is_none_or(ascends) {
            if self.samples.len() == SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back((wall_ms, revision));
        }
    }

    /// The revision to compact to, so that what is younger than the retention stays: that of the newest sample that is
    /// old enough. `None` when none is.
    pub fn due(&self, now_ms: u64, retention_ms: u64) -> Option<Revision> {
        let until = now_ms.checked_sub(retention_ms)?;
        self.samples.iter().rev().find(|(wall_ms, _)| *wall_ms <= until).map(|(_, revision)| *revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn what_is_older_than_the_retention_is_due_and_a_restart_forgets_nothing() {
        let mut clock = RetentionClock::default();
        for minute in 0..600 {
            clock.note(minute * 60_000, 2 + minute, HOUR);
            let due = clock.due(minute * 60_000, HOUR);
            // A sample is at most a 63rd of the retention younger than what could go.
            let oldest = minute.saturating_sub(60);
            assert!(due.is_none_or(|due| due <= 2 + oldest));
            assert!(minute < 62 || due.is_some_and(|due| due >= oldest));
        }
        let again = RetentionClock::of(&clock.samples());
        assert_eq!(again, clock);
        assert_eq!(again.due(600 * 60_000, HOUR), clock.due(600 * 60_000, HOUR));
        assert_eq!(clock.samples().len(), SAMPLES_MAX);
    }

    #[test]
    fn a_clock_that_goes_back_stands_still() {
        let mut clock = RetentionClock::default();
        clock.note(10 * HOUR, 5, HOUR);
        clock.note(2 * HOUR, 9, HOUR);
        assert_eq!(clock.samples(), [(10 * HOUR, 5)]);
        assert_eq!(clock.due(2 * HOUR, HOUR), None);
        assert_eq!(clock.due(11 * HOUR, HOUR), Some(5));
        assert_eq!(clock.due(10, HOUR), None);
    }

    #[test]
    fn a_short_retention_is_kept_too() {
        let mut clock = RetentionClock::default();
        (0..100).for_each(|second| clock.note(second * 1000, second, 10_000));
        assert_eq!(clock.due(99_000, 10_000), Some(89));
        clock.note(99_000, 99, 0);
        assert_eq!(clock.due(99_000, 0), Some(99), "nothing is kept");
    }

    proptest! {
        #[test]
        fn samples_ascend_whatever_the_clock_does(steps in proptest::collection::vec((any::<u32>(), 0u64..5), 0..200)) {
            let mut clock = RetentionClock::default();
            let mut revision = 1;
            for (now_ms, more) in steps {
                revision += more;
                clock.note(now_ms.into(), revision, 1000);
                let due = clock.due(now_ms.into(), 1000);
                prop_assert!(due.is_none_or(|due| due <= revision));
            }
            let samples = clock.samples();
            prop_assert!(samples.len() <= SAMPLES_MAX);
            prop_assert!(samples.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        }
    }
}
