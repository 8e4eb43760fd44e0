//! Clients that are slow, silent or gone, on every port: a healthy client goes on as if they were not there.

use anyhow::{Result, ensure};
use raftkv_cluster_tests::wait::{eventually_within, holds};
use raftkv_cluster_tests::{Cluster, Writer};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Number of bad clients on each port.
const BAD_CLIENTS: usize = 100;
/// A healthy request must be answered within this time, whatever the others do.
const HEALTHY_MAX: Duration = Duration::from_secs(8);

/// The ways in which a client can be bad: what it sends before it falls silent.
fn beginnings() -> Vec<(&'static str, Vec<u8>)> {
    let large = format!("PUT /v1/kv/slow HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\nabc", 1024 * 1024);
    vec![
        ("nothing", vec![]),
        ("half a request line", b"GET /v1/k".to_vec()),
        ("half a head", b"GET /v1/kv/k HTTP/1.1\r\nHost: 127.0.0.1\r\nX-".to_vec()),
        ("a head without its body", large.into_bytes()),
        (
            "a peer's head without its frames",
            b"GET /raft/v1 HTTP/1.1\r\nHost: x\r\nUpgrade: raftkv-peer/1\r\n".to_vec(),
        ),
        ("bytes that are no HTTP", vec![0xff; 4096]),
    ]
}

#[test]
fn silent_clients_on_every_port_stop_nobody() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let mut silent = Vec::new();
    for node in &cluster.nodes {
        for port in [node.ports.client, node.ports.peer, node.ports.admin] {
            for (_, beginning) in beginnings().iter().cycle().take(BAD_CLIENTS) {
                let mut stream = TcpStream::connect(("127.0.0.1", port))?;
                // The node may have hung up already, which is right.
                stream.write_all(beginning).ok();
                silent.push(stream);
            }
        }
    }
    let writer = Writer::start("w", cluster.client_urls());
    writer.wait_for(100)?;
    for node in &cluster.nodes {
        let begun = Instant::now();
        node.client("GET", "/v1/kv?limit=1").send()?.expect(200)?;
        node.admin("GET", "/v1/status").send()?.expect(200)?;
        node.admin("GET", "/livez").without("Authorization").send()?.expect(200)?;
        ensure!(begun.elapsed() < HEALTHY_MAX, "{} took {:?}", node.name, begun.elapsed());
    }
    // Elections go on too: the leader is killed, and another one takes over.
    let leader = cluster.leader()?;
    cluster.nodes[leader].kill()?;
    writer.wait_for(50)?;
    cluster.nodes[leader].start()?;
    let written = writer.stop()?;
    ensure!(written.longest < Duration::from_secs(15), "one key took {:?}", written.longest);
    written.verify(&mut cluster)?;
    drop(silent);
    cluster.finish()
}

#[test]
fn a_silent_client_is_hung_up_on() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let node = &cluster.nodes[0];
    let mut open = Vec::new();
    for port in [node.ports.client, node.ports.peer, node.ports.admin] {
        for (what, beginning) in beginnings() {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.write_all(&beginning).ok();
            stream.set_nonblocking(true)?;
            open.push((port, what, stream));
        }
    }
    // Whatever the limit of each phase is, none may hold a connection for a minute.
    let deadline = Duration::from_secs(50);
    eventually_within(deadline, "every silent client is hung up on", || {
        open.retain_mut(|(_, _, stream)| !hung_up(stream));
        holds(open.is_empty(), || {
            let left: Vec<_> = open.iter().map(|(port, what, _)| format!("{port} ({what})")).collect();
            format!("still open: {}", left.join(", "))
        })
    })?;
    cluster.finish()
}

#[test]
fn a_reader_that_reads_nothing_holds_up_nobody() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let node = &cluster.nodes[0];
    let body = vec![b'x'; 1024 * 1024];
    for nth in 0..8 {
        node.client("PUT", &format!("/v1/kv/large{nth}")).body(body.clone()).send()?.expect(200)?;
    }
    // Each client asks for 8 MiB and takes none of it.
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(("127.0.0.1", node.ports.client))?;
        stream.write_all(b"GET /v1/kv?prefix=large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
        idle.push(stream);
    }
    for nth in 0..20 {
        let begun = Instant::now();
        let key = format!("/v1/kv/small{nth}");
        node.client("PUT", &key).body("v").send()?.expect(200)?;
        ensure!(node.client("GET", &key).send()?.expect(200)?.text() == "v");
        ensure!(begun.elapsed() < HEALTHY_MAX, "took {:?}", begun.elapsed());
    }
    drop(idle);
    cluster.finish()
}

/// Whether the node has closed the connection; bytes that came before are read and dropped.
fn hung_up(stream: &mut TcpStream) -> bool {
    let mut said = [0; 4096];
    loop {
        match stream.read(&mut said) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}
