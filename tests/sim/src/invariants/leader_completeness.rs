//! Leader completeness: an entry committed in a term is in the logs of the leaders of all higher terms.

use super::{Check, broken};
use raftkv_core::driver::{DriverStatus, Role};
use raftkv_core::log::Log;
use raftkv_core::types::{Index, Term};
use std::collections::BTreeMap;

/// How far commit got in each term, as far as anyone in that term knew.
#[derive(Debug, Default)]
pub struct Commits {
    by_term: BTreeMap<Term, (Index, Term)>,
}

impl Commits {
    /// Notes the commit index that a process knows while in its term.
    pub fn note(&mut self, now: &DriverStatus, log: &Log) {
        let Some(entry_term) = log.term(now.commit) else { return };
        let known = self.by_term.entry(now.term).or_insert((0, 0));
        *known = (*known).max((now.commit, entry_term));
    }

    /// Checks that a leader has the newest entry committed in an earlier term; by log matching it then has all before
    /// it.
    pub fn check_leader(&self, now: &DriverStatus, log: &Log) -> Check {
        if now.role != Role::Leader {
            return Ok(());
        }
        let Some((index, term)) = self.by_term.range(..now.term).map(|(_, commit)| *commit).max() else {
            return Ok(());
        };
        if index < log.first_index() || log.term(index) == Some(term) {
            return Ok(());
        }
        let what = format!(
            "member {} leads term {} without entry {index} of term {term}, which is committed (its own: {:?})",
            now.id,
            now.term,
            log.term(index)
        );
        broken("leader_completeness", what)
    }
}
