//! How a node ends when it is told to (rule O22).
//!
//! Enters: SIGTERM, SIGINT, or the end of standard input. In this order: not ready, leadership handed over, serving for
//! `--drain` so that whoever routes to us notices, no new connections, requests in flight answered, and last the raft
//! thread stops cleanly. It ends so in every state; who serves no client has nobody to drain, and who is still opening
//! its directory has nothing to finish: all that opening does may be cut short anywhere.

use crate::handle::Node;
use crate::raft_node::disk_space::Part;
use crate::raft_node::shared::Phase;
use crate::raft_node::{Exit, Input};
use anyhow::{Context, Result};
use std::io::Read;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// The signals that end the process. The first process of a container ignores those that nobody listens to, so this is
/// made before anything that takes time.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on; needs the runtime around it.
    pub fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).context("signals can't be caught");
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// SIGTERM, SIGINT, or the end of standard input.
    async fn told_to_stop(&mut self, on_stdin_close: bool) {
        let parent_gone = async {
            if on_stdin_close {
                stdin_closed().await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let why = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = parent_gone => "standard input was closed",
        };
        tracing::info!(why, "stopping");
    }
}

/// Waits until the node is told to stop, or until raft ended by itself (`stop` says so), and ends it. `exits` is where
/// the raft thread says how it ended.
pub async fn run(
    node: Node,
    mut signals: Signals,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    exits: mpsc::Sender<std::thread::Result<Exit>>,
) {
    let mut stopped = stop.subscribe();
    // An error says that the sender is gone, and with it the process.
    let raft_ended = async { drop(stopped.wait_for(|stopped| *stopped).await.map(|_guard| ())) };
    tokio::select! {
        () = signals.told_to_stop(node.config().exit_on_stdin_close) => leave(&node).await,
        () = raft_ended => {}
    }
    stop.send_replace(true);
    for server in servers {
        // A server that panicked has printed its last words.
        let _panicked = server.await;
    }
    node.shared().send(Input::Stop);
    let is_opening = matches!(node.shared().published().phase, Phase::Opening(_));
    if is_opening || node.shared().space.waits(Part::Log) {
        // The raft thread is reading, and would not look at its inputs for as long as that takes; or no closing batch can
        // be written, for who knows how long.
        let _already_ended = exits.send(Ok(Exit::Stopped));
    }
}

/// Out of the balancers, and without leadership, before the ports close.
async fn leave(node: &Node) {
    let has_clients = node.is_voter();
    node.shared().stopping.store(true, Ordering::Relaxed);
    node.shared().tell_news();
    hand_over(node).await;
    if has_clients {
        tokio::time::sleep(node.config().drain).await;
    }
}

async fn hand_over(node: &Node) {
    let status = node.status();
    if status.member_id.is_none() || status.member_id != status.leader_id {
        return;
    }
    match node.transfer(None).await {
        Ok(leader) => tracing::info!(leader, "leadership handed over"),
        Err(e) => tracing::info!(error = %e, "leadership was not handed over"),
    }
}

/// Reads on a thread of its own, which nobody waits for: tokio's standard input would hold the runtime up at its end.
async fn stdin_closed() {
    let (closed, told) = oneshot::channel::<()>();
    let read = move || {
        let mut byte = [0];
        while std::io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
        drop(closed);
    };
    match std::thread::Builder::new().name("stdin".to_string()).spawn(read) {
        // The sender is dropped, never used.
        Ok(_thread) => drop(told.await),
        Err(error) => {
            tracing::error!(%error, "standard input cannot be watched");
            std::future::pending().await
        }
    }
}
