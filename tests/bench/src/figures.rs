//! The figures of two systems as ratios, and whether the ratios reach the promised ones. PURE.

use crate::load::Seen;
use crate::rounds::Block;
use crate::workload::{Kind, Workload};
use std::fmt::Write;

/// One run of one system.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Figures of each workload.
    pub loads: Vec<LoadFigures>,
    /// Resident bytes of the largest node, after all puts.
    pub resident_bytes: u64,
}

/// One workload of one run.
#[derive(Clone, Debug)]
pub struct LoadFigures {
    /// The workload.
    pub load: Workload,
    /// What its clients saw.
    pub seen: Seen,
    /// Microseconds of server CPU for each request, over all nodes.
    pub cpu_us: f64,
}

impl Measured {
    /// Adds the figures of a workload.
    pub fn add(&mut self, load: &Workload, seen: Seen, cpu_us: f64) {
        self.loads.push(LoadFigures { load: *load, seen, cpu_us });
    }
}

/// The ratio that is wanted of raftkv's figure to etcd's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Wanted {
    fn holds(self, ratio: f64) -> bool {
        match self {
            Wanted::AtLeast(limit) => ratio >= limit,
            Wanted::AtMost(limit) => ratio <= limit,
        }
    }

    fn text(self) -> String {
        match self {
            Wanted::AtLeast(limit) => format!(">= {limit}"),
            Wanted::AtMost(limit) => format!("<= {limit}"),
        }
    }
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was measured, with its unit.
    pub what: String,
    /// raftkv's and etcd's figure, one pair for each pair of runs.
    pub pairs: Vec<(f64, f64)>,
    /// The ratio that must be reached.
    pub floor: Option<Wanted>,
    /// The ratio that would be good.
    pub goal: Option<Wanted>,
}

impl Line {
    fn ratios(&self) -> Vec<f64> {
        let mut ratios: Vec<f64> = self.pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    /// Whether the median of the ratios reaches the floor.
    pub fn holds(&self) -> bool {
        self.floor.is_none_or(|floor| floor.holds(median(&self.ratios())))
    }
}

/// All lines of the table, from all blocks.
pub fn lines(blocks: &[Block]) -> Vec<Line> {
    let pairs: Vec<&(Measured, Measured)> = blocks.iter().flat_map(|block| &block.pairs).collect();
    let Some(((first, _), _)) = pairs.split_first() else { return Vec::new() };
    let mut lines = Vec::new();
    for (nth, LoadFigures { load, .. }) in first.loads.iter().enumerate() {
        let of = |read: fn(&LoadFigures) -> f64| -> Vec<(f64, f64)> {
            pairs.iter().map(|(ours, theirs)| (read(&ours.loads[nth]), read(&theirs.loads[nth]))).collect()
        };
        let line =
            |what: &str, pairs, (floor, goal)| Line { what: format!("{}: {what}", load.name), pairs, floor, goal };
        let throughput = match (load.kind, load.clients) {
            (_, 1) => (None, None),
            (Kind::Put, _) => (Some(Wanted::AtLeast(1.3)), Some(Wanted::AtLeast(2.0))),
            (Kind::Get, _) => (Some(Wanted::AtLeast(2.0)), Some(Wanted::AtLeast(3.0))),
        };
        lines.push(line("requests/s", of(|f| f.seen.per_second), throughput));
        let one_client = match load.clients {
            1 => (Some(Wanted::AtMost(1.0)), Some(Wanted::AtMost(0.8))),
            _ => (None, None),
        };
        lines.push(line("p50, ms", of(|f| f.seen.p50.as_secs_f64() * 1e3), one_client));
        let tail = match (load.kind, load.clients) {
            (Kind::Put, 64..) => (Some(Wanted::AtMost(1.0)), None),
            _ => (None, None),
        };
        lines.push(line("p99, ms", of(|f| f.seen.p99.as_secs_f64() * 1e3), tail));
        let cpu = (Some(Wanted::AtMost(0.7)), Some(Wanted::AtMost(0.5)));
        lines.push(line("server CPU, us/request", of(|f| f.cpu_us), cpu));
    }
    let mib = |run: &Measured| run.resident_bytes as f64 / 1024.0 / 1024.0;
    lines.push(Line {
        what: "resident after 260,000 puts, MiB".into(),
        pairs: pairs.iter().map(|(ours, theirs)| (mib(ours), mib(theirs))).collect(),
        floor: Some(Wanted::AtMost(1.0)),
        goal: Some(Wanted::AtMost(0.5)),
    });
    lines
}

/// The table, as Markdown.
pub fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| median of the runs | raftkv | etcd | ratio (least to most) | floor | goal |\n|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let (ours, theirs): (Vec<f64>, Vec<f64>) = line.pairs.iter().copied().unzip();
        let ratios = line.ratios();
        let least_to_most = match ratios.as_slice() {
            [least, .., most] => format!(" ({least:.2} to {most:.2})"),
            _ => String::new(),
        };
        let wanted = |wanted: Option<Wanted>| wanted.map_or("-".to_string(), Wanted::text);
        let missed = if line.holds() { "" } else { " **missed**" };
        writeln!(
            text,
            "| {} | {} | {} | {}{least_to_most} | {}{missed} | {} |",
            line.what,
            number(median(&ours)),
            number(median(&theirs)),
            ratio(median(&ratios)),
            wanted(line.floor),
            wanted(line.goal),
        )
        .expect("a string takes any text");
    }
    text
}

/// A ratio as text; zero by zero is no number.
fn ratio(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { "-".into() }
}

fn number(value: f64) -> String {
    match value {
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pairs: &[(f64, f64)], floor: Wanted) -> Line {
        Line { what: "x".into(), pairs: pairs.to_vec(), floor: Some(floor), goal: None }
    }

    #[test]
    fn the_median_of_the_ratios_decides_and_not_the_ratio_of_the_medians() {
        let pairs = [(10.0, 10.0), (30.0, 10.0), (20.0, 40.0)];
        assert!(line(&pairs, Wanted::AtLeast(1.0)).holds());
        assert!(!line(&pairs, Wanted::AtLeast(1.1)).holds());
        assert!(!line(&pairs, Wanted::AtMost(0.9)).holds());
    }

    #[test]
    fn what_is_missed_is_said() {
        let table = table(&[line(&[(9.0, 10.0)], Wanted::AtLeast(1.3))]);
        assert!(table.contains("| x | 9.00 | 10.0 | 0.90 | >= 1.3 **missed** | - |"), "{table}");
    }

    #[test]
    fn a_median_of_an_even_number_lies_between_two() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 10.0]), 3.0);
    }
}
