//! The most address space that this process ever had: a huge allocation shows there, whether its memory was used or
//! not.

use std::fs;

/// One input may raise the peak by this much. It covers an arena of the allocator, and far more than any decoder needs
/// for an input of 64 KiB, but less than a wrong length that was believed.
pub const ONE_INPUT_MAX: u64 = 256 * 1024 * 1024;

/// The peak in bytes.
pub fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux shows a process its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("it has a line VmPeak");
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number of kB");
    kib * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_that_is_never_touched_is_seen() {
        let before = peak();
        let large: Vec<u8> = Vec::with_capacity(2 * ONE_INPUT_MAX as usize);
        assert!(peak() - before >= ONE_INPUT_MAX, "{} {}", peak() - before, large.capacity());
    }
}
