//! Turns what peers do into inputs of the raft thread.
//!
//! Enters: calls of [`PeerEvents`]. Leaves: [`Input`]s, metrics, and log lines about a peer. Decides nothing; every
//! method but `check_snapshot` returns at once.

use crate::handle::Node;
use crate::raft_node::Input;
use crate::token::TokenFile;
use crate::transport::{BodyProgress, Credentials, DialFailure, PeerEvents};
use bytes::Bytes;
use raft::prelude::Message;
use raftkv_api::Hex128;
use raftkv_core::driver::Event;
use raftkv_core::kvstore::{BadCommand, Command};
use raftkv_core::limits;
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot::{self, SnapshotMeta};
use raftkv_core::types::{Index, MemberId};
use raftkv_core::wire::{Frame, Hello, HelloVerdict};
use std::sync::Arc;
use tokio::sync::oneshot;

impl PeerEvents for Node {
    fn our_hello(&self, to: MemberId, to_incarnation: Hex128) -> Option<Hello> {
        let published = self.shared().published();
        let (identity, membership) = (published.identity?, &published.driver.as_ref()?.membership);
        let alone = self.shared().is_elsewhere(identity.member_id, membership);
        (!alone).then(|| self.shared().own_hello(&identity, published.durable, to, to_incarnation))
    }

    fn on_hello(&self, hello: Hello, verdict: oneshot::Sender<HelloVerdict>) {
        // If the raft thread has ended, the dropped sender says so.
        self.shared().send(Input::Hello { hello: Box::new(hello), verdict });
    }

    fn on_connected(&self, hello: Hello) {
        self.shared().dial_succeeded(hello.from);
        self.shared().send(Input::Connected(Box::new(hello)));
    }

    fn on_frame(&self, from: MemberId, frame: Frame) {
        self.shared().metrics.peer_received_frames_total.with_label_values(&[from.to_string()]).inc();
        match frame {
            Frame::Raft(message) => {
                let bytes = bytes_of(&message);
                self.peer_event(Event::Message(message), bytes);
            }
            Frame::Forward(forward) => {
                let bytes = forward.data.len();
                match grows(&forward.data) {
                    Ok(grows) => self.peer_event(Event::Forwarded { from, forward, grows }, bytes),
                    // Its origin gets no answer and calls the outcome unknown, which is right: the command may have
                    // meant anything.
                    Err(why) => tracing::error!(from, %why, "a forwarded command was not proposed"),
                }
            }
            Frame::ForwardReply(reply) => self.event(Event::ForwardReply { from, reply }),
            Frame::Removed(record) => self.event(Event::Removed(record)),
            Frame::Report(report) => self.event(Event::Report { from, report }),
        }
    }

    fn on_unknown_frame(&self, from: MemberId, kind: u8) {
        let skipped = self.shared().metrics.peer_unknown_frames_total.with_label_values(&[from.to_string()]);
        skipped.inc();
        if skipped.get() == 1 {
            tracing::info!(
                from,
                kind,
                "a frame of a kind that this version does not know was skipped, as all of them are"
            );
        }
    }

    fn on_dial_failed(&self, to: MemberId, failure: DialFailure) {
        // The transport dials again and again, but a person needs to read about it only once.
        let is_news = self.shared().dial_failed(to, &failure);
        if is_answer(&failure) {
            self.event(Event::HelloAnswered { by: to });
        }
        match failure {
            DialFailure::Unreachable(why) | DialFailure::Later(why) => {
                tracing::debug!(to, why, "peer unreachable");
                self.event(Event::Unreachable { to });
            }
            DialFailure::Unauthorized if is_news => {
                tracing::error!(to, "the peer refuses our token (401): compare --token-file of both nodes");
            }
            DialFailure::Differs(why) if is_news => {
                tracing::error!(to, why, "the peer says that we do not belong together");
            }
            DialFailure::Twin(why) => {
                self.on_twin(self.shared().published().identity.map_or(0, |own| own.member_id), why)
            }
            DialFailure::Unauthorized | DialFailure::Differs(_) => {}
            DialFailure::RolledBack(why) => {
                self.shared().send(Input::Quarantine(format!("rolled back: {why}")));
            }
            DialFailure::Gone(record) => self.event(Event::Removed(record)),
        }
    }

    fn on_twin(&self, of: MemberId, words: String) {
        if self.shared().twin_seen(of, &words) {
            tracing::error!(member = of, words, "a member runs twice");
        }
    }

    fn on_snapshot_begun(&self, to: MemberId, index: Index, progress: &Arc<BodyProgress>) {
        self.shared().body_begun(to, progress);
        self.event(Event::SnapshotBegun { to, index });
    }

    fn on_snapshot_body(&self, to: MemberId, index: Index, whole: bool) {
        self.event(Event::SnapshotSent { to, index, whole });
    }

    fn check_snapshot(&self, disk: &dyn LogDisk, name: &str, meta: &SnapshotMeta) -> Result<(), String> {
        let identity = self.shared().published().identity.ok_or("this node is no member")?;
        let found = snapshot::verify_ours(disk, name, &identity).map_err(|e| e.to_string())?;
        if found == *meta { Ok(()) } else { Err(format!("{name} is not the file that was announced")) }
    }

    fn on_snapshot_fetched(&self, from: MemberId, meta: SnapshotMeta, result: Result<(), String>) {
        if let Err(why) = &result {
            tracing::warn!(
                from,
                index = meta.index,
                why,
                "a snapshot could not be fetched; the leader will offer it again"
            );
        }
        self.event(Event::Fetched { meta: Box::new(meta), whole: result.is_ok() });
    }

    fn on_rtt(&self, to: MemberId, micros: u64) {
        let histogram = &self.shared().metrics.peer_round_trip_time_seconds;
        histogram.with_label_values(&[to.to_string()]).observe(micros as f64 / 1e6);
    }
}

impl Node {
    fn event(&self, event: Event) {
        self.shared().send(Input::Event(event));
    }

    /// A full queue drops the message: raft, or the origin's timeout, repairs that.
    fn peer_event(&self, event: Event, bytes: usize) {
        let queue = &self.shared().messages;
        if queue.enter(bytes, limits::PEER_QUEUE_MAX, limits::PEER_QUEUE_BYTES_MAX)
            && !self.shared().send(Input::Peer { event, bytes })
        {
            queue.leave(bytes);
        }
    }
}

impl Credentials for TokenFile {
    fn accepts(&self, presented: &str) -> bool {
        TokenFile::accepts(self, presented)
    }

    fn to_send(&self) -> String {
        TokenFile::to_send(self)
    }
}

/// Whether the peer's node answered our hello, with whatever verdict (rule N20).
fn is_answer(failure: &DialFailure) -> bool {
    match failure {
        DialFailure::Differs(_)
        | DialFailure::RolledBack(_)
        | DialFailure::Gone(_)
        | DialFailure::Twin(_)
        | DialFailure::Later(_) => true,
        DialFailure::Unreachable(_) | DialFailure::Unauthorized => false,
    }
}

/// Whether a forwarded command needs space. One that no member could apply must never be proposed: once committed, it
/// would stop the whole cluster, again at every start.
fn grows(data: &Bytes) -> Result<bool, BadForward> {
    const BYTES_MAX: usize = limits::KEY_BYTES_MAX + limits::BODY_BYTES_MAX + limits::CALL_BYTES;
    if data.len() > BYTES_MAX {
        return Err(BadForward::TooLarge(data.len()));
    }
    Ok(matches!(Command::decode(data)?, Command::Put { .. }))
}

/// Why a forwarded command is not proposed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum BadForward {
    #[error(transparent)]
    Command(#[from] BadCommand),
    #[error("it has {0} bytes, more than any client may send")]
    TooLarge(usize),
}

fn bytes_of(message: &Message) -> usize {
    message.entries.iter().map(|e| e.data.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::kvstore::Condition;

    #[test]
    fn a_forward_that_no_member_could_apply_is_not_proposed() {
        let put = |bytes| {
            let (key, value) = (Bytes::from_static(b"k"), Bytes::from(vec![0; bytes]));
            Command::Put { key, value, condition: Condition::None }.encode()
        };
        assert_eq!(grows(&put(limits::BODY_BYTES_MAX)), Ok(true));
        assert_eq!(grows(&Command::Compact { revision: 1 }.encode()), Ok(false));
        assert_eq!(grows(&Bytes::from_static(b"\x09")), Err(BadForward::Command(BadCommand::UnknownCommand(9))));
        assert_eq!(grows(&Bytes::new()), Err(BadForward::Command(BadCommand::Short)));
        assert!(matches!(grows(&put(2 * limits::BODY_BYTES_MAX)), Err(BadForward::TooLarge(_))));
    }
}
