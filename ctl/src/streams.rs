//! Standard input and standard output: whole documents in and out. Errors and progress go to standard error, elsewhere.

use crate::report::Failed;
use serde::Serialize;
use std::io::{Read, Write};

/// All of standard input. A thread of its own waits for it, so that a signal is not kept waiting.
pub(crate) async fn stdin() -> Result<Vec<u8>, Failed> {
    let read = || {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    };
    let read = tokio::task::spawn_blocking(read).await.expect("reading does not panic");
    read.map_err(Failed::io("standard input"))
}

/// Writes to standard output; a closed pipe is an error like any other here.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Failed::io("standard output"))
}

/// Writes one JSON document and a newline.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failed> {
    let mut text = serde_json::to_vec(value).expect("structs of strings and numbers always serialize");
    text.push(b'\n');
    print(&text)
}
