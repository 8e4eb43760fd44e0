//! Data directories, ports and disks that are wrong: the node ends or stands aside with a message that names what is
//! wrong, and once that is put right everything is there again.

use anyhow::{Context, Result, ensure};
use raftkv_api::NodeState;
use raftkv_cluster_tests::wait::{eventually, holds};
use raftkv_cluster_tests::{Cluster, Node, Writer, Written};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

const WRITES: usize = 40;

/// A cluster of three, the account of what was written to it, and a follower that does not run.
fn with_a_stopped_follower() -> Result<(Cluster, Written, usize)> {
    let mut cluster = Cluster::start(3)?;
    let written = write(&cluster, "w")?;
    cluster.agree()?;
    let follower = (cluster.leader()? + 1) % 3;
    cluster.nodes[follower].kill()?;
    Ok((cluster, written, follower))
}

fn write(cluster: &Cluster, name: &str) -> Result<Written> {
    let writer = Writer::start(name, cluster.client_urls());
    writer.wait_for(WRITES)?;
    writer.stop()
}

/// Checks that the node does not start, and says all of `words`.
fn refuses_to_start(node: &mut Node, words: &[&str]) -> Result<()> {
    let command = node.command()?;
    refuses_to_start_as(node, command, words)
}

fn refuses_to_start_as(node: &mut Node, command: Command, words: &[&str]) -> Result<()> {
    let (status, said) = node.run_to_its_end_as(command)?;
    ensure!(!status.success() && status.code().is_some(), "ended with {status} and said:\n{said}");
    ensure!(!said.contains("panicked"), "a panic is no message:\n{said}");
    let lower = said.to_lowercase();
    for word in words {
        ensure!(lower.contains(&word.to_lowercase()), "'{word}' is missing in:\n{said}");
    }
    Ok(())
}

/// Starts the node again, and checks that everything that was written is on every node.
fn comes_back(mut cluster: Cluster, node: usize, written: &Written) -> Result<()> {
    if !cluster.nodes[node].is_running() {
        cluster.nodes[node].start()?;
    }
    cluster.nodes[node].wait_serving()?;
    written.verify(&mut cluster)?;
    cluster.agree()?;
    cluster.finish()
}

/// The damaged file is as it was, and that is not enough: only `reset` ends a quarantine, or whoever puts back the whole
/// directory, its identity included (rule N7).
fn is_trusted_only_with_its_identity(cluster: &mut Cluster, node: usize, identity: &[u8]) -> Result<()> {
    cluster.nodes[node].start()?;
    cluster.nodes[node].wait_for("is quarantined still", |status| status.state == NodeState::Quarantined)?;
    cluster.nodes[node].stop()?;
    Ok(fs::write(cluster.nodes[node].data_dir.join("identity"), identity)?)
}

fn files(dir: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(named).collect();
    files.sort();
    ensure!(!files.is_empty(), "no file {prefix}* in {}", dir.display());
    Ok(files)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cp: {copied}");
    Ok(())
}

/// Flips one bit of a file.
fn damage(file: &Path, offset: usize) -> Result<()> {
    let mut bytes = fs::read(file)?;
    bytes[offset] ^= 1;
    Ok(fs::write(file, bytes)?)
}

#[test]
fn a_corrupt_log_record_quarantines_the_node_and_names_the_place() -> Result<()> {
    let (mut cluster, written, node) = with_a_stopped_follower()?;
    // This is in the middle of what was acknowledged: whole batches stand behind it.
    let value = format!("w wrote {}", written.keys.len() / 2);
    let found = files(&cluster.nodes[node].data_dir, "wal-")?.into_iter().find_map(|file| {
        let bytes = fs::read(&file).ok()?;
        let offset = bytes.windows(value.len()).position(|window| window == value.as_bytes())?;
        Some((file, offset))
    });
    let (file, offset) = found.context("an acknowledged value is in no segment of the log")?;
    damage(&file, offset)?;
    let identity = fs::read(cluster.nodes[node].data_dir.join("identity"))?;
    // The process must not end: it would be started again for ever, and could report nothing.
    cluster.nodes[node].start()?;
    let status = cluster.nodes[node].wait_for("is quarantined", |status| status.state == NodeState::Quarantined)?;
    let reason = status.reason.context("a quarantined node says why")?;
    ensure!(reason.contains(&name_of(&file)) && reason.contains("offset"), "the place is not named: {reason}");
    ensure!(reason.contains("raftkvctl reset"), "nor is the way out: {reason}");
    cluster.nodes[node].stop()?;
    damage(&file, offset)?;
    is_trusted_only_with_its_identity(&mut cluster, node, &identity)?;
    comes_back(cluster, node, &written)
}

#[test]
fn a_corrupt_snapshot_is_named_and_not_used() -> Result<()> {
    let mut cluster = Cluster::start_with(3, &["--snapshot-log-bytes=64KiB"])?;
    let written = write(&cluster, "w")?;
    let node = (cluster.leader()? + 1) % 3;
    let before = cluster.nodes[node].status()?.snapshot_index;
    let body = vec![b'x'; 32 * 1024];
    eventually("a snapshot is cut", || {
        cluster.nodes[node].client("PUT", "/v1/kv/large").body(body.clone()).send()?.expect(200)?;
        let index = cluster.nodes[node].status()?.snapshot_index;
        holds(index > before, || format!("the newest is at {index}"))
    })?;
    cluster.nodes[node].kill()?;
    let mut snapshots = files(&cluster.nodes[node].data_dir, "snapshot-")?;
    // The kill may have cut short the writing of the next one.
    snapshots.retain(|file| file.extension().is_none());
    let newest = snapshots.pop().context("no snapshot is whole")?;
    damage(&newest, fs::metadata(&newest)?.len() as usize / 2)?;
    // sled would make the snapshot unnecessary; without it the node needs one that it can trust.
    for kv in files(&cluster.nodes[node].data_dir, "kv-").unwrap_or_default() {
        fs::remove_dir_all(kv)?;
    }
    cluster.nodes[node].start()?;
    cluster.nodes[node].wait_serving()?;
    let said = cluster.nodes[node].log_text();
    ensure!(said.contains(&name_of(&newest)), "the file is not named in:\n{}", cluster.nodes[node].log_end());
    comes_back(cluster, node, &written)
}

/// The names in a directory, and the bytes of what raft relies on.
fn contents(dir: &Path) -> Result<Vec<(String, Option<Vec<u8>>)>> {
    let read = |path: &PathBuf| {
        let name = name_of(path);
        let relied_on = ["identity", "wal-", "snapshot-", "CURRENT"].iter().any(|begin| name.starts_with(begin));
        Ok((name, relied_on.then(|| fs::read(path)).transpose()?))
    };
    files(dir, "")?.iter().map(read).collect()
}

#[test]
fn a_directory_of_another_format_is_refused_and_left_as_it_is() -> Result<()> {
    let (mut cluster, written, node) = with_a_stopped_follower()?;
    let dir = cluster.nodes[node].data_dir.clone();
    let identity = dir.join("identity");
    let ours = fs::read_to_string(&identity)?;
    for (other, words) in [
        ("\"format\": 1", ["identity has format 1", "reads format 2", "start the earlier raftkv again"]),
        ("\"format\": 3", ["format 3", "a newer raftkv than", "the data are as they were"]),
    ] {
        let theirs = ours.replacen("\"format\": 2", other, 1);
        ensure!(theirs != ours, "the identity file has no format: {ours}");
        fs::write(&identity, theirs)?;
        let before = contents(&dir)?;
        refuses_to_start(&mut cluster.nodes[node], &words)?;
        ensure!(contents(&dir)? == before, "something in the directory has changed");
    }
    fs::write(&identity, ours)?;

    // The oldest batch there is begins with a record of a kind that a later version writes.
    let segment = files(&dir, "wal-")?.remove(0);
    let bytes = fs::read(&segment)?;
    fs::write(&segment, with_first_record_of_kind(7, &segment, bytes.clone())?)?;
    let before = contents(&dir)?;
    refuses_to_start(&mut cluster.nodes[node], &[&name_of(&segment), "kind 7", "a newer raftkv than"])?;
    ensure!(contents(&dir)? == before, "something in the directory has changed");
    fs::write(&segment, bytes)?;
    comes_back(cluster, node, &written)
}

/// Gives the record behind a segment's header another kind, under a right checksum.
fn with_first_record_of_kind(kind: u8, segment: &Path, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    const AT: usize = 176;
    let seq: u64 = name_of(segment).trim_start_matches("wal-").parse()?;
    let payload_bytes = u32::from_le_bytes(bytes[AT + 4..AT + 8].try_into()?) as usize;
    let end = AT + (16 + payload_bytes).next_multiple_of(8);
    let crc = |bytes: &[u8]| {
        crc32c_of(&[&seq.to_le_bytes()[..], &(AT as u64).to_le_bytes(), &bytes[AT + 4..end]].concat()).to_le_bytes()
    };
    ensure!(bytes[AT..AT + 4] == crc(&bytes), "there is no record at {AT}");
    bytes[AT + 15] = kind;
    let crc = crc(&bytes);
    bytes[AT..AT + 4].copy_from_slice(&crc);
    Ok(bytes)
}

/// Computed bit by bit.
fn crc32c_of(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
fn an_identity_without_its_log_is_quarantined() -> Result<()> {
    let (mut cluster, written, node) = with_a_stopped_follower()?;
    let aside = cluster.dir().join("aside");
    fs::create_dir(&aside)?;
    let segments = files(&cluster.nodes[node].data_dir, "wal-")?;
    let identity = fs::read(cluster.nodes[node].data_dir.join("identity"))?;
    for segment in &segments {
        fs::rename(segment, aside.join(name_of(segment)))?;
    }
    cluster.nodes[node].start()?;
    let status = cluster.nodes[node].wait_for("is quarantined", |status| status.state == NodeState::Quarantined)?;
    let reason = status.reason.context("a quarantined node says why")?;
    ensure!(reason.contains("identity") || reason.contains("wal"), "the file is not named: {reason}");
    let answer = cluster.nodes[node].client("GET", "/v1/kv/w%2F00000000?consistency=stale").send()?;
    ensure!(answer.problem()?.code == raftkv_api::Code::Quarantined, "{answer:?}");
    cluster.nodes[node].stop()?;
    for segment in &segments {
        fs::rename(aside.join(name_of(segment)), segment)?;
    }
    is_trusted_only_with_its_identity(&mut cluster, node, &identity)?;
    comes_back(cluster, node, &written)
}

#[test]
fn a_rolled_back_directory_is_quarantined() -> Result<()> {
    let (mut cluster, first, node) = with_a_stopped_follower()?;
    let dir = cluster.nodes[node].data_dir.clone();
    let old = cluster.dir().join("old");
    copy_dir(&dir, &old)?;
    cluster.nodes[node].start()?;
    cluster.nodes[node].wait_serving()?;
    let second = write(&cluster, "x")?;
    cluster.agree()?;
    cluster.nodes[node].stop()?;
    let new = cluster.dir().join("new");
    fs::rename(&dir, &new)?;
    fs::rename(&old, &dir)?;
    cluster.nodes[node].start()?;
    let status = cluster.nodes[node].wait_for("is quarantined", |status| status.state == NodeState::Quarantined)?;
    let reason = status.reason.context("a quarantined node says why")?;
    ensure!(reason.contains("rolled back"), "{reason}");
    // No restart forgets it: nobody has to be there who remembers more.
    for other in (0..3).filter(|other| *other != node) {
        cluster.nodes[other].pause()?;
    }
    cluster.nodes[node].kill()?;
    cluster.nodes[node].start()?;
    let status =
        cluster.nodes[node].wait_for("is quarantined again", |status| status.state == NodeState::Quarantined)?;
    ensure!(status.reason.as_ref() == Some(&reason), "{:?}", status.reason);
    for other in (0..3).filter(|other| *other != node) {
        cluster.nodes[other].resume()?;
    }
    cluster.nodes[node].stop()?;
    fs::remove_dir_all(&dir)?;
    fs::rename(&new, &dir)?;
    cluster.nodes[node].start()?;
    cluster.nodes[node].wait_serving()?;
    first.verify(&mut cluster)?;
    comes_back(cluster, node, &second)
}

#[test]
fn a_copied_directory_beside_its_original_is_refused_and_both_are_named() -> Result<()> {
    let (mut cluster, first, node) = with_a_stopped_follower()?;
    let copy = cluster.new_node();
    copy_dir(&cluster.nodes[node].data_dir, &cluster.nodes[copy].data_dir)?;
    cluster.nodes[copy].name = cluster.nodes[node].name.clone();
    // Under a URL of its own it would talk to nobody (rule O34).
    let url = cluster.nodes[node].peer_url();
    cluster.nodes[copy].flags.push(format!("--peer-url={url}"));
    cluster.nodes[node].start()?;
    cluster.nodes[node].wait_serving()?;
    let second = write(&cluster, "x")?;
    cluster.agree()?;
    cluster.nodes[copy].start()?;
    let names_both = |status: &raftkv_api::Status| {
        let reason = status.reason.as_deref().unwrap_or_default();
        reason.contains("runs twice") && reason.matches(&url).count() == 2 && !reason.contains("reset")
    };
    let told = cluster.nodes[copy].wait_for("says that it runs twice", names_both)?;
    ensure!(told.state != NodeState::Quarantined, "nothing is found about its disk: {told:?}");
    for other in (0..3).filter(|other| *other != node) {
        let told = cluster.nodes[other].wait_for("says that a member runs twice", names_both)?;
        ensure!(told.state == NodeState::Voter, "{told:?}");
    }
    // The original goes on, and is not called anything else.
    let third = write(&cluster, "y")?;
    cluster.nodes[node].wait_serving()?;
    ensure!(cluster.nodes[node].status()?.state == NodeState::Voter);
    // Once it is gone, nobody answers any more, and what the copy lacks counts against it.
    cluster.nodes[node].kill()?;
    let reason =
        cluster.nodes[copy].wait_for("is quarantined", |status| status.state == NodeState::Quarantined)?.reason;
    ensure!(reason.as_ref().is_some_and(|why| why.contains("rolled back")), "{reason:?}");
    cluster.nodes[copy].stop()?;
    cluster.nodes[node].start()?;
    cluster.nodes[node].wait_serving()?;
    first.verify(&mut cluster)?;
    third.verify(&mut cluster)?;
    comes_back(cluster, node, &second)
}

#[test]
fn a_directory_of_another_cluster_does_not_get_in() -> Result<()> {
    let (mut cluster, written, node) = with_a_stopped_follower()?;
    let mut other = Cluster::empty()?;
    // Even with the same token.
    fs::copy(cluster.dir().join("token"), other.dir().join("token"))?;
    other.start_node()?;
    other.init(1)?;
    other.nodes[0].wait_serving()?;
    let foreign = other.nodes[0].status()?.cluster_id.context("a member has one")?;
    other.nodes[0].stop()?;
    let dir = cluster.nodes[node].data_dir.clone();
    let own = cluster.dir().join("own");
    fs::rename(&dir, &own)?;
    copy_dir(&other.nodes[0].data_dir, &dir)?;
    cluster.nodes[node].start()?;
    eventually("somebody says that the clusters differ", || {
        let others = cluster.nodes.iter().enumerate().filter(|(nth, _)| *nth != node).map(|(_, node)| node);
        let refused = others.into_iter().any(|node| node.log_text().contains(&foreign.to_string()));
        let aside = cluster.nodes[node].status()?.state == NodeState::Quarantined;
        holds(refused || aside, || format!("{foreign} is in no other node's log, and the node is not quarantined"))
    })?;
    let others = cluster.client_urls().into_iter().filter(|url| *url != cluster.nodes[node].client_url()).collect();
    let meanwhile = Writer::start("x", others);
    meanwhile.wait_for(WRITES)?;
    let meanwhile = meanwhile.stop()?;
    cluster.nodes[node].stop()?;
    fs::remove_dir_all(&dir)?;
    fs::rename(&own, &dir)?;
    other.finish()?;
    cluster.nodes[node].start()?;
    meanwhile.verify(&mut cluster)?;
    comes_back(cluster, node, &written)
}

#[test]
fn two_processes_never_share_a_directory() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let written = write(&cluster, "w")?;
    let dir = cluster.nodes[0].data_dir.clone();
    let second = cluster.new_node();
    cluster.nodes[second].data_dir = dir.clone();
    refuses_to_start(&mut cluster.nodes[second], &[&dir.display().to_string(), "another process"])?;
    comes_back(cluster, 0, &written)
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let (mut cluster, written, node) = with_a_stopped_follower()?;
    let ports = cluster.nodes[node].ports;
    for (port, flag) in
        [(ports.client, "--listen-client"), (ports.peer, "--listen-peer"), (ports.admin, "--listen-admin")]
    {
        let _taken = TcpListener::bind(("127.0.0.1", port))?;
        refuses_to_start(&mut cluster.nodes[node], &[&port.to_string(), flag])?;
    }
    comes_back(cluster, node, &written)
}

#[test]
fn a_volume_that_is_not_mounted_is_not_written_to() -> Result<()> {
    let mut cluster = Cluster::empty()?;
    let node = cluster.new_node();
    let dir = cluster.nodes[node].data_dir.clone();
    fs::create_dir(&dir)?;
    cluster.nodes[node].flags.push("--require-mount".into());
    refuses_to_start(&mut cluster.nodes[node], &["--require-mount", &dir.display().to_string(), "mount"])?;
    ensure!(fs::read_dir(&dir)?.next().is_none(), "something was written to the directory below the mount point");
    cluster.finish()
}

#[test]
fn a_missing_or_bad_token_file_is_named() -> Result<()> {
    let mut cluster = Cluster::empty()?;
    let node = cluster.new_node();
    let file = cluster.dir().join("other-token");
    cluster.nodes[node].token_file = file.clone();
    refuses_to_start(&mut cluster.nodes[node], &[&file.display().to_string()])?;
    fs::write(&file, "secret\n")?;
    refuses_to_start(&mut cluster.nodes[node], &[&file.display().to_string(), "64", "hex"])?;
    ensure!(!cluster.nodes[node].log_text().contains("secret"), "the token file's content is in the log");
    cluster.finish()
}

#[test]
fn a_node_with_another_token_does_not_get_in() -> Result<()> {
    let (mut cluster, written, node) = with_a_stopped_follower()?;
    let own = cluster.nodes[node].token_file.clone();
    let other = cluster.dir().join("other-token");
    fs::write(&other, format!("{}\n", "ab".repeat(32)))?;
    cluster.nodes[node].token_file = other;
    cluster.nodes[node].start()?;
    eventually("it says that its token is refused", || {
        let said = cluster.nodes[node].log_text();
        let says = said.contains("401") && said.to_lowercase().contains("token");
        holds(says, || cluster.nodes[node].log_end())
    })?;
    cluster.nodes[node].stop()?;
    cluster.nodes[node].token_file = own;
    comes_back(cluster, node, &written)
}

#[test]
fn a_disk_that_takes_no_more_bytes_stops_the_start_with_its_file() -> Result<()> {
    let mut cluster = Cluster::empty()?;
    let node = cluster.new_node();
    // The first segment is 17 MiB. Without the trap, the limit would kill the process before it could report anything.
    let command = cluster.nodes[node].command_under("trap '' XFSZ && ulimit -f 4096")?;
    cluster.nodes[node].start_as(command)?;
    let init = cluster.init(1);
    ensure!(init.is_err(), "init was answered 200 without room for a log");
    let node = &mut cluster.nodes[node];
    eventually("the process ends", || holds(!node.is_running(), || "it runs".to_string()))?;
    ensure!(node.log_text().contains("wal-"), "the file is not named:\n{}", node.log_end());
    // With room, it becomes a member as it was asked to.
    node.start()?;
    cluster.init(1)?;
    cluster.nodes[0].wait_serving()?;
    cluster.finish()
}

#[test]
fn a_disk_that_fails_in_use_costs_that_node_only() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let node = (cluster.leader()? + 1) % 3;
    cluster.nodes[node].kill()?;
    // Segments fit; the kv db's file and snapshots soon do not.
    let command = cluster.nodes[node].command_under("trap '' XFSZ && ulimit -f 18432")?;
    cluster.nodes[node].start_as(command)?;
    let leader = cluster.leader()?;
    let body: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    for nth in 0..24 {
        cluster.nodes[leader].client("PUT", &format!("/v1/kv/large{nth}")).body(body.clone()).send()?.expect(200)?;
    }
    let written = write(&cluster, "w")?;
    eventually("the node says which file it could not write", || {
        let said = cluster.nodes[node].log_text();
        let says = said.contains("File too large") || said.contains("os error 27");
        holds(says, || cluster.nodes[node].log_end())
    })?;
    cluster.nodes[node].kill()?;
    comes_back(cluster, node, &written)
}

#[test]
fn a_flag_that_cannot_be_used_is_named_with_its_value() -> Result<()> {
    let mut cluster = Cluster::empty()?;
    let node = cluster.new_node();
    cluster.nodes[node].flags.push("--quota=8GB".into());
    refuses_to_start(&mut cluster.nodes[node], &["--quota", "8GB", "8GiB"])?;
    cluster.finish()
}
