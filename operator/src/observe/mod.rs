//! Observes one cluster: its objects and what its nodes say become plain data for the plan.
//!
//! ```text
//!   stores (pushed) ─┐
//!                    ├─ objects ─► owned, sets, claims, pods ─► asked ─► machines ─► Observed
//!   live reads ──────┘               (whose is it, PURE)        (IO)       (IO)
//! ```
//!
//! A pod that does not answer is a fact. An API server that does not answer is an error, and ends the pass. Nothing is
//! decided and nothing is written here.

mod asked;
mod claims;
mod containers;
mod error;
mod machines;
mod nodes;
mod objects;
mod owned;
mod pods;
mod recall;
mod sets;
mod stores;
#[cfg(test)]
mod tests;

pub use error::{ObserveError, said};
pub use nodes::Nodes;
pub use stores::Stores;

use crate::plan::{ChildSeen, Memory, Observed, Ordinal};
use crate::resources::Settings;
use jiff::Timestamp;
use kube::Client;
use objects::{Objects, Reads};
use pods::AddressedPod;
use raftkv_api::Hex128;
use raftkv_client::Token;
use raftkv_crds::RaftKvCluster;
use std::collections::BTreeMap;

/// Where objects are taken from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// From what the watches pushed, which is enough to see whether there is something to do.
    Cached(&'a Stores),
    /// From the API server. Steps that can hurt are planned from this.
    Live,
}

/// Observes one cluster, pass after pass.
pub struct Observer {
    client: Client,
    settings: Settings,
    /// The Secret as it was last read. It is not watched, since there is no right to list Secrets.
    auth: Option<(ChildSeen, Option<Token>)>,
    /// Whether the last full list of claims had one that the watches do not see; `None` before the first list.
    unlabelled: Option<bool>,
}

impl Observer {
    /// An observer of one cluster.
    pub fn new(client: Client, settings: Settings) -> Self {
        Observer { client, settings, auth: None, unlabelled: None }
    }

    /// Looks at the cluster. `memory` is what the plan of the last pass left.
    pub async fn observe(
        &mut self,
        cluster: &RaftKvCluster,
        nodes: &Nodes,
        source: Source<'_>,
        memory: Memory,
    ) -> Result<Observed, ObserveError> {
        let latch = recall::latch(cluster)?;
        let client = self.client.clone();
        let reads = Reads { client: &client, cluster };
        let objects = self.objects(&reads, source).await?;
        let set = objects.set.as_deref();
        let budget = owned::budget(cluster, objects.budget.as_ref());
        let set_seen = sets::seen(cluster, &self.settings, set, budget)?;
        let mut pods = pods::addressed(cluster, &objects.pods, set.and_then(sets::update_revision));
        nodes.keep(|ordinal| pods.contains_key(&ordinal));
        let auth = self.ask(&reads, source, nodes, &mut pods).await?;
        let members = asked::members(nodes, &latch, &pods).await;
        let mut claims = claims::claims(cluster, &objects.claims);
        let machines = match self.settings.cluster_reads {
            true => machines::look_up(&client, &pods, &objects.claims, &mut claims).await,
            false => Default::default(),
        };
        Ok(Observed {
            now: Timestamp::now(),
            fresh_cluster_id: Hex128(rand::random()),
            latch,
            memory: recall::memory(cluster, memory),
            children: owned::children(cluster, &objects, auth),
            set: set_seen,
            claims,
            pods: pods.into_iter().map(|(ordinal, pod)| (ordinal, pod.seen)).collect(),
            members,
            machines,
        })
    }

    /// A claim without our label was made by somebody else or was restored. As long as there is one, all claims are
    /// listed, since the watches do not show when it goes (rule O2).
    async fn objects(&mut self, reads: &Reads<'_>, source: Source<'_>) -> Result<Objects, ObserveError> {
        let mut objects = match source {
            Source::Live => reads.objects().await?,
            Source::Cached(stores) => stores.objects(reads.cluster),
        };
        match source {
            Source::Cached(_) if self.unlabelled == Some(false) => return Ok(objects),
            Source::Cached(_) => objects.claims = reads.claims().await?,
            Source::Live => {}
        }
        self.unlabelled = Some(objects.claims.iter().any(|claim| claims::is_unlabelled(reads.cluster, claim)));
        Ok(objects)
    }

    /// Asks the nodes with the token. When a node refuses the token, the Secret may have been changed, and is read
    /// again.
    async fn ask(
        &mut self,
        reads: &Reads<'_>,
        source: Source<'_>,
        nodes: &Nodes,
        pods: &mut BTreeMap<Ordinal, AddressedPod>,
    ) -> Result<ChildSeen, ObserveError> {
        let is_known = matches!((&source, &self.auth), (Source::Cached(_), Some((ChildSeen::Good, _))));
        if !is_known {
            self.read_auth(reads).await?;
        }
        let refused = self.ask_with_token(nodes, pods).await;
        if refused && is_known {
            let before = self.auth.clone();
            self.read_auth(reads).await?;
            if self.auth != before {
                self.ask_with_token(nodes, pods).await;
            }
        }
        Ok(self.auth.as_ref().map_or(ChildSeen::Absent, |(seen, _)| seen.clone()))
    }

    async fn read_auth(&mut self, reads: &Reads<'_>) -> Result<(), ObserveError> {
        let secret = reads.secret().await?;
        self.auth = Some(owned::auth(reads.cluster, secret.as_deref()));
        Ok(())
    }

    async fn ask_with_token(&self, nodes: &Nodes, pods: &mut BTreeMap<Ordinal, AddressedPod>) -> bool {
        match &self.auth {
            Some((_, Some(token))) => asked::ask(nodes, token, pods).await,
            Some((_, None)) | None => false,
        }
    }
}
