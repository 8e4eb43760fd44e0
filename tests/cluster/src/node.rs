//! One `raftkv serve` process with its ports, directory and log, which stay the same over every restart.

use crate::answers::{self, Port};
use crate::http::Request;
use crate::wait::{eventually, eventually_within, holds};
use crate::{Ports, binaries};
use anyhow::{Context, Result, anyhow, bail};
use raftkv_api::{self as api, HEADER_CLUSTER, HEADER_INCARNATION, HEADER_NAME, Status};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Size of a segment in tests: small, so that a node's first start does not write 200 MB.
const SEGMENT_BYTES: &str = "17MiB";
/// The reserve in tests: its file may be one in memory.
const RESERVE_BYTES: &str = "16MiB";
/// A node that was asked to stop ends within this.
const STOP_MAX: Duration = Duration::from_secs(15);
/// This many lines of a log are shown when something failed.
const LOG_LINES_SHOWN: usize = 60;

/// A node.
#[derive(Debug)]
pub struct Node {
    /// `--name`.
    pub name: String,
    /// Its ports.
    pub ports: Ports,
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// `--token-file`.
    pub token_file: PathBuf,
    /// Further flags of `serve`.
    pub flags: Vec<String>,
    /// The address that it listens on.
    pub host: String,
    /// The words that its command begins with, so that it runs where `host` is.
    pub through: Vec<String>,
    /// The port on loopback at which the others reach its peer port, if they do not reach it directly.
    pub relay: Option<u16>,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// A node that does not run yet; its data and log go below `root`.
    pub fn new(root: &Path, name: &str, token_file: &Path) -> Node {
        let ports = Ports::free();
        answers::register(ports.client, Port::Client);
        answers::register(ports.peer, Port::Peer);
        answers::register(ports.admin, Port::Admin);
        Node {
            name: name.into(),
            ports,
            data_dir: root.join(name),
            token_file: token_file.into(),
            flags: vec![format!("--segment-bytes={SEGMENT_BYTES}"), format!("--reserve={RESERVE_BYTES}")],
            host: "127.0.0.1".into(),
            through: Vec::new(),
            relay: None,
            log: root.join(format!("{name}.log")),
            child: None,
        }
    }

    /// `http://` and the client port.
    pub fn client_url(&self) -> String {
        format!("http://{}:{}", self.host, self.ports.client)
    }

    /// `http://` and the peer port, as the others reach it.
    pub fn peer_url(&self) -> String {
        match self.relay {
            None => format!("http://{}:{}", self.host, self.ports.peer),
            Some(port) => format!("http://127.0.0.1:{port}"),
        }
    }

    /// `http://` and the admin port.
    pub fn admin_url(&self) -> String {
        format!("http://{}:{}", self.host, self.ports.admin)
    }

    /// The command that runs it, with standard error going to its log.
    pub fn command(&self) -> Result<Command> {
        let mut command = match self.through.split_first() {
            None => Command::new(binaries::raftkv()),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(binaries::raftkv());
                command
            }
        };
        self.configure(&mut command)?;
        Ok(command)
    }

    /// The same for the build with crash points, whose process ends at this point.
    pub fn command_to_crash_at(&self, point: &str) -> Result<Command> {
        let mut command = Command::new(binaries::raftkv_with_crash_points());
        self.configure(&mut command)?;
        command.env(binaries::CRASH_AT, point);
        Ok(command)
    }

    /// The same in a shell that first sets limits, as in `ulimit -f 1000`.
    pub fn command_under(&self, limits: &str) -> Result<Command> {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{limits} && exec \"$@\""), "bash"]).arg(binaries::raftkv());
        self.configure(&mut command)?;
        Ok(command)
    }

    pub(crate) fn configure(&self, command: &mut Command) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context("the node's log")?;
        command
            .args(["serve", "--name", &self.name])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .arg("--token-file")
            .arg(&self.token_file)
            .arg(format!("--listen-client={}:{}", self.host, self.ports.client))
            .arg(format!("--listen-peer={}:{}", self.host, self.ports.peer))
            .arg(format!("--listen-admin={}:{}", self.host, self.ports.admin))
            .args(
                self.flags
                    .iter()
                    .all(|flag| !flag.starts_with("--peer-url"))
                    .then(|| format!("--peer-url={}", self.peer_url())),
            )
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Ok(())
    }

    /// Starts it and waits until its admin port answers.
    pub fn start(&mut self) -> Result<()> {
        let command = self.command()?;
        self.start_as(command)
    }

    /// Starts it with another command.
    pub fn start_as(&mut self, mut command: Command) -> Result<()> {
        self.spawn(&mut command)?;
        eventually(&format!("{} answers", self.name), || match self.ended() {
            Some(status) => Ok(Err(anyhow!("{} ended ({status}) while starting:\n{}", self.name, self.log_end()))),
            None => self.status().map(|_| Ok(())),
        })?
    }

    /// Starts it and waits until it ends by itself; its exit status and what it logged in this run.
    pub fn run_to_its_end(&mut self) -> Result<(ExitStatus, String)> {
        let command = self.command()?;
        self.run_to_its_end_as(command)
    }

    /// The same with another command.
    pub fn run_to_its_end_as(&mut self, mut command: Command) -> Result<(ExitStatus, String)> {
        let said_before = fs::metadata(&self.log).map_or(0, |log| log.len()) as usize;
        self.spawn(&mut command)?;
        let status = self.wait_for_end(STOP_MAX)?;
        let log = fs::read(&self.log)?;
        Ok((status, String::from_utf8_lossy(&log[said_before.min(log.len())..]).into_owned()))
    }

    /// Starts it with another command and waits for nothing.
    pub fn spawn(&mut self, command: &mut Command) -> Result<()> {
        if self.is_running() {
            bail!("{} is running already", self.name);
        }
        self.child = Some(command.spawn().with_context(|| format!("{command:?}"))?);
        Ok(())
    }

    /// Waits until the process ends.
    pub fn wait_for_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        let status = eventually_within(deadline, &format!("{name} ends"), || {
            self.ended().with_context(|| format!("{name} is still running"))
        })?;
        self.child = None;
        Ok(status)
    }

    /// How its process ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Whether its process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.ended().is_none()
    }

    /// Its process id.
    pub fn pid(&self) -> Result<u32> {
        self.child.as_ref().map(Child::id).with_context(|| format!("{} was not started", self.name))
    }

    /// The most memory that this process ever had resident.
    pub fn peak_resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak.map(|kib: u64| kib * 1024).with_context(|| format!("no peak in\n{status}"))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid()?.cast_signed()).context("process ids are above 0")?;
        kill_process(pid, signal).with_context(|| format!("a signal to {}", self.name))
    }

    /// Sends SIGSTOP, and waits until no thread runs: one thread takes the signal, and on a busy machine the others go
    /// on until that thread has its turn.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let tasks = format!("/proc/{}/task", self.pid()?);
        eventually(&format!("{} is paused", self.name), || {
            for task in fs::read_dir(&tasks)? {
                let stat = fs::read_to_string(task?.path().join("stat"))?;
                // The state stands behind the name, which may contain anything.
                let state = stat.rsplit_once(") ").map_or("", |(_, rest)| &rest[..1]);
                holds(state == "T", || format!("a thread is in state {state}"))?;
            }
            Ok(())
        })
    }

    /// Sends SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends `kill -9`: nothing is flushed, nothing is logged.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Sends SIGTERM; the process must end with success.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait_for_end(STOP_MAX)?;
        holds(status.success(), || format!("{} ended with {status} after SIGTERM:\n{}", self.name, self.log_end()))
    }

    /// `GET /v1/status`.
    pub fn status(&self) -> Result<Status> {
        self.admin("GET", "/v1/status").send()?.expect(200)?.json()
    }

    /// Waits until `good` holds for the status.
    pub fn wait_for(&self, what: &str, good: impl Fn(&Status) -> bool) -> Result<Status> {
        eventually(&format!("{}: {what}", self.name), || {
            let status = self.status()?;
            holds(good(&status), || format!("{status:?}"))?;
            Ok(status)
        })
    }

    /// Waits until a linearizable read works.
    pub fn wait_serving(&self) -> Result<()> {
        eventually(&format!("{} serves", self.name), || {
            self.client("GET", "/v1/kv?limit=1").send()?.expect(200).map(drop)
        })
    }

    /// A request on the client port.
    pub fn client(&self, method: &str, target: &str) -> Request {
        Request::new(method, &format!("{}{target}", self.client_url()))
    }

    /// A request on the admin port, with the token.
    pub fn admin(&self, method: &str, target: &str) -> Request {
        let token = fs::read_to_string(&self.token_file).unwrap_or_default();
        let bearer = format!("Bearer {}", token.lines().next().unwrap_or_default());
        Request::new(method, &format!("{}{target}", self.admin_url())).header("Authorization", bearer)
    }

    /// A request on the admin port that changes something: it carries the token, and what `status` says of the node.
    pub fn admin_guarded(&self, method: &str, target: &str, status: &Status) -> Request {
        let text = |id: Option<api::Hex128>| id.map_or_else(|| "none".to_string(), |id| id.to_string());
        self.admin(method, target)
            .header(HEADER_CLUSTER, text(status.cluster_id))
            .header(HEADER_NAME, &self.name)
            .header(HEADER_INCARNATION, text(status.incarnation))
    }

    /// Everything it logged, in all its runs.
    pub fn log_text(&self) -> String {
        fs::read(&self.log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text = self.log_text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // SIGKILL ends a paused process too. An error means that it has ended already.
            child.kill().ok();
            child.wait().ok();
        }
    }
}
