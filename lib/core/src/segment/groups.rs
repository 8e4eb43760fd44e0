//! Which segments a compaction writes anew: those that are half dead, and small ones in a row. PURE.
//!
//! The choice depends on the log alone, so members that compacted as far hold equal segments. A segment is due when half
//! of its bytes or more are dead: then at most one byte is written for each that is freed, and files are at most twice what
//! is live. Small ones in a row become one, so that there are not many.

use std::ops::Range;

/// A segment as a compaction sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Bytes of its records that somebody may still need.
    pub live: u64,
    /// Bytes of its other records.
    pub dead: u64,
    /// Whether this compaction may write it anew: it lies before the window that was filled when the compaction was
    /// applied, and was not made by it.
    pub is_open: bool,
}

/// The bounds of groups.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A segment with fewer live bytes is small.
    pub small: u64,
    /// Most live bytes of a group, hence of the segment that it becomes, unless one segment alone has more.
    pub live: u64,
    /// Most segments of a group.
    pub segments: usize,
}

/// So many small segments in a row become one.
const SMALL_IN_A_ROW: usize = 4;

impl Candidate {
    fn is_due(&self) -> bool {
        self.dead >= self.live && self.dead > 0
    }
}

/// The groups, ascending. Each becomes one segment in its place, or none if nothing of it is live.
pub fn groups(candidates: &[Candidate], bounds: Bounds) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut group = 0..0;
    let mut live = 0;
    for (at, candidate) in candidates.iter().enumerate() {
        let belongs = candidate.is_open && (candidate.is_due() || candidate.live < bounds.small);
        let fits = live + candidate.live <= bounds.live && group.len() < bounds.segments;
        if !belongs || (!fits && !group.is_empty()) {
            end(candidates, &mut groups, group);
            (group, live) = (at..at, 0);
        }
        if belongs {
            group = if group.is_empty() { at..at + 1 } else { group.start..at + 1 };
            live += candidate.live;
        }
    }
    end(candidates, &mut groups, group);
    groups
}

fn end(candidates: &[Candidate], groups: &mut Vec<Range<usize>>, group: Range<usize>) {
    let is_due = candidates[group.clone()].iter().any(Candidate::is_due);
    if is_due || group.len() >= SMALL_IN_A_ROW {
        groups.push(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { small: 8, live: 32, segments: 8 };

    fn open(live: u64, dead: u64) -> Candidate {
        Candidate { live, dead, is_open: true }
    }

    /// Where groups begin, and where they end.
    fn of(candidates: &[Candidate]) -> Vec<(usize, usize)> {
        groups(candidates, BOUNDS).into_iter().map(|group| (group.start, group.end)).collect()
    }

    #[test]
    fn half_dead_ones_are_written_anew_and_others_rest() {
        assert_eq!(of(&[open(17, 15)]), []);
        assert_eq!(of(&[open(16, 16)]), [(0, 1)]);
        assert_eq!(of(&[open(30, 2), open(10, 22), open(30, 2)]), [(1, 2)]);
        assert_eq!(of(&[open(0, 32), open(0, 32), open(16, 16)]), [(0, 3)]);
    }

    #[test]
    fn small_ones_join_a_due_one_or_each_other_when_there_are_four() {
        assert_eq!(of(&[open(7, 0); 3]), []);
        assert_eq!(of(&[open(7, 0); 4]), [(0, 4)]);
        assert_eq!(of(&[open(7, 0), open(1, 3), open(7, 0)]), [(0, 3)]);
        assert_eq!(of(&[open(7, 0), open(7, 0), open(9, 0), open(7, 0), open(7, 0)]), []);
    }

    #[test]
    fn what_is_not_open_ends_a_group() {
        let closed = Candidate { is_open: false, ..open(0, 32) };
        assert_eq!(of(&[closed]), []);
        assert_eq!(of(&[open(1, 9), closed, open(1, 9)]), [(0, 1), (2, 3)]);
    }

    proptest! {
        #[test]
        fn groups_are_bounded_and_no_due_one_is_left_out(
            candidates in proptest::collection::vec((0u64..40, 0u64..40, prop::bool::weighted(0.9)), 0..60),
        ) {
            let candidate = |(live, dead, is_open)| Candidate { live, dead, is_open };
            let candidates: Vec<Candidate> = candidates.into_iter().map(candidate).collect();
            let groups = groups(&candidates, BOUNDS);
            prop_assert!(groups.windows(2).all(|pair| pair[0].end <= pair[1].start));
            for group in &groups {
                let live: u64 = candidates[group.clone()].iter().map(|candidate| candidate.live).sum();
                prop_assert!(live <= BOUNDS.live || group.len() == 1);
                prop_assert!((1..=BOUNDS.segments).contains(&group.len()));
                prop_assert!(candidates[group.clone()].iter().all(|candidate| candidate.is_open));
            }
            let is_in = |at: usize| groups.iter().any(|group| group.contains(&at));
            for (at, candidate) in candidates.iter().enumerate() {
                prop_assert!(!(candidate.is_open && candidate.is_due()) || is_in(at), "{at} is due");
            }
        }
    }
}
