//! Counts how often a system makes its writes durable, as the kernel sees it: strace counts the calls of all its nodes.
//! That slows the nodes down, so nothing else is measured meanwhile.

use crate::load;
use crate::process;
use crate::system::Running;
use crate::workload::{Kind, Workload};
use anyhow::{Context, Result, bail, ensure};
use raftkv_cluster_tests::wait::{eventually, holds};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Command, Stdio};

/// Calls that return when data is on the disk, past the disk's own cache too.
pub const DURABLE: &[&str] = &["fsync", "fdatasync"];
/// A call that returns when the disk was given the data. sled makes it at each flush; nothing that raft relies on
/// depends on it.
pub const HANDED_OVER: &[&str] = &["sync_file_range"];
/// The load while calls are counted.
const LOAD: Workload = Workload { name: "put, 64 clients, traced", kind: Kind::Put, clients: 64, requests: 20_000 };

/// Calls for each put, of one node on average: first [`DURABLE`] calls, then [`HANDED_OVER`] calls.
pub fn syncs_per_put(running: &Running) -> Result<(f64, f64)> {
    let pids = running.pids()?;
    let out = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("strace");
    let calls = [DURABLE, HANDED_OVER].concat().join(",");
    strace.args(["-f", "-c", "-qq", "-e", &format!("trace={calls}"), "-o"]).arg(out.path());
    for pid in &pids {
        strace.args(["-p", &pid.to_string()]);
    }
    let mut strace = strace.stdin(Stdio::null()).spawn().context("strace counts fdatasyncs and must be installed")?;
    eventually("strace is attached", || {
        if let Some(status) = strace.try_wait()? {
            bail!("strace ended ({status})");
        }
        holds(process::is_traced(&pids)?, || "not all threads are traced".to_string())
    })?;
    let seen = load::run(&LOAD, running.protocol(), &running.nodes());
    let pid = Pid::from_raw(strace.id().cast_signed()).context("process ids are above 0")?;
    kill_process(pid, Signal::INT)?;
    strace.wait()?;
    seen?;
    let table = fs::read_to_string(out.path())?;
    let each = |calls: &[&str]| count(&table, calls) as f64 / LOAD.requests as f64 / pids.len() as f64;
    ensure!(each(DURABLE) > 0.0, "strace saw no sync at all:\n{table}");
    Ok((each(DURABLE), each(HANDED_OVER)))
}

/// The sum of the column `calls` of `strace -c` for these calls.
fn count(table: &str, names: &[&str]) -> u64 {
    let calls = |line: &str| -> Option<u64> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name = fields.last().filter(|name| names.contains(name));
        name.and(fields.get(3)?.parse().ok())
    };
    table.lines().filter_map(calls).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_strace_is_read() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.12    1.234567         567      2177           fdatasync
  0.80    0.010000         100         3         1 fsync
  0.08    0.001000         100        40           sync_file_range
------ ----------- ----------- --------- --------- ----------------
100.00    1.244567         570      2180         1 total
";
        assert_eq!((count(table, DURABLE), count(table, HANDED_OVER)), (2180, 40));
    }
}
