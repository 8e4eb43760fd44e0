//! One member is one process (rule N27): before a hello of another run of a member's process is taken, the streams that
//! stand to the present one are asked whether it is still there.
//!
//! Enters: a hello, whoever dialled. Leaves: leave to go on, with the silent streams closed; or the refusal, when the
//! present process answers. A hello that is refused here is compared with nothing and remembered by nobody.

use super::shared::Inner;
use raftkv_core::wire::{Hello, runs_twice};

/// Whether the sender of `theirs` may take the place of its member; `at` is where it is. The error is for both sides.
pub(super) async fn check(inner: &Inner, theirs: &Hello, at: &str) -> Result<(), String> {
    let others = inner.peers().other_runs(theirs);
    let mut asked = tokio::task::JoinSet::new();
    for other in others {
        let within = inner.limits.ask;
        asked.spawn(async move { (other.outbox.is_answered(within).await, other) });
    }
    let mut silent = Vec::new();
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok((true, other)) => {
                let words = runs_twice(theirs, &other.at, at);
                inner.events.on_twin(theirs.from, words.clone());
                return Err(words);
            }
            Ok((false, other)) => silent.push(other),
            Err(error) => return Err(error.to_string()),
        }
    }
    // Nothing that the old process had on its way may arrive after the new one's hello.
    silent.iter().for_each(|other| other.outbox.close());
    Ok(())
}
