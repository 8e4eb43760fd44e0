//! What a data directory holds of a store: manifests, the files that they name, and what nothing names.

use super::arriving::{OFFER, Offers};
use crate::kvstore::StoreError;
use crate::kvstore::moment::Moment;
use crate::membership::Membership;
use crate::ports::LogDisk;
use crate::segment::file::{self, parse_file_name};
use crate::snapshot;
use crate::snapshot::manifest::{BadManifest, Manifest, Own};
use crate::types::{Index, MemberIdentity, Term};
use std::collections::BTreeSet;
use std::io;

/// Writes the first manifest of a cluster, durably: an index, and no keys (rule N12).
pub fn write_initial(
    identity: &MemberIdentity,
    disk: &dyn LogDisk,
    (index, term): (Index, Term),
    membership: &Membership,
) -> Result<(), StoreError> {
    let manifest = Manifest {
        cluster_id: identity.cluster_id,
        genesis: identity.genesis,
        generation: identity.generation,
        moment: Moment { applied: index, term, revision: 1, ..Moment::default() },
        swept: 0,
        hashes: Vec::new(),
        membership: membership.clone(),
        segments: Vec::new(),
        state: Vec::new(),
    };
    Ok(write_manifest(disk, &manifest, &Own::default())?)
}

/// Writes a manifest's file, durably, under its name.
pub(super) fn write_manifest(disk: &dyn LogDisk, manifest: &Manifest, own: &Own) -> io::Result<()> {
    write_manifest_as(disk, &snapshot::file_name(manifest.term(), manifest.index()), manifest, own)
}

/// The same, under another name.
pub(super) fn write_manifest_as(disk: &dyn LogDisk, name: &str, manifest: &Manifest, own: &Own) -> io::Result<()> {
    let temporary = format!("{name}{}", snapshot::TEMPORARY);
    disk.create(&temporary, 0)?;
    disk.write(&temporary, 0, &manifest.encode_file(own))?;
    file::sync(disk, &temporary)?;
    disk.rename(&temporary, name)?;
    file::sync_dir(disk)
}

/// The newest manifest that is whole and of this member's cluster, and whether one half of its file is damaged.
pub(super) fn newest_manifest(
    identity: &MemberIdentity,
    disk: &dyn LogDisk,
) -> Result<Option<(Manifest, Own, bool)>, StoreError> {
    let mut names: Vec<((Term, Index), String)> = Vec::new();
    for name in disk.list()? {
        names.extend(snapshot::parse_name(&name).map(|(term, index)| ((term, index), name)));
    }
    names.sort_by_key(|((term, index), _)| std::cmp::Reverse((*index, *term)));
    for (position, name) in names {
        let len = usize::try_from(disk.len(&name)?).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        let read = disk.read(&name, 0, &mut bytes)?;
        match Manifest::decode_file(&bytes[..read]) {
            Ok((manifest, own, whole))
                if manifest.is_of(identity) && position == (manifest.term(), manifest.index()) =>
            {
                if !whole {
                    tracing::warn!(file = name, "one half of this snapshot is damaged; it is written again");
                }
                return Ok(Some((manifest, own, !whole)));
            }
            Ok(_) | Err(BadManifest::Damaged) => {
                tracing::error!(file = name, "this snapshot is damaged, or is another member's, and is not used");
            }
            Err(BadManifest::Newer(what)) => return Err(StoreError::Newer(format!("{name}: {what}"))),
        }
    }
    Ok(None)
}

/// Removes the files of segments and manifests that nothing names.
pub(super) fn remove_orphans(
    disk: &dyn LogDisk,
    manifest: &Manifest,
    ours: &BTreeSet<u64>,
    offers: &Offers,
) -> Result<(), StoreError> {
    let named: BTreeSet<u64> = offers.files().chain(ours.iter().copied()).collect();
    let in_use = snapshot::file_name(manifest.term(), manifest.index());
    let mut orphans = Vec::new();
    for name in disk.list()? {
        let is_unnamed = parse_file_name(&name).is_some_and(|n| !named.contains(&n));
        let plain = name.strip_suffix(snapshot::TEMPORARY).unwrap_or(&name);
        let is_other_manifest = snapshot::parse_name(plain).is_some() && name != in_use;
        let is_old_offer = name.starts_with(OFFER) && !offers.names.contains(&name);
        if is_unnamed || is_other_manifest || is_old_offer {
            orphans.push(name);
        }
    }
    for name in &orphans {
        disk.remove(name)?;
    }
    if !orphans.is_empty() {
        file::sync_dir(disk)?;
    }
    Ok(())
}
