//! The writer's side of the store, which the apply thread owns: it decides which windows become files, when a manifest is
//! due, and which files go.

use super::apply::Decided;
use super::arriving::Offers;
use super::files::{File, Files};
use super::held::Held;
use super::job::{Cut, Done, Job, Seal, Sealed};
use super::pass::Pass;
use super::view::{Published, View};
use crate::kvstore::Applied;
use crate::kvstore::claim::{Claim, ClaimedFile, ClaimedWindow};
use crate::kvstore::encode_members;
use crate::kvstore::place::{Place, RecordAt};
use crate::kvstore::set::{Given, Writes};
use crate::kvstore::small::{Kind, Small};
use crate::kvstore::window::{Pen, Window};
use crate::limits::{self, WINDOW_BYTES};
use crate::membership::Membership;
use crate::mutant::{self, Mutant};
use crate::segment::Listed;
use crate::segment::file::file_name;
use crate::segment::groups::Bounds;
use crate::snapshot::manifest::{Manifest, Own};
use crate::snapshot::{self, RetentionClock};
use crate::types::{Index, MemberIdentity};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Sizes; a simulation makes them small.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A window ends with the record that brings it to this. All members must have the same.
    pub window_bytes: u32,
    /// A set is due when sled lacks so many bytes.
    pub set_bytes: u64,
    /// A set is due after so many batches.
    pub set_batches: u64,
    /// A segment with fewer live bytes becomes one with its neighbours. All members must have the same.
    pub small_bytes: u64,
}

impl Config {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { small: self.small_bytes, live: self.window_bytes.into(), segments: limits::GROUP_SEGMENTS_MAX }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            window_bytes: WINDOW_BYTES,
            set_bytes: limits::HEAD_SET_BYTES,
            set_batches: limits::HEAD_SET_BATCHES,
            small_bytes: limits::SMALL_SEGMENT_BYTES,
        }
    }
}

/// Windows that may be full and no files yet; with one more, apply waits.
const FULL_WINDOWS_MAX: usize = 1;

/// The writer's side.
pub struct Store {
    pub(super) config: Config,
    pub(super) identity: MemberIdentity,
    pub(super) view: Arc<View>,
    pub(super) membership: Arc<Membership>,
    pub(super) small: Small,
    pub(super) pen: Pen,
    /// What sled has.
    pub(super) given: Given,
    pub(super) batches_since_set: u64,
    /// All segments but the window being filled, ascending.
    pub(super) segments: Vec<Segment>,
    pub(super) held: Arc<Held>,
    /// The numbers of the files that windows will become.
    pub(super) prepared: BTreeMap<u32, Arc<File>>,
    pub(super) files: Arc<Files>,
    pub(super) cutting: bool,
    pub(super) wants_cut: bool,
    pub(super) jobs: VecDeque<Job>,
    /// Bytes of records in each segment that nobody needs any more.
    pub(super) dead: BTreeMap<u32, u64>,
    pub(super) pass: Option<Pass>,
    /// Files that are in the list no more; they go when nobody holds them.
    pub(super) retired: Vec<Arc<File>>,
    /// When the store was at which revision; manifests have it.
    pub(super) clock: RetentionClock,
    /// Segments whose files are damaged.
    pub(super) damaged: BTreeSet<u32>,
    /// Snapshots that were fetched and not installed before this run.
    pub(super) offers: Offers,
    /// The number in this run of the next segment that no window became.
    pub(super) next_file_segment: u32,
}

/// A full window, or what became of it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Its number in this run.
    pub(super) segment: u32,
    pub(super) file: Arc<File>,
    pub(super) listed: Listed,
    /// Whether it is a durable file.
    pub(super) is_file: bool,
}

impl Store {
    /// The readers' side.
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// The membership at the applied index.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    pub(super) fn pen(&self) -> Pen {
        self.pen
    }

    /// What it consists of: the segments that are files or become files, and the window being filled. A function of the
    /// log, but for what a lack of space brought about (rule D8).
    pub fn layout(&self) -> Vec<Listed> {
        let view = self.view();
        let published = view.published();
        let filled = published.head.window(self.pen.segment).map(|window| listed(window, true));
        self.segments.iter().map(|segment| segment.listed).chain(filled).collect()
    }

    /// Bytes of records that somebody may still need, and of all records.
    pub fn live_bytes(&self) -> (u64, u64) {
        let head = self.view.published().head.window(self.pen.segment).map_or(0, |window| u64::from(window.bytes()));
        let all = head + self.segments.iter().map(|segment| segment.listed.records_bytes).sum::<u64>();
        (all - self.dead.values().sum::<u64>(), all)
    }

    /// Whether apply has to wait until a window is a file.
    pub fn must_wait(&self) -> bool {
        self.segments.iter().rev().take_while(|segment| !segment.is_file).count() > FULL_WINDOWS_MAX
    }

    /// Notes that nobody needs a record any more.
    pub(super) fn dies(dead: &mut BTreeMap<u32, u64>, record: RecordAt) {
        let Place { segment, len, .. } = record.place;
        *dead.entry(segment).or_default() += u64::from(len);
    }

    /// The next job for the segment thread; it must be done before the one after it.
    pub fn next_job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// Whether there is a job that nobody took.
    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    pub(super) fn publish(&mut self, decided: Decided) -> Vec<Applied> {
        let Decided { moment, hashes, pen, fresh, versions, applied, membership } = decided;
        if let Some(membership) = membership {
            self.small.set(Kind::Membership, b"", Some(encode_members(&membership)));
            self.membership = membership;
        }
        let full: Vec<u32> = fresh.iter().filter(|fresh| fresh.ends_window).map(|fresh| fresh.segment).collect();
        self.view.publish(|published| {
            fresh.into_iter().for_each(|fresh| published.head.push(fresh));
            for (key, version) in &versions {
                published.index.push(key, *version);
            }
            published.moment = moment;
            published.hashes = hashes;
        });
        self.pen = pen;
        self.batches_since_set += 1;
        full.into_iter().for_each(|segment| self.seal(segment));
        applied
    }

    /// Begins to work: windows that were found full become files, and the one that is filled gets one.
    pub(super) fn begin(&mut self, full: &[u32]) {
        full.iter().for_each(|segment| self.seal(*segment));
        if self.prepared.is_empty() {
            self.prepare();
        }
    }

    /// Takes a file for the window that is filled next.
    pub(super) fn prepare(&mut self) {
        let (file, bytes) = (self.files.make(), u64::from(self.config.window_bytes) + limits::SEGMENT_BEHIND_BYTES);
        self.jobs.push_back(Job::Prepare { n: file.n, bytes });
        self.prepared.insert(self.pen.segment, file);
    }

    /// A window is full: it becomes a file, and the next one gets one.
    pub(super) fn seal(&mut self, segment: u32) {
        let view = self.view();
        let published = view.published();
        let window = published.head.window(segment).expect("a window that was filled is in the head");
        let file = self.prepared.remove(&segment).unwrap_or_else(|| self.files.make());
        let listed = listed(window, false);
        self.segments.push(Segment { segment, file: file.clone(), listed, is_file: false });
        self.jobs.push_back(Job::Seal(Seal { segment, file, pieces: window.pieces(), listed }));
        drop(published);
        if !self.prepared.contains_key(&self.pen.segment) {
            self.prepare();
        }
    }

    /// Takes what a job came to.
    pub fn done(&mut self, done: Done) {
        match done {
            Done::Nothing => {}
            Done::Sealed(Sealed { segment }) => {
                let sealed = self.segments.iter_mut().find(|known| known.segment == segment);
                let sealed = sealed.expect("only full windows are sealed");
                sealed.is_file = true;
                let file = sealed.file.clone();
                self.view.publish(|published| {
                    published.files.insert(segment, file);
                    published.head.drop_window(segment);
                });
                self.wants_cut = true;
            }
            Done::Cut(held) => self.cut_done(held),
            Done::Rewritten(rewritten) => self.rewritten(rewritten),
        }
    }

    /// What has to be said of the whole state at the applied index, without its records: what a set brings to sled.
    pub(super) fn claim(&self) -> Claim {
        let published = self.view.published();
        let ends = self.held.ends();
        let is_needed = |segment: &&Segment| segment.is_file && ends.lacks(segment.listed.first, segment.listed.last);
        let file = |segment: &Segment| ClaimedFile { n: segment.file.n, listed: segment.listed };
        Claim {
            identity: self.identity,
            moment: published.moment.clone(),
            state: self.small.sum(),
            files: self.segments.iter().filter(is_needed).map(file).collect(),
            windows: published.head.windows().iter().map(ClaimedWindow::of).collect(),
        }
    }

    /// Whether sled lacks so much that it is worth a batch.
    pub fn set_is_due(&self) -> bool {
        let lacks = self.given.lacks(&self.view.published().head) + self.small.changed_bytes() as u64;
        lacks >= self.config.set_bytes || self.batches_since_set >= self.config.set_batches
    }

    /// Whether sled lacks anything at all.
    pub fn lacks_set(&self) -> bool {
        self.batches_since_set > 0 || self.small.changed_bytes() > 0
    }

    /// All that sled lacks, to be written as one batch and flushed before the next is asked for (rules D5, D25). After an
    /// error this sled gets nothing more.
    pub fn next_set(&mut self) -> Writes {
        let claim = self.claim();
        self.batches_since_set = 0;
        let view = self.view();
        let published = view.published();
        self.given.next(&claim, &published.head, &mut self.small)
    }

    /// A new, empty sled takes the place of one that was given up: the next set has everything.
    pub fn begin_head(&mut self) {
        self.batches_since_set += 1;
        self.given = Given::default();
        self.small.all_changed();
    }

    /// When the store was at which revision.
    pub fn clock(&mut self) -> &mut RetentionClock {
        &mut self.clock
    }

    /// Whether something waits for a manifest.
    pub fn wants_cut(&self) -> bool {
        self.wants_cut && !self.cutting
    }

    /// Freezes the state at the applied index, and leaves a job that makes it a manifest (rule N16). Returns its index;
    /// `None` while another cut is under way, or when the newest manifest says all that this one would.
    pub fn cut(&mut self) -> Option<Index> {
        let view = self.view();
        let published = view.published();
        let is_news = self.wants_cut || published.moment.applied > self.held.index();
        if self.cutting || !is_news {
            return None;
        }
        let mut segments: Vec<Listed> = self.segments.iter().map(|segment| segment.listed).collect();
        let mut files: Vec<Arc<File>> = self.segments.iter().map(|segment| segment.file.clone()).collect();
        let prefix = published.head.window(self.pen.segment).map(|window| {
            let listed = listed(window, true);
            let file = self.files.make();
            segments.push(listed);
            files.push(file.clone());
            // Nobody reads it here: it goes with the last manifest that lists it.
            self.retired.push(file.clone());
            Seal { segment: self.pen.segment, file, pieces: window.pieces(), listed }
        });
        let MemberIdentity { cluster_id, genesis, generation, .. } = self.identity;
        let manifest = Manifest {
            cluster_id,
            genesis,
            generation,
            moment: published.moment.clone(),
            swept: published.swept,
            hashes: published.hashes.clone(),
            membership: (*self.membership).clone(),
            segments,
            state: Vec::new(),
        };
        let index = manifest.index();
        // A number that is only in memory must not be used again by a run that begins with this manifest.
        let own = Own {
            next_n: self.files.next(),
            n: files.iter().map(|file| file.n).collect(),
            clock: self.clock.samples(),
        };
        if mutant::is(Mutant::WindowEndsAtCut) && prefix.is_some() {
            self.pen.window_bytes = self.pen.offset + 1;
        }
        (self.cutting, self.wants_cut) = (true, false);
        self.jobs.push_back(Job::Cut(Box::new(Cut { manifest: Arc::new(manifest), own, files, prefix })));
        Some(index)
    }

    fn cut_done(&mut self, held: Arc<Held>) {
        self.cutting = false;
        let before = std::mem::replace(&mut self.held, held);
        let name = |of: &Held| snapshot::file_name(of.term(), of.index());
        // One of the same index, which is written when only the files have changed, has taken the other's place.
        let replaced = Some(name(&before)).filter(|before| *before != name(&self.held));
        drop(before);
        let names = replaced.into_iter().chain(self.take_unlinkable()).collect();
        self.jobs.push_back(Job::Unlink { names });
    }

    /// The cut could not be written. It is wanted again; what it left goes.
    pub fn cut_failed(&mut self) {
        (self.cutting, self.wants_cut) = (false, true);
        self.unlink();
    }

    /// The newest durable manifest: whoever holds it keeps its files.
    pub fn held(&self) -> Arc<Held> {
        self.held.clone()
    }

    /// Leaves a job that removes the files that nobody holds any more, if there are any.
    pub fn unlink(&mut self) {
        let names = self.take_unlinkable();
        if !names.is_empty() {
            self.jobs.push_back(Job::Unlink { names });
        }
    }

    /// The names of retired files that no durable manifest lists, nobody reads and nobody is sent; they are forgotten here.
    fn take_unlinkable(&mut self) -> Vec<String> {
        let is_held = |file: &Arc<File>| Arc::strong_count(file) > 1 && !mutant::is(Mutant::UnlinkBeforeManifest);
        let (held, free) = std::mem::take(&mut self.retired).into_iter().partition(is_held);
        self.retired = held;
        let free: Vec<Arc<File>> = free;
        free.iter().map(|file| file_name(file.n)).collect()
    }
}

/// What lists say of a window as it is now.
pub(super) fn listed(window: &Window, prefix: bool) -> Listed {
    Listed {
        first: window.first(),
        last: window.last(),
        records_bytes: window.bytes().into(),
        records: window.records(),
        made: 0,
        hash: window.hash(),
        prefix,
    }
}

impl Published {
    /// Memory that the store takes, besides bounded queues: the index and the head.
    pub(super) fn bytes(&self) -> u64 {
        self.index.bytes() + self.head.bytes()
    }
}
