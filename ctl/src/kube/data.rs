//! The commands that read and write keys, through port-forwards to pods.
//!
//! They are those of `raftkvctl`, at endpoints that are forwarded for as long as the command runs. A single key goes
//! through one pod, the leader's if it can, which saves a hop. What moves many keys goes through all ready pods, so that
//! one may be restarted meanwhile.

use crate::args::{Del, Get, Global, Import, Output, Put, Range};
use crate::context::Context;
use crate::kube::args::{Data, Export, Through};
use crate::kube::context::Kube;
use crate::kube::failed::KubeFailed;
use crate::kube::find;
use crate::kube::forward::{ADMIN_PORT, CLIENT_PORT, Forward};
use crate::kube::kubectl::{Kubectl, Obstacle};
use crate::kube::objects::Pod;
use crate::report::Failed;
use crate::{export, import, kv};
use raftkv_client::Token;
use raftkv_client::admin::ask_all;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::sleep;

/// How often port-forwards are looked after while many keys move.
const KEEP_EVERY_MS: u64 = 500;

pub(crate) async fn put(kube: &Kube, data: Data<Put>) -> Result<(), KubeFailed> {
    let way = Way::to_one(kube, &data.through, Need::Ready).await?;
    let done = kv::put(&way.context, data.args).await;
    done.map_err(|failed| way.named(failed))
}

pub(crate) async fn get(kube: &Kube, data: Data<Get>) -> Result<(), KubeFailed> {
    let way = Way::to_one(kube, &data.through, Need::of_read(data.args.reading.stale)).await?;
    let done = kv::get(&way.context, data.args).await;
    done.map_err(|failed| way.named(failed))
}

pub(crate) async fn del(kube: &Kube, data: Data<Del>) -> Result<(), KubeFailed> {
    let way = Way::to_one(kube, &data.through, Need::Ready).await?;
    let done = kv::del(&way.context, data.args).await;
    done.map_err(|failed| way.named(failed))
}

pub(crate) async fn range(kube: &Kube, data: Data<Range>) -> Result<(), KubeFailed> {
    let way = Way::to_one(kube, &data.through, Need::of_read(data.args.reading.stale)).await?;
    let done = kv::range(&way.context, data.args).await;
    done.map_err(|failed| way.named(failed))
}

pub(crate) async fn import(kube: &Kube, data: Data<Import>) -> Result<(), KubeFailed> {
    let mut way = Way::to_many(kube, &data.through).await?;
    let done = tokio::select! {
        done = import::import(&way.context, data.args) => done,
        never = keep(&way.kubectl, &mut way.forwards) => match never {},
    };
    done.map_err(|failed| way.named(failed))
}

pub(crate) async fn export(kube: &Kube, data: Data<Export>) -> Result<(), KubeFailed> {
    let mut way = Way::to_many(kube, &data.through).await?;
    let Export { format, prefix, file } = data.args;
    let done = tokio::select! {
        done = export::export(&way.context, crate::args::Export { format, node: None, prefix, file }) => done,
        never = keep(&way.kubectl, &mut way.forwards) => match never {},
    };
    done.map_err(|failed| way.named(failed))
}

/// Makes port-forwards again that have ended: the pod was restarted, or a connection broke. It never ends.
async fn keep(kubectl: &Kubectl, forwards: &mut [(String, Forward)]) -> Infallible {
    loop {
        sleep(Duration::from_millis(KEEP_EVERY_MS)).await;
        for (pod, forward) in
            forwards.iter_mut().filter_map(|(pod, forward)| (!forward.is_alive()).then_some((pod, forward)))
        {
            // It is tried in the next round again. Meanwhile calls go to the other pods.
            let _not_yet = forward.again(kubectl, pod).await;
        }
    }
}

/// What a pod must be for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// It reads linearizably.
    Ready,
    /// It runs; what it has may be old.
    Running,
}

impl Need {
    fn of_read(stale: bool) -> Need {
        if stale { Need::Running } else { Need::Ready }
    }

    fn met_by(self, pod: &Pod) -> bool {
        match self {
            Need::Ready => pod.is_ready(),
            Need::Running => pod.is_running(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Need::Ready => "is ready",
            Need::Running => "runs",
        }
    }
}

/// Port-forwards, and a context whose endpoints they are. The way is there as long as the value.
struct Way {
    context: Context,
    kubectl: Kubectl,
    forwards: Vec<(String, Forward)>,
}

impl Way {
    /// Through the first pod that takes it.
    async fn to_one(kube: &Kube, through: &Through, need: Need) -> Result<Way, KubeFailed> {
        let Candidates { kubectl, cluster, pods } = candidates(kube, through, need).await?;
        let mut last = None;
        for pod in pods {
            match Forward::to(&kubectl, &pod, &[CLIENT_PORT]).await {
                Ok(forward) => return Ok(Way::of(kubectl, vec![(pod, forward)], through.format.output)),
                Err(error) if error.obstacle == Obstacle::Forbidden => return Err(error.into()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or(no_pod(&cluster, need, &[]), KubeFailed::Kubectl))
    }

    /// Through every pod that is ready.
    async fn to_many(kube: &Kube, through: &Through) -> Result<Way, KubeFailed> {
        let Candidates { kubectl, cluster, pods } = candidates(kube, through, Need::Ready).await?;
        let forwards = open(&kubectl, pods, CLIENT_PORT).await?;
        if forwards.is_empty() {
            return Err(no_pod(&cluster, Need::Ready, &[]));
        }
        Ok(Way::of(kubectl, forwards, through.format.output))
    }

    /// The failure with the pod in the place of the address on this machine, which says nothing to anybody.
    fn named(&self, failed: Failed) -> KubeFailed {
        let named = failed.at(|endpoint| {
            let pod = self.forwards.iter().find(|(_, forward)| forward.url(CLIENT_PORT) == endpoint);
            pod.map(|(pod, _)| format!("pod {pod}"))
        });
        named.into()
    }

    fn of(kubectl: Kubectl, forwards: Vec<(String, Forward)>, output: Output) -> Way {
        let endpoints = forwards.iter().map(|(_, forward)| forward.url(CLIENT_PORT)).collect();
        Way { context: context(endpoints, Vec::new(), None, output), kubectl, forwards }
    }
}

/// Pods that may take a command, the best first.
struct Candidates {
    kubectl: Kubectl,
    cluster: String,
    pods: Vec<String>,
}

async fn candidates(kube: &Kube, through: &Through, need: Need) -> Result<Candidates, KubeFailed> {
    let cluster = find::cluster(&kube.kubectl, through.cluster.as_deref()).await?;
    let (name, kubectl) = (cluster.metadata.name, kube.kubectl.in_namespace(&cluster.metadata.namespace));
    if let Some(pod) = &through.pod {
        return Ok(Candidates { kubectl, cluster: name, pods: vec![pod.clone()] });
    }
    let pods = find::pods(&kubectl, &name).await?;
    let leader = cluster.status.leader.map(|leader| leader.name);
    let mut good: Vec<&Pod> = pods.iter().filter(|pod| need.met_by(pod)).collect();
    // A ready pod before one that only runs, the leader before the others.
    good.sort_by_key(|pod| (!pod.is_ready(), Some(&pod.metadata.name) != leader.as_ref()));
    if good.is_empty() {
        return Err(no_pod(&name, need, &pods));
    }
    let pods = good.into_iter().map(|pod| pod.metadata.name.clone()).collect();
    Ok(Candidates { kubectl, cluster: name, pods })
}

fn no_pod(cluster: &str, need: Need, pods: &[Pod]) -> KubeFailed {
    let state =
        |pod: &Pod| format!("{}: {}", pod.metadata.name, pod.trouble().unwrap_or_else(|| "not ready".to_string()));
    KubeFailed::NoPod { cluster: cluster.to_string(), needed: need.words(), pods: pods.iter().map(state).collect() }
}

/// Forwards this port of each pod that takes it, all at the same time; an error when none does.
async fn open(kubectl: &Kubectl, pods: Vec<String>, port: u16) -> Result<Vec<(String, Forward)>, KubeFailed> {
    let forward = |pod: String| {
        let kubectl = kubectl.clone();
        async move { Forward::to(&kubectl, &pod, &[port]).await.map(|forward| (pod, forward)) }
    };
    let (mut forwards, mut last) = (Vec::new(), None);
    for opened in ask_all(pods.into_iter().map(forward)).await {
        match opened {
            Ok(forward) => forwards.push(forward),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if forwards.is_empty() => Err(error.into()),
        Some(_) | None => Ok(forwards),
    }
}

/// The way to the admin API of every pod that runs.
pub(crate) struct AdminWay {
    pub context: Context,
    _forwards: Vec<(String, Forward)>,
}

impl AdminWay {
    pub(crate) async fn open(kube: &Kube, name: Option<&str>, output: Output) -> Result<AdminWay, KubeFailed> {
        let cluster = find::cluster(&kube.kubectl, name).await?;
        let (name, kubectl) = (cluster.metadata.name, kube.kubectl.in_namespace(&cluster.metadata.namespace));
        let (token, pods) = tokio::join!(find::token(&kubectl, &name), find::pods(&kubectl, &name));
        let (token, pods) = (token?, pods?);
        let running =
            pods.iter().filter(|pod| pod.is_running()).map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>();
        if running.is_empty() {
            return Err(no_pod(&name, Need::Running, &pods));
        }
        let forwards = open(&kubectl, running, ADMIN_PORT).await?;
        let urls = forwards.iter().map(|(_, forward)| forward.url(ADMIN_PORT)).collect();
        Ok(AdminWay { context: context(Vec::new(), urls, Some(token), output), _forwards: forwards })
    }
}

fn context(endpoints: Vec<String>, admin_endpoints: Vec<String>, token: Option<Token>, output: Output) -> Context {
    let global = Global { endpoints, admin_endpoints, token_file: PathBuf::new(), output };
    Context { global, output, token }
}
