//! Waiting on a condition with a deadline.

use anyhow::{Result, anyhow};
use std::time::{Duration, Instant};

/// A healthy cluster does everything well within this time, even on a slow and busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Asks until the answer is `Ok`; after `deadline` it returns the last error, with `what` before it.
pub fn eventually_within<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if begun.elapsed() > deadline => {
                return Err(error.context(format!("{what}: not within {deadline:?}")));
            }
            Err(_) => pause(),
        }
    }
}

/// [`eventually_within`] with the usual patience.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Result<T>) -> Result<T> {
    eventually_within(PATIENCE, what, ask)
}

/// Turns a condition into an answer for `eventually`.
pub fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(anyhow!(otherwise())) }
}

/// Lets time pass in which clients work. This sets how long something lasts; it is no wait for something to happen.
pub fn pass(time: Duration) {
    let begun = Instant::now();
    while let Some(left) = time.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// The pause between two questions; never a wait for something to happen.
pub(crate) fn pause() {
    std::thread::park_timeout(ASK_EVERY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_told_after_the_deadline() {
        let mut asked = 0;
        let answer = eventually("count", || {
            asked += 1;
            holds(asked == 3, || format!("at {asked}")).map(|()| asked)
        });
        assert_eq!(answer.unwrap(), 3);
        let error = eventually_within(Duration::ZERO, "never", || holds(false, || "no".into())).unwrap_err();
        assert_eq!(format!("{error:#}"), "never: not within 0ns: no");
    }
}
