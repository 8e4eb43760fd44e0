//! Free ports, one set per node for its whole life.
//!
//! They lie below the range from which the system takes the local ports of outgoing connections: a node that is down
//! for a moment must find its ports free again, and otherwise a test's own connections could take them. A port is
//! tested by listening on it, and each is handed out once per process.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the search begins; many well-known services have lower ports.
const FIRST: u32 = 13_000;
/// Linux takes outgoing ports from here on, unless it is configured otherwise.
const END: u32 = 32_000;
/// Distance between the ports of two nodes in a dev cluster.
const DEV_APART: u16 = 10_000;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// The ports of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Clients.
    pub client: u16,
    /// The other members.
    pub peer: u16,
    /// Administration.
    pub admin: u16,
}

impl Ports {
    /// Three ports that nothing listens on and that this process has not given to anyone else.
    pub fn free() -> Ports {
        Ports { client: free_port(), peer: free_port(), admin: free_port() }
    }
}

/// A `--port-base` whose nine ports are free.
///
/// # Panics
/// When there is none.
pub fn free_base_for_dev() -> u16 {
    // For all nine ports to stay below the outgoing range, the base must be under 12 000.
    let start = u32::from(std::process::id() as u16 % 4000);
    for nth in 0..1000 {
        let taken = TAKEN.fetch_add(3, Ordering::Relaxed);
        let base = 7000 + ((start + taken + 3 * nth) % 4990) as u16;
        let nine = (0..3).flat_map(|node| (0..3).map(move |port| base + node * DEV_APART + port));
        if nine.into_iter().all(is_free) {
            return base;
        }
    }
    panic!("no nine ports for a dev cluster are free between 7000 and 32000");
}

fn free_port() -> u16 {
    // Processes that run at the same time start far from each other.
    let start = std::process::id().wrapping_mul(97);
    for _ in FIRST..END {
        let nth = start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + nth % (END - FIRST)) as u16;
        if is_free(port) {
            return port;
        }
    }
    panic!("no port between {FIRST} and {END} is free");
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_port_is_given_twice_or_while_it_is_used() {
        let _used = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..50 {
            let ports = Ports::free();
            assert!([ports.client, ports.peer, ports.admin].into_iter().all(|port| seen.insert(port) && is_free(port)));
        }
    }
}
