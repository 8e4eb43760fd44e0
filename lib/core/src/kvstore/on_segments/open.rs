//! From a directory to a store: the newest manifest, the claim of sled if it proves itself, and the index of both (rule
//! N8).
//!
//! [`Start`] says from which applied index a member goes on, before anything large is read; [`Start::open`] then reads
//! what that takes. What no durable manifest lists is read whole, and hashed, before it is believed (rule D4).

use super::arriving::Offers;
use super::directory::{newest_manifest, remove_orphans, write_manifest};
use super::files::{File, Files};
use super::held::{Ends, Held};
use super::index_of_tables::{From, Indexed, build};
use super::store::{Config, Segment, Store};
use super::view::{Published, View};
use crate::kvstore::claim::{Claim, ClaimedFile, ClaimedWindow};
use crate::kvstore::moment::Moment;
use crate::kvstore::set::{self, Found, Given, NoHead};
use crate::kvstore::small::{Kind, Small};
use crate::kvstore::window::{Fresh, Head, Pen};
use crate::kvstore::{StoreError, decode_members, encode_members};
use crate::membership::Membership;
use crate::mutant::{self, Mutant};
use crate::ports::{KvDisk, LogDisk};
use crate::segment::file::{self, file_name};
use crate::segment::{Listed, Sealed};
use crate::snapshot::RetentionClock;
use crate::snapshot::manifest::{Manifest, Own};
use crate::space;
use crate::types::{Index, MemberIdentity, Term};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Numbers of files in this run begin here, and those of windows below.
const FILES_FROM: u32 = 1 << 31;
/// Lines between two signs of life while an index is built: about 16 MiB of tables.
const PROGRESS_LINES: u64 = 500_000;

/// Calls `progress` now and then, and at the end.
pub(super) fn progress_every(lines: u64, all: u64, progress: &mut dyn FnMut(u64, u64)) {
    if lines.is_multiple_of(PROGRESS_LINES) || lines == all {
        progress(lines, all);
    }
}

/// Where a member goes on.
pub struct Start {
    identity: MemberIdentity,
    manifest: Manifest,
    own: Own,
    /// Whether one half of the manifest's file is damaged.
    is_half: bool,
    /// What sled has, if it proves itself and is not behind the manifest.
    claimed: Option<Proved>,
    /// Why it is not believed.
    no_claim: Option<String>,
    /// Applied index and term of the claim, whether or not the rest of sled proves it.
    witness: Option<(Index, Term)>,
}

/// What sled has, proved.
struct Proved {
    claim: Claim,
    small: Small,
    given: Given,
    membership: Membership,
    /// The files behind the manifest.
    files: Vec<ClaimedFile>,
    /// The windows behind it: their numbers, bytes, and what stands behind these.
    windows: Vec<(u32, Vec<u8>, Sealed)>,
}

/// The applied index that a claim or a manifest stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// Applied index.
    pub applied: Index,
    /// Its term.
    pub term: Term,
    /// Membership at that index.
    pub membership: Membership,
}

impl Start {
    /// Reads the newest manifest of this member, and the claim in `kv`. `None` without a manifest: there is nothing to
    /// start from before a leader's snapshot comes.
    pub fn find(
        identity: &MemberIdentity,
        disk: &dyn LogDisk,
        kv: Option<&dyn KvDisk>,
    ) -> Result<Option<Start>, StoreError> {
        let Some((manifest, own, is_half)) = newest_manifest(identity, disk)? else { return Ok(None) };
        let mut start =
            Start { identity: *identity, manifest, own, is_half, claimed: None, no_claim: None, witness: None };
        if let Some(kv) = kv {
            start.witness = set::read_claim(kv).ok().and_then(|(claim, _)| start.witness_of(&claim));
            match start.prove(disk, kv) {
                Ok(proved) => start.claimed = Some(proved),
                Err(NoHead::Newer(what)) => return Err(StoreError::Newer(what)),
                Err(NoHead::Unproved(why)) => start.no_claim = Some(why),
                Err(NoHead::Io(error)) => start.no_claim = Some(error.to_string()),
            }
        }
        Ok(Some(start))
    }

    /// The index of the manifest.
    pub fn manifest_index(&self) -> Index {
        self.manifest.index()
    }

    /// Where the member goes on: the claim's applied index, else the manifest's.
    pub fn claimed(&self) -> Claimed {
        match &self.claimed {
            Some(Proved { claim, membership, .. }) => {
                let (applied, term) = (claim.moment.applied, claim.moment.term);
                Claimed { applied, term, membership: membership.clone() }
            }
            None => {
                let (applied, term) = (self.manifest.index(), self.manifest.term());
                Claimed { applied, term, membership: self.manifest.membership.clone() }
            }
        }
    }

    /// Whether sled goes on being used; else a new, empty one takes its place, and the reason why.
    pub fn keeps_head(&self) -> Result<(), &str> {
        match (&self.claimed, &self.no_claim) {
            (Some(_), _) => Ok(()),
            (None, Some(why)) => Err(why),
            (None, None) => Err("there was none"),
        }
    }

    /// The applied index and its term that sled's claim speaks of, if it is of this member and not behind the manifest:
    /// its checksum is right, even if the rest of sled does not prove it. A log that does not hold this index with this
    /// term has lost what it once had (rules N2, N8).
    pub fn witness(&self) -> Option<(Index, Term)> {
        self.witness
    }

    fn witness_of(&self, claim: &Claim) -> Option<(Index, Term)> {
        let at = (claim.moment.applied, claim.moment.term);
        (claim.identity == self.identity && at.0 >= self.manifest.index()).then_some(at)
    }

    fn prove(&self, disk: &dyn LogDisk, kv: &dyn KvDisk) -> Result<Proved, NoHead> {
        let Found { claim, small, windows, given } = set::find(kv)?;
        let unproved = |why: String| Err(NoHead::Unproved(why));
        if claim.identity != self.identity {
            return unproved(format!("it is of {:?}", claim.identity));
        }
        let (applied, index) = (claim.moment.applied, self.manifest.index());
        if applied < index {
            return unproved(format!("its applied index {applied} is behind the snapshot at {index}"));
        }
        let mut moment = claim.moment.clone();
        moment.add_pending(&self.manifest.moment, self.manifest.swept);
        if !moment.is_sound() {
            return unproved("its compactions do not follow those of the snapshot".to_string());
        }
        let membership = small.get(Kind::Membership, b"").and_then(decode_members);
        let Some(membership) = membership else { return unproved("it holds no membership".to_string()) };
        let ends = Ends::of(&self.manifest);
        let is_taken =
            |file: &&ClaimedFile| ends.lacks(file.listed.first, file.listed.last) || mutant::is(Mutant::ClaimByNumber);
        let files = claim.files.iter().filter(is_taken);
        let files: Vec<ClaimedFile> = files.copied().collect();
        let mut proved = Proved { small, given, membership, files, windows: Vec::new(), claim };
        for file in &proved.files {
            file::prove(disk, file.n, &file.listed).map_err(no_head)?;
        }
        for (window, bytes) in proved.claim.windows.iter().zip(windows) {
            let ClaimedWindow { number, hash, records, .. } = *window;
            let sealed = file::prove_bytes(&format!("window {number}"), &bytes, hash).map_err(no_head)?;
            if sealed.foot.first != window.first || sealed.foot.records != records {
                return unproved(format!("window {number} is not the one of its claim"));
            }
            let Some(number) = u32::try_from(number).ok().filter(|number| *number < FILES_FROM) else {
                return unproved(format!("window {number} has no number of a window"));
            };
            if ends.lacks(sealed.foot.first, sealed.foot.last) {
                proved.windows.push((number, bytes, sealed));
            }
        }
        self.expect_no_gap(&ends, &proved).map_err(NoHead::Unproved)?;
        Ok(proved)
    }

    /// What is claimed must begin where the manifest ends, and end at the claim's revision.
    fn expect_no_gap(&self, ends: &Ends, proved: &Proved) -> Result<(), String> {
        let of_files = proved.files.iter().map(|file| (file.listed.first, file.listed.last));
        let of_windows = proved.windows.iter().map(|(_, _, sealed)| (sealed.foot.first, sealed.foot.last));
        let mut next = self.manifest.moment.revision + 1;
        let mut from = ends.prefix;
        for (first, last) in of_files.chain(of_windows) {
            let follows = match from.take() {
                Some(prefix) => first == prefix,
                None => first.main == next || first.main + 1 == next && first.sub > 0,
            };
            if !follows {
                return Err(format!("what follows revision {} is missing", next - 1));
            }
            next = last.main + 1;
        }
        let revision = proved.claim.moment.revision;
        if from.is_some() || next != revision + 1 {
            return Err(format!("it ends at revision {} and claims {revision}", next - 1));
        }
        Ok(())
    }

    /// Reads the tables of all segments into an index, which must be what the start says (rule D7); with it, the store.
    /// Files that nothing names go, so nobody may be making any. `progress` gets records done so far and in all.
    pub fn open(
        self,
        disk: Arc<dyn LogDisk>,
        config: Config,
        files: &Arc<Files>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Store, StoreError> {
        let offers = Offers::find(&self.identity, &*disk, files, self.manifest.index())?;
        remove_orphans(&*disk, &self.manifest, &self.files(), &offers)?;
        if self.is_half {
            match write_manifest(&*disk, &self.manifest, &self.own) {
                Err(error) if space::is_full(&error) => {
                    tracing::warn!(%error, "the damaged half of the snapshot is not written again: the next one has both");
                }
                written => written?,
            }
        }
        self.build(disk, config, files, offers, progress)
    }

    /// The same within a run, after the installation of a snapshot: the store takes the place of the one before it, whose
    /// files go when nobody holds them. Nothing else is removed, since another snapshot may be arriving meanwhile. No job
    /// of the old store may be under way.
    pub fn succeed(
        self,
        disk: Arc<dyn LogDisk>,
        config: Config,
        files: &Arc<Files>,
        before: Option<Store>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Store, StoreError> {
        if mutant::is(Mutant::OrphansAtInstall) {
            remove_orphans(&*disk, &self.manifest, &self.files(), &Offers::default())?;
        }
        let mut store = self.build(disk, config, files, Offers::default(), progress)?;
        if let Some(before) = before {
            store.succeeds(before);
        }
        Ok(store)
    }

    /// The numbers of all files that it names.
    fn files(&self) -> BTreeSet<u64> {
        let claimed = self.claimed.iter().flat_map(|proved| &proved.files).map(|file| file.n);
        self.own.n.iter().copied().chain(claimed).collect()
    }

    fn build(
        self,
        disk: Arc<dyn LogDisk>,
        config: Config,
        known: &Arc<Files>,
        mut offers: Offers,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Store, StoreError> {
        known.at_least(self.own.next_n);
        offers.leave_out(&self.files());
        let Start { identity, manifest, own, is_half: _, claimed, no_claim: _, witness: _ } = self;
        let whole = manifest.segments.iter().zip(&own.n).filter(|(listed, _)| !listed.prefix);
        let mut files: Vec<(u64, Listed)> = whole.map(|(listed, n)| (*n, *listed)).collect();
        let prefix_n = own.n.last().copied().filter(|_| Ends::of(&manifest).prefix.is_some());
        let mut parts = match claimed {
            Some(proved) => {
                files.extend(proved.files.iter().map(|file| (file.n, file.listed)));
                Parts::of_claim(proved)
            }
            None => Parts::of_manifest(&*disk, &manifest, prefix_n)?,
        };
        parts.moment.add_pending(&manifest.moment, manifest.swept);
        let mut published = Published {
            moment: parts.moment.clone(),
            swept: manifest.swept,
            hashes: manifest.hashes.clone(),
            ..Published::default()
        };
        let (segments, mut indexed) = take_files(&*disk, known, files, &mut published)?;
        let next_file_segment = FILES_FROM + u32::try_from(segments.len()).expect("segments are MiB large");
        let (pen, full) = parts.fill_head(config, &mut published.head, &mut indexed);
        let built = build(&*disk, &mut indexed, manifest.swept, progress)?;
        built.expect(&parts.moment)?;
        published.index = built.index;
        let prefix = prefix_n.map(|n| known.get(n));
        let held = hold(manifest, &segments, prefix.clone());
        // The prefix is read nowhere: it goes with the last manifest that lists it.
        let retired = prefix.into_iter().collect();
        let Parts { small, given, membership, .. } = parts;
        let mut store = Store {
            config,
            identity,
            view: Arc::new(View::new(disk, published)),
            membership: Arc::new(membership),
            small,
            pen,
            given,
            batches_since_set: 0,
            segments,
            held,
            prepared: BTreeMap::new(),
            files: known.clone(),
            cutting: false,
            wants_cut: false,
            jobs: VecDeque::new(),
            dead: built.dead,
            pass: None,
            retired,
            damaged: BTreeSet::new(),
            clock: RetentionClock::of(&own.clock),
            offers,
            next_file_segment,
        };
        store.begin(&full);
        Ok(store)
    }
}

fn no_head(error: file::SegmentError) -> NoHead {
    match error {
        file::SegmentError::Io(error) => NoHead::Io(error),
        file::SegmentError::Damaged(why) => NoHead::Unproved(why),
        file::SegmentError::Newer(what) => NoHead::Newer(what),
    }
}

/// The manifest with its files: those of the segments that it lists, which come first, and of its prefix.
fn hold(manifest: Manifest, segments: &[Segment], prefix: Option<Arc<File>>) -> Arc<Held> {
    let whole = segments.iter().take(manifest.segments.len() - prefix.iter().len());
    let files = whole.map(|segment| segment.file.clone()).chain(prefix).collect();
    Arc::new(Held::new(Arc::new(manifest), files))
}

/// Looks at the foot of each file, and gives the segments their numbers in this run.
fn take_files(
    disk: &dyn LogDisk,
    known: &Files,
    files: Vec<(u64, Listed)>,
    published: &mut Published,
) -> Result<(Vec<Segment>, Vec<Indexed>), StoreError> {
    let (mut segments, mut indexed) = (Vec::new(), Vec::new());
    for (nth, (n, listed)) in files.into_iter().enumerate() {
        let segment = FILES_FROM + u32::try_from(nth).expect("segments are MiB large");
        let foot = file::foot(disk, n, &listed)?;
        indexed.push(Indexed { segment, from: From::File { n, listed, foot } });
        let file = known.get(n);
        published.files.insert(segment, file.clone());
        segments.push(Segment { segment, file, listed, is_file: true });
    }
    Ok((segments, indexed))
}

/// What a store starts with besides files.
struct Parts {
    moment: Moment,
    small: Small,
    given: Given,
    membership: Membership,
    windows: Vec<(u32, Vec<u8>, Sealed)>,
}

impl Parts {
    fn of_claim(proved: Proved) -> Parts {
        let Proved { claim, small, given, membership, files: _, windows } = proved;
        Parts { moment: claim.moment, small, given, membership, windows }
    }

    /// Without a claim: the prefix that the manifest lists is the beginning of the window being filled.
    fn of_manifest(disk: &dyn LogDisk, manifest: &Manifest, prefix_n: Option<u64>) -> Result<Parts, StoreError> {
        let mut windows = Vec::new();
        if let (Some(listed), Some(n)) = (manifest.segments.last(), prefix_n) {
            let bytes = file::read_records(disk, n, listed)?;
            let sealed = file::prove_bytes(&file_name(n), &bytes, listed.hash)?;
            windows.push((0, bytes, sealed));
        }
        let mut small = Small::default();
        small.set(Kind::Membership, b"", Some(encode_members(&manifest.membership)));
        if let Some((kind, _, _)) = manifest.state.first() {
            return Err(StoreError::Newer(format!("a manifest with a state of kind {kind}")));
        }
        let (moment, membership) = (manifest.moment.clone(), manifest.membership.clone());
        Ok(Parts { moment, small, given: Given::default(), membership, windows })
    }

    /// Puts the windows into the head, and says where the next record goes, and which windows are full.
    fn fill_head(&mut self, config: Config, head: &mut Head, indexed: &mut Vec<Indexed>) -> (Pen, Vec<u32>) {
        let window_bytes = config.window_bytes;
        // Chunks that are still to be removed must not be those of a new window.
        let next = u32::try_from(self.given.next_window()).ok().filter(|next| *next < FILES_FROM).unwrap_or(0);
        let mut pen = Pen { window_bytes, segment: next, offset: 0 };
        let mut full = Vec::new();
        let count = self.windows.len();
        for (nth, (segment, bytes, sealed)) in self.windows.drain(..).enumerate() {
            let len = u32::try_from(bytes.len()).expect("offsets have 32 bits");
            let is_full = len >= window_bytes || nth + 1 < count;
            let (records, first, last) = (sealed.foot.records, sealed.foot.first, sealed.foot.last);
            head.push(Fresh { segment, start: 0, bytes, records, first, last, ends_window: is_full });
            indexed.push(Indexed { segment, from: From::Memory(sealed) });
            pen = match is_full {
                true => Pen { window_bytes, segment: next.max(segment + 1), offset: 0 },
                false => Pen { window_bytes, segment, offset: len },
            };
            full.extend(is_full.then_some(segment));
        }
        (pen, full)
    }
}
