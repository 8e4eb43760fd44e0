//! How a node ends when it is told to stop (rule O22).
//!
//! Enters: SIGTERM, SIGINT, or the end of standard input. Then, in this order: the node is not ready, hands over
//! leadership, goes on serving for `--drain` so that load balancers notice, takes no new connections, answers the
//! requests in flight, and at last the raft thread stops cleanly. A node ends like this in every state. One that serves
//! no clients has nobody to drain, and one that is still opening its directory has nothing to finish, since its opening
//! may be cut short anywhere.

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

/// The signals that end the process. The first process of a container ignores signals that nobody listens to, so this
/// is made before anything that takes time.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on; must be called inside the runtime.
    pub fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).context("signals can't be caught");
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for SIGTERM, SIGINT, or the end of standard input.
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

/// Waits until the node is told to stop, or until raft has ended by itself (`stop` says so), and ends the node. `exits`
/// is the channel on which the raft thread reports how it ended.
pub async fn run(
    node: Node,
    mut signals: Signals,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    exits: mpsc::Sender<std::thread::Result<Exit>>,
) {
    let mut stopped = stop.subscribe();
    // An error means that the sender is gone, and with it the process.
    let raft_ended = async { drop(stopped.wait_for(|stopped| *stopped).await.map(|_guard| ())) };
    tokio::select! {
        () = signals.told_to_stop(node.config().exit_on_stdin_close) => leave(&node).await,
        () = raft_ended => {}
    }
    stop.send_replace(true);
    for server in servers {
        // A server that panicked has printed why.
        let _panicked = server.await;
    }
    node.shared().send(Input::Stop);
    let is_opening = matches!(node.shared().published().phase, Phase::Opening(_));
    if is_opening || node.shared().space.waits(Part::Log) {
        // Either the raft thread is reading its directory and will not look at its inputs until it has finished, or the
        // closing batch cannot be written until there is space.
        let _already_ended = exits.send(Ok(Exit::Stopped));
    }
}

/// Leaves the load balancers and gives up leadership before the ports close.
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

/// Reads standard input to its end, on a thread that nobody waits for: tokio's would delay the end of the runtime.
async fn stdin_closed() {
    let (closed, told) = oneshot::channel::<()>();
    let read = move || {
        let mut byte = [0];
        while std::io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
        drop(closed);
    };
    match std::thread::Builder::new().name("stdin".to_string()).spawn(read) {
        // The sender sends nothing; it is only dropped.
        Ok(_thread) => drop(told.await),
        Err(error) => {
            tracing::error!(%error, "standard input cannot be watched");
            std::future::pending().await
        }
    }
}
