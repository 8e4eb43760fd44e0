//! A pass: what carries out one compaction on this member, a bounded step at a time.
//!
//! ```text
//! pending (C, upto) ─► sweep: the index drops what nobody needs from C on      rounds: groups of segments become one
//!                      and counts it as dead bytes and as garbage       ─►     each, or none, until none is due ─► swept = C
//! ```
//!
//! What is written anew, and when one group follows another, depends on the log alone (rules D8, D9): passes come one
//! after the other, and a group is chosen when the one before it is in the list. A tombstone goes after the last value
//! that it hides (rule D6). Segments that were written anew are *retired*: they are unlinked when a manifest without them
//! is durable, and nobody reads them.

use super::files::File;
use super::job::{Input, Job, Moved, Rewrite, Rewritten, Scrub};
use super::store::{Segment, Store};
use crate::kvstore::StoreError;
use crate::kvstore::moment::Pending;
use crate::kvstore::place::Place;
use crate::limits::{MOVE_STEP, ROUNDS_MAX, SWEEP_STEP};
use crate::mutant::{self, Mutant};
use crate::segment::groups::{Candidate, groups};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// A compaction that is being carried out.
pub(super) struct Pass {
    of: Pending,
    /// Rounds over the segments that were begun.
    round: u32,
    /// The groups that are still to be written anew in this round, by the numbers of their segments.
    groups: VecDeque<Vec<u32>>,
    stage: Stage,
}

enum Stage {
    /// The index is swept from this key on.
    Sweep(Box<[u8]>),
    /// The next group is to be chosen.
    Choose,
    /// One is being written.
    Write,
    /// It is written, and so many of its records have their new places.
    Move { rewritten: Box<Rewritten>, moved: usize },
    /// The list has changed, and the values that were left behind, so many of each of these keys, are still counted as
    /// garbage.
    Forget(Vec<(Bytes, u32)>),
}

impl Store {
    /// Does one bounded step of what compaction leaves to do; true when the next one can follow at once.
    pub fn step(&mut self) -> Result<bool, StoreError> {
        let Some(mut pass) = self.pass.take() else { return Ok(self.begin_pass()) };
        pass.stage = match pass.stage {
            Stage::Sweep(from) => self.sweep(pass.of, &from),
            Stage::Choose => match self.choose(&mut pass) {
                Some(stage) => stage,
                None => return Ok(true),
            },
            Stage::Write => Stage::Write,
            Stage::Move { rewritten, moved } => self.moves(rewritten, moved)?,
            Stage::Forget(left) => self.forgets(pass.of, left),
        };
        self.pass = Some(pass);
        Ok(self.has_steps())
    }

    /// Whether a step would do something.
    pub fn has_steps(&self) -> bool {
        match &self.pass {
            None => self.next_pending().is_some(),
            Some(Pass { of, stage: Stage::Choose, .. }) => self.may_choose(*of),
            Some(Pass { stage: Stage::Write, .. }) => false,
            Some(Pass { stage: Stage::Sweep(_) | Stage::Move { .. } | Stage::Forget(_), .. }) => true,
        }
    }

    fn next_pending(&self) -> Option<Pending> {
        self.view.published().moment.pending.first().copied()
    }

    fn begin_pass(&mut self) -> bool {
        let Some(of) = self.next_pending() else { return false };
        self.pass = Some(Pass { of, round: 0, groups: VecDeque::new(), stage: Stage::Sweep(Box::default()) });
        true
    }

    /// Whether a compaction is being carried out.
    pub fn in_pass(&self) -> bool {
        self.pass.is_some()
    }

    fn sweep(&mut self, of: Pending, from: &[u8]) -> Stage {
        let dead = &mut self.dead;
        let mut next = None;
        self.view.publish(|published| {
            next =
                published.index.sweep(from, of.compacted, SWEEP_STEP, &mut |version| Store::dies(dead, version.at()));
        });
        match next {
            Some(from) => Stage::Sweep(from),
            None => {
                self.wants_cut |= !self.lists_all_before(of.upto);
                if mutant::is(Mutant::SweptEarly) {
                    self.view.publish(|published| {
                        published.swept = of.compacted;
                        published.moment.pending.retain(|pending| pending.compacted > of.compacted);
                    });
                }
                Stage::Choose
            }
        }
    }

    /// Whether a group may be written now: nothing is damaged, and the durable manifest has every segment before the
    /// window of this compaction.
    fn may_choose(&self, of: Pending) -> bool {
        self.damaged.is_empty() && self.lists_all_before(of.upto)
    }

    /// Whether the durable manifest has every segment that lies before the window of this compaction: a claim names files
    /// as windows became them, so none of these may be written anew.
    fn lists_all_before(&self, upto: u64) -> bool {
        let ends = self.held.ends();
        let mut before = self.segments.iter().filter(|segment| segment.listed.last.main < upto);
        before.all(|segment| segment.is_file && !ends.lacks(segment.listed.first, segment.listed.last))
    }

    /// Begins with the next group, or with the next round; `None` at the end of the pass.
    fn choose(&mut self, pass: &mut Pass) -> Option<Stage> {
        let of = pass.of;
        if !self.may_choose(of) {
            self.wants_cut |= !self.lists_all_before(of.upto);
            return Some(Stage::Choose);
        }
        if pass.groups.is_empty() && pass.round < ROUNDS_MAX {
            pass.round += 1;
            let numbers = |group: Range<usize>| self.segments[group].iter().map(|segment| segment.segment).collect();
            pass.groups = groups(&self.candidates(of), self.config.bounds()).into_iter().map(numbers).collect();
        }
        let Some(group) = pass.groups.pop_front() else {
            self.end_pass(of);
            return None;
        };
        let job = self.rewrite(of, &group);
        self.jobs.push_back(job);
        Some(Stage::Write)
    }

    fn end_pass(&mut self, of: Pending) {
        self.view.publish(|published| {
            published.moment.pending.retain(|pending| pending.compacted > of.compacted);
            published.swept = of.compacted;
        });
        self.wants_cut = true;
    }

    /// The segments as this pass sees them.
    fn candidates(&self, of: Pending) -> Vec<Candidate> {
        let candidate = |segment: &Segment| {
            let dead = self.dead_in(segment.segment);
            let is_open = segment.listed.last.main < of.upto && segment.listed.made < of.compacted;
            Candidate { live: segment.listed.records_bytes - dead, dead, is_open }
        };
        self.segments.iter().map(candidate).collect()
    }

    fn dead_in(&self, segment: u32) -> u64 {
        self.dead.get(&segment).copied().unwrap_or(0)
    }

    fn rewrite(&mut self, of: Pending, group: &[u32]) -> Job {
        let of_group: Vec<Segment> =
            self.segments.iter().filter(|segment| group.contains(&segment.segment)).cloned().collect();
        let live = of_group.iter().map(|one| one.listed.records_bytes - self.dead_in(one.segment)).sum();
        let input = |one: &Segment| Input { segment: one.segment, file: one.file.clone(), listed: one.listed };
        let (segment, file) = (self.next_file_segment, self.files.make());
        self.next_file_segment += 1;
        let inputs = of_group.iter().map(input).collect();
        Job::Rewrite(Box::new(Rewrite { view: self.view(), inputs, segment, file, made: of.compacted, live }))
    }

    /// A group could not be written, since something in it is damaged: it is tried again when that is healed. What is
    /// damaged is still to be found.
    pub(super) fn rewriting_met_damage(&mut self, rewrite: &Rewrite) {
        let pass = self.pass.as_mut().expect("a group is written in a pass");
        pass.groups.push_front(rewrite.inputs.iter().map(|input| input.segment).collect());
        pass.stage = Stage::Choose;
        for Input { segment, file, listed } in &rewrite.inputs {
            self.damaged.insert(*segment);
            self.jobs.push_back(Job::Scrub(Scrub { file: file.clone(), listed: *listed }));
        }
        self.retired.push(rewrite.file.clone());
    }

    /// A segment was read whole, and is what its hash says.
    pub(super) fn found_sound(&mut self, file: &Arc<File>) {
        let sound = self.segments.iter().find(|segment| Arc::ptr_eq(&segment.file, file));
        if let Some(sound) = sound.map(|sound| sound.segment) {
            self.damaged.remove(&sound);
        }
    }

    /// A group is written: its records get their new places, a bounded number in a step, while both files can be read.
    pub(super) fn rewritten(&mut self, rewritten: Box<Rewritten>) {
        if let Some((file, _)) = rewritten.made.clone() {
            self.view.publish(|published| _ = published.files.insert(rewritten.segment, file));
        }
        let pass = self.pass.as_mut().expect("a group is written in a pass");
        pass.stage = Stage::Move { rewritten, moved: 0 };
    }

    fn moves(&mut self, rewritten: Box<Rewritten>, moved: usize) -> Result<Stage, StoreError> {
        let upto = rewritten.moved.len().min(moved + MOVE_STEP);
        let mut missing = None;
        self.view.publish(|published| {
            for Moved { key, at, offset } in &rewritten.moved[moved..upto] {
                let place = Place { segment: rewritten.segment, offset: *offset, len: at.place.len };
                if !published.index.relocate(key, *at, place) {
                    missing = Some(at.revision);
                }
            }
        });
        if let Some(revision) = missing {
            return Err(StoreError::Unproved(format!(
                "the index lost a version of revision {revision} in a compaction"
            )));
        }
        if upto < rewritten.moved.len() {
            return Ok(Stage::Move { rewritten, moved: upto });
        }
        self.replace(&rewritten);
        let mut left: BTreeMap<Bytes, u32> = BTreeMap::new();
        rewritten.left.into_iter().for_each(|key| *left.entry(key).or_default() += 1);
        Ok(Stage::Forget(left.into_iter().collect()))
    }

    /// Values that were left behind are garbage no more, a bounded number in a step. With the last of a key its tombstone
    /// dies.
    fn forgets(&mut self, of: Pending, mut left: Vec<(Bytes, u32)>) -> Stage {
        let now = left.split_off(left.len().saturating_sub(MOVE_STEP));
        let dead = &mut self.dead;
        self.view.publish(|published| {
            for (key, count) in &now {
                published
                    .index
                    .remove_garbage(key, *count, of.compacted, &mut |version| Store::dies(dead, version.at()));
            }
        });
        if left.is_empty() { Stage::Choose } else { Stage::Forget(left) }
    }

    /// The list changes at once: the new segment stands where the old ones stood.
    fn replace(&mut self, rewritten: &Rewritten) {
        let is_old = |segment: &Segment| rewritten.inputs.contains(&segment.segment);
        let at = self.segments.iter().position(is_old).expect("the segments of a group stand in the list");
        self.segments.retain(|segment| !is_old(segment));
        if let Some((file, listed)) = rewritten.made.clone() {
            self.segments.insert(at, Segment { segment: rewritten.segment, file, listed, is_file: true });
        }
        let (dead, retired) = (&mut self.dead, &mut self.retired);
        self.view.publish(|published| {
            for segment in &rewritten.inputs {
                let file = published.files.remove(segment).expect("a segment that was written anew was a file");
                retired.push(file);
                dead.remove(segment);
            }
        });
        self.wants_cut = true;
    }
}
