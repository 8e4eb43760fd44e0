//! Progress on standard error: a bar on a terminal, a plain line every two seconds elsewhere.

use crate::streams::warn;
use crate::table::bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

/// Distance of the plain lines.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// Width of the bar in characters is what remains beside this.
const BAR_TEMPLATE: &str = "{prefix} {wide_bar} {pos}/{len} keys  {msg}  {eta} left";

/// The progress of one import or export.
pub(crate) struct Progress {
    verb: &'static str,
    keys_total: u64,
    started: Instant,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    /// Starts the clock; `verb` is what is done to the keys, in the past tense.
    pub(crate) fn start(verb: &'static str, keys_total: u64) -> Self {
        let started = Instant::now();
        let shown = if stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(keys_total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(BAR_TEMPLATE).expect("a template that a test has parsed");
            Shown::Bar(bar.with_style(style).with_prefix(verb))
        } else {
            Shown::Lines { last: started }
        };
        Progress { verb, keys_total, started, shown }
    }

    /// Says of how many keys it is, once that is known.
    pub(crate) fn expect(&mut self, keys_total: u64) {
        self.keys_total = keys_total;
        match &self.shown {
            Shown::Bar(bar) => bar.set_length(keys_total),
            Shown::Lines { .. } => {}
        }
    }

    /// Shows what has been done so far; may be called at any rate.
    pub(crate) fn update(&mut self, keys: u64, bytes_done: u64) {
        let sofar = format!("{}, {:.0} keys/s", bytes(bytes_done), per_second(keys, self.started.elapsed()));
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_message(sofar);
                bar.set_position(keys);
            }
            Shown::Lines { last } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                warn(&format!("{} {keys} of {} keys, {sofar}\n", self.verb, self.keys_total));
            }
            Shown::Lines { .. } => {}
        }
    }

    /// Removes the bar and returns the time that was needed.
    pub(crate) fn finish(self) -> Duration {
        match self.shown {
            Shown::Bar(bar) => bar.finish_and_clear(),
            Shown::Lines { .. } => {}
        }
        self.started.elapsed()
    }
}

/// A rate; of nothing in no time it is 0.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_one() {
        assert!(ProgressStyle::with_template(BAR_TEMPLATE).is_ok());
        assert_eq!(per_second(10, Duration::from_secs(4)), 2.5);
    }
}
