//! Keys over HTTP on every node of a cluster of three: every node answers with what one node acknowledged, and
//! followers forward.

use anyhow::{Result, ensure};
use raftkv_api::{Code, Deleted, HEADER_APPLIED, HEADER_LEADER_CONTACT_MS, HEADER_REVISION, Outcome, Put, Range};
use raftkv_cluster_tests::{Cluster, Export, Node, wait::eventually};

fn put(node: &Node, key: &str, value: &str) -> Result<Put> {
    node.client("PUT", &format!("/v1/kv/{key}")).body(value).send()?.expect(200)?.json()
}

fn get(node: &Node, target: &str) -> Result<String> {
    Ok(node.client("GET", &format!("/v1/kv/{target}")).send()?.expect(200)?.text())
}

#[test]
fn every_node_takes_writes_and_every_node_shows_them_at_once() -> Result<()> {
    let cluster = Cluster::start(3)?;
    for (nth, writer) in cluster.nodes.iter().enumerate() {
        let key = format!("from-{nth}");
        let first = put(writer, &key, "one")?;
        let second = put(writer, &key, "two")?;
        ensure!((first.version, second.version) == (1, 2), "{first:?}, {second:?}");
        ensure!(second.revision == first.revision + 1, "{first:?}, {second:?}");
        for reader in &cluster.nodes {
            // There is no waiting: every later linearizable read has an acknowledged write, whichever node answers.
            let answer = reader.client("GET", &format!("/v1/kv/{key}")).send()?.expect(200)?;
            ensure!(answer.text() == "two" && answer.etag()? == second.revision, "{} said {answer:?}", reader.name);
            ensure!(answer.header(HEADER_REVISION) == Some(&second.revision.to_string()), "{:?}", answer.headers);
            let then = get(reader, &format!("{key}?revision={}", first.revision))?;
            ensure!(then == "one", "{} says {then} at revision {}", reader.name, first.revision);
        }
    }
    cluster.finish()
}

#[test]
fn compare_and_swap_has_one_winner() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let revision = put(&cluster.nodes[0], "lock", "free")?.revision;
    // All three swap at once, each through another node.
    let statuses: Vec<(u16, Option<u64>)> = std::thread::scope(|scope| {
        let swap = |node: &Node| -> Result<(u16, Option<u64>)> {
            let request = node.client("PUT", "/v1/kv/lock").header("If-Match", format!("\"{revision}\""));
            let answer = request.body(node.name.clone()).send()?;
            if answer.status == 200 {
                return Ok((200, Some(answer.json::<Put>()?.revision)));
            }
            let problem = answer.problem()?;
            ensure!(problem.code == Code::ConditionFailed && problem.outcome == Outcome::None, "{problem:?}");
            Ok((answer.status, problem.current_revision.flatten()))
        };
        let swaps: Vec<_> = cluster.nodes.iter().map(|node| scope.spawn(move || swap(node))).collect();
        swaps.into_iter().map(|swap| swap.join().expect("no assertion in there")).collect::<Result<_>>()
    })?;
    let won = statuses.iter().filter(|(status, _)| *status == 200).count();
    ensure!(won == 1, "{won} have won: {statuses:?}");
    let revisions: Vec<_> = statuses.iter().map(|(_, revision)| *revision).collect();
    ensure!(
        revisions.iter().all(|found| *found == Some(revision + 1)),
        "the losers are told the winner's: {statuses:?}"
    );

    let node = &cluster.nodes[1];
    let again = node.client("PUT", "/v1/kv/lock").header("If-None-Match", "*").body("x").send()?;
    ensure!(again.problem()?.code == Code::ConditionFailed, "{again:?}");
    let deleted: Deleted = node.client("DELETE", "/v1/kv/lock").header("If-Match", "*").send()?.expect(200)?.json()?;
    ensure!(deleted.deleted && deleted.revision == revision + 2, "{deleted:?}");
    let nothing: Deleted = node.client("DELETE", "/v1/kv/lock").send()?.expect(200)?.json()?;
    ensure!(!nothing.deleted && nothing.revision == deleted.revision, "a revision without a change: {nothing:?}");
    for node in &cluster.nodes {
        let answer = node.client("GET", "/v1/kv/lock").send()?;
        ensure!(answer.problem()?.code == Code::KeyNotFound, "{answer:?}");
    }
    cluster.finish()
}

#[test]
fn a_reader_who_has_the_value_is_not_sent_it_again() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let old = put(&cluster.nodes[0], "k", "old")?.revision;
    let read = |node: &Node, method: &str, target: &str, has: u64| {
        node.client(method, target).header("If-None-Match", format!("\"{has}\"")).send()
    };
    for node in &cluster.nodes {
        for target in ["/v1/kv/k", "/v1/kv/k?consistency=stale", &format!("/v1/kv/k?revision={old}")] {
            for method in ["GET", "HEAD"] {
                let answer = read(node, method, target, old)?.expect(304)?;
                ensure!(answer.body.is_empty() && answer.etag()? == old, "{method} {target}: {answer:?}");
                ensure!(answer.header(HEADER_REVISION) == Some(&old.to_string()), "{:?}", answer.headers);
            }
        }
    }
    let new = put(&cluster.nodes[1], "k", "new")?.revision;
    for node in &cluster.nodes {
        let answer = read(node, "GET", "/v1/kv/k", old)?.expect(200)?;
        ensure!(answer.text() == "new" && answer.etag()? == new, "{answer:?}");
    }
    ensure!(read(&cluster.nodes[0], "GET", "/v1/kv/none", old)?.problem()?.code == Code::KeyNotFound);
    cluster.finish()
}

#[test]
fn pages_show_one_revision_whatever_is_written_meanwhile() -> Result<()> {
    let cluster = Cluster::start(3)?;
    for nth in 0..25 {
        put(&cluster.nodes[nth % 3], &format!("p%2F{nth:02}"), "before")?;
    }
    put(&cluster.nodes[0], "q", "outside")?;
    for node in &cluster.nodes {
        let mut seen = Vec::new();
        let mut position = String::new();
        loop {
            let target = format!("/v1/kv?prefix=p%2F&limit=7{position}");
            let page: Range = node.client("GET", &target).send()?.expect(200)?.json()?;
            ensure!(page.count == 25 && page.kvs.len() <= 7, "{} of {}", page.kvs.len(), page.count);
            ensure!(page.kvs.iter().all(|kv| kv.value.as_deref() == Some("before")), "{page:?}");
            seen.extend(page.kvs.iter().filter_map(|kv| kv.key.clone()));
            // Written between two pages, before and behind the position; neither may be seen.
            put(node, "p%2F00", "after")?;
            put(node, "p%2F99", "after")?;
            match page.next {
                Some(next) => position = format!("&after={next}&revision={}", page.revision),
                None => break,
            }
        }
        let want: Vec<_> = (0..25).map(|nth| format!("p/{nth:02}")).collect();
        ensure!(seen == want, "{}: {seen:?}", node.name);
        put(node, "p%2F00", "before")?;
        node.client("DELETE", "/v1/kv/p%2F99").send()?.expect(200)?;
    }
    let page: Range =
        cluster.nodes[2].client("GET", "/v1/kv?start=p%2F10&end=p%2F12&keys_only=true").send()?.expect(200)?.json()?;
    let keys: Vec<_> = page.kvs.iter().map(|kv| (kv.key.as_deref(), kv.value.as_deref())).collect();
    ensure!(keys == [(Some("p/10"), None), (Some("p/11"), None)], "{keys:?}");
    let count: Range = cluster.nodes[1].client("GET", "/v1/kv?count_only=true").send()?.expect(200)?.json()?;
    ensure!(count.count == 26 && count.kvs.is_empty(), "{count:?}");
    cluster.finish()
}

#[test]
fn bytes_that_are_not_text_and_large_values_come_back_as_they_were() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let all: Vec<u8> = (0..=255).collect();
    // Sizes around the 4 KiB chunks in which values are stored, and the largest size.
    let sizes = [0, 1, 4095, 4096, 4097, 8192, 100_000, 1536 * 1024];
    for (nth, size) in sizes.into_iter().enumerate() {
        let value: Vec<u8> = all.iter().cycle().take(size).copied().collect();
        let node = &cluster.nodes[nth % 3];
        node.client("PUT", &format!("/v1/kv/%FF%00%2F..%2F{size}")).body(value.clone()).send()?.expect(200)?;
        for reader in &cluster.nodes {
            let answer = reader.client("GET", &format!("/v1/kv/%FF%00%2F..%2F{size}")).send()?.expect(200)?;
            ensure!(answer.body == value, "{size} bytes came back as {}", answer.body.len());
        }
    }
    // The first key again by its base64, and a range over keys that are not UTF-8.
    let answer = cluster.nodes[0].client("GET", "/v1/kv/?key_b64=_wAvLi4vMQ").send()?;
    ensure!(answer.status == 200 && answer.body == [0], "{answer:?}");
    let export = cluster.export("%FF")?;
    ensure!(export.entries.len() == sizes.len(), "{:?}", export.entries.keys());
    ensure!(export.entries.keys().all(|key| key.starts_with(b"\xff\0/../")), "{:?}", export.entries.keys());
    cluster.finish()
}

#[test]
fn a_stale_read_says_how_old_it_may_be() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let revision = put(&cluster.nodes[0], "k", "v")?.revision;
    cluster.agree()?;
    for node in &cluster.nodes {
        let answer = node.client("GET", "/v1/kv/k?consistency=stale").send()?.expect(200)?;
        ensure!(answer.text() == "v" && answer.etag()? == revision, "{answer:?}");
        let number = |name| answer.header(name).and_then(|text| text.parse::<u64>().ok());
        ensure!(number(HEADER_APPLIED).is_some_and(|applied| applied > 0), "{:?}", answer.headers);
        ensure!(number(HEADER_LEADER_CONTACT_MS).is_some(), "{:?}", answer.headers);
    }
    // A node that is alone still answers stale reads, but no others.
    let leader = cluster.leader()?;
    let alone = (leader + 1) % 3;
    for node in (0..3).filter(|node| *node != alone) {
        cluster.nodes[node].kill()?;
    }
    let node = &cluster.nodes[alone];
    ensure!(get(node, "k?consistency=stale")? == "v");
    let answer = node.client("GET", "/v1/kv/k").send()?;
    ensure!([503, 504].contains(&answer.status), "a linearizable read without a quorum: {answer:?}");
    eventually("the age grows", || {
        let answer = node.client("GET", "/v1/kv/k?consistency=stale").send()?.expect(200)?;
        let age_ms = answer.header(HEADER_LEADER_CONTACT_MS).and_then(|text| text.parse::<u64>().ok());
        ensure!(age_ms.is_some_and(|age_ms| age_ms > 500), "{:?}", answer.headers);
        Ok(())
    })?;
    for node in (0..3).filter(|node| *node != alone) {
        cluster.nodes[node].start()?;
    }
    cluster.agree()?;
    cluster.finish()
}

#[test]
fn a_restart_of_the_whole_cluster_keeps_every_key_and_revision() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    for nth in 0..50 {
        put(&cluster.nodes[nth % 3], &format!("k{}", nth % 20), &format!("v{nth}"))?;
    }
    let before = cluster.export("")?;
    for round in 0..2 {
        for node in &mut cluster.nodes {
            // Once without a clean stop, and once with one.
            if round == 0 { node.kill()? } else { node.stop()? }
        }
        for node in &mut cluster.nodes {
            node.start()?;
        }
        for node in &cluster.nodes {
            node.wait_serving()?;
            let after = Export::read(node, "")?;
            ensure!(after == before, "{} differs after restart {round}", node.name);
        }
    }
    cluster.agree()?;
    cluster.finish()
}
