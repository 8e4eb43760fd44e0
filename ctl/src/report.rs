//! How a command ends: its exit code, and what a person or a program is told about a failure.

use crate::args::Output;
use crate::kube::KubeFailed;
use crate::record::FormatError;
use raftkv_api::{Code, Outcome};
use raftkv_client::bytes_text::BadBytes;
use raftkv_client::{EndpointError, Error, TokenError};
use serde_json::json;
use std::process::ExitCode;

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
    #[error("key '{key}' does not exist")]
    NoKey { key: String },
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
    /// Something about a cluster in Kubernetes, before or beside its call.
    #[error(transparent)]
    Kube(#[from] KubeFailed),
    /// Everything has been said on standard output.
    #[error("the cluster is not well")]
    Unwell,
}

impl Failed {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Failed {
        let what = what.into();
        move |source| Failed::Io { what, source }
    }

    /// Whether the command can have had an effect.
    fn outcome(&self) -> Outcome {
        match self {
            Failed::Call(error) => error.outcome(),
            Failed::Import { outcome, .. } => *outcome,
            Failed::NoKey { .. }
            | Failed::Usage(_)
            | Failed::Endpoint(_)
            | Failed::Token(_)
            | Failed::Format(_)
            | Failed::Bytes(_)
            | Failed::Io { .. }
            | Failed::Kube(_)
            | Failed::Unwell => Outcome::None,
        }
    }

    fn call(&self) -> Option<&Error> {
        match self {
            Failed::Call(error) | Failed::Import { error, .. } => Some(error),
            Failed::NoKey { .. }
            | Failed::Usage(_)
            | Failed::Endpoint(_)
            | Failed::Token(_)
            | Failed::Format(_)
            | Failed::Bytes(_)
            | Failed::Io { .. }
            | Failed::Kube(_)
            | Failed::Unwell => None,
        }
    }

    /// The same at an endpoint of another name, if it has one.
    pub(crate) fn at(mut self, name: impl Fn(&str) -> Option<String>) -> Failed {
        let error = match &mut self {
            Failed::Call(error) | Failed::Import { error, .. } => error,
            Failed::NoKey { .. }
            | Failed::Usage(_)
            | Failed::Endpoint(_)
            | Failed::Token(_)
            | Failed::Format(_)
            | Failed::Bytes(_)
            | Failed::Io { .. }
            | Failed::Kube(_)
            | Failed::Unwell => return self,
        };
        if let Some(name) = name(&error.endpoint) {
            error.endpoint = name;
        }
        self
    }

    fn exit_code(&self) -> u8 {
        let missing = matches!(self.call().and_then(Error::code), Some(Code::KeyNotFound | Code::MemberNotFound));
        match self {
            Failed::Usage(_) | Failed::Endpoint(_) => 2,
            _ if self.outcome() == Outcome::Unknown => 3,
            Failed::NoKey { .. } | Failed::Kube(KubeFailed::NoCluster { .. }) => 4,
            Failed::Kube(KubeFailed::Interrupted) => 130,
            _ if missing => 4,
            Failed::Call(_)
            | Failed::Import { .. }
            | Failed::Token(_)
            | Failed::Format(_)
            | Failed::Bytes(_)
            | Failed::Io { .. }
            | Failed::Kube(_)
            | Failed::Unwell => 1,
        }
    }

    /// What to do about it, for somebody who runs the nodes himself.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self {
            Failed::Token(_) => Some("name the cluster's token file with --token-file or RAFTKV_TOKEN_FILE"),
            Failed::Import { .. } => Some("remove the cause and run the same import again: it is idempotent"),
            Failed::Call(error) => call_advice(error),
            Failed::Format(FormatError::NotAStanza { .. }) => None,
            Failed::Format(_) => Some("correct the input and run it again; nothing was written to the cluster"),
            Failed::NoKey { .. }
            | Failed::Usage(_)
            | Failed::Endpoint(_)
            | Failed::Bytes(_)
            | Failed::Io { .. }
            | Failed::Kube(_)
            | Failed::Unwell => None,
        }
    }
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

/// Tells about a failure on standard error and gives the exit code.
pub(crate) fn failure(failed: &Failed, output: Output) -> ExitCode {
    failure_with(failed, output, failed.advice())
}

/// The same with this advice.
pub(crate) fn failure_with(failed: &Failed, output: Output, advice: Option<&str>) -> ExitCode {
    // A reader that has seen enough, `head` say, is no failure.
    if let Failed::Io { source, .. } = failed
        && source.kind() == std::io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    match output {
        Output::Table if matches!(failed, Failed::Unwell) => {}
        Output::Json => eprintln!("{}", as_json(failed, advice)),
        Output::Table => eprint!("{}", as_text(failed, advice)),
    }
    ExitCode::from(failed.exit_code())
}

fn as_text(failed: &Failed, advice: Option<&str>) -> String {
    let mut text = format!("error: {failed}\n");
    if failed.outcome() == Outcome::Unknown {
        text.push_str("outcome: unknown - it may have had an effect, or may still have one\n");
    } else if failed.call().is_some() {
        text.push_str("outcome: none\n");
    }
    if let Some(advice) = advice {
        text.push_str(&format!("next: {advice}\n"));
    }
    text
}

fn as_json(failed: &Failed, advice: Option<&str>) -> serde_json::Value {
    let call = failed.call();
    json!({
        "error": failed.to_string(),
        "outcome": failed.outcome(),
        "exit_code": failed.exit_code(),
        "next": advice,
        "endpoint": call.map(|error| &error.endpoint),
        "problem": call.and_then(Error::problem),
    })
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
        assert_eq!(Failed::NoKey { key: "k".into() }.exit_code(), 4);
        assert_eq!(Failed::Usage("no".into()).exit_code(), 2);
    }

    #[test]
    fn a_failure_says_what_where_whether_and_what_next() {
        let no_leader = failed(Code::NoLeader, Outcome::None);
        assert_eq!(
            as_text(&no_leader, no_leader.advice()),
            "error: http://h:1: There is no leader, or it could not be reached (no_leader): told\n\
             outcome: none\n\
             next: try again; if it stays so, `raftkvctl status` shows which node is missing\n"
        );
        let json = as_json(&failed(Code::Timeout, Outcome::Unknown), None);
        assert_eq!((&json["outcome"], &json["problem"]["code"]), (&"unknown".into(), &"timeout".into()));
    }
}
