//! A tar archive in memory (POSIX ustar): names and contents enter, bytes leave. PURE.
//!
//! Regular files are all that a report needs, so that forty lines do; owner and group are nobody's.

/// Bytes of a block: a header is one, contents fill whole ones.
const BLOCK: usize = 512;
/// Longest name that stands in the header alone.
const NAME_BYTES_MAX: usize = 100;

/// An archive under construction.
pub(crate) struct Archive {
    bytes: Vec<u8>,
    modified_s: i64,
}

impl Archive {
    /// An archive whose files all were written at this time, in seconds since 1970.
    pub(crate) fn new(modified_s: i64) -> Self {
        Archive { bytes: Vec::new(), modified_s }
    }

    /// Adds a file that its owner may read and write.
    ///
    /// # Panics
    /// When the name is longer than [`NAME_BYTES_MAX`]: names are made here, of names that Kubernetes bounds.
    pub(crate) fn add(&mut self, name: &str, contents: &[u8]) {
        assert!(name.len() <= NAME_BYTES_MAX, "the name '{name}' is longer than a ustar header holds");
        self.bytes.extend(header(name, contents.len(), self.modified_s));
        self.bytes.extend(contents);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    /// The whole archive: two empty blocks are its end.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

fn header(name: &str, size: usize, modified_s: i64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, &format!("{:011o}\0", modified_s.max(0)));
    // The sum counts its own field as spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn tar_reads_it() {
        let mut archive = Archive::new(1_700_000_000);
        archive.add("report/empty", b"");
        archive.add("report/a", b"hello\n");
        archive.add("report/block", &[b'x'; BLOCK]);
        let bytes = archive.finish();
        assert_eq!(bytes.len(), 3 * BLOCK + 2 * BLOCK + 2 * BLOCK);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.tar"), bytes).unwrap();
        let tar = |args: &[&str]| {
            let output = Command::new("tar").args(args).current_dir(&folder).stdin(Stdio::null()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(tar(&["tf", "x.tar"]), "report/empty\nreport/a\nreport/block\n");
        assert_eq!(tar(&["xOf", "x.tar", "report/a"]), "hello\n");
        assert!(tar(&["tvf", "x.tar"]).starts_with("-rw------- 0/0"));
    }
}
