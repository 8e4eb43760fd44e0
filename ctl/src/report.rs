//! How a command fails: why, with which exit code, and what a person or a program is told about it.

use crate::args::Output;
use crate::record::FormatError;
use raftkv_api::{Code, Outcome};
use raftkv_client::bytes_text::BadBytes;
use raftkv_client::{EndpointError, Error, TokenError};
use raftkv_judge::Level;
use serde::Serialize;
use serde_json::json;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// A call.
    #[error(transparent)]
    Call(#[from] Error),
    /// An import that stopped at a key.
    #[error("key '{key}' (line {line}): {error}")]
    Import { key: String, line: u64, error: Error, outcome: Outcome },
    /// There is nothing under this key.
    #[error("key '{key}' does not exist {at}")]
    NoKey { key: String, at: String },
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// An endpoint of the command line makes no sense.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The input cannot be imported, or a value not be exported; nothing was written to the cluster.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A node's answer holds bytes that are none.
    #[error(transparent)]
    Bytes(#[from] BadBytes),
    /// A local file or stream.
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// The change is made, and standard output does not take the news.
    #[error("{done}: it is done, but standard output cannot be written: {source}")]
    Untold { done: String, source: std::io::Error },
    /// Whoever read standard output has seen enough.
    #[error("standard output was closed")]
    ReaderGone,
    /// A signal.
    #[error("interrupted")]
    Interrupted(Effect),
    /// An output that is useless unless it is whole.
    #[error("{what}: {source}; the export is incomplete")]
    Incomplete { what: String, source: std::io::Error },
    /// Everything has been said on standard output.
    #[error("the cluster is {}", .0.as_str())]
    Unwell(Level),
}

impl Failed {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Failed {
        let what = what.into();
        move |source| Failed::Io { what, source }
    }

    /// Whether the command has had an effect.
    fn effect(&self) -> Effect {
        match self {
            Failed::Call(error) => error.outcome().into(),
            Failed::Import { outcome, .. } => (*outcome).into(),
            Failed::Untold { .. } => Effect::Done,
            Failed::Interrupted(effect) => *effect,
            Failed::NoKey { .. }
            | Failed::Usage(_)
            | Failed::Endpoint(_)
            | Failed::Token(_)
            | Failed::Format(_)
            | Failed::Bytes(_)
            | Failed::Io { .. }
            | Failed::ReaderGone
            | Failed::Incomplete { .. }
            | Failed::Unwell(_) => Effect::None,
        }
    }

    fn call(&self) -> Option<&Error> {
        let (Failed::Call(error) | Failed::Import { error, .. }) = self else { return None };
        Some(error)
    }

    /// The same at an endpoint of another name, if it has one.
    pub(crate) fn at(mut self, name: impl Fn(&str) -> Option<String>) -> Failed {
        let (Failed::Call(error) | Failed::Import { error, .. }) = &mut self else { return self };
        let named = error.endpoint.split(", ").map(|url| name(url).unwrap_or_else(|| url.to_string()));
        error.endpoint = named.collect::<Vec<_>>().join(", ");
        self
    }

    fn exit_code(&self) -> u8 {
        let missing = matches!(self.call().and_then(Error::code), Some(Code::KeyNotFound | Code::MemberNotFound));
        match self {
            Failed::Usage(_) | Failed::Endpoint(_) => 2,
            Failed::Interrupted(_) => 130,
            Failed::Call(error) if error.code().is_some_and(is_usage) => 2,
            _ if self.effect() == Effect::Unknown => 3,
            Failed::NoKey { .. } => 4,
            Failed::Untold { .. } => 5,
            Failed::Unwell(Level::Down) => 7,
            Failed::Unwell(Level::Degraded | Level::Healthy) => 6,
            Failed::ReaderGone => 0,
            _ if missing => 4,
            Failed::Call(_)
            | Failed::Import { .. }
            | Failed::Token(_)
            | Failed::Format(_)
            | Failed::Bytes(_)
            | Failed::Io { .. }
            | Failed::Incomplete { .. } => 1,
        }
    }

    /// What to do about it, for somebody who runs the nodes himself.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self {
            Failed::Token(_) => Some("name the cluster's token file with --token-file or RAFTKV_TOKEN_FILE"),
            Failed::Import { .. } => Some("remove the cause and run the same import again: it is idempotent"),
            Failed::Call(error) => call_advice(error),
            Failed::Format(FormatError::NotAStanza { .. }) => None,
            Failed::Untold { .. } => Some("do not run it again: it is done"),
            Failed::Incomplete { .. } => Some("run it again; nothing was changed in the cluster"),
            Failed::Format(_) => Some("correct the input and run it again; nothing was written to the cluster"),
            Failed::NoKey { .. }
            | Failed::Usage(_)
            | Failed::Endpoint(_)
            | Failed::Bytes(_)
            | Failed::Io { .. }
            | Failed::ReaderGone
            | Failed::Interrupted(_)
            | Failed::Unwell(_) => None,
        }
    }
}

/// What a node refuses because of what stands on the command line, whatever the cluster holds.
fn is_usage(code: Code) -> bool {
    use Code::{BadParameter, BadRequest, BodyTooLarge, EmptyKey, KeyTooLarge, UriTooLong};
    matches!(code, BadParameter | BadRequest | BodyTooLarge | EmptyKey | KeyTooLarge | UriTooLong)
}

fn call_advice(error: &Error) -> Option<&'static str> {
    if error.outcome() == Outcome::Unknown {
        return Some("read before you write again: `raftkvctl get KEY`, or `raftkvctl members` after a change");
    }
    let Some(code) = error.code() else {
        return Some("is the cluster running there? `--endpoints` takes its client URLs, `raftkvctl status` shows it");
    };
    code.advice().by_hand
}

/// What a command has changed, as far as it can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Effect {
    /// Nothing, and it will not.
    None,
    /// It may have had, or may still have, an effect.
    Unknown,
    /// What it was asked to.
    Done,
}

impl From<Outcome> for Effect {
    fn from(outcome: Outcome) -> Effect {
        match outcome {
            Outcome::None => Effect::None,
            Outcome::Unknown => Effect::Unknown,
        }
    }
}

/// A failure as it is told on standard error, and the exit code that goes with it.
pub(crate) struct Account<'a> {
    /// What went wrong.
    pub error: String,
    /// Whether the command has had an effect.
    pub outcome: Effect,
    pub exit_code: u8,
    /// The call that failed, if one did.
    pub call: Option<&'a Error>,
    /// What to do about it.
    pub next: Option<String>,
    pub audience: Audience,
}

/// Who is told about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Nobody: a reader that has seen enough, `head` say, is no failure.
    Nobody,
    /// Programs only: people have read everything on standard output.
    Programs,
    /// People and programs.
    Everybody,
}

impl Failed {
    /// The failure as it is told to somebody who runs the nodes himself.
    pub(crate) fn account(&self) -> Account<'_> {
        let audience = match self {
            Failed::ReaderGone => Audience::Nobody,
            Failed::Unwell(_) => Audience::Programs,
            Failed::Call(_)
            | Failed::Import { .. }
            | Failed::NoKey { .. }
            | Failed::Usage(_)
            | Failed::Endpoint(_)
            | Failed::Token(_)
            | Failed::Format(_)
            | Failed::Bytes(_)
            | Failed::Io { .. }
            | Failed::Untold { .. }
            | Failed::Interrupted(_)
            | Failed::Incomplete { .. } => Audience::Everybody,
        };
        Account {
            error: self.to_string(),
            outcome: self.effect(),
            exit_code: self.exit_code(),
            call: self.call(),
            next: self.advice().map(str::to_string),
            audience,
        }
    }
}

impl Account<'_> {
    /// The words for standard error; empty when nobody is to be told.
    pub(crate) fn words(&self, output: Output) -> String {
        match (self.audience, output) {
            (Audience::Nobody, _) | (Audience::Programs, Output::Table) => String::new(),
            (Audience::Programs | Audience::Everybody, Output::Json) => format!("{}\n", self.json()),
            (Audience::Everybody, Output::Table) => self.text(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.error);
        match self.outcome {
            Effect::Unknown => {
                text.push_str("outcome: unknown - it may have had an effect, or may still have one\n");
            }
            Effect::Done => text.push_str("outcome: done\n"),
            Effect::None if self.call.is_some() => text.push_str("outcome: none\n"),
            Effect::None => {}
        }
        if let Some(next) = &self.next {
            text.push_str(&format!("next: {next}\n"));
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "error": self.error,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "next": self.next,
            "endpoint": self.call.map(|error| &error.endpoint),
            "problem": self.call.and_then(Error::problem),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_api::Problem;
    use raftkv_client::Cause;

    fn failed(code: Code, outcome: Outcome) -> Failed {
        let problem = Problem { outcome, ..Problem::new(code, "told") };
        Failed::Call(Error::new("http://h:1", true, Cause::Problem(Box::new(problem))))
    }

    #[test]
    fn exit_codes_tell_the_outcome() {
        assert_eq!(failed(Code::ConditionFailed, Outcome::None).exit_code(), 1);
        assert_eq!(failed(Code::Timeout, Outcome::Unknown).exit_code(), 3);
        assert_eq!(failed(Code::MemberNotFound, Outcome::None).exit_code(), 4);
        assert_eq!(Failed::NoKey { key: "k".into(), at: "at revision 7".into() }.exit_code(), 4);
        assert_eq!(Failed::Usage("no".into()).exit_code(), 2);
        assert_eq!(failed(Code::KeyTooLarge, Outcome::None).exit_code(), 2);
        assert_eq!(Failed::Unwell(Level::Degraded).exit_code(), 6);
        assert_eq!(Failed::Unwell(Level::Down).exit_code(), 7);
    }

    #[test]
    fn a_failure_says_what_where_whether_and_what_next() {
        assert_eq!(
            failed(Code::NoLeader, Outcome::None).account().text(),
            "error: http://h:1: There is no leader, or it could not be reached (no_leader): told\n\
             outcome: none\n\
             next: try again; if it stays so, `raftkvctl status` shows which node is missing\n"
        );
        let json = failed(Code::Timeout, Outcome::Unknown).account().json();
        assert_eq!((&json["outcome"], &json["problem"]["code"]), (&"unknown".into(), &"timeout".into()));
    }

    #[test]
    fn a_change_that_cannot_be_told_is_done_all_the_same() {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let account = Failed::Untold { done: "revision 7, version 1".into(), source };
        let account = account.account();
        assert_eq!((account.exit_code, account.json()["outcome"].clone()), (5, "done".into()));
        assert!(account.text().starts_with("error: revision 7, version 1: it is done, but"), "{}", account.text());
        assert!(account.text().contains("outcome: done\n"), "{}", account.text());
    }
}
