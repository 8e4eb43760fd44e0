//! The CPU time and memory that processes use, from /proc.

use anyhow::{Context, Result};
use std::fs;

/// Seconds of one core that these processes have used since they began.
pub fn cpu_seconds(pids: &[u32]) -> Result<f64> {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let mut sum = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
        sum += cpu_ticks(&stat).with_context(|| path)?;
    }
    Ok(sum as f64 / ticks)
}

/// `utime` and `stime` of proc_pid_stat(5), its fields 14 and 15; the name before them may contain blanks.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Resident bytes of the largest of these processes.
pub fn resident_bytes(pids: &[u32]) -> Result<u64> {
    let mut largest = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| path.clone())?;
        largest = largest.max(number(&status, "VmRSS:").with_context(|| path)? * 1024);
    }
    Ok(largest)
}

/// Whether a tracer watches all threads of these processes.
pub fn is_traced(pids: &[u32]) -> Result<bool> {
    for pid in pids {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            if number(&status, "TracerPid:").is_none_or(|tracer| tracer == 0) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The number in the line `name` of proc_pid_status(5).
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let stat = "12 (a (b) c) S 1 12 12 0 -1 4194560 900 0 0 0 250 50 7 8 20 0 9 0 100 1000 20";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(number("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048));
        assert_eq!(number("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let pids = [std::process::id()];
        assert!(resident_bytes(&pids).unwrap() > 100_000);
        assert!(cpu_seconds(&pids).unwrap() >= 0.0);
        assert!(!is_traced(&pids).unwrap());
    }
}
