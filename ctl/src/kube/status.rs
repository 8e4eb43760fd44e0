//! `status`: reads all that there is about a cluster, at the same time, and shows what [`judge`] makes of it.
//!
//! Only the `RaftKvCluster` itself is needed. Everything else that cannot be read is said on the screen and leaves its
//! part out: a user with few rights, a cluster without quorum and one without an operator all get a screen.

use crate::args::Output;
use crate::kube::args;
use crate::kube::context::Kube;
use crate::kube::failed::KubeFailed;
use crate::kube::find;
use crate::kube::forward::{ADMIN_PORT, Forward};
use crate::kube::judge::judge;
use crate::kube::kubectl::{Kubectl, KubectlError, Obstacle};
use crate::kube::objects::{Claim, Deployment, Event, List, OPERATOR_SELECTOR, Pod};
use crate::kube::screen;
use crate::kube::screen::{Level, Screen};
use crate::kube::seen::{Nodes, Part, Seen};
use crate::report::Failed;
use crate::streams::{print, print_json, warn};
use jiff::Timestamp;
use raftkv_api::{Code, Member, Members, Status};
use raftkv_client::Token;
use raftkv_client::admin::{NodeStatus, ask_all};
use raftkv_client::node::NodeClient;
use raftkv_client::{Cause, Error};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often `--watch` looks.
const WATCH_EVERY_MS: u64 = 2_000;
/// How long the linearizable read of the members may take. A quorum that was lost a moment ago does not answer it.
const MEMBERS_TIMEOUT_MS: u64 = 3_000;
/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(crate) async fn status(kube: &Kube, args: args::Status) -> Result<(), KubeFailed> {
    let mut lookout = Lookout::new(kube, args.cluster.name.clone());
    let screen = judge(&lookout.look().await?);
    show(&screen, &args)?;
    if args.watch {
        return watch(&mut lookout, &args).await;
    }
    match screen.level {
        Level::Down => Err(Failed::Unwell(raftkv_judge::Level::Down).into()),
        Level::Degraded => Err(Failed::Unwell(raftkv_judge::Level::Degraded).into()),
        Level::Healthy | Level::Suspended | Level::Changing | Level::Unknown => Ok(()),
    }
}

/// Looks again until the user has seen enough. An API server that does not answer for a moment does not end it.
async fn watch(lookout: &mut Lookout<'_>, args: &args::Status) -> Result<(), KubeFailed> {
    loop {
        sleep(Duration::from_millis(WATCH_EVERY_MS)).await;
        match lookout.look().await {
            Ok(seen) => show(&judge(&seen), args)?,
            Err(failed @ KubeFailed::Kubectl(_)) => warn(&format!("error: {failed}; looking again\n")),
            Err(failed) => return Err(failed),
        }
    }
}

fn show(screen: &Screen, args: &args::Status) -> Result<(), Failed> {
    match args.format.output {
        Output::Json => print_json(screen),
        Output::Table if args.watch && std::io::stdout().is_terminal() => {
            print(format!("{CLEAR}{}", screen::text(screen)).as_bytes())
        }
        Output::Table if args.watch => print(format!("{}\n", screen::text(screen)).as_bytes()),
        Output::Table => print(screen::text(screen).as_bytes()),
    }
}

/// Looks at one cluster again and again, and keeps its port-forwards in between.
pub(crate) struct Lookout<'a> {
    kube: &'a Kube,
    name: Option<String>,
    /// By the uid of the pod: a pod of the same name that was made anew needs a new one.
    links: BTreeMap<String, Link>,
}

/// The way to the node in one pod.
struct Link {
    forward: Forward,
    node: Arc<NodeClient>,
}

impl<'a> Lookout<'a> {
    pub(crate) fn new(kube: &'a Kube, name: Option<String>) -> Self {
        Lookout { kube, name, links: BTreeMap::new() }
    }

    /// Everything, as of now.
    pub(crate) async fn look(&mut self) -> Result<Seen, KubeFailed> {
        let cluster = find::cluster(&self.kube.kubectl, self.name.as_deref()).await?;
        let (name, namespace) = (&cluster.metadata.name, &cluster.metadata.namespace);
        let (kubectl, flags) = (self.kube.kubectl.in_namespace(namespace), self.kube.flags(namespace));
        let nodes = async {
            let (pods, token) = tokio::join!(find::pods(&kubectl, name), find::token(&kubectl, name));
            let nodes = match (&pods, token) {
                (Err(error), _) => Nodes::NotAsked(error.to_string()),
                (Ok(_), Err(error)) => Nodes::NotAsked(error.to_string()),
                (Ok(pods), Ok(token)) => self.ask(&kubectl, pods, token).await,
            };
            (pods, nodes)
        };
        let ((pods, nodes), claims, events, operators) = tokio::join!(
            nodes,
            list::<Claim>(&kubectl, &["get", "persistentvolumeclaims"]),
            list::<Event>(&kubectl, &["get", "events"]),
            operators(&kubectl),
        );
        Ok(Seen {
            now: Timestamp::now(),
            flags,
            pods: pods.map_err(|error| error.to_string()),
            claims,
            events,
            operators,
            nodes,
            cluster,
        })
    }

    /// Where the admin API of the node in this pod is reached, if it is.
    pub(crate) fn admin_url(&self, uid: &str) -> Option<String> {
        self.links.get(uid).map(|link| link.node.url().to_string())
    }

    async fn ask(&mut self, kubectl: &Kubectl, pods: &[Pod], token: Token) -> Nodes {
        let failed = self.link(kubectl, pods, &token).await;
        if !failed.is_empty()
            && self.links.is_empty()
            && let Some(error) = failed.values().find(|error| error.obstacle == Obstacle::Forbidden)
        {
            return Nodes::NotAsked(error.to_string());
        }
        let linked = |pod: &Pod| self.links.get(&pod.metadata.uid).map(|link| link.node.clone());
        let asked = ask_all(pods.iter().filter_map(linked).map(|node| async move { node.status().await })).await;
        let mut answers = asked.into_iter();
        let mut nodes = Vec::new();
        for pod in pods {
            let status = match (linked(pod), failed.get(&pod.metadata.uid)) {
                (Some(_), _) => answers.next().expect("each linked pod was asked"),
                (None, Some(error)) => Err(unreached(pod, &error.text)),
                (None, None) => Err(unreached(pod, &pod.trouble().unwrap_or_else(|| pod.status.phase.clone()))),
            };
            nodes.push(NodeStatus { url: pod.metadata.name.clone(), status });
        }
        if let Some(error) = nodes.iter().find_map(|node| node.status.as_ref().err().filter(is_unauthorized)) {
            return Nodes::NotAsked(format!("the nodes refuse the token of the Secret: {error}"));
        }
        let members = self.members(pods, &nodes).await;
        let own_view = nodes.iter().filter_map(|node| node.status.as_ref().ok()).max_by_key(|status| status.conf_index);
        let known = members.as_ref().map(|members| &members.members).or(own_view.map(|status| &status.members));
        let gone = known.map(|members| podless(members, pods)).unwrap_or_default();
        nodes.extend(gone);
        Nodes::Asked(nodes, members)
    }

    /// Opens a way to each pod that runs and has none; gives what stands in the way of the others, by the pod's uid.
    async fn link(&mut self, kubectl: &Kubectl, pods: &[Pod], token: &Token) -> BTreeMap<String, KubectlError> {
        let there = |uid: &String| pods.iter().any(|pod| pod.metadata.uid == *uid && pod.is_running());
        self.links.retain(|uid, link| there(uid) && link.forward.is_alive());
        let new = pods.iter().filter(|pod| pod.is_running() && !self.links.contains_key(&pod.metadata.uid));
        let opened = ask_all(new.map(|pod| {
            let (kubectl, name, uid) = (kubectl.clone(), pod.metadata.name.clone(), pod.metadata.uid.clone());
            async move { (uid, Forward::to(&kubectl, &name, &[ADMIN_PORT]).await) }
        }));
        let mut failed = BTreeMap::new();
        for (uid, forward) in opened.await {
            match forward {
                Ok(forward) => {
                    let node = NodeClient::new(&forward.url(ADMIN_PORT), token.clone()).expect("an address is a URL");
                    self.links.insert(uid, Link { forward, node: Arc::new(node) });
                }
                Err(error) => {
                    failed.insert(uid, error);
                }
            }
        }
        failed
    }

    /// The members as the leader reads them, if somebody leads; without a leader the read could only time out.
    async fn members(&self, pods: &[Pod], nodes: &[NodeStatus]) -> Option<Members> {
        let answered = |node: &NodeStatus| node.status.as_ref().ok().cloned();
        let statuses: Vec<(&Pod, Status)> =
            pods.iter().zip(nodes).filter_map(|(pod, n)| Some((pod, answered(n)?))).collect();
        let newest = statuses.iter().filter(|(_, s)| s.leader_id.is_some()).max_by_key(|(_, s)| s.term)?;
        let leader = statuses.iter().find(|(_, s)| s.member_id == newest.1.leader_id).unwrap_or(newest);
        let link = self.links.get(&leader.0.metadata.uid)?;
        timeout(Duration::from_millis(MEMBERS_TIMEOUT_MS), link.node.members()).await.ok()?.ok()
    }
}

async fn list<T: DeserializeOwned>(kubectl: &Kubectl, args: &[&str]) -> Part<Vec<T>> {
    kubectl.json::<List<T>>(args).await.map(|list| list.items).map_err(|error| error.to_string())
}

/// The operators of all namespaces, or of this one for a user who may not see more.
async fn operators(kubectl: &Kubectl) -> Part<Vec<Deployment>> {
    let here = ["get", "deployments.apps", "--selector", OPERATOR_SELECTOR];
    let everywhere = [&here[..], &["--all-namespaces"]].concat();
    match list(kubectl, &everywhere).await {
        Ok(operators) => Ok(operators),
        Err(error) => match list::<Deployment>(kubectl, &here).await {
            Ok(operators) if !operators.is_empty() => Ok(operators),
            Ok(_) | Err(_) => Err(error),
        },
    }
}

fn unreached(pod: &Pod, why: &str) -> Error {
    Error::new(&pod.metadata.name, false, Cause::NotSent(why.to_string()))
}

fn is_unauthorized(error: &&Error) -> bool {
    error.code() == Some(Code::Unauthorized)
}

/// Members whose pods are not there: rows all the same.
fn podless(members: &[Member], pods: &[Pod]) -> Vec<NodeStatus> {
    let gone = members.iter().filter(|member| !pods.iter().any(|pod| pod.metadata.name == member.name));
    let error = |name: &str| Error::new(name, false, Cause::NotSent("there is no pod of that name".to_string()));
    gone.map(|member| NodeStatus { url: member.name.clone(), status: Err(error(&member.name)) }).collect()
}
