//! Runs a workload and measures how long its requests took.

use crate::wire::{Client, Protocol};
use crate::workload::{self, Kind, VALUE_BYTES, Workload};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

/// Longer than any workload takes on a slow system.
const WORKLOAD_MAX: Duration = Duration::from_secs(180);

/// What the clients saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Requests a second.
    pub per_second: f64,
    /// Half of the requests took at most this.
    pub p50: Duration,
    /// 99 of 100 requests took at most this.
    pub p99: Duration,
    /// What each request took, ascending.
    pub took: Vec<Duration>,
}

/// At most this took 99 of 100 requests of several runs.
pub fn p99_of_all(runs: &[Seen]) -> Duration {
    let mut took: Vec<Duration> = runs.iter().flat_map(|seen| seen.took.iter().copied()).collect();
    took.sort_unstable();
    percentile(&took, 99)
}

/// Runs a workload to its end.
///
/// # Errors
/// When any request failed: a system that refuses is not measured.
pub fn run(workload: &Workload, protocol: Protocol, nodes: &[SocketAddr]) -> Result<Seen> {
    run_with(workload, &workload::value(), protocol, nodes)
}

/// The same with another value.
///
/// # Errors
/// As [`run`].
pub fn run_with(workload: &Workload, value: &Bytes, protocol: Protocol, nodes: &[SocketAddr]) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let clients = Client::connect(protocol, nodes, workload.clients).await.context("connecting")?;
        tokio::time::timeout(WORKLOAD_MAX, all(workload, value, clients))
            .await
            .with_context(|| format!("{} did not end within {WORKLOAD_MAX:?}", workload.name))?
    })
}

async fn all(workload: &Workload, value: &Bytes, clients: Vec<Client>) -> Result<Seen> {
    let next = Rc::new(Cell::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::task::spawn_local(one(*workload, value.clone(), client, next.clone())))
        .collect();
    let mut took = Vec::with_capacity(workload.requests as usize);
    for task in tasks {
        took.extend(task.await?.with_context(|| workload.name)?);
    }
    let elapsed = begun.elapsed();
    Ok(seen(took, elapsed))
}

async fn one(workload: Workload, value: Bytes, mut client: Client, next: Rc<Cell<u64>>) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    loop {
        let nth = next.get();
        if nth == workload.requests {
            return Ok(took);
        }
        next.set(nth + 1);
        let key = workload::key(nth);
        let begun = Instant::now();
        match workload.kind {
            Kind::Put => client.put(&key, value.clone()).await?,
            Kind::Get => {
                let bytes = client.get(&key).await?;
                ensure!(bytes == VALUE_BYTES, "key {key} has {bytes} bytes, not {VALUE_BYTES}");
            }
        }
        took.push(begun.elapsed());
    }
}

fn seen(mut took: Vec<Duration>, elapsed: Duration) -> Seen {
    took.sort_unstable();
    let per_second = took.len() as f64 / elapsed.as_secs_f64();
    Seen { per_second, p50: percentile(&took, 50), p99: percentile(&took, 99), took }
}

/// `took` ascends.
fn percentile(took: &[Duration], of_100: usize) -> Duration {
    took.get((took.len() * of_100).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_requests() {
        let took = (1..=200).rev().map(Duration::from_millis).collect();
        let one = seen(took, Duration::from_secs(4));
        assert_eq!((one.per_second, one.p50), (50.0, Duration::from_millis(100)));
        assert_eq!(one.p99, Duration::from_millis(198));
        let slow = seen(vec![Duration::from_secs(1); 2], Duration::from_secs(2));
        assert_eq!(p99_of_all(&[slow, one]), Duration::from_millis(200));
    }
}
