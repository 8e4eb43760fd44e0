//! The network between the nodes of a cluster, and the ways to cut it.

use crate::namespaces::Namespaces;
use crate::relay::Relays;
use crate::wait::{eventually, holds, pass};
use crate::{Cluster, Node};
use anyhow::{Result, bail};
use rand::Rng;
use std::time::Duration;

/// How often a flapping link is cut, and how long it is cut or whole each time.
const FLAPS: usize = 6;
const FLAP_MS: std::ops::Range<u64> = 50..500;

/// The network of a cluster.
#[derive(Debug)]
pub enum Network {
    /// Loopback: it cannot be cut.
    Loopback,
    /// A relay before each peer port.
    Relays(Relays),
    /// A network namespace for each node.
    Namespaces(Namespaces),
}

impl Network {
    /// Gives a node its place in the network; `number` is its number among the cluster's nodes.
    pub(crate) fn place(&mut self, node: &mut Node, number: usize) -> Result<()> {
        match self {
            Network::Loopback => {}
            Network::Relays(relays) => node.relay = Some(relays.before(number as u64 + 1, node.ports.peer)?),
            Network::Namespaces(namespaces) => {
                node.host = namespaces.host(number);
                node.through = namespaces.enter(number);
            }
        }
        Ok(())
    }

    /// Stops everything that one node sends to another. Members must have been added in the order of the nodes.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        match self {
            Network::Loopback => bail!("loopback cannot be cut"),
            Network::Relays(relays) => relays.cut(from as u64 + 1, to as u64 + 1),
            Network::Namespaces(namespaces) => namespaces.cut(from, to)?,
        }
        Ok(())
    }

    /// Lets everything pass again.
    pub fn heal(&self) -> Result<()> {
        match self {
            Network::Loopback => {}
            Network::Relays(relays) => relays.heal(),
            Network::Namespaces(namespaces) => namespaces.heal()?,
        }
        Ok(())
    }
}

/// A way to cut a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// The leader is cut off from all others.
    Leader,
    /// A follower is cut off from all others.
    Follower,
    /// The leader hears all others, and none of them hears it.
    LeaderUnheard,
    /// All others hear the leader, and it hears none of them.
    LeaderDeaf,
    /// A follower hears all others, and none of them hears it.
    FollowerUnheard,
    /// The leader and a minority with it are cut off from the others.
    Minority,
    /// The link between the leader and one follower is cut; both reach the others.
    OneLink,
    /// The leader is cut off from all others and joined again, several times.
    Flapping,
}

impl Partition {
    /// Every way to cut a network.
    pub const ALL: [Partition; 8] = [
        Partition::Leader,
        Partition::LeaderUnheard,
        Partition::Follower,
        Partition::LeaderDeaf,
        Partition::Flapping,
        Partition::OneLink,
        Partition::FollowerUnheard,
        Partition::Minority,
    ];

    /// Cuts the network for at least `lasts`, and until the nodes' view of their leader shows it; then heals it.
    pub fn strike(self, cluster: &Cluster, lasts: Duration) -> Result<()> {
        let leader = cluster.leader()?;
        let size = cluster.nodes.len();
        let nth = |number: usize| (leader + number) % size;
        let follower = nth(1);
        let (old, term) = cluster.nodes[leader].status().map(|status| (status.member_id, status.term))?;
        match self {
            Partition::Leader | Partition::LeaderUnheard | Partition::LeaderDeaf | Partition::Minority => {
                let alone = if self == Partition::Minority { size.div_ceil(2) - 1 } else { 1 };
                let pairs = (0..alone).flat_map(|near| (alone..size).map(move |far| (nth(near), nth(far))));
                pairs.into_iter().try_for_each(|pair| self.between(cluster, pair))?;
                pass(lasts);
                eventually("the others have a leader of their own", || {
                    let status = cluster.nodes[nth(size - 1)].status()?;
                    let other = status.leader_id.is_some() && status.leader_id != old && status.term > term;
                    holds(other, || format!("{status:?}"))
                })?;
            }
            Partition::Follower | Partition::FollowerUnheard => {
                let others = (0..size).filter(|other| *other != follower);
                others.into_iter().try_for_each(|other| self.between(cluster, (follower, other)))?;
                pass(lasts);
                if self == Partition::Follower {
                    cluster.nodes[follower].wait_for("misses its leader", |status| status.leader_id.is_none())?;
                }
            }
            Partition::OneLink => {
                self.between(cluster, (leader, follower))?;
                pass(lasts);
            }
            Partition::Flapping => {
                let mut random = rand::rng();
                for _ in 0..FLAPS {
                    (1..size).try_for_each(|other| self.between(cluster, (leader, nth(other))))?;
                    pass(Duration::from_millis(random.random_range(FLAP_MS)));
                    cluster.network.heal()?;
                    pass(Duration::from_millis(random.random_range(FLAP_MS)));
                }
            }
        }
        cluster.network.heal()
    }

    /// Cuts one link, in the directions that this way cuts.
    fn between(self, cluster: &Cluster, (one, other): (usize, usize)) -> Result<()> {
        if self != Partition::LeaderDeaf {
            cluster.network.cut(one, other)?;
        }
        if !matches!(self, Partition::LeaderUnheard | Partition::FollowerUnheard) {
            cluster.network.cut(other, one)?;
        }
        Ok(())
    }
}
