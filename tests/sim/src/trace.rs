//! What happened in a run: a hash over all of it, to prove that a seed repeats, and the last lines, for people.

use std::collections::VecDeque;

/// Number of lines that a failure shows.
pub const LINES_KEPT: usize = 60;

/// The trace of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    /// Whether each line is printed as it comes.
    pub echo: bool,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace { hash: FNV_START, lines: VecDeque::new(), echo: false }
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Continues an FNV-1a hash, eight bytes at a time.
pub fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
    rest.iter().for_each(|byte| mix(u64::from(*byte)));
    mix(bytes.len() as u64);
    hash
}

/// Hash of one piece of bytes.
pub fn hash_of(bytes: &[u8]) -> u64 {
    fnv(FNV_START, bytes)
}

impl Trace {
    /// Adds a line.
    pub fn line(&mut self, now: u64, text: &str) {
        self.hash = fnv(fnv(self.hash, &now.to_le_bytes()), text.as_bytes());
        if self.echo {
            println!("{now:>6} {text}");
        }
        let mut kept = match self.lines.len() {
            LINES_KEPT => self.lines.pop_front().expect("the list is full"),
            _ => String::new(),
        };
        kept.clear();
        kept.push_str(text);
        self.lines.push_back(kept);
    }

    /// The hash over all lines; two runs that did the same have the same.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
