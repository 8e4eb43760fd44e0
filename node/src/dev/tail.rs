//! Copies the nodes' logs to the terminal, for `raftkv dev --verbose`.
//!
//! The nodes write to their files themselves and we read after them, so that a node never depends on whether somebody
//! still reads its log.

use super::layout::Place;
use crate::words;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Prints every line that `place`'s log gets from here on, for ever.
pub(super) async fn follow(place: Place) {
    let mut lines = Lines::default();
    let mut offset = std::fs::metadata(&place.log).map_or(0, |file| file.len());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let mut new = Vec::new();
        let read = File::open(&place.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            file.read_to_end(&mut new)
        });
        // The file is there once the node was started; until then there is nothing to show.
        if read.is_ok() {
            offset += new.len() as u64;
            for line in lines.take(&new) {
                words::warn(format_args!("{}  {line}", place.name));
            }
        }
    }
}

/// Cuts a stream of bytes into whole lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn take(&mut self, new: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(new);
        let Some(last) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let whole: Vec<u8> = self.rest.drain(..=last).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_reads_are() {
        let mut lines = Lines::default();
        assert!(lines.take(b"on").is_empty());
        assert_eq!(lines.take(b"e\ntwo\nthr"), ["one", "two"]);
        assert_eq!(lines.take(b"ee\n"), ["three"]);
    }
}
