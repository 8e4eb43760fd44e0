//! Three nodes of raftkv with default settings, but for those that a measurement is about.

use crate::system::NODES;
use anyhow::Result;
use raftkv_cluster_tests::Cluster;
use std::net::{Ipv4Addr, SocketAddr};

/// Starts the nodes, with these flags.
pub(crate) fn start(flags: &[&str]) -> Result<Cluster> {
    let mut cluster = Cluster::empty()?;
    for _ in 0..NODES {
        let node = cluster.new_node();
        // Tests have smaller segments, so their flags are removed.
        cluster.nodes[node].flags = flags.iter().map(|flag| flag.to_string()).collect();
        cluster.nodes[node].start()?;
    }
    cluster.init(2)?;
    for node in 1..NODES {
        cluster.join(node)?;
    }
    cluster.nodes.iter().try_for_each(|node| node.wait_serving())?;
    Ok(cluster)
}

/// The addresses of their client ports.
pub(crate) fn nodes(cluster: &Cluster) -> Vec<SocketAddr> {
    cluster.nodes.iter().map(|node| SocketAddr::from((Ipv4Addr::LOCALHOST, node.ports.client))).collect()
}
