//! What a person sees while the scenarios run: one line at a time, with the time and the scenario, and measured
//! latencies.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The terminal, shared by the scenarios that run at the same time.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    /// Latencies by what was measured, each with its scenario.
    measured: Mutex<BTreeMap<&'static str, Vec<(Duration, String)>>>,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Progress {
        Progress { begun: Instant::now(), measured: Mutex::default() }
    }

    /// Prints a line of this scenario.
    pub fn say(&self, who: &str, text: &str) {
        let seconds = self.begun.elapsed().as_secs();
        // One call, so that lines of several threads stay whole.
        println!("[{:02}:{:02}] {who}: {text}", seconds / 60, seconds % 60);
    }

    /// Adds a latency to the table at the end.
    pub fn measured(&self, who: &str, what: &'static str, took: Duration) {
        self.say(who, &format!("{what}: {:.1} s", took.as_secs_f64()));
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        measured.entry(what).or_default().push((took, who.to_string()));
    }

    /// The table of latencies, with the best and the worst of each.
    pub fn latencies(&self) -> Vec<String> {
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |(what, all): (&&'static str, &Vec<(Duration, String)>)| {
            let best = all.iter().map(|(took, _)| *took).min().unwrap_or_default().as_secs_f64();
            let (worst, who) = all.iter().max().cloned().unwrap_or_default();
            format!("{what:<28} {best:>6.1} s to {:>6.1} s ({}x, worst: {who})", worst.as_secs_f64(), all.len())
        };
        measured.iter().map(line).collect()
    }
}
