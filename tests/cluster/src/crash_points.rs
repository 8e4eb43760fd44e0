//! Members that die at an exact place, as real processes: the place, what brings a member there, and what must hold
//! afterwards.
//!
//! The places and parts are those of the simulation's crash points (`tests/sim/src/crash_points.rs`), with the same
//! names. The member that must die runs the build that has them (`node/src/crash_point/`); before and after, it runs
//! the ordinary build, as the others always do. Ballast is made of writes whose condition never holds: they fill the
//! log and leave the store as it is.

use crate::wait::{PATIENCE, eventually, eventually_within, holds};
use crate::{Cluster, Node, Writer, Written};
use anyhow::{Context, Result, anyhow, bail, ensure};
use raftkv_api::{AddMember, Hex128, MemberRole, Members, NodeState, Transfer};
use std::fmt;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// The number of SIGABRT.
const ABORTED: i32 = 6;
/// The member's last words are among this many lines: other threads may still write to the log before the end.
const LAST_LINES: usize = 20;
/// Writes acknowledged before a member dies, and after it is back.
const WRITES: usize = 20;
const CUT_BYTES: usize = 256 * 1024;
const SEGMENT_PART_BYTES: usize = 1400 * 1024;

/// The part that a member plays when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A leader with followers.
    Leader,
    /// One of three voters, and not the leader.
    Follower,
    /// The only voter.
    Single,
    /// Not a running member yet: it opens its directory, joins, or handles an init.
    Starting,
}

impl Part {
    /// The part's name in `RAFTKV_CRASH_AT`.
    pub fn name(self) -> &'static str {
        match self {
            Part::Leader => "leader",
            Part::Follower => "follower",
            Part::Single => "single",
            Part::Starting => "starting",
        }
    }
}

/// What brings a member to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stir {
    /// Only the writer.
    Writes,
    /// Enough log that a snapshot is cut.
    Cuts,
    /// Enough log that segments come and go.
    Segments,
    /// Learners that come and go.
    Changes,
    /// Its kv db must be built from a snapshot: a follower was away for too long, or an only voter's db is lost.
    Install,
}

/// A place in the code at which a member can die.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its name in `RAFTKV_CRASH_AT`.
    pub name: &'static str,
    /// What brings a member there.
    pub stir: Stir,
    /// The hit at which the member dies when one hit is enough.
    pub hit: u64,
    /// The most hits that one process can get to.
    pub hits_max: u64,
}

const fn place(name: &'static str, stir: Stir, hit: u64) -> Place {
    Place { name, stir, hit, hits_max: u64::MAX }
}

/// The places of the simulation.
pub const PLACES: [Place; 15] = [
    place("log-write", Stir::Writes, 3),
    place("log-sync", Stir::Writes, 2),
    place("header-write", Stir::Segments, 1),
    place("header-sync", Stir::Segments, 1),
    place("segment-begin", Stir::Segments, 1),
    place("segment-spare", Stir::Segments, 1),
    place("segment-remove", Stir::Segments, 1),
    place("snapshot-write", Stir::Cuts, 2),
    place("snapshot-sync", Stir::Cuts, 1),
    place("snapshot-rename", Stir::Cuts, 1),
    Place { hits_max: 1, ..place("install-switch", Stir::Install, 1) },
    place("directory-sync", Stir::Cuts, 1),
    place("send", Stir::Writes, 5),
    // The first one is the membership with which the member starts, unless it leads.
    place("membership", Stir::Changes, 2),
    place("apply", Stir::Writes, 3),
];

/// Places that a part never reaches, and why.
pub const NEVER: [(&str, Part, &str); 2] = [
    (
        "install-switch",
        Part::Leader,
        "whoever installs a snapshot follows, and nobody leads before the kv db is proved",
    ),
    ("send", Part::Single, "an only voter has nobody to send to"),
];

/// A crash point: the place, the side of it, the part, and the hit.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The place.
    pub place: Place,
    /// Whether the member dies after it.
    pub after: bool,
    /// The part that dies.
    pub part: Part,
    /// The hit at which it dies, at least 1.
    pub hit: u64,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.after { "after" } else { "before" };
        write!(f, "{}/{side}/{}/{}", self.place.name, self.part.name(), self.hit)
    }
}

impl Point {
    /// Why this point is never reached, if it is not.
    pub fn never(&self) -> Option<&'static str> {
        let is_it = |(place, part, _): &&(&str, Part, &str)| (*place, *part) == (self.place.name, self.part);
        NEVER.iter().find(is_it).map(|(.., why)| *why)
    }
}

/// How long to wait before a member is taken to live on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// This long: enough for a machine that is busy with something else.
    Patience(Duration),
    /// This many steps towards the place.
    Steps(usize),
}

/// Starts a node that must die at a point, and runs `stir` until it has died there. False: it lives on, and is killed.
/// # Errors
/// When the node ended in any other way.
/// When it ended in any other way.
pub fn die(
    cluster: &mut Cluster,
    node: usize,
    point: &Point,
    until: Until,
    mut stir: impl FnMut(&Cluster) -> Result<()>,
) -> Result<bool> {
    let mut command = cluster.nodes[node].command_to_crash_at(&point.to_string())?;
    cluster.nodes[node].spawn(&mut command)?;
    let (patience, steps_max) = match until {
        Until::Patience(patience) => (patience, usize::MAX),
        Until::Steps(steps) => (PATIENCE, steps),
    };
    let mut steps = 0;
    let end = eventually_within(patience, &format!("a node dies at {point}"), || {
        if let Some(status) = cluster.nodes[node].ended() {
            return Ok(Some(status));
        }
        if steps == steps_max {
            return Ok(None);
        }
        stir(cluster)?;
        steps += 1;
        bail!("it lives after {steps} steps")
    });
    match (end, until) {
        (Ok(Some(status)), _) => return check_end(&cluster.nodes[node], status, point).map(|()| true),
        (Ok(None), _) => {}
        (Err(why), Until::Patience(_)) => println!("{point}: {why:#}"),
        (Err(why), Until::Steps(_)) => return Err(why),
    }
    cluster.nodes[node].kill()?;
    Ok(false)
}

fn check_end(node: &Node, status: ExitStatus, point: &Point) -> Result<()> {
    let words = format!("crash point {point}");
    let said = node.log_text().lines().rev().take(LAST_LINES).any(|line| line == words);
    let is_meant = said && status.signal() == Some(ABORTED);
    ensure!(is_meant, "{} was to die at {point} and ended with {status}:\n{}", node.name, node.log_end());
    Ok(())
}

/// A cluster whose members die one after another, and everything that was ever acknowledged in it.
#[derive(Debug)]
pub struct Rig {
    cluster: Cluster,
    part: Part,
    written: Vec<Written>,
}

impl Rig {
    /// Starts three voters, or one.
    pub fn start(part: Part) -> Result<Rig> {
        let size = match part {
            Part::Leader | Part::Follower => 3,
            Part::Single | Part::Starting => 1,
        };
        Ok(Rig { cluster: Cluster::start_with(size, &["--snapshot-log-bytes=64KiB"])?, part, written: Vec::new() })
    }

    /// Lets one member die at a point under a writer and starts it again; true when it died there. Then it serves,
    /// every acknowledged write is on every member as it was acknowledged, and the members agree. `down` is called
    /// between its death and its start.
    pub fn run(&mut self, point: &Point, until: Until, down: impl FnOnce(&Node) -> Result<()>) -> Result<bool> {
        let writer = Writer::start(&format!("p{}", self.written.len()), self.cluster.client_urls());
        writer.wait_for(WRITES)?;
        let victim = match self.part {
            Part::Leader | Part::Follower => (self.cluster.leader()? + 1) % self.cluster.nodes.len(),
            Part::Single | Part::Starting => 0,
        };
        self.cluster.nodes[victim].kill()?;
        let flags = self.cluster.nodes[victim].flags.clone();
        self.prepare(point, victim)?;
        let step = |cluster: &Cluster| stir(cluster, point, victim);
        let died = die(&mut self.cluster, victim, point, until, step)?;
        let node = &mut self.cluster.nodes[victim];
        down(node)?;
        node.flags = flags;
        node.start()?;
        serves_again(&self.cluster, victim)?;
        writer.wait_for(WRITES)?;
        self.check(writer.stop()?)?;
        Ok(died)
    }

    fn check(&mut self, written: Written) -> Result<()> {
        for node in &self.cluster.nodes {
            node.wait_for("is a voter", |status| status.state == NodeState::Voter)?;
        }
        written.verify(&mut self.cluster)?;
        self.cluster.agree()?;
        self.written.push(written);
        let mut learners =
            self.cluster.members()?.members.into_iter().filter(|member| member.role == MemberRole::Learner);
        learners.try_for_each(|learner| self.cluster.remove(learner.id))
    }

    /// Checks that everything that was acknowledged is still there; the number of keys.
    pub fn finish(mut self) -> Result<usize> {
        for written in &self.written {
            written.verify(&mut self.cluster)?;
        }
        self.cluster.finish()?;
        Ok(self.written.iter().map(|written| written.keys.len()).sum())
    }

    /// Prepares a member that is down for the place.
    fn prepare(&mut self, point: &Point, victim: usize) -> Result<()> {
        let away = |cluster: &Cluster, part| match part {
            Part::Leader | Part::Follower => stay_away(cluster, victim),
            Part::Single | Part::Starting => remove_files(&cluster.nodes[victim], &["kv-", "CURRENT"]),
        };
        match point.place.name {
            "install-switch" => away(&self.cluster, self.part),
            // With spares there, the rest of a segment would not be needed as a spare.
            "segment-spare" => remove_files(&self.cluster.nodes[victim], &["spare-"]),
            // A segment of another size does not become a spare.
            "segment-remove" => {
                let flags = self.cluster.nodes[victim].flags.iter();
                let larger = flags.map(|flag| flag.replace("--segment-bytes=17MiB", "--segment-bytes=18MiB")).collect();
                self.cluster.nodes[victim].flags = larger;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Waits until the node serves. A quarantined node never will, so that is an error at once.
fn serves_again(cluster: &Cluster, node: usize) -> Result<()> {
    let node = &cluster.nodes[node];
    eventually(&format!("{} serves again", node.name), || {
        let status = node.status()?;
        if status.state == NodeState::Quarantined {
            return Ok(Err(anyhow!("{} is quarantined: {}", node.name, status.reason.unwrap_or_default())));
        }
        let answer = node.client("GET", "/v1/kv?limit=1").send()?.expect(200);
        answer.map(|_| Ok(())).with_context(|| {
            let known = find_leader(cluster).and_then(Node::status).map(|leader| leader.peers);
            format!("it was {status:?}, is {:?}, and its leader knows of {known:?}", node.status())
        })
    })?
}

/// Makes one step towards the place; what fails because a member dies is tried again.
fn stir(cluster: &Cluster, point: &Point, victim: usize) -> Result<()> {
    if point.part == Part::Leader {
        lead(cluster, victim)?;
    }
    match point.place.stir {
        Stir::Writes => Ok(()),
        Stir::Cuts | Stir::Install => ballast(cluster, victim, CUT_BYTES),
        Stir::Segments => ballast(cluster, victim, SEGMENT_PART_BYTES),
        Stir::Changes => change(cluster),
    }
}

fn find_leader(cluster: &Cluster) -> Result<&Node> {
    let leads = |node: &&Node| node.status().is_ok_and(|of| of.member_id.is_some() && of.member_id == of.leader_id);
    cluster.nodes.iter().find(leads).context("nobody leads")
}

/// Makes the node lead; an error as long as it does not.
fn lead(cluster: &Cluster, node: usize) -> Result<()> {
    let status = cluster.nodes[node].status()?;
    if status.member_id.is_some() && status.member_id == status.leader_id {
        return Ok(());
    }
    let leader = find_leader(cluster)?;
    let transfer = Transfer { to: status.member_id };
    leader.admin_guarded("POST", "/v1/leader/transfer", &leader.status()?).json(&transfer).send()?;
    Err(anyhow!("leadership was just handed over"))
}

fn ballast(cluster: &Cluster, victim: usize, bytes: usize) -> Result<()> {
    let node = &cluster.nodes[(victim + 1) % cluster.nodes.len()];
    let put = node.client("PUT", "/v1/kv/ballast").header("If-Match", "\"1\"").body(vec![b'x'; bytes]);
    put.send()?.expect(412).map(drop)
}

/// Adds a learner that nobody runs, or removes the one that is there.
fn change(cluster: &Cluster) -> Result<()> {
    let leader = find_leader(cluster)?;
    let status = leader.status()?;
    let members: Members = leader.admin("GET", "/v1/members").send()?.expect(200)?.json()?;
    let call = match members.members.iter().find(|member| member.role == MemberRole::Learner) {
        Some(learner) => leader.admin_guarded("DELETE", &format!("/v1/members/{}", learner.id.0), &status),
        None => {
            let (name, peer_url) = ("nobody".to_string(), "http://127.0.0.1:1".to_string());
            let add = AddMember { name, peer_url, incarnation: Hex128(rand::random()) };
            leader.admin_guarded("POST", "/v1/members", &status).json(&add)
        }
    };
    call.header("If-Match", format!("\"{}\"", members.conf_index)).send()?.expect(200).map(drop)
}

/// Writes until the others have forgotten the log that a member which is down needs next, by two snapshots behind it.
fn stay_away(cluster: &Cluster, away: usize) -> Result<()> {
    let others = || cluster.nodes.iter().enumerate().filter(|(nth, _)| *nth != away);
    for _ in 0..2 {
        let mut ends = Vec::new();
        for (_, node) in others() {
            ends.push((node, node.status()?.last_index));
        }
        eventually("the others have cut a snapshot", || {
            ballast(cluster, away, CUT_BYTES)?;
            for (node, end) in &ends {
                let cut = node.status()?.snapshot_index;
                holds(cut > *end, || format!("{} has one at {cut}, not behind {end}", node.name))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn remove_files(node: &Node, prefixes: &[&str]) -> Result<()> {
    for entry in fs::read_dir(&node.data_dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            let is_dir = entry.file_type()?.is_dir();
            if is_dir { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
    }
    Ok(())
}
