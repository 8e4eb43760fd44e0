//! Opens a member's directory, and tries again while its disk is full (rule N11): if that ended the process, it would
//! end at every start, on every node whose disk is full.
//!
//! Enters: an identity, and the inputs of the raft thread, which are refused meanwhile. Leaves: an open member, or why
//! it can't be opened.

use super::Input;
use super::disk_space::Part;
use super::phases::RaftNode;
use super::shared::Phase;
use raftkv_core::kvstore::StoreError;
use raftkv_core::limits;
use raftkv_core::log::LogError;
use raftkv_core::open::{self, OpenError, Opened};
use raftkv_core::refusal::Refusal;
use raftkv_core::space;
use raftkv_core::types::MemberIdentity;
use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

impl RaftNode {
    /// Opens the directory. `Ok(None)`: the process was asked to stop while it waited for space.
    pub(super) fn open(&mut self, identity: MemberIdentity) -> Result<Option<Opened>, OpenError> {
        loop {
            let opened = self.open_once(identity);
            let full = opened.as_ref().err().and_then(io_of).filter(|e| space::is_full(e)).map(|e| e.to_string());
            let Some(what) = full else {
                self.shared.space.has_space(Part::Opening);
                return opened.map(Some);
            };
            let is_news = self.shared.space.met_full_disk(Part::Opening, &what);
            if !is_news && !self.wait_to_open(identity, &what) {
                return Ok(None);
            }
        }
    }

    fn open_once(&self, identity: MemberIdentity) -> Result<Opened, OpenError> {
        self.publish(Phase::Opening("reading the log".to_string()), None, Some(identity));
        let mut progress = |what: &str, done: u64, total: u64| {
            self.shared.raft_turned();
            self.publish(Phase::Opening(format!("{what}: {done} of {total} bytes")), None, Some(identity));
        };
        let disk = self.disk.clone();
        open::open_member(&identity, disk, &*self.home, &self.open, &self.logger, &mut progress)
    }

    /// Waits until it is time to try again; false when the process is to stop.
    fn wait_to_open(&mut self, identity: MemberIdentity, what: &str) -> bool {
        let words = format!("the disk is full, make room on it: {what}");
        self.publish(Phase::Opening(words.clone()), None, Some(identity));
        let refusal = Refusal::Opening(words);
        let until = Instant::now() + Duration::from_millis(limits::FULL_DISK_RETRY_MS);
        loop {
            self.shared.raft_turned();
            match self.inputs.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Input::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return false,
                Ok(other) => self.not_now(other, &refusal),
                Err(mpsc::RecvTimeoutError::Timeout) => return true,
            }
        }
    }
}

/// The disk's own error in `error`, if any. A damaged log has none, and neither has a db whose opening takes too long.
fn io_of(error: &OpenError) -> Option<&io::Error> {
    match error {
        OpenError::Io(e) | OpenError::Log(LogError::Io { source: e, .. }) | OpenError::Store(StoreError::Io(e)) => {
            Some(e)
        }
        OpenError::Quarantined(_)
        | OpenError::KvStuck(_)
        | OpenError::Stop(_)
        | OpenError::Log(LogError::Corrupt { .. } | LogError::Format(_))
        | OpenError::Store(StoreError::Unproved(_) | StoreError::Newer(_)) => None,
    }
}
