//! When a cluster is looked at next, unless something wakes its task before (rule O21). PURE: randomness is passed in.

use crate::plan::Pace;
use std::time::Duration;

/// The pause when nothing is to be done. A leader that moved or a disk that was lost is noticed within this time, since
/// Kubernetes does not tell.
const CALM_MS: u64 = 5_000;
/// The pause when something is under way and something new was seen: a learner catches up within moments.
const BRISK_MIN_MS: u64 = 100;
/// The longest pause when something is under way and nothing new was seen for a while.
const BRISK_MAX_MS: u64 = 2_000;
/// The longest pause after the first failure.
const BACKOFF_MIN_MS: u64 = 1_000;
/// The longest pause after many failures.
const BACKOFF_MAX_MS: u64 = 30_000;
/// So many conflicts in a row are a failure after all, and are reported.
pub const CONFLICTS_MAX: u32 = 10;

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It changed the world.
    Acted,
    /// It changed nothing, because the plan had no steps or the API server refused them.
    Rested {
        /// What the plan says.
        pace: Pace,
        /// It saw something new.
        news: bool,
    },
    /// The world changed during the pass.
    Conflict,
    /// Something failed.
    Failed,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// At least this long, even if something wakes the task.
    pub at_least: Duration,
    /// At most this long.
    pub at_most: Duration,
}

/// The rhythm of one cluster.
#[derive(Clone, Debug)]
pub struct Rhythm {
    /// The last brisk pause; the next is twice as long.
    brisk_ms: u64,
    conflicts: u32,
    failures: u32,
}

impl Default for Rhythm {
    fn default() -> Self {
        Rhythm { brisk_ms: BRISK_MIN_MS / 2, conflicts: 0, failures: 0 }
    }
}

impl Rhythm {
    /// The pause after a pass. `jitter` is between 0 and 1.
    pub fn after(&mut self, ended: Ended, jitter: f64) -> Pause {
        match ended {
            Ended::Acted => {
                *self = Rhythm::default();
                pause(0, 0)
            }
            Ended::Rested { pace: Pace::Calm, .. } => {
                *self = Rhythm::default();
                pause(0, CALM_MS)
            }
            Ended::Rested { pace: Pace::Brisk, news } => {
                self.brisk_ms = if news { BRISK_MIN_MS } else { (self.brisk_ms * 2).min(BRISK_MAX_MS) };
                (self.conflicts, self.failures) = (0, 0);
                pause(0, self.brisk_ms)
            }
            Ended::Conflict => {
                self.conflicts += 1;
                self.brisk_ms = (self.brisk_ms * 2).min(BRISK_MAX_MS);
                pause(BRISK_MIN_MS, self.brisk_ms)
            }
            Ended::Failed => {
                let doubled = BACKOFF_MIN_MS.saturating_mul(1_u64.checked_shl(self.failures).unwrap_or(u64::MAX));
                self.failures = self.failures.saturating_add(1);
                let longest_ms = doubled.min(BACKOFF_MAX_MS);
                // Half of it is random, so that clusters that failed together are not tried again together.
                let half = Duration::from_millis(longest_ms / 2);
                pause(BACKOFF_MIN_MS / 2, 0).at_most(half + half.mul_f64(jitter))
            }
        }
    }

    /// Whether there were so many conflicts in a row that they are reported.
    pub fn is_stuck(&self) -> bool {
        self.conflicts >= CONFLICTS_MAX
    }
}

fn pause(at_least_ms: u64, at_most_ms: u64) -> Pause {
    Pause { at_least: Duration::from_millis(at_least_ms), at_most: Duration::from_millis(at_most_ms) }
}

impl Pause {
    fn at_most(self, at_most: Duration) -> Pause {
        Pause { at_most, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brisk(news: bool) -> Ended {
        Ended::Rested { pace: Pace::Brisk, news }
    }

    fn at_most_ms(rhythm: &mut Rhythm, ended: Ended) -> u128 {
        rhythm.after(ended, 1.0).at_most.as_millis()
    }

    #[test]
    fn what_is_under_way_is_looked_at_often_and_less_so_while_nothing_happens() {
        let mut rhythm = Rhythm::default();
        assert_eq!(at_most_ms(&mut rhythm, Ended::Acted), 0);
        let waits: Vec<_> = (0..6).map(|_| at_most_ms(&mut rhythm, brisk(false))).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 2_000]);
        assert_eq!(at_most_ms(&mut rhythm, brisk(true)), 100);
        assert_eq!(at_most_ms(&mut rhythm, brisk(false)), 200);
    }

    #[test]
    fn a_calm_cluster_is_looked_at_every_five_seconds() {
        let mut rhythm = Rhythm::default();
        for news in [true, false] {
            assert_eq!(at_most_ms(&mut rhythm, Ended::Rested { pace: Pace::Calm, news }), 5_000);
        }
    }

    #[test]
    fn failures_back_off_with_jitter_and_success_forgets_them() {
        let mut rhythm = Rhythm::default();
        let waits: Vec<_> = (0..7).map(|_| at_most_ms(&mut rhythm, Ended::Failed)).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        let spread = rhythm.clone().after(Ended::Failed, 0.0);
        assert_eq!((spread.at_least.as_millis(), spread.at_most.as_millis()), (500, 15_000));
        for _ in 0..100 {
            assert_eq!(at_most_ms(&mut rhythm, Ended::Failed), 30_000);
        }
        rhythm.after(Ended::Acted, 0.5);
        assert_eq!(at_most_ms(&mut rhythm, Ended::Failed), 1_000);
    }

    #[test]
    fn a_world_that_never_stands_still_is_stuck() {
        let mut rhythm = Rhythm::default();
        for _ in 0..CONFLICTS_MAX {
            assert!(!rhythm.is_stuck());
            assert!(rhythm.after(Ended::Conflict, 0.0).at_least.as_millis() >= 100);
        }
        assert!(rhythm.is_stuck());
        rhythm.after(brisk(false), 0.0);
        assert!(!rhythm.is_stuck());
    }
}
