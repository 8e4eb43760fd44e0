//! The system calls of nodes, as strace sees them: each call with its time, its text, and when it returned.
//!
//! A traced thread stops at the beginning and at the end of each call until strace has taken the time. So what a thread
//! does after a call is later than that call's end here, and what it did before is earlier than the call's beginning.

use crate::wait::{eventually, holds};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Longest string of a call that is recorded, in bytes.
const STRING_BYTES_MAX: usize = 8192;

/// A system call that returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// The text between its parentheses: descriptors with their paths, strings escaped as in C.
    pub arguments: String,
    /// What it returned, in strace's words.
    pub returned: String,
    /// Microseconds of the system's clock.
    pub began_us: u64,
    /// The same, when it returned.
    pub ended_us: u64,
}

/// A strace that watches processes.
#[derive(Debug)]
pub struct Strace {
    child: Child,
    out: PathBuf,
}

impl Strace {
    /// Watches these calls of these processes; returns once each of their threads is watched.
    pub fn attach(pids: &[u32], calls: &[&str], out: &Path) -> Result<Strace> {
        let mut command = Command::new("strace");
        command.args(["-f", "-ttt", "-T", "-y", "-qq", "-s", &STRING_BYTES_MAX.to_string()]);
        command.args(["-e", &format!("trace={}", calls.join(",")), "-e", "signal=none", "-o"]).arg(out);
        for pid in pids {
            command.args(["-p", &pid.to_string()]);
        }
        Strace::start(command, pids, out)
    }

    fn start(mut command: Command, pids: &[u32], out: &Path) -> Result<Strace> {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().context("strace is missing: install the package strace")?;
        let mut strace = Strace { child, out: out.into() };
        eventually("strace watches every thread", || {
            if let Some(status) = strace.child.try_wait()? {
                let mut said = String::new();
                if let Some(stderr) = &mut strace.child.stderr {
                    std::io::Read::read_to_string(stderr, &mut said)?;
                }
                return Ok(Err(anyhow::anyhow!("strace ended ({status}): {}", said.trim())));
            }
            for pid in pids {
                holds(is_watched(*pid)?, || format!("not every thread of process {pid}"))?;
            }
            Ok(Ok(()))
        })??;
        Ok(strace)
    }

    /// Ends the watch; the calls that were seen, in the order of their beginnings.
    pub fn detach(mut self) -> Result<Vec<Call>> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("process ids are above 0")?;
        kill_process(pid, Signal::INT)?;
        self.child.wait()?;
        parse(&fs::read_to_string(&self.out)?)
    }
}

/// Each fdatasync that a process calls hangs, until this is dropped.
#[derive(Debug)]
pub struct HungSyncs(#[expect(dead_code, reason = "it is kept for its drop")] Strace);

impl HungSyncs {
    /// Longer than any test: microseconds.
    const DELAY_US: u64 = 600_000_000;

    /// Lets the process hang at its next fdatasync.
    pub fn of(pid: u32) -> Result<HungSyncs> {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=fdatasync", "-e", "signal=none", "-o", "/dev/null"]);
        command.args(["-e", &format!("inject=fdatasync:delay_enter={}", HungSyncs::DELAY_US), "-p", &pid.to_string()]);
        Strace::start(command, &[pid], Path::new("/dev/null")).map(HungSyncs)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn is_watched(pid: u32) -> Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        if tracer.is_none_or(|tracer| tracer.trim() == "0") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the lines of `strace -f -ttt -T`. A call that had not returned at the end is left out.
pub fn parse(text: &str) -> Result<Vec<Call>> {
    let mut open: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let (thread, rest) = line.split_once(' ').context("a line without a thread")?;
        let (time, rest) = rest.trim_start().split_once(' ').with_context(|| format!("no time in {line}"))?;
        let time_us = micros(time).with_context(|| format!("'{time}' is no time"))?;
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (time_us, begun));
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let (_, end) = resumed.split_once(" resumed>").with_context(|| line.to_string())?;
            // A call that was under way when strace came has no beginning.
            if let Some((began_us, begun)) = open.remove(thread) {
                calls.extend(call(&format!("{begun}{end}"), began_us, Some(time_us))?);
            }
        } else if !rest.starts_with("+++") && !rest.starts_with("---") {
            calls.extend(call(rest, time_us, None)?);
        }
    }
    calls.sort_by_key(|call| call.began_us);
    ensure!(!calls.is_empty(), "strace saw no call");
    Ok(calls)
}

/// Reads `name(arguments) = returned <seconds>`; `None` for a call that strace left in the middle.
fn call(text: &str, began_us: u64, resumed_us: Option<u64>) -> Result<Option<Call>> {
    let Some((head, tail)) = text.rsplit_once(" = ") else { return Ok(None) };
    let Some((returned, took)) = tail.trim_end().rsplit_once(" <") else { return Ok(None) };
    let took_us = micros(took.trim_end_matches('>')).with_context(|| text.to_string())?;
    let Some((name, arguments)) = head.trim_end().split_once('(') else { bail!("no call in {text}") };
    Ok(Some(Call {
        name: name.into(),
        arguments: arguments.strip_suffix(')').unwrap_or(arguments).into(),
        returned: returned.into(),
        began_us,
        // For an interrupted call, the line of its return has the time at which that was seen.
        ended_us: resumed_us.unwrap_or(began_us + took_us),
    }))
}

/// Reads `seconds.micros`.
fn micros(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.')?;
    (fraction.len() == 6).then_some(seconds.parse::<u64>().ok()? * 1_000_000 + fraction.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_interrupted_calls_are_read() {
        let text = "\
101   10.000100 pwrite64(12</d/n1/wal-1>, \"a = \\\"b\\\" (\", 9, 4096) = 9 <0.000020>
102   10.000200 fdatasync(12</d/n1/wal-1> <unfinished ...>
101   10.000250 <... write resumed>) = 1 <0.000001>
101   10.000300 sendto(9<socket:[7]>, \"x\", 1, MSG_NOSIGNAL, NULL, 0) = -1 EPIPE (Broken pipe) <0.000002>
102   10.000900 <... fdatasync resumed>) = 0 <0.000690>
102   10.001000 fdatasync(12</d/n1/wal-1>
102   10.001100 +++ exited with 0 +++
";
        let calls = parse(text).unwrap();
        let times: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.began_us, call.ended_us)).collect();
        let ms = 10_000_000;
        assert_eq!(
            times,
            [("pwrite64", ms + 100, ms + 120), ("fdatasync", ms + 200, ms + 900), ("sendto", ms + 300, ms + 302),]
        );
        assert_eq!(calls[0].arguments, "12</d/n1/wal-1>, \"a = \\\"b\\\" (\", 9, 4096");
        assert_eq!((calls[1].arguments.as_str(), calls[1].returned.as_str()), ("12</d/n1/wal-1>", "0"));
        assert_eq!(calls[2].returned, "-1 EPIPE (Broken pipe)");
        assert!(parse("").is_err());
    }
}
