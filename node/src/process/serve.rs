//! `raftkv serve`: wires the parts of one node together, and takes them down again.
//!
//! Enters: a validated [`Config`]. Leaves: the end of the process, or a new process in its place. This is the order in
//! which a node starts; `clean_stop` is the order in which it ends.

use crate::config::Config;
use crate::crash_point;
use crate::disk::bulk_disk::BulkDisk;
use crate::disk::file_disk::FileDisk;
use crate::disk::reserve::Reserve;
use crate::disk::sled_home::SledHome;
use crate::handle::Node;
use crate::httpapi::routes::Port;
use crate::httpapi::{self, server, server::ServerLimits};
use crate::log_lines;
use crate::metrics::Metrics;
use crate::process::background;
use crate::process::clean_stop::{self, Signals};
use crate::process::client_threads::{self, ClientThread};
use crate::process::mount;
use crate::process::open_files;
use crate::raft_node::shared::Shared;
use crate::raft_node::{Exit, RaftNode, RestartWhy};
use crate::token::TokenFile;
use crate::transport::Transport;
use anyhow::{Context, Result, anyhow};
use raftkv_api::Hex128;
use raftkv_core::driver::DriverConfig;
use raftkv_core::identity::{self, Found, Identity};
use raftkv_core::limits;
use raftkv_core::log;
use raftkv_core::open::{self, OpenConfig};
use raftkv_core::space::Sizes;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Runs until SIGTERM or SIGINT. An error is the last line that a person sees: it says what to do.
pub fn run(config: Config) -> Result<()> {
    // Asked now, since the path names nothing once a newer program has replaced this one on the disk.
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
        RestartWhy::DistrustKv(why) => {
            tracing::warn!(why, "the kv db was set aside; starting anew to rebuild it");
            // A lasting cause (no space left) must not turn this into a busy loop.
            std::thread::sleep(Duration::from_millis(limits::RESTART_PAUSE_MS));
        }
        RestartWhy::Reopen(why) => {
            tracing::info!(why, "starting anew to open the kv db again");
            std::thread::sleep(Duration::from_millis(limits::RESTART_PAUSE_MS));
        }
        RestartWhy::Reset => tracing::info!("the data were set aside; starting anew as blank"),
    }
    match program {
        Ok(program) => anyhow!(std::process::Command::new(program).args(std::env::args_os().skip(1)).exec()),
        Err(e) => anyhow!(e),
    }
    .context("this process can't replace itself; start it again")
}

fn serve(config: Config) -> Result<Exit> {
    let runtime = runtime()?;
    let signals = runtime.block_on(async { Signals::listen() })?;
    let token = Arc::new(TokenFile::open(&config.token_file).context("--token-file")?);
    let named = || format!("--data-dir {}", config.data_dir.display());
    if config.require_mount {
        mount::check(&config.data_dir).with_context(named)?;
    }
    let disk = FileDisk::open(&config.data_dir).with_context(named)?;
    let disk = crash_point::around_disk(Arc::new(disk));
    let found = find(&disk).with_context(named)?;
    let home = crash_point::around_home(Arc::new(SledHome::new(&config.data_dir)));

    let listeners = Listeners::bind(&config)?;
    let (input, inputs) = mpsc::channel();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        name = config.name,
        client = config.client_url,
        peer = config.peer.url(),
        admin = config.admin_url,
        data_dir = %config.data_dir.display(),
        "starting"
    );
    let metrics = Arc::new(Metrics::new());
    let nonce = rand::random();
    let open = open_config(&config, nonce);
    let reserve = Arc::new(Reserve::new(&config.data_dir, Sizes { least_bytes: config.reserve_bytes }));
    let bulk = Arc::new(BulkDisk::new(disk.clone(), reserve.clone()));
    let shared = Arc::new(Shared::new(config, metrics.clone(), nonce, input.clone(), reserve));
    let node = Node::new(shared.clone());
    let transport = Transport::new(runtime.handle().clone(), Arc::new(node.clone()), token.clone(), bulk);

    let stop = watch::Sender::new(false);
    let servers = start_servers(&runtime, listeners, &node, &metrics, &token, &transport, &stop.subscribe())?;
    runtime.spawn(background::run(node.clone(), transport.clone()));
    let (exits, exit) = mpsc::channel();
    let ending = runtime.spawn(clean_stop::run(node.clone(), signals, stop.clone(), servers, exits.clone()));

    let raft_node = RaftNode {
        shared,
        inputs,
        disk: disk.clone(),
        home: home.clone(),
        transport: transport.clone(),
        open,
        logger: log_lines::logger(),
    };
    let raft_thread = move || {
        let exit = catch_unwind(AssertUnwindSafe(|| raft_node.run(found)));
        // The receiver is gone only if the process is ending for another reason.
        let _late = exits.send(exit);
    };
    std::thread::Builder::new().name("raft".to_string()).spawn(raft_thread).context("no thread for raft")?;
    let exit = exit.recv().context("the raft thread is gone")?.map_err(|_| anyhow!("the raft thread panicked"))?;

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

/// The runtime for all tasks except those of clients, which have threads of their own.
fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(limits::RUNTIME_THREADS).enable_all().build().context("tokio does not start")
}

/// Finds out what the directory is. An empty one becomes Blank, durably, before any port is opened, so that a restart
/// keeps its incarnation (rule N7).
fn find(disk: &Arc<dyn raftkv_core::ports::LogDisk>) -> Result<Found> {
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
                .or_else(|error| TcpListener::bind(without_ipv6(address, &error).ok_or(error)?))
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

/// The address to use instead where the kernel has no IPv6. `[::]` means every address of both kinds, and a pod does
/// not know which kind its cluster has, so there it becomes every IPv4 address.
fn without_ipv6(address: &str, error: &std::io::Error) -> Option<String> {
    let no_ipv6 = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    address.strip_prefix("[::]:").filter(|_| no_ipv6).map(|port| format!("0.0.0.0:{port}"))
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
    let connections = |port: &str| metrics.connections.with_label_values(&[port]);
    let threads = client_threads::start(node.shared())?;
    let for_clients = ServerLimits { connections_max: client_connections_max()?, ..ServerLimits::client() };
    let limits = for_clients.divided_by(threads.len());
    let bounds = httpapi::Bounds::default();
    let mut servers = Vec::new();
    for ClientThread { runtime, desk } in threads {
        let _in_runtime = runtime.enter();
        let client = tokio::net::TcpListener::from_std(listeners.client.try_clone()?)?;
        let app = httpapi::client_app(node.at(desk), metrics.clone(), bounds.clone());
        servers.push(runtime.spawn(server::serve(
            client,
            Port::Client,
            limits,
            connections("client"),
            app,
            stopped.clone(),
        )));
    }
    let _in_runtime = runtime.enter();
    let admin = tokio::net::TcpListener::from_std(listeners.admin)?;
    transport.serve(tokio::net::TcpListener::from_std(listeners.peer)?);
    let admin_app = httpapi::admin_app(node.clone(), metrics.clone(), token.clone());
    let limits = ServerLimits::admin();
    servers.push(runtime.spawn(server::serve(
        admin,
        Port::Admin,
        limits,
        connections("admin"),
        admin_app,
        stopped.clone(),
    )));
    Ok(servers)
}

/// How many client connections the system's limit of open files allows.
fn client_connections_max() -> Result<usize> {
    let files_max = open_files::raise();
    let files = files_max.map_or("any number of".to_string(), |files| files.to_string());
    let needed = limits::FILES_RESERVED + limits::CLIENT_CONNECTIONS_MIN;
    let connections_max = open_files::client_connections_max(files_max).with_context(|| {
        format!("the process may open {files} files and needs {needed}: start it after `ulimit -n {needed}`, or more")
    })?;
    if connections_max < limits::CLIENT_CONNECTIONS_MAX {
        tracing::warn!(files, connections_max, "few open files are allowed (ulimit -n), so few clients at a time");
    }
    Ok(connections_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn every_address_is_every_ipv4_address_where_there_is_no_ipv6() {
        let unsupported = io::Error::from_raw_os_error(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
        assert_eq!(without_ipv6("[::]:2379", &unsupported).as_deref(), Some("0.0.0.0:2379"));
        assert_eq!(without_ipv6("[::1]:2379", &unsupported), None, "this one address was asked for");
        assert_eq!(without_ipv6("[::]:2379", &io::ErrorKind::AddrInUse.into()), None);
    }
}
