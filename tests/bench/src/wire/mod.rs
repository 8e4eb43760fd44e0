//! How a client speaks to a system: a put, and a linearizable get that returns how long the value is.

pub mod grpc;
pub mod http;

use anyhow::Result;
use bytes::Bytes;
use std::net::SocketAddr;

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// raftkv's HTTP API: each client has a connection.
    Http,
    /// etcd's gRPC API: clients share connections.
    Grpc,
}

/// Most connections that gRPC clients share, as the manual of etcd's benchmark recommends.
const SHARED_CONNECTIONS: usize = 16;

/// A client.
#[derive(Debug)]
pub enum Client {
    /// A client of raftkv.
    Http(http::Client),
    /// A client of etcd.
    Grpc(grpc::Client),
}

impl Client {
    /// Connects this many clients, spread evenly over the nodes.
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

    /// Reads a key linearizably; the length of its value.
    pub async fn get(&mut self, key: &str) -> Result<usize> {
        match self {
            Client::Http(client) => client.get(key).await,
            Client::Grpc(client) => client.get(key).await,
        }
    }
}
