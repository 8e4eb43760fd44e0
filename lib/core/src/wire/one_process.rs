//! One member, one process (rule N27): when a hello is of another run of a member's process than the streams that stand,
//! and what both sides are told. PURE.
//!
//! A data directory that was copied beside its original has the same identity. The transport asks who is at the other
//! end of the streams that stand; only if nobody answers does the other run take the member's place.

use super::Hello;
use crate::limits::PEER_ASK_MS;
use crate::mutant::{self, Mutant};
use raftkv_api::Hex128;

/// The run of a member's process to which a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its data directory.
    pub incarnation: Hex128,
    /// Random per start of the process.
    pub boot: u64,
}

/// Whether a hello is of another run than the one to which a stream stands. Then the stream is asked for an answer.
pub fn is_of_another_run(standing: Run, hello: &Hello) -> bool {
    standing.incarnation == hello.from_incarnation && standing.boot != hello.boot && !mutant::is(Mutant::TwinAccepted)
}

/// What both sides say when the one of the standing stream answered. Nothing here advises to give up a disk: nobody knows
/// which of the two has the newer one.
pub fn runs_twice(hello: &Hello, standing_at: &str, hello_from: &str) -> String {
    format!(
        "member {} ({}) runs twice, at {standing_at} and at {hello_from}: one data directory is a copy of the other. The first \
         answers within {PEER_ASK_MS} ms, so the second is refused; stop one of the two processes and keep both directories",
        hello.from, hello.from_name
    )
}
