//! The errors of an observation, and what the API server said, in words for people.

/// Why there is nothing to plan from.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The API server refused.
    #[error("cannot read {what}: {}", said(.source))]
    Read {
        /// The object.
        what: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("cannot read {what}: no answer within {after_ms} ms")]
    Silent {
        /// The object.
        what: String,
        /// How long the operator waited.
        after_ms: u64,
    },
    /// Somebody else overwrote a value that is written only once.
    #[error(
        "{field} '{value}' is not 32 lower-case hex digits: put back what was there, or remove it to have it found again"
    )]
    Malformed {
        /// Its place.
        field: &'static str,
        /// The value that stands there.
        value: String,
    },
}

/// What the API server said, for people: kube's own text has everything twice.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        other => other.to_string(),
    }
}
