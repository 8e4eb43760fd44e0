//! The load as a process: flags go in, a report comes out on `GET /report` until somebody ends it.

use clap::Parser;
use raftkv_e2e::load::drive::Plan;
use raftkv_e2e::load::serve::serve;
use std::net::SocketAddr;
use std::time::Duration;

/// Writes and reads a raftkv cluster, keeps account of every answer, and tells what cannot be.
#[derive(Debug, Parser)]
#[command(name = "raftkv-e2e-load", version)]
struct Flags {
    /// Client URL of the cluster
    #[arg(long)]
    endpoint: String,
    /// Writers, each with keys of its own
    #[arg(long, default_value_t = 3)]
    writers: u32,
    /// Readers, each of all keys
    #[arg(long, default_value_t = 2)]
    readers: u32,
    /// A writer begins a write this often, at most
    #[arg(long, default_value_t = 50)]
    write_every_ms: u64,
    /// A reader begins a read this often, at most
    #[arg(long, default_value_t = 50)]
    read_every_ms: u64,
    /// Where the report is served
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let plan = Plan {
        endpoint: flags.endpoint,
        writers: flags.writers,
        readers: flags.readers,
        write_every: Duration::from_millis(flags.write_every_ms.max(1)),
        read_every: Duration::from_millis(flags.read_every_ms.max(1)),
    };
    println!("load: {plan:?}");
    // As process 1 it has no default action for signals.
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        ended = serve(plan, flags.listen) => ended,
        _ = terminate.recv() => Ok(()),
    }
}
