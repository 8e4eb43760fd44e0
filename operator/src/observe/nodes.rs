//! The nodes of one cluster: a client of each node's admin API, kept from pass to pass for its connection.
//!
//! The address of a pod and the cluster's token give the client to ask. When the pod comes back at another address, or
//! the token changes, a new client is made. Nothing is asked here.

use crate::plan::Ordinal;
use crate::resources::ADMIN_PORT;
use raftkv_client::Token;
use raftkv_client::node::NodeClient;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

/// Clients by the ordinal of their pods. The ordinal says where to send a call, but not which member is meant: the call
/// itself says that.
#[derive(Default)]
pub struct Nodes {
    clients: Mutex<BTreeMap<Ordinal, Known>>,
}

struct Known {
    at: IpAddr,
    token: Token,
    client: Arc<NodeClient>,
}

impl Nodes {
    /// The client of the node in the pod with this ordinal, which is at `at`.
    pub fn client(&self, ordinal: Ordinal, at: IpAddr, token: &Token) -> Arc<NodeClient> {
        let mut clients = self.lock();
        match clients.get(&ordinal) {
            Some(known) if known.at == at && known.token == *token => known.client.clone(),
            Some(_) | None => {
                let client = Arc::new(NodeClient::new(&admin_url(at), token.clone()).expect("an address makes a URL"));
                clients.insert(ordinal, Known { at, token: token.clone(), client: client.clone() });
                client
            }
        }
    }

    /// The client that was last returned for this ordinal.
    pub fn known(&self, ordinal: Ordinal) -> Option<Arc<NodeClient>> {
        self.lock().get(&ordinal).map(|known| known.client.clone())
    }

    /// Closes the connections to all but these.
    pub fn keep(&self, keep: impl Fn(Ordinal) -> bool) {
        self.lock().retain(|ordinal, _| keep(*ordinal));
    }

    /// Adds a node at a port of its own.
    #[cfg(test)]
    pub(crate) fn put(&self, ordinal: Ordinal, client: NodeClient, token: &Token) {
        let known = Known { at: IpAddr::from([127, 0, 0, 1]), token: token.clone(), client: Arc::new(client) };
        self.lock().insert(ordinal, known);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Ordinal, Known>> {
        self.clients.lock().expect("no code panics while it holds this lock")
    }
}

/// The URL has the address and not the name, since DNS takes some seconds to learn the name of a new pod, and to forget
/// it.
fn admin_url(at: IpAddr) -> String {
    match at {
        IpAddr::V4(at) => format!("http://{at}:{ADMIN_PORT}"),
        IpAddr::V6(at) => format!("http://[{at}]:{ADMIN_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(digit: &str) -> Token {
        digit.repeat(64).parse().unwrap()
    }

    #[test]
    fn a_client_is_kept_until_its_address_or_token_changes() {
        let nodes = Nodes::default();
        let at = |last| IpAddr::from([10, 0, 0, last]);
        let first = nodes.client(0, at(1), &token("a"));
        assert_eq!(first.url(), "http://10.0.0.1:2381");
        assert!(Arc::ptr_eq(&first, &nodes.client(0, at(1), &token("a"))));
        let moved = nodes.client(0, at(2), &token("a"));
        assert_eq!(moved.url(), "http://10.0.0.2:2381");
        assert!(!Arc::ptr_eq(&moved, &nodes.client(0, at(2), &token("b"))));
        nodes.keep(|ordinal| ordinal != 0);
        assert!(nodes.known(0).is_none());
    }

    #[test]
    fn an_address_of_either_kind_makes_a_url() {
        let nodes = Nodes::default();
        assert_eq!(nodes.client(1, "fd00::1".parse().unwrap(), &token("a")).url(), "http://[fd00::1]:2381");
        assert_eq!(nodes.known(1).unwrap().url(), "http://[fd00::1]:2381");
    }
}
