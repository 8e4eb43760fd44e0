//! Waits on a condition with a deadline: the only way to wait in this crate.

use anyhow::{Result, anyhow};
use std::time::{Duration, Instant};

/// The pause between two questions; never a wait for something to happen.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// The pause between two looks at a process that we started.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Asks until the answer is `Ok`, or until `deadline`: then it returns the last error, with `what` before it. Meanwhile
/// each error is handed to `tell`.
pub fn until<T>(
    deadline: Instant,
    what: &str,
    tell: &mut dyn FnMut(&anyhow::Error),
    mut ask: impl FnMut() -> Result<T>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if error.is::<Never>() || Instant::now() > deadline => {
                let seconds = begun.elapsed().as_secs();
                return Err(error.context(format!("{what}: not within {seconds} s")));
            }
            Err(error) => tell(&error),
        }
        std::thread::park_timeout(ASK_EVERY);
    }
}

/// An error that waiting does not cure.
#[derive(Debug)]
pub struct Never(pub String);

impl std::fmt::Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Never {}

/// Turns a condition into an answer.
pub fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(anyhow!(otherwise())) }
}

/// Pauses between two looks at a process that we started.
pub(crate) fn pause() {
    std::thread::park_timeout(LOOK_EVERY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_told_after_the_deadline() {
        let mut told = Vec::new();
        let mut asked = 0;
        let soon = Instant::now() + Duration::from_secs(20);
        let answer = until(soon, "count", &mut |error| told.push(error.to_string()), || {
            asked += 1;
            holds(asked == 3, || format!("at {asked}")).map(|()| asked)
        });
        assert_eq!((answer.unwrap(), told), (3, vec!["at 1".to_string(), "at 2".to_string()]));
        let error = until(Instant::now(), "never", &mut |_| {}, || holds(false, || "no".into())).unwrap_err();
        assert_eq!(format!("{error:#}"), "never: not within 0 s: no");
    }

    #[test]
    fn what_waiting_does_not_cure_is_told_at_once() {
        let later = Instant::now() + Duration::from_secs(60);
        let error = until(later, "x", &mut |_| {}, || Err::<(), _>(Never("gone".into()).into())).unwrap_err();
        assert!(format!("{error:#}").ends_with("gone"));
        assert!(Instant::now() < later);
    }
}
