//! The threads that serve the client port, each with a runtime and a desk of its own.
//!
//! A thread's tasks run in the order in which they were woken, so that requests that arrive together are handed on
//! together (see [`Desk`]), and no request moves from one thread to another. Peers, probes and admin calls have other
//! threads, so client load does not delay them.

use crate::raft_node::Input;
use crate::raft_node::desk::Desk;
use crate::raft_node::shared::Shared;
use anyhow::{Context, Result};
use raftkv_core::driver::Event;
use raftkv_core::limits;
use raftkv_core::refusal::Refusal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use tokio::runtime::{Builder, Handle};

/// One of the threads. It runs until the process ends.
pub struct ClientThread {
    /// Where its tasks are spawned.
    pub runtime: Handle,
    /// What its tasks use to reach the raft thread.
    pub desk: Arc<Desk>,
}

/// How many threads: half of the cores, but at least one, since raft, the log, apply and the peers need the rest.
fn count() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, limits::CLIENT_THREADS_MAX)
}

/// Starts the threads.
pub fn start(shared: &Arc<Shared>) -> Result<Vec<ClientThread>> {
    (0..count()).map(|_| start_one(shared.clone())).collect()
}

fn start_one(shared: Arc<Shared>) -> Result<ClientThread> {
    let runtime = Builder::new_current_thread().enable_all().build().context("tokio does not start")?;
    let (handle, desk) = (runtime.handle().clone(), Arc::new(Desk::default()));
    let serve = {
        let desk = desk.clone();
        move || {
            let send = |mut events: Vec<Event>, reads: Vec<_>| {
                if !reads.is_empty() {
                    events.push(shared.new_read(reads, Some(desk.clone())));
                }
                if !shared.send(Input::Events(events)) {
                    shared.waiters.fail_all(&Refusal::Stopping);
                }
            };
            if catch_unwind(AssertUnwindSafe(|| runtime.block_on(desk.serve(send)))).is_err() {
                shared.send(Input::Fatal("a client thread panicked; its last words are above".to_string()));
            }
        }
    };
    thread::Builder::new().name("client".to_string()).spawn(serve).context("no thread for clients")?;
    Ok(ClientThread { runtime: handle, desk })
}
