//! Decides whether a peer's hello may open a stream to this member (rules N4, N19, N20). PURE.
//!
//! Enters: a [`Hello`]. Leaves: acceptance, or the [`HelloVerdict`] that says why not. It must never refuse an id only
//! because it is unknown here.

use super::Driver;
use crate::wire::{HELLO_FORMAT, Hello, HelloVerdict};

impl Driver {
    /// Checks a peer's hello, and remembers which run of its process sent it.
    pub fn check_hello(&mut self, hello: &Hello) -> Result<(), HelloVerdict> {
        let own = &self.identity;
        let differs = |what: &str, theirs: String, ours: String| {
            Err(HelloVerdict::Differs(format!("{what}: yours is {theirs}, this node's is {ours}")))
        };
        if hello.is_older() {
            return differs("peer protocol", hello.format.to_string(), HELLO_FORMAT.to_string());
        }
        if hello.cluster_id != own.cluster_id {
            return differs("cluster_id", hello.cluster_id.to_string(), own.cluster_id.to_string());
        }
        if hello.genesis != own.genesis {
            return differs("genesis", hello.genesis.to_string(), own.genesis.to_string());
        }
        if hello.generation != own.generation {
            return differs("generation", hello.generation.to_string(), own.generation.to_string());
        }
        if (hello.to, hello.to_incarnation) != (own.member_id, own.incarnation) {
            let meant = format!("member {} at incarnation {}", hello.to, hello.to_incarnation);
            return differs("receiver", meant, format!("member {} at {}", own.member_id, own.incarnation));
        }
        self.check_sender(hello)
    }

    fn check_sender(&mut self, hello: &Hello) -> Result<(), HelloVerdict> {
        if let Some(record) = self.removed_record(hello.from, hello.from_incarnation) {
            return Err(HelloVerdict::Gone(Box::new(record)));
        }
        // An id that nobody was given is unknown: this member may lag, and must answer its vote requests (rule N4).
        if let Some(member) = self.membership.members.get(&hello.from)
            && member.incarnation != hello.from_incarnation
        {
            return Err(HelloVerdict::Differs(format!(
                "member {} has incarnation {}, not {}",
                hello.from, member.incarnation, hello.from_incarnation
            )));
        }
        if !self.peers.knows_boot(hello.from, hello.boot) {
            self.check_not_rolled_back(hello)?;
            self.peers.remember_boot(hello.from, hello.boot);
            self.offer_lost(hello.from);
        }
        Ok(())
    }

    /// Only the first hello of a process run is compared: a later one may have been overtaken by newer
    /// acknowledgements on the other stream, which would accuse a healthy member.
    fn check_not_rolled_back(&mut self, hello: &Hello) -> Result<(), HelloVerdict> {
        self.settle_shown();
        match self.peers.shown(hello.from).lost(hello.term, hello.last_index) {
            Some(what) => Err(HelloVerdict::RolledBack(format!("member {} {what}", hello.from))),
            None => Ok(()),
        }
    }

    /// Before raft's term or commit index changes: what members have shown of their disks is measured by both.
    pub(super) fn settle_shown(&mut self) {
        let raft = &self.node.raft;
        self.peers.settle(raft.term, raft.raft_log.committed);
    }

    /// Term and last index that are durable here, for our own hello.
    pub fn durable_position(&self) -> (u64, u64) {
        (self.durable.term, self.durable.index)
    }
}
