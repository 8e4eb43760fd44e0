//! Every crash point ([`raftkv_cluster_tests::crash_points`]) as a real process: a member dies there while a client
//! writes, is started again, and nothing that was acknowledged is lost or changed.
//!
//! `RAFTKV_CRASH_POINT=<place>/<before|after>/<part>/<hit>` runs one point, or all whose names contain the given text;
//! `RAFTKV_CRASH_HITS=20` runs each at its first to its twentieth hit (`make crash-night`).

use anyhow::{Context, Result, ensure};
use raftkv_api::NodeState;
use raftkv_cluster_tests::crash_points::{PLACES, Part, Place, Point, Rig, Stir, Until, die};
use raftkv_cluster_tests::{Cluster, Node, Signal, binaries};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A member that has not died by then does not reach the point.
const PATIENCE: Until = Until::Patience(Duration::from_secs(60));
/// The same for a point that it must not reach.
const NEVER: Until = Until::Steps(50);
/// A cluster is replaced after this many points: what the writers leave makes its snapshots larger, and cuts rarer.
const POINTS_PER_CLUSTER: usize = 40;
/// This many bytes hold several batches of a writer.
const LOST_BYTES: usize = 2048;
/// Parts that are tested at the same time: most of their time is waiting for elections and disks.
const THREADS: usize = 2;

/// What a node is doing when it dies before it runs as a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// Its directory is empty.
    Blank,
    /// It forms a cluster.
    Init,
    /// A leader speaks to it for the first time.
    Join,
    /// It is a member, and reads what it has.
    Open,
}

/// The places of each beginning. A node's identity is written when it becomes Blank and when it becomes a member.
const BEGINNINGS: [(Beginning, &[&str]); 4] = [
    (Beginning::Blank, &["identity-write", "identity-rename", "directory-sync"]),
    (
        Beginning::Init,
        &[
            "log-write",
            "log-sync",
            "segment-begin",
            "directory-sync",
            "snapshot-write",
            "snapshot-sync",
            "snapshot-rename",
            "identity-write",
            "identity-rename",
        ],
    ),
    (
        Beginning::Join,
        &["log-write", "log-sync", "segment-begin", "directory-sync", "identity-write", "identity-rename"],
    ),
    (Beginning::Open, &["log-sync"]),
];

/// For each place and part: how often a member died there, and in how many tries.
type Table = BTreeMap<(&'static str, &'static str), (u64, u64)>;

/// One cluster whose members die one after another.
enum Job {
    Running(Part),
    Beginning(Beginning, &'static [&'static str]),
}

impl Job {
    fn all() -> Vec<Job> {
        let running = [Part::Leader, Part::Follower, Part::Single].map(Job::Running);
        // The longest ones come first.
        running.into_iter().chain(BEGINNINGS.map(|(beginning, places)| Job::Beginning(beginning, places))).collect()
    }

    fn run(&self, done: &mut dyn FnMut(&Point, bool)) -> Result<()> {
        match self {
            Job::Running(part) => run_rigs(*part, &points(*part), done),
            Job::Beginning(Beginning::Blank, places) => begin(places, done, blank),
            Job::Beginning(Beginning::Init, places) => begin(places, done, init),
            Job::Beginning(Beginning::Join, places) => join(places, done),
            Job::Beginning(Beginning::Open, places) => run_rigs(Part::Starting, &starting(places), done),
        }
    }
}

#[test]
fn a_process_that_dies_at_any_crash_point_loses_nothing() {
    let (jobs, next) = (Job::all(), AtomicUsize::new(0));
    let (table, failed) = (Mutex::new(Table::new()), Mutex::new(Vec::new()));
    let lock = "nothing panics while it holds this";
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut note = |point: &Point, died: bool| {
                        let mut table = table.lock().expect(lock);
                        let (hits, of) = table.entry((point.place.name, point.part.name())).or_default();
                        (*hits, *of) = (*hits + u64::from(died), *of + 1);
                    };
                    if let Err(why) = job.run(&mut note) {
                        failed.lock().expect(lock).push(format!("{why:?}"));
                    }
                }
            });
        }
    });
    let table = table.into_inner().expect(lock);
    for ((place, part), (hits, of)) in &table {
        println!("{place:<16} {part:<9} {hits:>3} of {of}");
    }
    let failed = failed.into_inner().expect(lock);
    let runs: u64 = table.values().map(|(hits, _)| hits).sum();
    let places: BTreeSet<_> = table.keys().map(|(place, _)| place).collect();
    println!("TABLE crash_points_processes: runs={runs} places={} found={}", places.len(), failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn no_other_build_has_crash_points() -> Result<()> {
    let has = |path: &Path| -> Result<bool> {
        let bytes = fs::read(path).with_context(|| format!("{}", path.display()))?;
        Ok(bytes.windows(binaries::CRASH_AT.len()).any(|window| window == binaries::CRASH_AT.as_bytes()))
    };
    ensure!(has(&binaries::raftkv_with_crash_points())?, "the build that has them does not read its variable");
    for ordinary in [binaries::raftkv(), binaries::raftkvctl()] {
        ensure!(!has(&ordinary)?, "{} has crash points", ordinary.display());
    }
    Ok(())
}

/// The control: a log that has lost what was acknowledged is noticed.
#[test]
fn a_member_whose_log_lost_its_last_batches_is_noticed() -> Result<()> {
    let point = point("log-write", Part::Single);
    let lost = Rig::start(Part::Single)?.run(&point, PATIENCE, forget_last_batches);
    let why = format!("{:#}", lost.err().context("nothing was noticed")?);
    ensure!(why.contains("is quarantined: the kv db has applied index"), "{why}");
    Ok(())
}

/// The control: a process that ends in another way did not die at the crash point.
#[test]
fn a_process_that_ends_elsewhere_did_not_die_at_its_crash_point() -> Result<()> {
    let point = point("send", Part::Single);
    let mut cluster = Cluster::start(1)?;
    cluster.nodes[0].stop()?;
    let killed = die(&mut cluster, 0, &point, PATIENCE, |cluster| cluster.nodes[0].signal(Signal::KILL));
    let why = format!("{:#}", killed.err().context("nothing was noticed")?);
    ensure!(why.contains("was to die at send/before/single/1 and ended with signal: 9"), "{why}");
    cluster.finish()
}

fn point(name: &str, part: Part) -> Point {
    let place = PLACES.into_iter().find(|place| place.name == name).expect("it is one of them");
    Point { place, after: false, part, hit: 1 }
}

/// Zeroes the end of the newest segment. The writer has one write in flight at a time, so all but the last of the
/// batches there were acknowledged and are in the kv db.
fn forget_last_batches(node: &Node) -> Result<()> {
    let files = fs::read_dir(&node.data_dir)?.collect::<Result<Vec<_>, _>>()?;
    let segments = files.into_iter().filter(|file| file.file_name().to_string_lossy().starts_with("wal-"));
    let newest = segments.max_by_key(|file| file.file_name()).context("there is a log")?.path();
    let mut bytes = fs::read(&newest)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).context("the log has a batch")?;
    bytes[end - LOST_BYTES..=end].fill(0);
    Ok(fs::write(&newest, bytes)?)
}

/// All points of a part, in the order of the places, with one hit each unless more are asked for.
fn points(part: Part) -> Vec<Point> {
    let hits_max: Option<u64> = std::env::var("RAFTKV_CRASH_HITS").ok().and_then(|hits| hits.parse().ok());
    let hits = |place: &Place| match hits_max {
        None => place.hit..=place.hit,
        Some(hits) => 1..=hits.min(place.hits_max),
    };
    let of = |place: Place| {
        let sides = [false, true].into_iter();
        sides.flat_map(move |after| hits(&place).map(move |hit| Point { place, after, part, hit }))
    };
    chosen(PLACES.into_iter().flat_map(of).collect())
}

fn starting(places: &[&'static str]) -> Vec<Point> {
    let point = |name, after| {
        let place = Place { name, stir: Stir::Writes, hit: 1, hits_max: 1 };
        Point { place, after, part: Part::Starting, hit: 1 }
    };
    chosen(places.iter().flat_map(|name| [point(name, false), point(name, true)]).collect())
}

fn chosen(points: Vec<Point>) -> Vec<Point> {
    let only = std::env::var("RAFTKV_CRASH_POINT").ok();
    points.into_iter().filter(|point| only.as_ref().is_none_or(|only| point.to_string().contains(only))).collect()
}

fn run_rigs(part: Part, points: &[Point], done: &mut dyn FnMut(&Point, bool)) -> Result<()> {
    points.chunks(POINTS_PER_CLUSTER).try_for_each(|points| run_rig(part, points, done))
}

fn run_rig(part: Part, points: &[Point], done: &mut dyn FnMut(&Point, bool)) -> Result<()> {
    let mut rig = Rig::start(part)?;
    for point in points {
        let begun = Instant::now();
        let never = point.never();
        let until = if never.is_some() { NEVER } else { PATIENCE };
        let again = || format!("at this crash point; once more: RAFTKV_CRASH_POINT={point} make crash-points");
        let died = rig.run(point, until, |_| Ok(())).with_context(again)?;
        println!("{point}: {} after {:?}", if died { "died and came back" } else { "not reached" }, begun.elapsed());
        match never {
            Some(why) => ensure!(!died, "{point} was reached, but {why}"),
            // A member may never get to any other hit.
            None => ensure!(died || point.hit != point.place.hit, "{point} was not reached"),
        }
        done(point, died);
    }
    let keys = rig.finish()?;
    println!("{}: {keys} keys", part.name());
    Ok(())
}

/// Tries each point with a new node.
fn begin(
    places: &[&'static str],
    done: &mut dyn FnMut(&Point, bool),
    run: fn(&mut Cluster, &Point) -> Result<()>,
) -> Result<()> {
    for point in starting(places) {
        let mut cluster = Cluster::empty()?;
        cluster.new_node();
        run(&mut cluster, &point).with_context(|| format!("at {point}"))?;
        cluster.nodes[0].wait_serving()?;
        cluster.nodes[0].client("PUT", "/v1/kv/k").body("v").send()?.expect(200)?;
        cluster.finish()?;
        done(&point, true);
    }
    Ok(())
}

/// The node dies on its first start; the next start finds an empty directory, or a Blank one.
fn blank(cluster: &mut Cluster, point: &Point) -> Result<()> {
    ensure!(die(cluster, 0, point, PATIENCE, |_| Ok(()))?, "it was not reached");
    cluster.nodes[0].start()?;
    init_blank(cluster)
}

/// The node dies while it forms a cluster.
fn init(cluster: &mut Cluster, point: &Point) -> Result<()> {
    cluster.nodes[0].start()?;
    cluster.nodes[0].stop()?;
    ensure!(die(cluster, 0, point, PATIENCE, |cluster| cluster.init(1))?, "it was not reached");
    let is_member = check_identity(&cluster.nodes[0], point)?;
    cluster.nodes[0].start()?;
    if is_member { Ok(()) } else { init_blank(cluster) }
}

fn init_blank(cluster: &Cluster) -> Result<()> {
    cluster.nodes[0].wait_for("is blank", |status| status.state == NodeState::Blank)?;
    cluster.init(1)
}

/// Members join a cluster one after another; each dies while it joins, then joins for good, and is removed.
fn join(places: &[&'static str], done: &mut dyn FnMut(&Point, bool)) -> Result<()> {
    let points = starting(places);
    if points.is_empty() {
        return Ok(());
    }
    let mut cluster = Cluster::start(3)?;
    for point in points {
        let joiner = cluster.start_node()?;
        cluster.nodes[joiner].stop()?;
        let died = die(&mut cluster, joiner, &point, PATIENCE, |cluster| cluster.add(joiner).map(drop))?;
        ensure!(died, "{point} was not reached");
        check_identity(&cluster.nodes[joiner], &point)?;
        cluster.nodes[joiner].start()?;
        cluster.nodes[joiner].wait_for("has an incarnation", |status| status.incarnation.is_some())?;
        let id = cluster.add(joiner)?;
        cluster.promote(id, None)?;
        cluster.nodes[joiner].wait_serving()?;
        cluster.agree()?;
        cluster.remove(id)?;
        cluster.nodes[joiner].kill()?;
        done(&point, true);
    }
    cluster.finish()
}

/// Whether a node that is down has become a member: a join and an init are done when the identity has its name, and not
/// before.
fn check_identity(node: &Node, point: &Point) -> Result<bool> {
    let identity = fs::read_to_string(node.data_dir.join("identity"))?;
    let is_member = identity.contains("\"member\"");
    let wanted = point.place.name == "identity-rename" && point.after;
    ensure!(is_member == wanted, "after {point} its identity is {identity}");
    Ok(is_member)
}
