//! Damage to a segment: who finds it, and how it is made good by bytes with the hash that is listed (rules D23, D24).
//!
//! ```text
//! scrub, rewriting ─► Damaged ─► fetched from any member by its hash ─► heal: another file stands in the list ─► a cut
//! ```
//!
//! Until then reads of what is whole go on, a read of what is damaged fails, and compactions wait: what they would write
//! anew is not known. The damaged file stays until a manifest without it is durable.

use super::arriving::Arrived;
use super::job::{Job, Scrub};
use super::store::{Segment, Store};
use crate::segment::Listed;

impl Store {
    /// Leaves a job that reads the segment behind `after` whole, and compares it with its hash: one after the other, then
    /// the first again. Returns its hash; `None` without segments.
    pub fn scrub(&mut self, after: Option<u128>) -> Option<u128> {
        let files: Vec<&Segment> = self.segments.iter().filter(|segment| segment.is_file).collect();
        let before = after.and_then(|hash| files.iter().position(|segment| segment.listed.hash == hash));
        let next = files.get(before.map_or(0, |at| at + 1)).or(files.first())?;
        let (file, listed) = (next.file.clone(), next.listed);
        self.jobs.push_back(Job::Scrub(Scrub { file, listed }));
        Some(listed.hash)
    }

    /// The segment with this hash is not what its hash says, in the file that was read.
    pub fn found_damaged(&mut self, hash: u128) {
        let damaged = self.segments.iter().find(|segment| segment.listed.hash == hash);
        self.damaged.extend(damaged.map(|segment| segment.segment));
    }

    /// The segments that are to be fetched from another member.
    pub fn damaged(&self) -> Vec<Listed> {
        let damaged = self.segments.iter().filter(|segment| self.damaged.contains(&segment.segment));
        damaged.map(|segment| segment.listed).collect()
    }

    /// A segment that was fetched takes the place of its damaged file. False when no such segment is in the list any more:
    /// then its file goes.
    pub fn heal(&mut self, arrived: Arrived) -> bool {
        let Arrived { listed, file } = arrived;
        let healed = self.segments.iter_mut().find(|segment| segment.listed == listed);
        let Some(healed) = healed else {
            self.retired.push(file);
            self.unlink();
            return false;
        };
        self.retired.push(std::mem::replace(&mut healed.file, file.clone()));
        self.damaged.remove(&healed.segment);
        let segment = healed.segment;
        self.view.publish(|published| _ = published.files.insert(segment, file));
        self.wants_cut = true;
        true
    }
}
