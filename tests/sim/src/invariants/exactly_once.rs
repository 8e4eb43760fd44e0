//! Exactly once: a request is applied at most once, and not at all when its client was told `outcome: none`.

use super::{Check, broken};
use raftkv_core::types::{Index, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// What became of requests.
#[derive(Debug, Default)]
pub struct Requests {
    applied: BTreeMap<RequestId, Index>,
    none: BTreeSet<RequestId>,
}

impl Requests {
    /// Some member applied a request.
    pub fn applied(&mut self, request: RequestId, index: Index) -> Check {
        let first = *self.applied.entry(request).or_insert(index);
        if first != index {
            return broken("exactly_once", format!("{request:?} is applied at {first} and at {index}"));
        }
        if self.none.contains(&request) {
            return broken("exactly_once", format!("{request:?} was answered `none` and is applied at {index}"));
        }
        Ok(())
    }

    /// A client was told that its request has no effect.
    pub fn answered_none(&mut self, request: RequestId) -> Check {
        self.none.insert(request);
        match self.applied.get(&request) {
            None => Ok(()),
            Some(index) => broken("exactly_once", format!("{request:?} is answered `none`, but applied at {index}")),
        }
    }
}
