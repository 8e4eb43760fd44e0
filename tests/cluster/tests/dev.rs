//! `raftkv dev` as a person uses it: one command, three nodes, Ctrl-C.

use anyhow::{Context, Result, anyhow, ensure};
use raftkv_cluster_tests::http::Request;
use raftkv_cluster_tests::wait::{eventually, eventually_within, holds};
use raftkv_cluster_tests::{Signal, binaries, free_base_for_dev};
use rustix::process::{Pid, kill_process, test_kill_process};
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The promised time.
const READY_MAX: Duration = Duration::from_secs(3);
/// The time that is allowed on a machine that runs other tests at the same time.
const READY_MAX_WHEN_BUSY: Duration = Duration::from_secs(15);

#[test]
fn three_nodes_are_up_in_three_seconds_and_say_where_everything_is() -> Result<()> {
    let dir = TempDir::new()?;
    let mut dev = Dev::start(dir.path(), free_base_for_dev())?;
    let took = dev.wait_ready()?;
    println!("raftkv dev was ready after {took:?}");
    ensure!(took < READY_MAX_WHEN_BUSY, "ready after {took:?}");
    let said: f64 = dev.said_between("ready after ", " s").context("it says how long it took")?.parse()?;
    ensure!(said <= took.as_secs_f64(), "it says {said} s and it was {took:?}");
    // On a machine without other load the promise itself must hold; `RAFTKV_TEST_TIMING=1` asks for this check.
    if std::env::var_os("RAFTKV_TEST_TIMING").is_some() {
        ensure!(took < READY_MAX, "ready after {took:?}");
    }

    let text = dev.said();
    let data = dir.path().canonicalize()?;
    let mut expected: Vec<String> =
        ["n1", "n2", "n3", "token", "logs/n1.log", "Ctrl-C", "curl"].map(String::from).into();
    expected.push(data.display().to_string());
    expected.extend((0..3).map(|nth| dev.url(nth)));
    for word in expected {
        ensure!(text.contains(&word), "'{word}' is missing in:\n{text}");
    }
    let mode = fs::metadata(data.join("token"))?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "the token's mode is {mode:o}");
    dev.put(0, "hello", "world")?;
    ensure!(dev.get(1, "hello")? == "world" && dev.get(2, "hello")? == "world");

    // The printed commands are there to be copied, so the curl command must do what it says.
    let curl = text.lines().find(|line| line.trim_start().starts_with("curl -X PUT")).context("a curl command")?;
    if let Ok(ran) = Command::new("sh").args(["-c", curl]).output() {
        ensure!(ran.status.success() || ran.status.code() == Some(127), "{curl}: {ran:?}");
    }
    dev.interrupt()?;
    Ok(())
}

#[test]
fn a_killed_child_comes_back_and_nothing_is_lost() -> Result<()> {
    let dir = TempDir::new()?;
    let mut dev = Dev::start(dir.path(), free_base_for_dev())?;
    dev.wait_ready()?;
    dev.put(1, "k", "v")?;
    for (nth, name) in ["n1", "n2", "n3"].into_iter().enumerate() {
        let pid = dev.child_pid(nth).context("the banner shows each pid")?;
        kill_process(pid, Signal::KILL)?;
        eventually("it says so", || {
            let (ended, again) = (format!("{name} ended"), format!("{name} runs again"));
            let text = dev.said();
            holds(text.contains(&ended) && text.contains(&again), || text)
        })?;
        eventually("it serves again", || holds(dev.get(nth, "k")? == "v", || "another value".into()))?;
    }
    dev.interrupt()
}

#[test]
fn ctrl_c_ends_all_and_the_data_are_kept() -> Result<()> {
    let dir = TempDir::new()?;
    let base = free_base_for_dev();
    let token = |dir: &Path| fs::read_to_string(dir.join("token"));
    let mut dev = Dev::start(dir.path(), base)?;
    dev.wait_ready()?;
    dev.put(2, "kept", "between runs")?;
    let first_token = token(dir.path())?;
    let pids = dev.child_pids()?;
    dev.interrupt()?;
    ensure!(pids.iter().all(|pid| !lives(*pid)), "a child has outlived Ctrl-C");
    for nth in 1..=3 {
        let log = fs::read_to_string(dir.path().join(format!("logs/n{nth}.log")))?;
        ensure!(log.trim_end().ends_with("stopped"), "n{nth} did not end by itself: {log}");
    }

    let mut again = Dev::start(dir.path(), base)?;
    again.wait_ready()?;
    for nth in 0..3 {
        ensure!(again.get(nth, "kept")? == "between runs");
    }
    ensure!(token(dir.path())? == first_token, "the token has changed");
    again.interrupt()?;

    // The members' peer URLs are fixed, so the start with another base must fail.
    let mut other = Dev::start(dir.path(), free_base_for_dev())?;
    let status = other.wait_for_end()?;
    let said = other.complained();
    ensure!(!status.success() && said.contains(&format!("--port-base {base}")), "{said}");
    Ok(())
}

#[test]
fn the_children_end_when_dev_is_killed() -> Result<()> {
    let dir = TempDir::new()?;
    let base = free_base_for_dev();
    let mut dev = Dev::start(dir.path(), base)?;
    dev.wait_ready()?;
    dev.put(0, "k", "v")?;
    let pids = dev.child_pids()?;
    dev.signal(Signal::KILL)?;
    dev.wait_for_end()?;
    eventually_within(Duration::from_secs(10), "all children end", || {
        holds(pids.iter().all(|pid| !lives(*pid)), || format!("of {pids:?} some live"))
    })?;
    let mut again = Dev::start(dir.path(), base)?;
    again.wait_ready()?;
    ensure!(again.get(1, "k")? == "v");
    again.interrupt()
}

#[test]
fn a_node_whose_directory_is_gone_joins_its_cluster_again() -> Result<()> {
    let dir = TempDir::new()?;
    let base = free_base_for_dev();
    let mut dev = Dev::start(dir.path(), base)?;
    dev.wait_ready()?;
    dev.put(0, "k", "v")?;
    dev.interrupt()?;
    fs::remove_dir_all(dir.path().join("n1"))?;
    let mut again = Dev::start(dir.path(), base)?;
    again.wait_ready()?;
    for nth in 0..3 {
        ensure!(again.get(nth, "k")? == "v", "n1 has formed a cluster of its own");
    }
    again.interrupt()
}

#[test]
fn ports_that_cannot_be_used_are_named_with_the_flag() -> Result<()> {
    let dir = TempDir::new()?;
    let base = free_base_for_dev();
    let taken = base + 10_001;
    let _listener = TcpListener::bind(("127.0.0.1", taken))?;
    let mut dev = Dev::start(dir.path(), base)?;
    let status = dev.wait_for_end()?;
    let said = dev.complained();
    ensure!(!status.success() && said.contains(&taken.to_string()) && said.contains("--port-base"), "{said}");

    let mut high = Dev::start(&dir.path().join("high"), 60_000)?;
    let status = high.wait_for_end()?;
    let said = high.complained();
    ensure!(status.code() == Some(2) && said.contains("--port-base 60000") && said.contains("45533"), "{said}");
    Ok(())
}

#[test]
fn raftkvctl_finds_the_nodes_of_the_directory_that_it_runs_in() -> Result<()> {
    let dir = TempDir::new()?;
    let mut dev = Dev::start(&dir.path().join("raftkv-data"), free_base_for_dev())?;
    dev.wait_ready()?;
    let mut ctl = Command::new(binaries::raftkvctl());
    ctl.current_dir(&dir).args(["put", "k", "v"]).env_remove("RAFTKV_ENDPOINTS");
    let ran = ctl.output()?;
    ensure!(ran.status.success() && dev.get(0, "k")? == "v", "{ran:?}");
    dev.interrupt()
}

#[test]
fn a_second_command_in_one_directory_says_who_holds_it() -> Result<()> {
    let dir = TempDir::new()?;
    let base = free_base_for_dev();
    let mut first = Dev::start(dir.path(), base)?;
    first.wait_ready()?;
    let mut second = Dev::start(dir.path(), base)?;
    let status = second.wait_for_end()?;
    let said = second.complained();
    ensure!(!status.success() && said.contains("is in use by another `raftkv dev` (pid "), "{said}");
    first.interrupt()
}

fn lives(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
}

/// A running `raftkv dev`.
struct Dev {
    child: Child,
    base: u16,
    begun: Instant,
    stdout: PathBuf,
    stderr: PathBuf,
    finished: bool,
}

impl Dev {
    fn start(dir: &Path, base: u16) -> Result<Dev> {
        fs::create_dir_all(dir)?;
        let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
        let begun = Instant::now();
        let child = Command::new(binaries::raftkv())
            .args(["dev", "--port-base", &base.to_string(), "--data-dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()?;
        Ok(Dev { child, base, begun, stdout, stderr, finished: false })
    }

    fn wait_ready(&mut self) -> Result<Duration> {
        eventually("raftkv dev is ready", || {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Err(anyhow!("it ended ({status}): {}", self.complained())));
            }
            holds(self.said().contains("Ctrl-C"), || self.said()).map(|()| Ok(self.begun.elapsed()))
        })?
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    fn complained(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    fn said_between(&self, before: &str, after: &str) -> Option<String> {
        let text = self.said();
        let rest = &text[text.find(before)? + before.len()..];
        Some(rest[..rest.find(after)?].to_string())
    }

    /// A node's process id, from the banner, which lists the nodes one below the other.
    fn child_pid(&self, nth: usize) -> Option<Pid> {
        let text = self.said();
        let line = text.lines().find(|line| line.contains(&self.url(nth)) && line.contains(" pid "))?;
        Pid::from_raw(line.split(" pid ").nth(1)?.trim().parse().ok()?)
    }

    fn child_pids(&self) -> Result<Vec<Pid>> {
        (0..3).map(|nth| self.child_pid(nth).with_context(|| self.said())).collect()
    }

    fn url(&self, nth: usize) -> String {
        format!("http://127.0.0.1:{}", usize::from(self.base) + 10_000 * nth)
    }

    fn put(&self, nth: usize, key: &str, value: &str) -> Result<()> {
        Request::new("PUT", &format!("{}/v1/kv/{key}", self.url(nth))).body(value).send()?.expect(200).map(drop)
    }

    fn get(&self, nth: usize, key: &str) -> Result<String> {
        Ok(Request::new("GET", &format!("{}/v1/kv/{key}", self.url(nth))).send()?.expect(200)?.text())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("process ids are above 0")?;
        Ok(kill_process(pid, signal)?)
    }

    fn wait_for_end(&mut self) -> Result<ExitStatus> {
        let status = eventually_within(Duration::from_secs(15), "raftkv dev ends", || {
            self.child.try_wait()?.context("it is running")
        })?;
        self.finished = true;
        Ok(status)
    }

    /// Sends Ctrl-C; the end must be clean.
    fn interrupt(&mut self) -> Result<()> {
        self.signal(Signal::INT)?;
        let status = self.wait_for_end()?;
        ensure!(status.success(), "ended with {status}: {}", self.complained());
        Ok(())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if !self.finished {
            eprintln!("--- raftkv dev\n{}\n{}", self.said(), self.complained());
            for name in ["n1", "n2", "n3"] {
                let log = self.stdout.with_file_name("logs").join(format!("{name}.log"));
                let text = fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                eprintln!("--- {name}\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
            // Its children end with it. An error means that it has ended already.
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
