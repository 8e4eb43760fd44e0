//! The load's report: the answer of `GET /report`, as the load writes it and a scenario reads it. PURE.

use serde::{Deserialize, Serialize};

/// The state of the load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Writes that are known to have taken effect.
    pub acked: u64,
    /// Writes whose outcome was unknown, and which were settled by reading.
    pub unknown: u64,
    /// Writes that could not be settled by the end.
    pub unsettled: u64,
    /// Linearizable reads that were answered.
    pub reads: u64,
    /// Acknowledged writes that were not there at the end, counted in each place that was read back.
    pub lost: u64,
    /// Everything that contradicts a linearizable store; lost writes count too.
    pub violations: u64,
    /// The first violations, in sentences.
    pub first_violations: Vec<String>,
    /// Time from the start of the load to the first acknowledged write.
    pub first_ack_ms: Option<u64>,
    /// The longest time without a successful write, since the first one or the last mark.
    pub longest_write_gap_ms: u64,
    /// The same for reads.
    pub longest_read_gap_ms: u64,
    /// The last failure of a call, for a person who looks why nothing moves.
    pub last_error: Option<String>,
    /// Whether writers and readers have ended, and everything was read back.
    pub stopped: bool,
    /// Places from which everything was read back.
    pub read_back: Vec<String>,
    /// Places from which that was not possible, and why.
    pub not_read_back: Vec<String>,
}

impl Report {
    /// What is wrong with a load that has stopped; empty if it is as it must be.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.first_violations.clone();
        let mut must = |good: bool, fault: String| faults.extend((!good).then_some(fault));
        must(self.stopped, "the load has not stopped".to_string());
        must(self.acked > 0, "no write was acknowledged".to_string());
        must(self.reads > 0, "no read was answered".to_string());
        must(self.lost == 0, format!("{} acknowledged writes are lost", self.lost));
        must(self.violations == 0, format!("{} violations", self.violations));
        must(self.unsettled == 0, format!("{} writes could not be settled", self.unsettled));
        must(!self.read_back.is_empty(), "nothing was read back".to_string());
        must(self.not_read_back.is_empty(), format!("not read back: {}", self.not_read_back.join("; ")));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        Report { acked: 9, reads: 9, stopped: true, read_back: vec!["demo".into()], ..Report::default() }
    }

    #[test]
    fn control_each_fault_is_told() {
        assert_eq!(good().faults(), Vec::<String>::new());
        let spoil: [fn(&mut Report); 8] = [
            |r| r.acked = 0,
            |r| r.reads = 0,
            |r| r.lost = 1,
            |r| r.violations = 1,
            |r| r.unsettled = 1,
            |r| r.stopped = false,
            |r| r.read_back.clear(),
            |r| r.not_read_back.push("demo-0: refused".into()),
        ];
        for (nth, spoil) in spoil.into_iter().enumerate() {
            let mut report = good();
            spoil(&mut report);
            assert_eq!(report.faults().len(), 1, "fault {nth}");
        }
    }
}
