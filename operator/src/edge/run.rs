//! The operator from start to end: look at the definition, wait for the Lease, run the clusters, give the Lease back.

use crate::edge::config::Config;
use crate::edge::events::Events;
use crate::edge::health::{self, Health, Role};
use crate::edge::lease::{Candidate, Keeper};
use crate::edge::metrics::Metrics;
use crate::edge::operator::{ExitAfter, Operator};
use crate::edge::{fleet, schema};
use anyhow::Context;
use kube::{Api, Client};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Returns when the process was told to stop and no action is under way. Any other end is an error.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut stopping = stop_signal()?;
    let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::new()));
    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("--listen {}", config.listen))?;
    tokio::spawn(health::serve(listener, health.clone(), metrics.clone()));
    let client = Client::try_default().await.context("cannot find the API server")?;

    let candidate = candidate(&config, &client);
    let standing_by = async {
        schema::check(&client, config.settings.cluster_reads).await?;
        anyhow::Ok(candidate.acquire(|| health.role(Role::StandsBy)).await)
    };
    let keeper = tokio::select! {
        keeper = standing_by => keeper?,
        _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
    };
    metrics.leading(true);
    health.role(Role::FillsCaches);
    let ended = lead(&config, client, &keeper, stopping, health, metrics.clone()).await;
    metrics.leading(false);
    // After an error the Lease is not given back: another pod holds it, or an action may still be under way.
    ended?;
    keeper.release().await;
    Ok(())
}

/// Runs the clusters as long as the Lease is held.
async fn lead(
    config: &Config,
    client: Client,
    keeper: &Keeper,
    stopping: watch::Receiver<bool>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let counted = metrics.clone();
    let operator = Arc::new(Operator {
        events: Events::start(client.clone(), &config.pod_name, move || counted.wrote("create", "Event")),
        client,
        settings: config.settings.clone(),
        held: keeper.held(),
        metrics,
        stopping,
        exit_after: ExitAfter::new(config.exit_after),
    });
    tokio::select! {
        lost = keeper.keep(|| health.turned("the lease")) => Err(lost.into()),
        stopped = fleet::run(operator, &config.scope, health.clone()) => Ok(stopped?),
    }
}

fn candidate(config: &Config, client: &Client) -> Candidate {
    let namespace = config.lease_namespace.as_deref().unwrap_or_else(|| client.default_namespace());
    // Outside of a pod there is no uid, and each process is a holder of its own.
    let uid = config.pod_uid.clone().unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let name = config.scope.lease_name();
    tracing::info!(namespace, lease = name, holder = uid, pod = config.pod_name, "waiting for the lease");
    Candidate::new(Api::namespaced(client.clone(), namespace), &name, &uid)
}

/// Becomes true when the process is told to stop.
fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: the action under way is finished, and no other is started");
        stop.send_replace(true);
        // The sender must live as long as anybody holds a receiver and waits for the value.
        stop.closed().await;
    });
    Ok(stopping)
}
