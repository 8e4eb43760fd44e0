//! No write is acknowledged before it is on the disks of a quorum, as the kernel sees it: for each put, strace shows
//! which nodes wrote its entry into their logs and called an fdatasync that began after that and returned before the
//! answer left.

use anyhow::{Context, Result, ensure};
use raftkv_api::Put;
use raftkv_cluster_tests::Cluster;
use raftkv_cluster_tests::http::Connection;
use raftkv_cluster_tests::strace::{Call, Strace};
use std::collections::BTreeSet;

const NODES: usize = 3;
/// Puts, one after another, through each node in turn.
const PUTS: usize = 150;
/// The calls by which bytes get into a file, onto the disk and into a socket.
const CALLS: [&str; 9] =
    ["write", "writev", "pwrite64", "pwritev", "pwritev2", "fsync", "fdatasync", "sendto", "sendmsg"];

#[test]
fn a_quorum_has_synced_each_put_before_its_answer_leaves() -> Result<()> {
    let mut cluster = Cluster::start(NODES)?;
    let pids = cluster.nodes.iter().map(|node| node.pid()).collect::<Result<Vec<_>>>()?;
    let strace = Strace::attach(&pids, &CALLS, &cluster.dir().join("strace"))?;
    let mut connections = Vec::new();
    for node in &cluster.nodes {
        connections.push(Connection::open(node.client_url().trim_start_matches("http://"))?);
    }
    let mut puts = Vec::new();
    for nth in 0..PUTS {
        let value = format!("<audited {nth:06}>");
        let node = nth % NODES;
        let request = cluster.nodes[node].client("PUT", &format!("/v1/kv/a{}", nth % 10)).body(value.clone());
        let put: Put = connections[node].exchange(&request)?.expect(200)?.json()?;
        puts.push((value, put.revision));
    }
    // A connection's next answer shows that the call which sent the answer before has returned.
    for (node, connection) in cluster.nodes.iter().zip(&mut connections) {
        connection.exchange(&node.client("GET", "/v1/kv/a0"))?.expect(200)?;
    }
    let calls = strace.detach()?;
    let names: Vec<_> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let mut by_all = 0;
    for (value, revision) in &puts {
        let synced = synced_before_answer(&calls, &names, value, *revision)?;
        ensure!(
            synced.len() > NODES / 2,
            "{value} was acknowledged at revision {revision} when only {synced:?} had it on their disks"
        );
        by_all += usize::from(synced.len() == NODES);
    }
    println!("TABLE fsync-audit: puts={PUTS} synced_by_quorum={PUTS} by_all={by_all} calls={}", calls.len());
    cluster.agree()?;
    cluster.finish()
}

/// The nodes whose log held `value` durably when the answer with this revision left.
fn synced_before_answer<'a>(
    calls: &[Call],
    names: &'a [String],
    value: &str,
    revision: u64,
) -> Result<BTreeSet<&'a str>> {
    let body = format!("\\\"revision\\\":{revision},");
    let answers = |call: &&Call| call.arguments.contains("HTTP/1.1 200") && call.arguments.contains(&body);
    let answer = calls.iter().find(answers).with_context(|| format!("no answer with revision {revision}"))?;
    let durable = |name: &&str| {
        let of_log = |call: &Call| call.arguments.contains(&format!("/{name}/wal-"));
        let written = calls.iter().filter(|call| of_log(call) && call.arguments.contains(value));
        written.into_iter().any(|written| {
            let file = written.arguments.split(',').next();
            calls.iter().any(|sync| {
                (sync.name == "fdatasync" || sync.name == "fsync")
                    && sync.returned == "0"
                    && Some(sync.arguments.as_str()) == file
                    && sync.began_us >= written.ended_us
                    && sync.ended_us <= answer.began_us
            })
        })
    };
    Ok(names.iter().map(String::as_str).filter(durable).collect())
}

#[test]
fn the_audit_notices_a_sync_that_is_late_missing_failed_or_of_another_file() -> Result<()> {
    let names = ["n1".to_string()];
    let call = |name: &str, arguments: &str, began_us, ended_us| Call {
        name: name.into(),
        arguments: arguments.into(),
        returned: "0".into(),
        began_us,
        ended_us,
    };
    let written = call("pwrite64", "3</d/n1/wal-1>, \"..<v>..\", 7, 0", 10, 20);
    let answer = call("sendto", "9<socket>, \"HTTP/1.1 200 OK {\\\"revision\\\":7,\\\"version\\\":1}\"", 50, 51);
    let sync = call("fdatasync", "3</d/n1/wal-1>", 20, 50);
    let synced = |sync: Call| {
        let calls = [written.clone(), sync, answer.clone()];
        synced_before_answer(&calls, &names, "<v>", 7).map(|synced| synced.len())
    };
    ensure!(synced(sync.clone())? == 1, "a sync between the two counts");
    ensure!(synced(Call { ended_us: 51, ..sync.clone() })? == 0, "it returned after the answer");
    ensure!(synced(Call { began_us: 19, ..sync.clone() })? == 0, "it began before the entry was written");
    ensure!(synced(Call { returned: "-1 EIO".into(), ..sync.clone() })? == 0, "it failed");
    ensure!(synced(Call { arguments: "4</d/n1/wal-2>".into(), ..sync.clone() })? == 0, "it was of another file");
    ensure!(synced(Call { name: "write".into(), ..sync })? == 0, "it was no sync");
    Ok(())
}
