//! State machine safety: if a member has applied an entry at an index, no other member applies a different one there.
//! Apply is pure, so results and state hashes are equal too. The model says what the result must be.

use super::{Check, broken};
use crate::model::Model;
use crate::trace::hash_of;
use raftkv_api::{Hex128, StateHash};
use raftkv_core::kvstore::{Applied, Command, Committed, Outcome};
use raftkv_core::types::{Index, MemberId, Term};
use std::collections::BTreeMap;

/// An entry as it was applied first.
#[derive(Debug)]
struct First {
    term: Term,
    hash: u64,
    outcome: Option<Outcome>,
    by: MemberId,
}

/// Everything that was applied, by all members together.
#[derive(Debug, Default)]
pub struct History {
    entries: BTreeMap<Index, First>,
    hashes: BTreeMap<Index, (Hex128, MemberId)>,
    /// The store as it must be after that.
    pub model: Model,
}

impl History {
    /// Checks an entry that a member applied.
    pub fn check(&mut self, id: MemberId, item: &Committed, result: &Applied) -> Check {
        let (index, term, hash) = match item {
            Committed::Normal { index, term, data, .. } => (*index, *term, hash_of(data)),
            Committed::Conf { index, term, membership } => (*index, *term, membership.conf_index),
        };
        if result.index != index {
            return broken("state_machine_safety", format!("member {id} answers for {} at {index}", result.index));
        }
        let Some(first) = self.entries.get(&index) else {
            return self.first(id, item, result, First { term, hash, outcome: result.outcome.clone(), by: id });
        };
        if (first.term, first.hash, &first.outcome) == (term, hash, &result.outcome) {
            return Ok(());
        }
        let what = format!(
            "member {} applied an entry of term {} with {:?} at index {index}, member {id} one of term {term} with {:?}",
            first.by, first.term, first.outcome, result.outcome
        );
        broken("state_machine_safety", what)
    }

    fn first(&mut self, id: MemberId, item: &Committed, result: &Applied, first: First) -> Check {
        let index = result.index;
        if let Some((last, _)) = self.entries.last_key_value()
            && index != last + 1
        {
            return broken(
                "state_machine_safety",
                format!("member {id} applied {index}, nobody applied {}", index - 1),
            );
        }
        let expected = match item {
            Committed::Normal { data, .. } if !data.is_empty() => match Command::decode(data) {
                Ok(command) => Some(self.model.apply(&command)),
                Err(e) => return broken("state_machine_safety", format!("entry {index} is no command: {e}")),
            },
            Committed::Normal { .. } | Committed::Conf { .. } => None,
        };
        if expected != result.outcome {
            let what = format!("entry {index} led to {:?} on member {id}, not to {expected:?}", result.outcome);
            return broken("state_machine_safety", what);
        }
        self.entries.insert(index, first);
        Ok(())
    }

    /// Checks the state that a member published.
    pub fn check_hash(&mut self, id: MemberId, hash: &StateHash) -> Check {
        let (first, by) = *self.hashes.entry(hash.applied).or_insert((hash.log_hash, id));
        if first == hash.log_hash {
            return Ok(());
        }
        let what = format!("members {by} and {id} have different states at index {}", hash.applied);
        broken("state_machine_safety", what)
    }
}
