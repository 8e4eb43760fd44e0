//! Why a call failed, and whether it can have had an effect all the same: what every file of this crate fails with.

use raftkv_api::{Code, Outcome, Problem};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint}: {cause}")]
pub struct Error {
    /// The endpoint that was asked last.
    pub endpoint: String,
    /// What went wrong there.
    pub cause: Cause,
    mutates: bool,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The request was never sent.
    #[error("{0}")]
    NotSent(String),
    /// The request was sent, and no whole answer came back.
    #[error("{0}")]
    NoAnswer(String),
    /// The node refused, or failed, and says so.
    #[error("{} ({}): {}", .0.title, .0.code.as_str(), .0.detail)]
    Problem(Box<Problem>),
    /// Something answered that does not speak raftkv's API.
    #[error("answered {status}, which is not an answer of raftkv: {excerpt}")]
    Foreign {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body, or what is wrong with it.
        excerpt: String,
    },
}

impl Error {
    /// A failure at this endpoint; `mutates` says whether the call can change something.
    pub fn new(endpoint: &str, mutates: bool, cause: Cause) -> Self {
        Error { endpoint: endpoint.to_string(), cause, mutates }
    }

    /// Whether the call can have had an effect. A read never has one.
    pub fn outcome(&self) -> Outcome {
        if !self.mutates {
            return Outcome::None;
        }
        match &self.cause {
            Cause::NotSent(_) => Outcome::None,
            Cause::Problem(problem) => problem.outcome,
            Cause::NoAnswer(_) | Cause::Foreign { .. } => Outcome::Unknown,
        }
    }

    /// The node's own account of the failure, if it is one.
    pub fn problem(&self) -> Option<&Problem> {
        match &self.cause {
            Cause::Problem(problem) => Some(problem),
            Cause::NotSent(_) | Cause::NoAnswer(_) | Cause::Foreign { .. } => None,
        }
    }

    /// The code of [`Error::problem`].
    pub fn code(&self) -> Option<Code> {
        self.problem().map(|problem| problem.code)
    }

    /// Whether the same call may succeed elsewhere or later, its outcome aside. What stands in the way of one
    /// node (it was removed, say) need not stand in the way of another.
    pub fn is_transient(&self) -> bool {
        match &self.cause {
            Cause::NotSent(_) | Cause::NoAnswer(_) | Cause::Foreign { .. } => true,
            Cause::Problem(problem) => problem.retryable || problem.status >= 500,
        }
    }
}
