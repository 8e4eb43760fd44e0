//! The words of a story: one short text for each thing that happens.

use crate::node::{Life, SimNode};
use raft::prelude::{Entry, EntryType, Message, MessageType};
use raftkv_core::driver::Answer;
use raftkv_core::driver::MembershipCall;
use raftkv_core::kvstore::{Command, Committed, Condition, Outcome};
use raftkv_core::log::Log;
use raftkv_core::membership::{Change, Membership};
use raftkv_core::types::{MemberId, RequestId};
use raftkv_core::wire::{Forward, ForwardReply, Frame};
use std::collections::BTreeSet;

/// Frames that only say "I am here": a story leaves them out.
pub fn is_chatter(frame: &Frame) -> bool {
    match frame {
        Frame::Raft(message) => {
            let kind = message.get_msg_type();
            let beats = matches!(kind, MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse);
            beats && message.context.is_empty()
        }
        Frame::Report(_) => true,
        Frame::Forward(_) | Frame::ForwardReply(_) | Frame::Removed(_) => false,
    }
}

/// A frame in words.
pub fn frame(frame: &Frame) -> String {
    match frame {
        Frame::Raft(message) => raft(message),
        Frame::Forward(Forward { term, request, data }) => {
            format!("forward {}/{} for the leader of term {term}: {}", request.origin, request.seq, data_of(data))
        }
        Frame::ForwardReply(reply) => match reply {
            ForwardReply::Refused { request, why } => format!("{}/{} refused: {why}", request.origin, request.seq),
            ForwardReply::NoSpace { request, why } => format!("{}/{} no space: {why}", request.origin, request.seq),
            ForwardReply::Appended { request, index, term } => {
                format!("{}/{} appended at {index}@{term}", request.origin, request.seq)
            }
        },
        Frame::Removed(record) => format!("you were removed at {}", record.removed.index),
        Frame::Report(report) => format!("report: applied {} commit {}", report.applied, report.commit),
    }
}

fn raft(message: &Message) -> String {
    let kind = message.get_msg_type();
    let mut text = format!("{kind:?} term {}", message.term);
    let refused = if message.reject { " rejected" } else { "" };
    match kind {
        MessageType::MsgAppend => {
            let entries: Vec<String> = message.entries.iter().map(entry).collect();
            text.push_str(&format!(" behind {}@{}", message.index, message.log_term));
            text.push_str(&format!(" [{}] commit {}", entries.join(", "), message.commit));
        }
        MessageType::MsgAppendResponse => text.push_str(&format!(" index {}{refused}", message.index)),
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
            text.push_str(&format!(" last {}@{}", message.index, message.log_term));
        }
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => text.push_str(refused),
        MessageType::MsgSnapshot => {
            let meta = message.get_snapshot().get_metadata();
            text.push_str(&format!(" snapshot {}@{}", meta.index, meta.term));
        }
        MessageType::MsgHeartbeat => text.push_str(&format!(" commit {}", message.commit)),
        MessageType::MsgReadIndexResp => text.push_str(&format!(" index {}", message.index)),
        _ => {}
    }
    text
}

/// An entry in words: index@term and what it is.
pub fn entry(entry: &Entry) -> String {
    let what = match entry.get_entry_type() {
        EntryType::EntryNormal => data_of(&entry.data),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => change_of(entry),
    };
    format!("{}@{} {what}", entry.index, entry.term)
}

fn change_of(entry: &Entry) -> String {
    let json = entry.context.get(RequestId::BYTES..).unwrap_or_default();
    match serde_json::from_slice(json) {
        Ok(Change::AddLearner { id, name, .. }) => format!("add {name} as learner {id}"),
        Ok(Change::Promote { id, replaces: None }) => format!("promote {id}"),
        Ok(Change::Promote { id, replaces: Some(old) }) => format!("promote {id} in place of {old}"),
        Ok(Change::Remove { id }) => format!("remove {id}"),
        // raft's own entry has no context.
        Err(_) => "leave the joint state".to_string(),
    }
}

fn data_of(data: &bytes::Bytes) -> String {
    if data.is_empty() {
        return "empty".to_string();
    }
    Command::decode(data).map_or_else(|e| e.to_string(), |of| command(&of))
}

/// A command in words.
pub fn command(command: &Command) -> String {
    let text = |bytes: &bytes::Bytes| match bytes.len() {
        0..=20 => String::from_utf8_lossy(bytes).into_owned(),
        long => format!("({long} bytes)"),
    };
    let given = |condition: &Condition| match condition {
        Condition::None => String::new(),
        Condition::ModRevision(revision) => format!(" if revision {revision}"),
        Condition::Exists => " if it exists".to_string(),
        Condition::Absent => " if absent".to_string(),
    };
    match command {
        Command::Put { key, value, condition } => format!("put {}={}{}", text(key), text(value), given(condition)),
        Command::Delete { key, condition } => format!("delete {}{}", text(key), given(condition)),
        Command::Compact { revision } => format!("compact to {revision}"),
    }
}

/// A committed entry in words.
pub fn committed(item: &Committed) -> String {
    match item {
        Committed::Normal { index, term, data, .. } => format!("{index}@{term} {}", data_of(data)),
        Committed::Conf { index, term, membership: of } => format!("{index}@{term} membership: {}", membership(of)),
    }
}

/// What a command did, in words.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Put { revision, version } => format!("revision {revision} version {version}"),
        Outcome::Deleted { revision, deleted } => format!("revision {revision} deleted {deleted}"),
        Outcome::ConditionFailed { revision, current } => format!("condition failed at {revision}, key at {current:?}"),
        Outcome::Compacted { revision } => format!("compacted to {revision}"),
    }
}

/// An answer of the driver, in words.
pub fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Refused(refusal) => {
            let outcome = if crate::client::may_have_happened(refusal) { "unknown" } else { "none" };
            format!("outcome {outcome}: {refusal}")
        }
        Answer::Changed(done) => format!("member {} changed, conf index {}", done.id, done.conf_index),
        Answer::Transferred(to) => format!("member {to} leads"),
    }
}

/// A membership call in words.
pub fn call(call: &MembershipCall) -> String {
    match call {
        MembershipCall::Add(add) => format!("add {}", add.name),
        MembershipCall::Promote { id, replaces: None } => format!("promote {id}"),
        MembershipCall::Promote { id, replaces: Some(old) } => format!("promote {id} in place of {old}"),
        MembershipCall::Remove { id } => format!("remove {id}"),
    }
}

fn ids(set: &BTreeSet<MemberId>) -> String {
    set.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// A membership in words: who is in the cluster.
pub fn membership(of: &Membership) -> String {
    let mut text = format!("voters {}", ids(&of.voters));
    if of.is_joint() {
        text.push_str(&format!(" and {}", ids(&of.outgoing)));
    }
    if !of.learners.is_empty() {
        text.push_str(&format!(", learners {}", ids(&of.learners)));
    }
    if !of.removed.is_empty() {
        text.push_str(&format!(", removed {}", ids(&of.removed.keys().copied().collect())));
    }
    text
}

/// A node in one line.
pub fn node(node: &SimNode) -> String {
    match &node.life {
        Life::Blank => "is blank".to_string(),
        Life::Down => "is down".to_string(),
        Life::Quarantined(_) => "is quarantined".to_string(),
        Life::Removed => "was removed".to_string(),
        Life::Lost => "has lost its disk".to_string(),
        Life::Running(running) => {
            let status = running.driver.status();
            let led = if status.leader == 0 { "no leader".to_string() } else { format!("leader {}", status.leader) };
            format!(
                "{:?} term {} {led}, commit {} applied {} last {} snapshot {}, {}",
                status.role,
                status.term,
                status.commit,
                status.applied,
                status.last_index,
                status.snapshot_index,
                membership(&status.membership)
            )
        }
    }
}

/// What a log holds, in words.
pub fn log(log: &Log) -> String {
    let base = log.base();
    let mut text = format!("behind {}@{}", base.index, base.term);
    let mut next = log.first_index();
    while next <= log.last_index() {
        let entries = log.entries(next, log.last_index() + 1, u64::MAX).expect("a story's disk reads what it wrote");
        entries.iter().for_each(|one| text.push_str(&format!(", {}", entry(one))));
        next += entries.len() as u64;
    }
    text
}
