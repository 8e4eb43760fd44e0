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
mod writes;

pub use error::{ObserveError, said};
pub use nodes::Nodes;
pub use stores::Stores;
pub use writes::{Trouble, Writes, size_of, what};

use crate::plan::{ChildSeen, Memory, Observed, Ordinal};
use crate::resources::{Asked, Settings, name};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Client;
use objects::{Objects, Reads};
use pods::AddressedPod;
use raftkv_api::Hex128;
use raftkv_client::Token;
use raftkv_crds::RaftKvCluster;
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

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
    auth: Option<(ChildSeen, Vec<Token>)>,
    /// Whether the last full list of claims had one that the watches do not see; `None` before the first list.
    unlabelled: Option<bool>,
    /// A deliberate bug: the newest spec is taken for good.
    #[cfg(test)]
    pub(crate) ignores_last_good: bool,
}

impl Observer {
    /// An observer of one cluster.
    pub fn new(client: Client, settings: Settings) -> Self {
        Observer {
            client,
            settings,
            auth: None,
            unlabelled: None,
            #[cfg(test)]
            ignores_last_good: false,
        }
    }

    /// Looks at the cluster. `memory` is what the plan of the last pass left, `writes` what became of writes. Returns what
    /// is asked for, too: the newest spec, or while that cannot be carried out, the one in force.
    pub async fn observe(
        &mut self,
        cluster: &RaftKvCluster,
        nodes: &Nodes,
        source: Source<'_>,
        memory: Memory,
        writes: &mut Writes,
    ) -> Result<(Asked, Observed), ObserveError> {
        let (latch, now) = (recall::latch(cluster)?, Instant::now());
        let client = self.client.clone();
        let reads = Reads { client: &client, cluster };
        let objects = self.objects(&reads, source).await?;
        let set = objects.set.as_deref();
        let asked = self.asked(cluster, set, writes, now);
        let budget = owned::budget(cluster, objects.budget.as_ref());
        let set_seen = sets::seen(&asked, &self.settings, set, budget, writes, now)?;
        let mut pods = pods::addressed(cluster, &objects.pods, set.and_then(sets::update_revision));
        pods.values_mut().for_each(|pod| pod.seen.eviction = writes.eviction(&pod.seen.uid, now));
        nodes.keep(|ordinal| pods.contains_key(&ordinal));
        let (auth, token_refused) = self.ask(&reads, source, nodes, &mut pods, (&mut *writes, now)).await?;
        let members = asked::members(nodes, &latch, &pods).await;
        let mut claims = claims::claims(cluster, &objects.claims);
        let machines = match self.settings.cluster_reads {
            true => machines::look_up(&client, &pods, &objects.claims, &mut claims).await,
            false => Default::default(),
        };
        let observed = Observed {
            now: Timestamp::now(),
            fresh_cluster_id: Hex128(rand::random()),
            latch,
            children: owned::children(&asked.cluster, &objects, auth, writes, now),
            memory: Memory {
                refused: writes.refused(now),
                failed: writes.failed(now),
                ..recall::memory(cluster, memory)
            },
            set: set_seen,
            claims,
            pods: pods.into_iter().map(|(ordinal, pod)| (ordinal, pod.seen)).collect(),
            members,
            machines,
            token_refused,
        };
        Ok((asked, observed))
    }

    /// What the children are made from: only this cluster's own StatefulSet says what is in force.
    fn asked(&self, cluster: &RaftKvCluster, set: Option<&StatefulSet>, writes: &mut Writes, now: Instant) -> Asked {
        let ours = set.filter(|set| owned::standing(cluster, *set) == owned::Standing::Ours);
        let what = what::<StatefulSet>(name(cluster));
        #[cfg(test)]
        if self.ignores_last_good {
            return Asked::of(cluster, &self.settings, None, |_| false);
        }
        let asked = Asked::of(cluster, &self.settings, ours, |hash| writes.held(&what, hash, now).is_some());
        if asked.invalid.is_some() {
            writes.rest(&what, "");
        }
        asked
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

    /// Asks the nodes with the tokens, and says which nodes refused all. When one does, the Secret may have been changed,
    /// and is read again.
    async fn ask(
        &mut self,
        reads: &Reads<'_>,
        source: Source<'_>,
        nodes: &Nodes,
        pods: &mut BTreeMap<Ordinal, AddressedPod>,
        (writes, now): (&mut Writes, Instant),
    ) -> Result<(ChildSeen, BTreeSet<Ordinal>), ObserveError> {
        let is_known = matches!((&source, &self.auth), (Source::Cached(_), Some((ChildSeen::Good, _))));
        if !is_known {
            self.read_auth(reads, writes, now).await?;
        }
        let mut refused = asked::ask(nodes, self.tokens(), pods, |_| true).await;
        if !refused.is_empty() && is_known {
            let before = self.auth.clone();
            self.read_auth(reads, writes, now).await?;
            if self.auth != before {
                let again = asked::ask(nodes, self.tokens(), pods, |ordinal| refused.contains(&ordinal)).await;
                refused = again;
            }
        }
        let seen = self.auth.as_ref().map_or(ChildSeen::Absent, |(seen, _)| seen.clone());
        Ok((seen, refused))
    }

    async fn read_auth(&mut self, reads: &Reads<'_>, writes: &mut Writes, now: Instant) -> Result<(), ObserveError> {
        let secret = reads.secret().await?;
        self.auth = Some(owned::auth(reads.cluster, secret.as_deref(), writes, now));
        Ok(())
    }

    fn tokens(&self) -> &[Token] {
        self.auth.as_ref().map_or(&[], |(_, tokens)| tokens)
    }
}
