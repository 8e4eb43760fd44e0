//! What the process says on standard output and standard error.
//!
//! Enters: lines for people and for whoever collects the log. Leaves: nothing that its callers have to handle. The
//! reader of a stream may go away, and a disk behind it may be full: then the words are lost, and the node goes on.
//! `println!` and `eprintln!` panic in that case, and so does tracing's own report of a failed write, so neither is
//! used outside this file (clippy checks it).

use std::fmt::Display;
use std::io::{self, Write};

/// A writer to which every write succeeds. What `inner` does not take is lost.
pub struct Lossy<W> {
    /// Where the words go as long as they can.
    pub inner: W,
}

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.inner.write(bytes) {
            Ok(0) | Err(_) => Ok(bytes.len()),
            Ok(written) => Ok(written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().or(Ok(()))
    }
}

/// Standard error, for the log.
pub fn log() -> Lossy<io::Stderr> {
    Lossy { inner: io::stderr() }
}

/// A line on standard output.
pub fn tell(line: impl Display) {
    write(io::stdout(), line);
}

/// A line on standard error.
pub fn warn(line: impl Display) {
    write(io::stderr(), line);
}

fn write(inner: impl Write, line: impl Display) {
    let mut out = Lossy { inner };
    // One write for one line, so that lines of several processes do not mix.
    let text = format!("{line}\n");
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).expect("a lossy writer takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Takes three bytes at a time, and nothing once `gone` is set.
    #[derive(Clone, Default)]
    struct Reader {
        read: Arc<Mutex<Vec<u8>>>,
        gone: Arc<Mutex<bool>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if *self.gone.lock().unwrap() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let part = &bytes[..bytes.len().min(3)];
            self.read.lock().unwrap().extend_from_slice(part);
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            if *self.gone.lock().unwrap() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn whole_lines_are_written_while_there_is_a_reader_and_nothing_fails_without_one() {
        let reader = Reader::default();
        write(reader.clone(), "one line");
        *reader.gone.lock().unwrap() = true;
        write(reader.clone(), "lost");
        *reader.gone.lock().unwrap() = false;
        write(reader.clone(), "another");
        assert_eq!(*reader.read.lock().unwrap(), b"one line\nanother\n");
    }
}
