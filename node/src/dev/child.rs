//! Keeps one `raftkv serve` process running: starts it, says when it ends, starts it again, stops it when told to.
//!
//! A child ends with us even when we are killed: it runs with `--exit-on-stdin-close`, and we hold the other end of its
//! standard input. It is in a process group of its own, so that Ctrl-C reaches only us and we stop all three in order.

use super::layout::{Layout, Place};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Pause before a child that ended is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// A child that has not ended so long after SIGTERM is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes at the end of a log that are shown when a child dies while starting.
const LOG_TAIL_BYTES: u64 = 2048;

/// What happened to a child.
#[derive(Debug)]
pub(super) enum Event {
    Started { name: &'static str, pid: u32 },
    Ended { name: &'static str, how: String },
    NotStarted { name: &'static str, error: io::Error },
}

/// Runs the child until `stop` is set or its sender is gone.
pub(super) async fn keep_running(
    program: PathBuf,
    layout: Layout,
    place: Place,
    events: mpsc::Sender<Event>,
    mut stop: watch::Receiver<bool>,
) {
    let name = place.name;
    loop {
        let event = match start(&program, &layout, &place) {
            Ok((mut child, _stdin)) => {
                let pid = child.id().unwrap_or_default();
                // Nobody listens any more only when the whole program ends.
                events.send(Event::Started { name, pid }).await.ok();
                tokio::select! {
                    ended = child.wait() => {
                        let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                        Event::Ended { name, how }
                    }
                    () = told_to_stop(&mut stop) => return terminate(child).await,
                }
            }
            Err(error) => Event::NotStarted { name, error },
        };
        events.send(event).await.ok();
        if timeout(RESTART_AFTER, told_to_stop(&mut stop)).await.is_ok() {
            return;
        }
    }
}

/// Ends when `stop` is set, or nobody is left who could set it.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.map(drop).ok();
}

/// The standard input is handed out because `Child::wait` would close it, and the child would end.
fn start(program: &Path, layout: &Layout, place: &Place) -> io::Result<(Child, Option<ChildStdin>)> {
    let log = OpenOptions::new().create(true).append(true).open(&place.log)?;
    let mut command = Command::new(program);
    // What is set for a node of the user's own must not reach these three.
    for (variable, _) in std::env::vars_os() {
        let ours = variable.to_str().is_some_and(|name| name.starts_with("RAFTKV_") && name != "RAFTKV_LOG");
        if ours {
            command.env_remove(variable);
        }
    }
    command
        .args(["serve", "--exit-on-stdin-close", "--name", place.name])
        .arg("--data-dir")
        .arg(&place.data_dir)
        .arg("--token-file")
        .arg(&layout.token_file)
        .arg(format!("--listen-client=127.0.0.1:{}", place.client_port))
        .arg(format!("--listen-peer=127.0.0.1:{}", place.peer_port()))
        .arg(format!("--listen-admin=127.0.0.1:{}", place.admin_port()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    Ok((child, stdin))
}

async fn terminate(mut child: Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
        // An error means that it has ended already.
        kill_process(pid, Signal::TERM).ok();
    }
    if timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
        // An error means that it has ended already.
        child.kill().await.ok();
    }
}

/// The last lines of a log, indented.
pub(super) fn log_tail(log: &Path) -> String {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(log).and_then(|mut file| {
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL_BYTES)))?;
        file.read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(8)..].iter().map(|line| format!("\n  {line}")).collect()
        }
        Err(error) => format!("\n  ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let lines: String = (0..1000).map(|i| format!("line {i}\n")).collect();
        std::fs::write(&log, lines).unwrap();
        let tail = log_tail(&log);
        assert!(tail.starts_with("\n  line 992") && tail.ends_with("\n  line 999"), "{tail}");
        assert!(log_tail(&dir.path().join("none")).contains("No such file"));
    }
}
