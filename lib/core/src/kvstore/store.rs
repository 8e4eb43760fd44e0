//! The writer's side of the store, which the apply thread owns. What it does is in `apply`, `compact` and `cut`.
//!
//! After a failed write nobody knows what the disk holds, so the store takes no further write. Reads go on at what was
//! published, and the kv db has to be opened again, which proves it.

use super::apply::Writes;
use super::compact::Sweep;
use super::cut::Frozen;
use super::view::View;
use super::{StoreError, prove};
use crate::membership::Membership;
use crate::ports::KvDisk;
use crate::types::{Index, Term};
use std::io;
use std::sync::Arc;

/// The writer's side; owned by the apply thread.
pub struct Store {
    disk: Arc<dyn KvDisk>,
    view: Arc<View>,
    membership: Arc<Membership>,
    health: Health,
    cuts: Cuts,
    pub(super) sweep: Option<Sweep>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Good,
    WriteFailed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cuts {
    None,
    OneRuns,
}

impl Store {
    /// Creates an empty store (for a new cluster: index 1, revision 1) by writing its meta record.
    pub fn create(
        disk: Arc<dyn KvDisk>,
        index: Index,
        term: Term,
        membership: &Membership,
    ) -> Result<Store, StoreError> {
        require_empty(disk.as_ref())?;
        Frozen::empty(index, term, membership).seal(disk.as_ref())?;
        Store::open(disk, &mut |_, _| ())
    }

    /// Scans every record, builds the key index and proves `disk_hash`. `progress` gets records scanned so far and in
    /// all.
    pub fn open(disk: Arc<dyn KvDisk>, progress: &mut dyn FnMut(u64, u64)) -> Result<Store, StoreError> {
        let (published, membership) = prove::prove(disk.as_ref(), progress)?;
        let view = Arc::new(View::new(disk.clone(), published));
        let membership = Arc::new(membership);
        Ok(Store { disk, view, membership, health: Health::Good, cuts: Cuts::None, sweep: None })
    }

    /// The readers' side.
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// The membership at the applied index.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Called after the waiters are answered and before the next batch (rule N23).
    pub fn flush(&mut self) -> Result<(), StoreError> {
        // An only voter has no peer that would notice if its log lost what was acknowledged (rule N20). Its kv db is
        // the only witness (rule N2), so it gets every batch at once.
        let flushed = match self.membership.voters.len() {
            1 => self.disk.idle(),
            _ => self.disk.flush(),
        };
        self.note(flushed)
    }

    /// Called while there is nothing to apply.
    pub fn idle(&mut self) -> Result<(), StoreError> {
        let written = self.disk.idle();
        self.note(written)
    }

    pub(super) fn disk(&self) -> &Arc<dyn KvDisk> {
        &self.disk
    }

    pub(super) fn set_membership(&mut self, membership: Arc<Membership>) {
        self.membership = membership;
    }

    pub(super) fn write(&mut self, writes: Writes) -> Result<(), StoreError> {
        if self.health == Health::WriteFailed {
            return Err(io::Error::other("an earlier write failed; it must be opened again").into());
        }
        let written = self.disk.apply_batch(writes);
        self.note(written)
    }

    fn note(&mut self, result: io::Result<()>) -> Result<(), StoreError> {
        if result.is_err() {
            self.health = Health::WriteFailed;
        }
        Ok(result?)
    }

    pub(super) fn compaction_paused(&self) -> bool {
        self.cuts == Cuts::OneRuns
    }

    pub(super) fn pause_compaction(&mut self) {
        assert!(self.cuts == Cuts::None, "one cut at a time (rule N12)");
        self.cuts = Cuts::OneRuns;
    }

    pub(super) fn resume_compaction(&mut self) {
        self.cuts = Cuts::None;
    }
}

/// Fails unless the tree is empty: only an empty one may be filled.
pub(crate) fn require_empty(disk: &dyn KvDisk) -> Result<(), StoreError> {
    let mut empty = true;
    disk.scan(&[], None, &mut |_, _| {
        empty = false;
        false
    })?;
    if empty { Ok(()) } else { Err(StoreError::Unproved("a new kv db holds records already".into())) }
}
