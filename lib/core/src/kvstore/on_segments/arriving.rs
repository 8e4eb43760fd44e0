//! A snapshot that is offered by another member: what of it is here, what is to be fetched, and how it becomes this
//! member's own (rules N13, N14).
//!
//! ```text
//! manifest's bytes ─► Arriving ─► lacking: segments, each fetched and proved ─► complete: offer-<term>-<index>, durable
//!                                                                                    │
//!                  log restarts behind its index, durably (the mark) ─► install: snapshot-<term>-<index>, opened anew
//! ```
//!
//! Until the log has the mark, the old state is whole, and is what an opening finds (rule D13). With it, an opening
//! finishes the installation. What was fetched for an offer that was not installed is at hand for the next one.

use super::directory::write_manifest_as;
use super::files::{File, Files};
use super::job::Job;
use super::store::Store;
use crate::kvstore::StoreError;
use crate::mutant::{self, Mutant};
use crate::ports::LogDisk;
use crate::segment::Listed;
use crate::segment::file::{self, SegmentError};
use crate::snapshot;
use crate::snapshot::manifest::{BadManifest, Manifest, Own, hash_of};
use crate::types::{Index, MemberIdentity, Term};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

pub(super) const OFFER: &str = "offer-";

/// Segments that are here, by the hash of their records.
#[derive(Default)]
pub struct AtHand(BTreeMap<u128, (Listed, Arc<File>)>);

impl AtHand {
    /// Those of a store. While this is held, none of them goes.
    pub fn of(store: &Store) -> AtHand {
        let files = store.segments.iter().filter(|segment| segment.is_file);
        let files = files.map(|segment| (segment.listed.hash, (segment.listed, segment.file.clone())));
        let offered = store.offers.at_hand.0.iter().map(|(hash, offered)| (*hash, offered.clone()));
        AtHand(offered.chain(files).collect())
    }

    /// Adds those that were fetched for an offer.
    pub fn add(&mut self, arriving: &Arriving) {
        let fetched = arriving.manifest.segments.iter().zip(&arriving.files);
        let fetched = fetched.filter_map(|(listed, file)| Some((listed.hash, (*listed, file.clone()?))));
        self.0.extend(fetched);
    }

    fn get(&self, wanted: &Listed) -> Option<Arc<File>> {
        let (listed, file) = self.0.get(&wanted.hash)?;
        // Which compaction made it, and whether a window goes on behind it, is the list's affair, not the file's.
        let same = Listed { made: wanted.made, prefix: wanted.prefix, ..*listed } == *wanted;
        same.then(|| file.clone())
    }
}

/// A snapshot that is being fetched.
#[derive(Debug)]
pub struct Arriving {
    manifest: Arc<Manifest>,
    files: Vec<Option<Arc<File>>>,
}

impl Arriving {
    /// Begins with the manifest's bytes, which must be those that were announced, by their number and hash.
    pub fn begin(
        identity: &MemberIdentity,
        bytes: &[u8],
        announced: (u64, u128),
        at_hand: &AtHand,
    ) -> Result<Arriving, StoreError> {
        let unfit = |why: String| Err(StoreError::Unproved(format!("the snapshot that is offered {why}")));
        if (bytes.len() as u64, hash_of(bytes)) != announced {
            return unfit(format!("has {} bytes with another hash than was announced", bytes.len()));
        }
        let mut rest = bytes;
        let manifest = match Manifest::decode(&mut rest) {
            Ok(manifest) if rest.is_empty() => manifest,
            Ok(_) | Err(BadManifest::Damaged) => return unfit("is damaged".to_string()),
            Err(BadManifest::Newer(what)) => return Err(StoreError::Newer(what)),
        };
        if !manifest.is_of(identity) {
            return unfit("is of another cluster".to_string());
        }
        let files = manifest.segments.iter().map(|listed| at_hand.get(listed)).collect();
        Ok(Arriving { manifest: Arc::new(manifest), files })
    }

    /// The log index.
    pub fn index(&self) -> Index {
        self.manifest.index()
    }

    /// The term of that index.
    pub fn term(&self) -> Term {
        self.manifest.term()
    }

    /// The segments that are still to be fetched, ascending.
    pub fn lacking(&self) -> Vec<Listed> {
        let lacking = self.manifest.segments.iter().zip(&self.files).filter(|(_, file)| file.is_none());
        lacking.map(|(listed, _)| *listed).collect()
    }

    /// A segment has arrived, and is durable.
    pub fn arrived(&mut self, segment: Arrived) {
        let at = self.manifest.segments.iter().position(|listed| *listed == segment.listed);
        self.files[at.expect("only what is lacking is fetched")] = Some(segment.file);
    }

    /// All segments are here: makes that durable, without touching what this member has.
    pub fn complete(&self, disk: &dyn LogDisk, files: &Files) -> io::Result<()> {
        let n = |file: &Option<Arc<File>>| file.as_ref().expect("nothing is lacking").n;
        let own = Own { next_n: files.next(), n: self.files.iter().map(n).collect(), clock: Vec::new() };
        let name = match mutant::is(Mutant::InstallInPlace) {
            true => snapshot::file_name(self.term(), self.index()),
            false => offer_name(self.term(), self.index()),
        };
        write_manifest_as(disk, &name, &self.manifest, &own)
    }
}

/// A segment that is being fetched.
pub struct Incoming<'a> {
    writer: file::Writer<'a>,
    file: Arc<File>,
    listed: Listed,
}

/// A segment that was fetched, proved and is durable.
#[derive(Debug)]
pub struct Arrived {
    pub(super) listed: Listed,
    pub(super) file: Arc<File>,
}

impl<'a> Incoming<'a> {
    /// Makes its file, under a number that no file has.
    pub fn begin(disk: &'a dyn LogDisk, files: &Files, listed: Listed) -> Result<Incoming<'a>, SegmentError> {
        let file = files.make();
        Ok(Incoming { writer: file::Writer::create(disk, file.n)?, file, listed })
    }

    /// Bytes that have arrived.
    pub fn bytes(&self) -> u64 {
        self.writer.records_bytes()
    }

    /// The next bytes of its records. What is wrong is found here, or at the end.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        if self.bytes() + bytes.len() as u64 > self.listed.records_bytes {
            return Err(SegmentError::Damaged(format!(
                "more than the {} bytes of it arrived",
                self.listed.records_bytes
            )));
        }
        // No process stops on the word of another one.
        self.writer.push(bytes).map_err(|error| match error {
            SegmentError::Newer(what) => SegmentError::Damaged(what),
            error @ (SegmentError::Io(_) | SegmentError::Damaged(_)) => error,
        })
    }

    /// All has arrived: if it is the segment that was wanted, it is made whole and durable.
    pub fn finish(self) -> Result<Arrived, SegmentError> {
        let Incoming { writer, file, listed } = self;
        writer.finish_as(&listed)?;
        Ok(Arrived { listed, file })
    }
}

fn offer_name(term: Term, index: Index) -> String {
    format!("{OFFER}{term:020}-{index:020}")
}

/// The log has durably restarted behind this index: the offer becomes the snapshot. It is no error when it has become
/// that already, so an opening calls this, too, with the log's base.
pub fn install(disk: &dyn LogDisk, (term, index): (Term, Index)) -> io::Result<()> {
    let (offer, name) = (offer_name(term, index), snapshot::file_name(term, index));
    if !disk.list()?.contains(&offer) {
        return Ok(());
    }
    disk.rename(&offer, &name)?;
    file::sync_dir(disk)
}

/// Offers that were completed and not installed: they and what they list stay, at hand for the next offer.
#[derive(Default)]
pub(super) struct Offers {
    /// The names of their manifests.
    pub(super) names: Vec<String>,
    pub(super) at_hand: AtHand,
}

impl Offers {
    /// Those of an index above this one.
    pub(super) fn find(
        identity: &MemberIdentity,
        disk: &dyn LogDisk,
        known: &Files,
        above: Index,
    ) -> Result<Offers, StoreError> {
        let mut offers = Offers::default();
        for name in disk.list()?.into_iter().filter(|name| name.starts_with(OFFER)) {
            let mut bytes = vec![0; usize::try_from(disk.len(&name)?).map_err(io::Error::other)?];
            let read = disk.read(&name, 0, &mut bytes)?;
            match Manifest::decode_file(&bytes[..read]) {
                Ok((manifest, own, _)) if manifest.is_of(identity) && manifest.index() > above => {
                    let files = manifest.segments.iter().zip(&own.n);
                    let files = files.map(|(listed, n)| (listed.hash, (*listed, known.get(*n))));
                    offers.at_hand.0.extend(files);
                    offers.names.push(name);
                }
                Ok(_) | Err(BadManifest::Damaged) => {}
                Err(BadManifest::Newer(what)) => return Err(StoreError::Newer(format!("{name}: {what}"))),
            }
        }
        Ok(offers)
    }

    /// Leaves out files of the store that is opened: it decides when they go, and has them at hand itself.
    pub(super) fn leave_out(&mut self, ours: &BTreeSet<u64>) {
        self.at_hand.0.retain(|_, (_, file)| !ours.contains(&file.n));
    }

    /// The numbers of their files.
    pub(super) fn files(&self) -> impl Iterator<Item = u64> {
        self.at_hand.0.values().map(|(_, file)| file.n)
    }
}

impl AtHand {
    /// Those of offers that were completed and not installed: all there is while a member has no store.
    pub fn of_offers(identity: &MemberIdentity, disk: &dyn LogDisk, files: &Files) -> Result<AtHand, StoreError> {
        Ok(Offers::find(identity, disk, files, 0)?.at_hand)
    }
}

impl Store {
    /// What was fetched for an offer that broke off, or that the log did not take, stays at hand for the next one, until
    /// [`Store::forget_offers`].
    pub fn keep_fetched(&mut self, arriving: &Arriving) {
        self.offers.at_hand.add(arriving);
        self.offers.names.push(offer_name(arriving.term(), arriving.index()));
    }

    /// Forgets what was fetched and not installed: nobody will ask for it now. Not while an offer is complete and the log
    /// has not restarted behind it.
    pub fn forget_offers(&mut self) {
        let Offers { names, at_hand } = std::mem::take(&mut self.offers);
        if !names.is_empty() {
            self.jobs.push_back(Job::Unlink { names });
        }
        self.retire(at_hand.0.into_values().map(|(_, file)| file).collect());
        self.unlink();
    }

    /// Takes the place of another store of this run: its files go when nobody holds them, and what it left to be removed
    /// is removed.
    pub(super) fn succeeds(&mut self, before: Store) {
        let view = before.view();
        let Store { segments, held, prepared, retired, offers, jobs, .. } = before;
        self.offers.names.extend(offers.names);
        self.offers.at_hand.0.extend(offers.at_hand.0);
        self.jobs.extend(jobs.into_iter().filter(|job| matches!(job, Job::Unlink { .. })));
        let read = view.published().files.values().cloned().collect::<Vec<_>>();
        let files = segments.into_iter().map(|segment| segment.file);
        let files = files.chain(held.files.iter().cloned()).chain(prepared.into_values()).chain(retired).chain(read);
        self.retire(files.collect());
        let manifest = snapshot::file_name(held.term(), held.index());
        if held.index() != self.held.index() {
            self.jobs.push_back(Job::Unlink { names: vec![manifest] });
        }
        // Nothing holds them for the old store any more.
        drop((view, held));
        self.unlink();
    }

    /// Notes files that go when nobody holds them. What the list or the manifest names is held; so is the rest of what
    /// was fetched.
    fn retire(&mut self, files: Vec<Arc<File>>) {
        let listed = self.held.files.iter().chain(self.segments.iter().map(|segment| &segment.file));
        let mut known: BTreeSet<u64> = listed.chain(&self.retired).map(|file| file.n).collect();
        known.extend(self.offers.files());
        known.extend(self.prepared.values().map(|file| file.n));
        self.retired.extend(files.into_iter().filter(|file| known.insert(file.n)));
    }
}
