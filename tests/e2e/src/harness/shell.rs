//! Runs one command of a user to its end or to its time limit.

use crate::harness::wait::pause;
use anyhow::{Context, Result, anyhow, bail};
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// An error quotes at most this many characters from the end of a command's output.
const QUOTED_CHARS_MAX: usize = 2_000;

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
pub struct Output {
    /// The command line, for errors.
    pub line: String,
    /// Whether its exit code was 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The standard output of a command that must succeed.
    pub fn expect_success(self) -> Result<String> {
        if self.success {
            return Ok(self.stdout);
        }
        Err(anyhow!("`{}` failed: {}", self.line, tail(&format!("{}{}", self.stdout, self.stderr))))
    }

    /// The output of a command that must fail.
    pub fn expect_failure(self) -> Result<String> {
        if self.success {
            bail!("`{}` succeeded, and was to be refused: {}", self.line, tail(&self.stdout));
        }
        Ok(format!("{}{}", self.stdout, self.stderr))
    }
}

/// Runs a command; `stdin` is all that it can read.
pub fn run(mut command: Command, stdin: Option<&str>, limit: Duration) -> Result<Output> {
    let line = command_line(&command);
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("`{line}` cannot be started"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        // A command that ends without reading says why on its standard error.
        drop(pipe.write_all(text.as_bytes()));
    }
    let status = end(&mut child, limit)?;
    let text = |reader: JoinHandle<String>| reader.join().map_err(|_| anyhow!("`{line}`: its output was lost"));
    let (stdout, stderr) = (text(stdout)?, text(stderr)?);
    match status {
        Some(status) => Ok(Output { line, success: status.success(), stdout, stderr }),
        None => bail!("`{line}` was ended after {limit:?}: {}", tail(&format!("{stdout}{stderr}"))),
    }
}

/// Waits until the command ends; `None` if it had to be killed.
fn end(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        pause();
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is better than nothing.
            drop(pipe.read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The end of a text, where the reason usually stands.
pub fn tail(text: &str) -> String {
    let text = text.trim();
    let skip = text.chars().count().saturating_sub(QUOTED_CHARS_MAX);
    text.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<Output> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, Some("in"), limit)
    }

    #[test]
    fn a_command_reads_prints_and_fails() {
        let long = Duration::from_secs(20);
        assert_eq!(sh("cat", long).unwrap().expect_success().unwrap(), "in");
        let error = sh("echo why >&2; exit 3", long).unwrap().expect_success().unwrap_err();
        assert!(error.to_string().ends_with("failed: why"), "{error}");
        assert_eq!(sh("echo no; exit 1", long).unwrap().expect_failure().unwrap(), "no\n");
        assert!(sh("true", long).unwrap().expect_failure().is_err());
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let error = sh("echo begun; exec cat /dev/zero >/dev/null", Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().contains("was ended after 200ms: begun"), "{error}");
    }
}
