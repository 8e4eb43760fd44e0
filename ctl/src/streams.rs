//! Standard input, standard output and standard error: whole documents in and out.
//!
//! What a failure to write means depends on what is written. A reader of keys who leaves early (`head`) has seen enough.
//! A change of the cluster has been made, whether it can be told or not. Standard error may be lost.

use crate::args::Output;
use crate::report::{Account, Failed};
use serde::Serialize;
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;

/// All of standard input. A thread of its own waits for it, so that a signal is not kept waiting.
pub(crate) async fn stdin() -> Result<Vec<u8>, Failed> {
    let read = || {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    };
    let read = tokio::task::spawn_blocking(read).await.expect("reading does not panic");
    read.map_err(Failed::io("standard input"))
}

/// Writes what was read to standard output.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failed> {
    write(bytes).map_err(|source| match source.kind() {
        ErrorKind::BrokenPipe => Failed::ReaderGone,
        _ => Failed::io("standard output")(source),
    })
}

/// Writes one JSON document and a newline.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failed> {
    print(&line_of_json(value))
}

/// Writes to standard output what was done: for people in these words, for programs as JSON.
pub(crate) fn print_done(output: Output, json: &impl Serialize, done: &str) -> Result<(), Failed> {
    let text = match output {
        Output::Json => line_of_json(json),
        Output::Table => format!("{done}\n").into_bytes(),
    };
    write(&text).map_err(|source| Failed::Untold { done: done.to_string(), source })
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush())
}

/// Writes to standard error. What it does not take is lost: nothing else could tell anybody.
pub(crate) fn warn(text: &str) {
    let _lost = io::stderr().lock().write_all(text.as_bytes());
}

/// Tells a failure on standard error and gives the exit code.
pub(crate) fn tell(failure: &Account, output: Output) -> ExitCode {
    warn(&failure.words(output));
    ExitCode::from(failure.exit_code)
}

fn line_of_json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("structs of strings and numbers always serialize");
    text.push(b'\n');
    text
}
