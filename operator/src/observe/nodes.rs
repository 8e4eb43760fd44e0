//! The nodes of one cluster: a client of each node's admin API, kept from pass to pass for its connection.
//!
//! The address of a pod and a token give the client to ask. When the pod comes back at another address, or the token
//! changes, a new client is made. The token that a node took last is kept: while tokens are changed, nodes may take
//! different ones. Nothing is asked here.

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
    taken: Mutex<BTreeMap<Ordinal, Token>>,
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
        let same = clients.get(&ordinal).filter(|known| known.at == at);
        if let Some(known) = same.filter(|known| known.token == *token) {
            return known.client.clone();
        }
        let url = same.map_or_else(|| admin_url(at), |known| known.client.url().to_string());
        let client = Arc::new(NodeClient::new(&url, token.clone()).expect("an address makes a URL"));
        clients.insert(ordinal, Known { at, token: token.clone(), client: client.clone() });
        client
    }

    /// The client that was last returned for this ordinal.
    pub fn known(&self, ordinal: Ordinal) -> Option<Arc<NodeClient>> {
        self.lock().get(&ordinal).map(|known| known.client.clone())
    }

    /// The tokens to try at a node, of those in the Secret: the one that it took last comes first, and is tried last when it
    /// is not in the Secret any more, since the node may not have read its file yet.
    pub fn tokens(&self, ordinal: Ordinal, secret: &[Token]) -> Vec<Token> {
        let Some(taken) = self.taken().get(&ordinal).cloned() else { return secret.to_vec() };
        let others = secret.iter().filter(|token| **token != taken).cloned();
        match secret.contains(&taken) {
            true => [taken.clone()].into_iter().chain(others).collect(),
            false => others.chain([taken.clone()]).collect(),
        }
    }

    /// Notes the token that a node took.
    pub fn took(&self, ordinal: Ordinal, token: &Token) {
        self.taken().insert(ordinal, token.clone());
    }

    /// Closes the connections to all but these.
    pub fn keep(&self, keep: impl Fn(Ordinal) -> bool) {
        self.lock().retain(|ordinal, _| keep(*ordinal));
        self.taken().retain(|ordinal, _| keep(*ordinal));
    }

    /// Adds a node at a port of its own.
    #[cfg(test)]
    pub(crate) fn put(&self, ordinal: Ordinal, client: NodeClient, token: &Token) {
        let known = Known { at: IpAddr::from([127, 0, 0, 1]), token: token.clone(), client: Arc::new(client) };
        self.lock().insert(ordinal, known);
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<Ordinal, Token>> {
        self.taken.lock().expect("no code panics while it holds this lock")
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
    fn the_token_that_a_node_took_is_tried_first_while_it_is_in_the_secret() {
        let (nodes, a, b, c) = (Nodes::default(), token("a"), token("b"), token("c"));
        let secret = |tokens: &[&Token]| tokens.iter().map(|token| (*token).clone()).collect::<Vec<_>>();
        assert_eq!(nodes.tokens(0, &secret(&[&a, &b])), secret(&[&a, &b]));
        nodes.took(0, &b);
        assert_eq!(nodes.tokens(0, &secret(&[&a, &b])), secret(&[&b, &a]));
        assert_eq!(nodes.tokens(0, &secret(&[&c])), secret(&[&c, &b]));
        assert_eq!(nodes.tokens(1, &secret(&[&c])), secret(&[&c]));
        nodes.keep(|_| false);
        assert_eq!(nodes.tokens(0, &secret(&[&c])), secret(&[&c]));
    }

    #[test]
    fn an_address_of_either_kind_makes_a_url() {
        let nodes = Nodes::default();
        assert_eq!(nodes.client(1, "fd00::1".parse().unwrap(), &token("a")).url(), "http://[fd00::1]:2381");
        assert_eq!(nodes.known(1).unwrap().url(), "http://[fd00::1]:2381");
    }
}
