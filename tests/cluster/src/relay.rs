//! A relay on loopback before each node's peer port, which can cut the link from one member to another, in one
//! direction.
//!
//! Enters: connections of members, who say in the request's head who they are. Leaves: their bytes, unless the
//! direction is cut: then they wait, like packets that TCP will send again, and nothing is lost or reordered within a
//! connection.
//!
//! # Caveats
//! A member that connects over a cut link gets a connection and no answer, where a real network would not let it
//! connect. The tests in network namespaces cover what a real network does.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The header in which a member says who it is.
const HELLO: &str = "x-raftkv-hello:";
/// A request's head is never longer than this.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const COPY_BYTES: usize = 64 * 1024;

/// The links between members, by member id.
#[derive(Debug, Default)]
struct Links {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Directions that are cut, as (from, to).
    cut: BTreeSet<(u64, u64)>,
    closed: bool,
}

impl Links {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until bytes may pass; false when the relay has ended.
    fn may_pass(&self, from: u64, to: u64) -> bool {
        let waiting = |state: &mut State| !state.closed && state.cut.contains(&(from, to));
        let state = self.changed.wait_while(self.state(), waiting).unwrap_or_else(PoisonError::into_inner);
        !state.closed
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }
}

/// The relays of one cluster.
#[derive(Debug, Default)]
pub struct Relays {
    links: Arc<Links>,
    addresses: Vec<SocketAddr>,
}

impl Relays {
    /// Adds a relay before the peer port `port` of the member `to`; the port on which the others must reach that
    /// member.
    pub fn before(&mut self, to: u64, port: u16) -> Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let links = self.links.clone();
        thread::Builder::new().name(format!("relay to {to}")).spawn(move || {
            for dialler in listener.incoming() {
                if links.state().closed {
                    return;
                }
                let (Ok(dialler), links) = (dialler, links.clone()) else { continue };
                // An error ends this connection; both sides see that and dial again.
                thread::spawn(move || drop(relay(&links, dialler, to, port)));
            }
        })?;
        self.addresses.push(address);
        Ok(address.port())
    }

    /// Stops everything that one member sends to another.
    pub fn cut(&self, from: u64, to: u64) {
        self.links.change(|state| {
            state.cut.insert((from, to));
        });
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        self.links.change(|state| state.cut.clear());
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        self.links.change(|state| state.closed = true);
        for address in &self.addresses {
            // This wakes the thread that waits for a connection, and it ends; an error means that it has ended.
            drop(TcpStream::connect(address));
        }
    }
}

fn relay(links: &Arc<Links>, mut dialler: TcpStream, to: u64, port: u16) -> Result<()> {
    let (head, from) = head(&mut dialler)?;
    if !links.may_pass(from, to) {
        return Ok(());
    }
    let mut member = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    member.set_nodelay(true)?;
    dialler.set_nodelay(true)?;
    member.write_all(&head)?;
    let (reads, writes) = (member.try_clone()?, dialler.try_clone()?);
    let back = links.clone();
    thread::spawn(move || copy(&back, (to, from), reads, writes));
    copy(links, (from, to), dialler, member);
    Ok(())
}

/// The bytes up to the end of the request's head, and the member that says it sent them.
fn head(dialler: &mut TcpStream) -> Result<(Vec<u8>, u64)> {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let length = dialler.read(&mut piece)?;
        anyhow::ensure!(length > 0 && head.len() < HEAD_BYTES_MAX, "no request came");
        head.extend_from_slice(&piece[..length]);
    }
    let from = sender(&String::from_utf8_lossy(&head)).context("a request without a hello")?;
    Ok((head, from))
}

fn sender(head: &str) -> Option<u64> {
    let named = |line: &&str| line.get(..HELLO.len()).is_some_and(|name| name.eq_ignore_ascii_case(HELLO));
    let hello = head.lines().find(named)?;
    serde_json::from_str::<serde_json::Value>(&hello[HELLO.len()..]).ok()?["from"].as_u64()
}

/// Carries bytes in one direction to the end of the connection.
fn copy(links: &Links, (from, to): (u64, u64), mut reads: TcpStream, mut writes: TcpStream) {
    let mut piece = vec![0; COPY_BYTES];
    loop {
        let read = reads.read(&mut piece);
        // The end of a connection does not pass a cut link either.
        if !links.may_pass(from, to) {
            break;
        }
        match read {
            Ok(length) if length > 0 && writes.write_all(&piece[..length]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => break,
        }
    }
    // Errors mean that it is closed already.
    drop(reads.shutdown(Shutdown::Both));
    drop(writes.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::eventually;
    use std::time::Duration;

    /// A member that echoes each byte.
    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                });
            }
        });
        port
    }

    #[test]
    fn a_cut_direction_holds_its_bytes_until_it_is_healed() {
        let mut relays = Relays::default();
        let port = relays.before(2, echo()).unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let head = b"GET / HTTP/1.1\r\nX-Raftkv-Hello: {\"from\":1,\"to\":2}\r\n\r\n";
        stream.write_all(head).unwrap();
        let mut got = vec![0; head.len()];
        stream.read_exact(&mut got).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        for (from, to) in [(1, 2), (2, 1)] {
            relays.cut(from, to);
            stream.write_all(b"x").unwrap();
            assert!(stream.read_exact(&mut got[..1]).is_err(), "{from} to {to} is cut");
            relays.heal();
            eventually("the byte comes", || Ok(stream.read_exact(&mut got[..1])?)).unwrap();
        }
        relays.cut(3, 2);
        stream.write_all(b"y").unwrap();
        eventually("another link is not concerned", || Ok(stream.read_exact(&mut got[..1])?)).unwrap();
        assert_eq!(got[0], b'y');
    }

    #[test]
    fn the_hello_says_who_sends() {
        assert_eq!(
            sender("GET /raft/v1 HTTP/1.1\r\nhost: x\r\nx-raftkv-hello: {\"from\":7,\"to\":2}\r\n\r\n"),
            Some(7)
        );
        assert_eq!(sender("GET / HTTP/1.1\r\nhost: x\r\n\r\n"), None);
    }
}
