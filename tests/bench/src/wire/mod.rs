//! How a client speaks to a system: a put, and a linearizable get that says how long the value is.

pub mod grpc;
pub mod http;

use anyhow::Result;
use bytes::Bytes;
use std::net::SocketAddr;

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// raftkv's HTTP API: a connection for each client.
    Http,
    /// etcd's gRPC API: clients share connections.
    Grpc,
}

/// Connections that clients of one node share, at most, of those that speak gRPC; as etcd's benchmark is told to by its manual.
const SHARED_CONNECTIONS: usize = 16;

/// A client.
#[derive(Debug)]
pub enum Client {
    /// Of raftkv.
    Http(http::Client),
    /// Of etcd.
    Grpc(grpc::Client),
}

impl Client {
    /// So many clients, spread evenly over the nodes.
    pub async fn connect(protocol: Protocol, nodes: &[SocketAddr], clients: usize) -> Result<Vec<Client>> {
        let mut connected = Vec::with_capacity(clients);
        let at = |nth: usize| nodes[nth % nodes.len()];
        match protocol {
            Protocol::Http => {
                for nth in 0..clients {
                    connected.push(Client::Http(http::Client::connect(at(nth)).await?));
                }
            }
            Protocol::Grpc => {
                let mut shared = Vec::new();
                for nth in 0..clients.min(SHARED_CONNECTIONS) {
                    shared.push(grpc::Client::connect(at(nth)).await?);
                }
                connected.extend((0..clients).map(|nth| Client::Grpc(shared[nth % shared.len()].clone())));
            }
        }
        Ok(connected)
    }

    /// Writes a key.
    pub async fn put(&mut self, key: &str, value: Bytes) -> Result<()> {
        match self {
            Client::Http(client) => client.put(key, value).await,
            Client::Grpc(client) => client.put(key, value).await,
        }
    }

    /// Reads a key linearizably: the length of its value.
    pub async fn get(&mut self, key: &str) -> Result<usize> {
        match self {
            Client::Http(client) => client.get(key).await,
            Client::Grpc(client) => client.get(key).await,
        }
    }
}
