//! What the store must do, in the simplest form: a map, a revision, and the history of every key.

use bytes::Bytes;
use raftkv_core::kvstore::{Command, Condition, Outcome};
use raftkv_core::types::Revision;
use std::collections::BTreeMap;

/// A key's current record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    value: Bytes,
    mod_revision: Revision,
    version: u64,
}

/// The model.
#[derive(Debug)]
pub struct Model {
    revision: Revision,
    compacted: Revision,
    keys: BTreeMap<Bytes, Record>,
    /// Every change of every key, in ascending order: what a read at a revision must see.
    history: BTreeMap<Bytes, Vec<(Revision, Option<Bytes>)>>,
}

impl Default for Model {
    fn default() -> Model {
        Model { revision: 1, compacted: 0, keys: BTreeMap::new(), history: BTreeMap::new() }
    }
}

impl Model {
    /// Applies a command and returns the outcome that the store must give.
    pub fn apply(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Put { key, value, condition } => self.put(key, value, *condition),
            Command::Delete { key, condition } => self.delete(key, *condition),
            Command::Compact { revision } => {
                self.compacted = self.compacted.max((*revision).min(self.revision));
                Outcome::Compacted { revision: self.compacted }
            }
        }
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, condition: Condition) -> Outcome {
        if let Some(failed) = self.fails(key, condition) {
            return failed;
        }
        self.revision += 1;
        let version = self.keys.get(key).map_or(0, |record| record.version) + 1;
        let record = Record { value: value.clone(), mod_revision: self.revision, version };
        self.keys.insert(key.clone(), record);
        self.history.entry(key.clone()).or_default().push((self.revision, Some(value.clone())));
        Outcome::Put { revision: self.revision, version }
    }

    fn delete(&mut self, key: &Bytes, condition: Condition) -> Outcome {
        if let Some(failed) = self.fails(key, condition) {
            return failed;
        }
        let deleted = self.keys.remove(key).is_some();
        if deleted {
            self.revision += 1;
            self.history.entry(key.clone()).or_default().push((self.revision, None));
        }
        Outcome::Deleted { revision: self.revision, deleted }
    }

    fn fails(&self, key: &Bytes, condition: Condition) -> Option<Outcome> {
        let current = self.keys.get(key).map(|record| record.mod_revision);
        let holds = match condition {
            Condition::None => true,
            Condition::ModRevision(revision) => current == Some(revision),
            Condition::Exists => current.is_some(),
            Condition::Absent => current.is_none(),
        };
        (!holds).then_some(Outcome::ConditionFailed { revision: self.revision, current })
    }

    /// Newest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The value of a key at a revision.
    pub fn value_at(&self, key: &[u8], revision: Revision) -> Option<&Bytes> {
        let changes = self.history.get(key)?;
        let behind = changes.partition_point(|(at, _)| *at <= revision);
        changes.get(behind.checked_sub(1)?)?.1.as_ref()
    }

    /// Every key that was ever written.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.history.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_count_changes_and_history_is_kept() {
        let mut model = Model::default();
        let key = Bytes::from("k");
        let put =
            |value: &str, condition| Command::Put { key: key.clone(), value: value.to_string().into(), condition };
        assert_eq!(model.apply(&put("a", Condition::Absent)), Outcome::Put { revision: 2, version: 1 });
        let failed = Outcome::ConditionFailed { revision: 2, current: Some(2) };
        assert_eq!(model.apply(&put("b", Condition::Absent)), failed);
        assert_eq!(model.apply(&put("b", Condition::ModRevision(2))), Outcome::Put { revision: 3, version: 2 });
        let delete = Command::Delete { key: key.clone(), condition: Condition::None };
        assert_eq!(model.apply(&delete), Outcome::Deleted { revision: 4, deleted: true });
        assert_eq!(model.apply(&delete), Outcome::Deleted { revision: 4, deleted: false });
        assert_eq!(model.value_at(b"k", 1), None);
        assert_eq!(model.value_at(b"k", 2), Some(&Bytes::from("a")));
        assert_eq!(model.value_at(b"k", 3), Some(&Bytes::from("b")));
        assert_eq!(model.value_at(b"k", 4), None);
    }
}
