//! What happened in runs, in numbers: for one run, and summed up as a table for people and as a line for the table over
//! all tests.

use crate::client::Calls;
use crate::swarm::Fault;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Faults by class.
    pub faults: BTreeMap<Fault, u64>,
    /// Frames delivered.
    pub delivered: u64,
    /// Membership changes done.
    pub changes: u64,
    /// Snapshots cut.
    pub cuts: u64,
    /// Snapshots copied to another member.
    pub copies: u64,
    /// Processes started.
    pub boots: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Kv databases set aside.
    pub distrusted: u64,
    /// Members that stopped after their removal.
    pub gone: u64,
}

impl Counts {
    /// Counts a fault that happened this many times.
    pub fn add(&mut self, fault: Fault, count: u64) {
        if count > 0 {
            *self.faults.entry(fault).or_default() += count;
        }
    }

    fn of(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }

    fn sum(&mut self, other: &Counts) {
        let Counts { faults, delivered, changes, cuts, copies, boots, elections, distrusted, gone } = other;
        faults.iter().for_each(|(fault, count)| self.add(*fault, *count));
        self.delivered += delivered;
        self.changes += changes;
        self.cuts += cuts;
        self.copies += copies;
        self.boots += boots;
        self.elections += elections;
        self.distrusted += distrusted;
        self.gone += gone;
    }
}

/// Sums over many runs.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Runs that ended well.
    pub seeds: u64,
    /// Their steps.
    pub steps: u64,
    calls: Calls,
    counts: Counts,
}

impl Totals {
    /// Adds a run that ended well.
    pub fn add(&mut self, steps: u64, calls: &Calls, counts: &Counts) {
        self.seeds += 1;
        self.steps += steps;
        let Calls { written, read, none, unknown } = calls;
        self.calls.written += written;
        self.calls.read += read;
        self.calls.none += none;
        self.calls.unknown += unknown;
        self.counts.sum(counts);
    }

    /// Operations that clients asked for.
    pub fn ops(&self) -> u64 {
        let Calls { written, read, none, unknown } = self.calls;
        written + read + none + unknown
    }

    /// Faults of all classes.
    pub fn faults(&self) -> u64 {
        self.counts.faults.values().sum()
    }

    /// Classes of faults that never happened, so that the runs show nothing about them.
    pub fn missing(&self) -> Vec<&'static str> {
        Fault::ALL.iter().filter(|(fault, _)| self.counts.of(*fault) == 0).map(|(_, name)| *name).collect()
    }

    /// The names and numbers of the table, in order.
    fn rows(&self, seconds: f64) -> Vec<(&'static str, u64)> {
        let Counts { faults: _, delivered, changes, cuts, copies, boots, elections, distrusted, gone } = &self.counts;
        let Calls { written, read, none, unknown } = self.calls;
        let mut rows = vec![
            ("seeds", self.seeds),
            ("steps", self.steps),
            ("steps_per_s", (self.steps as f64 / seconds.max(0.001)) as u64),
            ("ops", self.ops()),
            ("writes_answered", written),
            ("reads_answered", read),
            ("outcomes_none", none),
            ("outcomes_unknown", unknown),
            ("frames_delivered", *delivered),
            ("leaders_elected", *elections),
            ("membership_changes", *changes),
            ("members_gone", *gone),
            ("snapshots_cut", *cuts),
            ("snapshots_copied", *copies),
            ("processes_started", *boots),
            ("kv_dbs_set_aside", *distrusted),
            ("faults", self.faults()),
        ];
        rows.extend(Fault::ALL.iter().map(|(fault, name)| (*name, self.counts.of(*fault))));
        rows
    }

    /// The table: a line for each number, for people; then one line for the table over all tests.
    pub fn table(&self, name: &str, seconds: f64) -> String {
        let (mut text, mut line) = (String::new(), format!("TABLE {name}:"));
        for (name, count) in self.rows(seconds) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:<24} {count:>12}", name.replace('_', " "));
            let _ = write!(line, " {name}={count}");
        }
        format!("{text}{line}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_never_happened_is_named_and_each_has_its_number_in_the_line() {
        let mut totals = Totals::default();
        let mut counts = Counts::default();
        counts.add(Fault::OneWay, 3);
        totals.add(100, &Calls { written: 5, ..Calls::default() }, &counts);
        totals.add(100, &Calls { read: 2, ..Calls::default() }, &counts);
        assert_eq!(totals.missing().len(), Fault::ALL.len() - 1);
        assert!(!totals.missing().contains(&"one_way"));
        let table = totals.table("sim", 1.0);
        let line = table.lines().last().expect("there is a line");
        assert!(line.starts_with("TABLE sim: seeds=2 steps=200 steps_per_s=200 ops=7 "), "{line}");
        assert!(line.contains(" one_way=6 "), "{line}");
        assert_eq!(line.matches('=').count(), 17 + Fault::ALL.len());
    }

    #[test]
    fn every_class_is_listed_once() {
        let classes: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|(fault, _)| *fault).collect();
        let names: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|(_, name)| *name).collect();
        assert_eq!((classes.len(), names.len()), (Fault::ALL.len(), Fault::ALL.len()));
        assert_eq!(Fault::ALL.map(|(fault, _)| fault as usize), std::array::from_fn(|at| at));
    }
}
