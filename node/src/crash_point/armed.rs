//! Crash points in the build that has them.
//!
//! `RAFTKV_CRASH_AT=<place>/<before|after>/<part>/<hit>`: the process ends before or after the place, at the `<hit>`th
//! time that a node of this part passes it. The parts are those of the simulation's crash points, and `starting`, which
//! is everything before the node runs as a member: opening its directory, becoming Blank, joining and init.
//!
//! The process ends by an abort: no destructor runs, no buffer is flushed, no request is answered, no other thread goes
//! on. Its last line names the point, so that a test can tell this end from any other.

use super::{Place, Side};
use raftkv_core::driver::{DriverStatus, Role};
use raftkv_core::ports::LogDisk;
use raftkv_core::ports::{KvDisk, KvHome};
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// The environment variable that chooses the point.
const VARIABLE: &str = "RAFTKV_CRASH_AT";

/// Calls of the two ports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Write,
    Sync,
    Rename,
    Remove,
    SyncDir,
    ApplyBatch,
}

/// How a spare segment's name begins. A name that also ends with [`UNFINISHED`] is a file that is not a spare yet.
const SPARE: &str = "spare-";
const UNFINISHED: &str = ".tmp";

/// Places at a port, each with the call and the beginning of the (new) file name in it.
const AT_PORTS: [(&str, Call, &str); 15] = [
    ("log-write", Call::Write, "wal-"),
    ("log-sync", Call::Sync, "wal-"),
    ("header-write", Call::Write, SPARE),
    ("header-sync", Call::Sync, SPARE),
    ("segment-begin", Call::Rename, "wal-"),
    ("segment-spare", Call::Rename, SPARE),
    ("segment-remove", Call::Remove, "wal-"),
    ("snapshot-write", Call::Write, "snapshot-"),
    ("snapshot-sync", Call::Sync, "snapshot-"),
    ("snapshot-rename", Call::Rename, "snapshot-"),
    ("install-switch", Call::Rename, "CURRENT"),
    ("identity-write", Call::Write, "identity"),
    ("identity-rename", Call::Rename, "identity"),
    ("directory-sync", Call::SyncDir, ""),
    ("apply", Call::ApplyBatch, ""),
];
const SEND: &str = "send";
const MEMBERSHIP: &str = "membership";

/// The part that this member plays, as an index into [`PARTS`].
static PART: AtomicU8 = AtomicU8::new(0);
const PARTS: [&str; 4] = ["starting", "follower", "leader", "single"];

/// The chosen point.
struct Armed {
    text: String,
    place: &'static str,
    side: Side,
    part: u8,
    left: AtomicU64,
}

static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
    let text = std::env::var(VARIABLE).ok()?;
    Some(Armed::parse(&text).unwrap_or_else(|| panic!("{VARIABLE}={text} names no crash point")))
});

impl Armed {
    fn parse(text: &str) -> Option<Armed> {
        let mut words = text.split('/');
        let (place, side, part, hit) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let mut places = AT_PORTS.iter().map(|(name, ..)| *name).chain([SEND, MEMBERSHIP]);
        Some(Armed {
            text: text.to_string(),
            place: places.find(|name| *name == place)?,
            side: [("before", Side::Before), ("after", Side::After)].into_iter().find(|(name, _)| *name == side)?.1,
            part: PARTS.iter().position(|name| *name == part)? as u8,
            left: AtomicU64::new(hit.parse().ok().filter(|hit| *hit > 0)?),
        })
    }
}

/// Records the part that this member plays from now on.
pub fn plays(status: &DriverStatus) {
    let is_alone = status.membership.voters.len() == 1 && status.membership.voters.contains(&status.id);
    let part = match status.role {
        _ if is_alone => 3,
        Role::Leader => 2,
        Role::Follower | Role::Candidate => 1,
    };
    PART.store(part, Ordering::SeqCst);
}

/// Passes a place, or ends the process there.
pub fn pass(place: Place, side: Side) {
    let name = match place {
        Place::Send => SEND,
        Place::Membership => MEMBERSHIP,
    };
    pass_by_name(name, side);
}

fn pass_by_name(place: &str, side: Side) {
    let Some(armed) = &*ARMED else { return };
    if (armed.place, armed.side, armed.part) != (place, side, PART.load(Ordering::SeqCst)) {
        return;
    }
    if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
        crate::words::warn(format_args!("crash point {}", armed.text));
        std::process::abort();
    }
}

/// Makes a call of a port, and passes both sides of its place if it is one.
fn around<T>(call: Call, name: &str, make: impl FnOnce() -> T) -> T {
    let is_at = |begin: &str| name.starts_with(begin) && !(begin == SPARE && name.ends_with(UNFINISHED));
    let place = AT_PORTS.iter().find(|(_, of, begin)| *of == call && is_at(begin)).map(|(place, ..)| *place);
    let Some(place) = place else { return make() };
    pass_by_name(place, Side::Before);
    let made = make();
    pass_by_name(place, Side::After);
    made
}

struct Disk(Arc<dyn LogDisk>);

/// The disk, with its crash points.
pub fn around_disk(disk: Arc<dyn LogDisk>) -> Arc<dyn LogDisk> {
    LazyLock::force(&ARMED);
    Arc::new(Disk(disk))
}

impl LogDisk for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.0.len(name)
    }

    fn read(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(name, offset, buf)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<()> {
        self.0.create(name, len)
    }

    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()> {
        self.0.allocate(name, bytes)
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        around(Call::Write, name, || self.0.write(name, offset, bytes))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        around(Call::Sync, name, || self.0.sync(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        around(Call::Rename, to, || self.0.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        around(Call::Remove, name, || self.0.remove(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        around(Call::SyncDir, "", || self.0.sync_dir())
    }
}

struct Home(Arc<dyn KvHome>);

/// The databases, with their crash points.
pub fn around_home(home: Arc<dyn KvHome>) -> Arc<dyn KvHome> {
    Arc::new(Home(home))
}

impl KvHome for Home {
    fn open(&self, name: &str) -> io::Result<Arc<dyn KvDisk>> {
        Ok(Arc::new(Db(self.0.open(name)?)))
    }

    fn set_aside(&self, name: &str) -> io::Result<()> {
        self.0.set_aside(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
}

struct Db(Arc<dyn KvDisk>);

impl KvDisk for Db {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.0.get(key)
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        self.0.scan(start, end, visit)
    }

    fn apply_batch(&self, batch: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> io::Result<()> {
        around(Call::ApplyBatch, "", || self.0.apply_batch(batch))
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}
