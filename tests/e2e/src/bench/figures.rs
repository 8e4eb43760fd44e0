//! The measurements, and the table of them. PURE.

use std::collections::BTreeMap;

/// Rows in the order of the table: what is measured, its unit, and the goal.
const ROWS: [(&str, &str, &str); 13] = [
    (APPLY, "s", "6"),
    (UP, "s", "7"),
    (DOWN, "s", "4"),
    (LOST, "s", "15"),
    (MOVE, "ms", "200"),
    (ROLLING, "ms", "1000"),
    (KILL, "ms", "2000"),
    (MEMORY, "MB", "24"),
    (CPU, "%", "1"),
    (WRITES, "", "0"),
    (REQUESTS, "", ""),
    (CPU_LOADED, "%", "1"),
    (WRITES_LOADED, "", "0"),
];

pub const APPLY: &str = "apply -> 3 members ready";
pub const UP: &str = "3 -> 5 members ready";
pub const DOWN: &str = "5 -> 3 members";
pub const LOST: &str = "a lost volume replaced";
pub const MOVE: &str = "writers' longest gap: planned leader move";
pub const ROLLING: &str = "writers' longest gap: whole rolling update";
pub const KILL: &str = "writers' longest gap: kill -9 of the leader";
pub const MEMORY: &str = "operator's resident memory, 10 idle clusters";
pub const CPU: &str = "operator's CPU, of one core, 10 idle clusters";
pub const WRITES: &str = "API writes a minute, without the Lease, 10 idle clusters";
pub const REQUESTS: &str = "API requests a minute, 10 idle clusters";
pub const CPU_LOADED: &str = "operator's CPU, one of the clusters loaded";
pub const WRITES_LOADED: &str = "API writes a minute, one of the clusters loaded";

/// Samples, by what was measured and of which operator; `None` is a sample that did not come to an end.
#[derive(Debug, Default)]
pub struct Figures {
    samples: BTreeMap<(&'static str, &'static str), Vec<Option<f64>>>,
}

impl Figures {
    /// Adds a sample.
    pub fn add(&mut self, what: &'static str, whose: &'static str, sample: Option<f64>) {
        self.samples.entry((what, whose)).or_default().push(sample);
    }

    /// A table in Markdown, with the median and the worst of each.
    pub fn table(&self, whose: &[&str]) -> String {
        let mut table = format!("| median (worst, samples) | goal | {} |\n|---|---|", whose.join(" | "));
        table.push_str(&"---|".repeat(whose.len()));
        for (what, unit, goal) in ROWS {
            let cells: Vec<String> = whose.iter().map(|one| self.cell(what, one, unit)).collect();
            if cells.iter().any(|cell| cell != "-") {
                let goal = if goal.is_empty() { String::new() } else { format!("{goal} {unit}") };
                table += &format!("\n| {what} | {} | {} |", goal.trim_end(), cells.join(" | "));
            }
        }
        table
    }

    fn cell(&self, what: &'static str, whose: &str, unit: &str) -> String {
        let Some((_, samples)) = self.samples.iter().find(|((of, who), _)| *of == what && *who == whose) else {
            return "-".to_string();
        };
        // A sample that did not come to an end is worse than all that did.
        let mut sorted: Vec<f64> = samples.iter().map(|sample| sample.unwrap_or(f64::INFINITY)).collect();
        sorted.sort_by(f64::total_cmp);
        let tell = |value: f64| match value {
            value if value.is_infinite() => "never".to_string(),
            value if value >= 100.0 || value == 0.0 => format!("{value:.0} {unit}").trim_end().to_string(),
            value => format!("{value:.1} {unit}").trim_end().to_string(),
        };
        let (Some(worst), Some(median)) = (sorted.last(), sorted.get(sorted.len() / 2)) else { return "-".to_string() };
        match sorted.len() {
            1 => tell(*median),
            count => format!("{} ({}, {count})", tell(*median), tell(*worst)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_medians_and_what_never_ended() {
        let mut figures = Figures::default();
        [2.0, 1.0, 9.0].into_iter().for_each(|s| figures.add(UP, "ours", Some(s)));
        figures.add(UP, "theirs", None);
        figures.add(MOVE, "ours", Some(120.0));
        let table = figures.table(&["ours", "theirs"]);
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| 3 -> 5 members ready | 7 s | 2.0 s (9.0 s, 3) | never |",
                "| writers' longest gap: planned leader move | 200 ms | 120 ms | - |",
            ]
        );
    }
}
