//! `raftkv serve`: wires the boxes of one node together, top to bottom, and takes them down again.

use crate::background;
use crate::config::Config;
use crate::driver::DriverConfig;
use crate::file_disk::{self, FileDisk};
use crate::httpapi::{self, server, server::ServerLimits};
use crate::identity::{self, Found, Identity};
use crate::limits;
use crate::log;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::open::{self, OpenConfig};
use crate::raft_log;
use crate::raft_node::shared::Shared;
use crate::raft_node::{Exit, Input, RaftNode, RestartWhy};
use crate::sled_home::SledHome;
use crate::token::TokenFile;
use crate::transport::Transport;
use anyhow::{Context, Result, anyhow};
use raftkv_api::Hex128;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Runs until SIGTERM or SIGINT. An error is the last line that a person sees: it says what to do.
pub fn run(config: Config) -> Result<()> {
    // Asked before a newer program may take the place of this one on the disk: its path names nothing then.
    let program = std::env::current_exe();
    let exit = serve(config)?;
    match exit {
        Exit::Stopped => {
            tracing::info!("stopped");
            Ok(())
        }
        Exit::Fatal(why) => Err(anyhow!(why)),
        Exit::Restart(why) => Err(start_anew(program, &why)),
    }
}

/// Replaces this process by a new one with the same arguments; returns only if that fails.
fn start_anew(program: std::io::Result<PathBuf>, why: &RestartWhy) -> anyhow::Error {
    match why {
        RestartWhy::DistrustKv(why) => tracing::warn!(why, "the kv db was set aside; starting anew to rebuild it"),
        RestartWhy::Reset => tracing::info!("the data were set aside; starting anew as blank"),
    }
    // A cause that stays (no space left) must not turn this into a busy loop.
    std::thread::sleep(Duration::from_millis(limits::RESTART_PAUSE_MS));
    match program {
        Ok(program) => anyhow!(std::process::Command::new(program).args(std::env::args_os().skip(1)).exec()),
        Err(e) => anyhow!(e),
    }
    .context("this process can't replace itself; start it again")
}

fn serve(config: Config) -> Result<Exit> {
    let token = Arc::new(TokenFile::open(&config.token_file)?);
    if config.require_mount {
        file_disk::check_mounted(&config.data_dir)?;
    }
    let disk = FileDisk::open(&config.data_dir).with_context(|| format!("--data-dir {}", config.data_dir.display()))?;
    let disk: Arc<dyn crate::disk::LogDisk> = Arc::new(disk);
    let found = find(&disk)?;
    let home = Arc::new(SledHome::new(&config.data_dir));

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("tokio does not start")?;
    let listeners = Listeners::bind(&config)?;
    let (input, inputs) = mpsc::channel();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        name = config.name,
        client = config.client_url,
        peer = config.peer_url,
        admin = config.admin_url,
        data_dir = %config.data_dir.display(),
        "starting"
    );
    let metrics = Arc::new(Metrics::new());
    let nonce = rand::random();
    let open = open_config(&config, nonce);
    let shared = Arc::new(Shared::new(config, metrics.clone(), nonce, input.clone()));
    let node = Node::new(shared.clone());
    let transport = Transport::new(runtime.handle().clone(), Arc::new(node.clone()), token.clone(), disk.clone());

    let stop = watch::Sender::new(false);
    let servers = start_servers(&runtime, listeners, &node, &metrics, &token, &transport, &stop.subscribe())?;
    runtime.spawn(background::run(node.clone(), transport.clone()));
    let ending = runtime.spawn(end(node.clone(), stop.clone(), servers));

    let raft_node = RaftNode {
        shared,
        inputs,
        disk: disk.clone(),
        home: home.clone(),
        transport: transport.clone(),
        open,
        logger: raft_log::logger(),
    };
    let raft_thread = std::thread::Builder::new().name("raft".to_string()).spawn(move || raft_node.run(found));
    let exit = raft_thread.context("no thread for raft")?.join().map_err(|_| anyhow!("the raft thread panicked"))?;

    // On a clean stop the servers have ended by now; if raft ended by itself, this ends them.
    stop.send_replace(true);
    transport.shutdown();
    let patience = Duration::from_millis(2 * limits::SERVER_STOP_TIMEOUT_MS);
    // Whatever has not ended by then is dropped with the runtime.
    let _late = runtime.block_on(async { tokio::time::timeout(patience, ending).await });
    runtime.shutdown_timeout(Duration::from_millis(limits::SERVER_STOP_TIMEOUT_MS));
    if let Exit::Restart(RestartWhy::DistrustKv(_)) = &exit {
        open::set_kv_aside(&*disk, &*home).context("the kv db can't be set aside; move it away, it will be rebuilt")?;
    }
    Ok(exit)
}

/// What the directory is. An empty one becomes Blank, durably, before any port is opened: a restart keeps its
/// incarnation (rule N7).
fn find(disk: &Arc<dyn crate::disk::LogDisk>) -> Result<Found> {
    let found = identity::find(&**disk)?;
    match &found {
        Found::Empty => {
            let incarnation = Hex128(rand::random());
            identity::write(&**disk, &Identity::Blank { incarnation })?;
            return Ok(Found::Blank { incarnation, cut_short: Vec::new() });
        }
        Found::Blank { cut_short, .. } => log::execute(&**disk, cut_short)?,
        Found::Member(_) | Found::Removed { .. } | Found::Quarantined { .. } => {}
    }
    Ok(found)
}

fn open_config(config: &Config, nonce: u64) -> OpenConfig {
    OpenConfig {
        log: config.log(),
        driver: DriverConfig {
            nonce,
            election_ticks_min: limits::MIN_ELECTION_TICKS,
            election_ticks_max: limits::MAX_ELECTION_TICKS,
            snapshot_log_bytes_min: config.snapshot_log_bytes_min,
        },
    }
}

struct Listeners {
    client: TcpListener,
    peer: TcpListener,
    admin: TcpListener,
}

impl Listeners {
    fn bind(config: &Config) -> Result<Listeners> {
        let bind = |flag: &str, address: &str| -> Result<TcpListener> {
            let listener = TcpListener::bind(address)
                .with_context(|| format!("{flag} {address} cannot be opened: choose another, or end what uses it"))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        Ok(Listeners {
            client: bind("--listen-client", &config.listen_client)?,
            peer: bind("--listen-peer", &config.listen_peer)?,
            admin: bind("--listen-admin", &config.listen_admin)?,
        })
    }
}

fn start_servers(
    runtime: &Runtime,
    listeners: Listeners,
    node: &Node,
    metrics: &Arc<Metrics>,
    token: &Arc<TokenFile>,
    transport: &Transport,
    stopped: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>> {
    let _in_runtime = runtime.enter();
    let client = tokio::net::TcpListener::from_std(listeners.client)?;
    let admin = tokio::net::TcpListener::from_std(listeners.admin)?;
    let peer = tokio::net::TcpListener::from_std(listeners.peer)?;
    transport.serve(peer);
    let connections = |port: &str| metrics.connections.with_label_values(&[port]);
    let client_app = httpapi::client_app(node.clone(), metrics.clone());
    let admin_app = httpapi::admin_app(node.clone(), metrics.clone(), token.clone());
    let (for_client, for_admin) = (ServerLimits::client(), ServerLimits::admin());
    Ok(vec![
        runtime.spawn(server::serve(client, for_client, connections("client"), client_app, stopped.clone())),
        runtime.spawn(server::serve(admin, for_admin, connections("admin"), admin_app, stopped.clone())),
    ])
}

/// Rule O22: not ready at once, leadership handed over, serving for `--drain`; then no new connections, requests in
/// flight are answered, and last the raft thread stops cleanly.
async fn end(node: Node, stop: watch::Sender<bool>, servers: Vec<JoinHandle<()>>) {
    let mut stopped = stop.subscribe();
    // An error says that the sender is gone, and with it the process.
    let raft_ended = async { drop(stopped.wait_for(|stopped| *stopped).await.map(|_guard| ())) };
    tokio::select! {
        () = told_to_stop(node.config().exit_on_stdin_close) => {
            node.shared().stopping.store(true, Ordering::Relaxed);
            hand_over(&node).await;
            tokio::time::sleep(node.config().drain).await;
        }
        () = raft_ended => {}
    }
    stop.send_replace(true);
    for server in servers {
        // A server that panicked has printed its last words.
        let _panicked = server.await;
    }
    node.shared().send(Input::Stop);
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

/// SIGTERM, SIGINT, or the end of standard input.
async fn told_to_stop(on_stdin_close: bool) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals can't be caught: the node ends without handing leadership over");
        return std::future::pending().await;
    };
    let parent_gone = async {
        if on_stdin_close {
            stdin_closed().await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let why = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = parent_gone => "standard input was closed",
    };
    tracing::info!(why, "stopping");
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
