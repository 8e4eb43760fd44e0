//! What the process says on standard output and standard error.
//!
//! Enters: lines for people and for whoever collects the log. Leaves: nothing that its callers have to handle. The
//! reader of a stream may go away, and a disk behind it may be full: then the words are lost, and the node goes on.
//! `println!` and `eprintln!` panic in that case, so neither is used (clippy checks it).

use std::fmt::Display;
use std::io::{self, Write};

/// A line on standard output.
pub fn tell(line: impl Display) {
    write(io::stdout(), line);
}

/// A line on standard error.
pub fn warn(line: impl Display) {
    write(io::stderr(), line);
}

fn write(mut out: impl Write, line: impl Display) {
    // One write for one line, so that lines of several processes do not mix.
    let text = format!("{line}\n");
    let _lost = out.write_all(text.as_bytes()).and_then(|()| out.flush());
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
