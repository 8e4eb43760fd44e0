//! Limits the speed at which snapshot bodies leave a node, all of them together, so that heartbeats, appends and
//! clients keep their share of the network and the disk (rule N13).
//!
//! Enters: a number of bytes to send. Leaves: nothing, after a wait until it is their turn.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Hands out bytes at a steady rate.
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When the bytes that were handed out so far will have left.
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// A pace of at most this many bytes in a second.
    pub fn new(bytes_per_second: u64) -> Pace {
        Pace { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::new(None) }
    }

    /// Waits until it is the turn of this many bytes. Whoever asks first has its turn first.
    pub async fn take(&self, bytes: u64) {
        sleep_until(self.turn(Instant::now(), bytes)).await;
    }

    fn turn(&self, now: Instant, bytes: u64) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        // Unused time is not saved up.
        let turn = free_at.map_or(now, |at| at.max(now));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        *free_at = Some(turn + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_handed_out_at_the_rate_and_none_are_saved_up() {
        let pace = Pace::new(1_000_000);
        let start = Instant::now();
        let millis = |pace: &Pace, now_ms: u64, bytes| {
            let turn = pace.turn(start + Duration::from_millis(now_ms), bytes);
            turn.duration_since(start).as_millis()
        };
        assert_eq!(millis(&pace, 0, 500_000), 0);
        assert_eq!(millis(&pace, 0, 500_000), 500, "whoever else sends waits, too");
        assert_eq!(millis(&pace, 100, 1_000), 1_000);
        assert_eq!(millis(&pace, 60_000, 1_000), 60_000);
        assert_eq!(millis(&pace, 60_000, 1_000), 60_001);
    }
}
