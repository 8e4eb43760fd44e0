//! The log that solo stores apply, and the model of what it does.

use crate::rng::Rng;
use bytes::Bytes;
use raftkv_api::{Hex128, StateHash};
use raftkv_core::host_port::HostPort;
use raftkv_core::kvstore::{Command, Committed, Condition, Outcome};
use raftkv_core::membership::{Member, Membership};
use raftkv_core::types::{Index, RequestId, Revision};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a key was from a revision on; `None` is deleted.
type Version = (Revision, Option<(Bytes, Revision, u64)>);

/// The log, and the model of what it does. Index 1 is the beginning of a cluster.
pub struct Log {
    pub(super) entries: Vec<Committed>,
    pub(super) outcomes: Vec<Option<Outcome>>,
    pub(super) keys: BTreeMap<Bytes, Vec<Version>>,
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    /// What stores showed at each applied index.
    pub(super) seen: BTreeMap<Index, (StateHash, (u64, Hex128))>,
}

pub(super) const KEYS: u64 = 12;
/// Bytes of the largest value.
pub(super) const LARGEST: u64 = 9000;

impl Default for Log {
    fn default() -> Log {
        Log {
            entries: Vec::new(),
            outcomes: Vec::new(),
            keys: BTreeMap::new(),
            revision: 1,
            compacted: 0,
            seen: BTreeMap::new(),
        }
    }
}

impl Log {
    /// Index of the last entry.
    pub fn last(&self) -> Index {
        1 + self.entries.len() as Index
    }

    /// Appends a random entry.
    pub fn grow(&mut self, rng: &mut Rng) {
        let (index, term) = (self.last() + 1, 1 + self.last() / 40);
        if rng.chance(20) {
            let membership = Arc::new(membership(index));
            self.entries.push(Committed::Conf { index, term, membership });
            self.outcomes.push(None);
            return;
        }
        let key = Bytes::from(format!("key{}", rng.below(KEYS)));
        let command = match rng.below(100) {
            0..=4 => Command::Compact { revision: rng.between(1, self.revision + 2) },
            5..=29 => Command::Delete { key, condition: Condition::None },
            _ => {
                let len = if rng.chance(30) { rng.between(2000, LARGEST) } else { rng.below(300) };
                Command::Put { key, value: vec![index as u8; len as usize].into(), condition: Condition::None }
            }
        };
        let data = if rng.chance(50) { Bytes::new() } else { command.encode() };
        let outcome = (!data.is_empty()).then(|| self.command(&command));
        self.outcomes.push(outcome);
        let request = Some(RequestId { origin: 1, nonce: 1, seq: index });
        self.entries.push(Committed::Normal { index, term, request, data });
    }

    /// Appends a write, and a compaction of all before it.
    pub fn compact_all(&mut self) {
        self.push(&Command::Put { key: "key0".into(), value: "v".into(), condition: Condition::None });
        self.push(&Command::Compact { revision: self.revision });
    }

    /// Deletes all keys, and compacts twice, with writes between: what was deleted at last is dead then.
    pub fn delete_all(&mut self) {
        for nth in 0..KEYS {
            self.push(&Command::Delete { key: format!("key{nth}").into(), condition: Condition::None });
        }
        self.compact_all();
        self.compact_all();
    }

    fn push(&mut self, command: &Command) {
        let (index, term) = (self.last() + 1, 1 + self.last() / 40);
        let outcome = Some(self.command(command));
        self.outcomes.push(outcome);
        let request = Some(RequestId { origin: 1, nonce: 1, seq: index });
        self.entries.push(Committed::Normal { index, term, request, data: command.encode() });
    }

    fn command(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Put { key, value, .. } => {
                self.revision += 1;
                let before = self.newest(key);
                let (create, version) = before.map_or((self.revision, 1), |(_, create, version)| (create, version + 1));
                let versions = self.keys.entry(key.clone()).or_default();
                versions.push((self.revision, Some((value.clone(), create, version))));
                Outcome::Put { revision: self.revision, version }
            }
            Command::Delete { key, .. } => {
                let deleted = self.newest(key).is_some();
                if deleted {
                    self.revision += 1;
                    self.keys.entry(key.clone()).or_default().push((self.revision, None));
                }
                Outcome::Deleted { revision: self.revision, deleted }
            }
            Command::Compact { revision } => {
                if (self.compacted + 1..=self.revision).contains(revision) {
                    self.compacted = *revision;
                }
                Outcome::Compacted { revision: self.compacted }
            }
        }
    }

    pub(super) fn membership_at(&self, index: Index) -> Membership {
        let applied = self.entries.iter().take((index - 1) as usize);
        let of = |entry: &Committed| match entry {
            Committed::Conf { membership, .. } => Some((**membership).clone()),
            Committed::Normal { .. } => None,
        };
        applied.filter_map(of).next_back().unwrap_or_else(|| membership(1))
    }

    pub(super) fn newest(&self, key: &Bytes) -> Option<(Bytes, Revision, u64)> {
        self.keys.get(key)?.last()?.1.clone()
    }

    pub(super) fn at(&self, key: &Bytes, revision: Revision) -> Option<(Bytes, Revision, u64)> {
        let versions = self.keys.get(key)?;
        versions[..versions.partition_point(|(at, _)| *at <= revision)].last()?.1.clone()
    }
}

pub(super) fn membership(conf_index: Index) -> Membership {
    let member = Member {
        name: "n1".into(),
        peer: HostPort::parse("n1:2380").expect("it is one"),
        incarnation: Hex128([3; 16]),
    };
    Membership { conf_index, ..Membership::first(member, 1) }
}
