//! Every crash point ([`raftkv_sim::crash_points`]), before and after, by every part, at its first to its twentieth time: the
//! node starts again, and whatever a run may end with must hold.
//!
//! `RAFTKV_CRASH_POINT=<place>/<before|after>/<part>/<hit>` runs one and prints every step.

use raftkv_sim::crash_points::{Armed, PLACES, Part, Place};
use raftkv_sim::disk::Call;
use raftkv_sim::run::{Failed, play};
use raftkv_sim::world::World;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Times that a place is passed, at most, before the power fails there.
const HITS: u64 = 20;
/// Steps before the end of a run.
const STEPS: u64 = 6_000;
/// Places that a part does not get to: whoever installs does not lead, and an only voter sends nothing.
const NEVER: [(&str, &str); 2] = [("install-switch", "leader"), ("send", "single")];
const THREADS: usize = 2;

struct Try {
    name: &'static str,
    armed: Armed,
}

fn all() -> Vec<Try> {
    let mut tries = Vec::new();
    for (name, place) in PLACES {
        for after in [false, true] {
            for part in Part::ALL {
                tries.extend((1..=HITS).map(|left| Try { name, armed: Armed { place, after, part, left } }));
            }
        }
    }
    tries
}

impl Try {
    fn text(&self) -> String {
        let Armed { after, left, .. } = self.armed;
        format!("{}/{}/{}/{left}", self.name, if after { "after" } else { "before" }, self.part())
    }

    fn part(&self) -> &'static str {
        match self.armed.part {
            Part::Leader => "leader",
            Part::Follower => "follower",
            Part::Single => "single",
        }
    }

    /// Whether the power failed there.
    fn run(&self, echo: bool) -> Result<bool, Failed> {
        let seed = self.armed.left;
        play(seed, STEPS, echo, |seed| World::with_crash_point(seed, self.armed)).map(|world| !world.is_armed())
    }
}

#[test]
fn every_crash_point_is_survived() {
    let only = std::env::var("RAFTKV_CRASH_POINT").ok();
    let tries: Vec<Try> =
        all().into_iter().filter(|one| only.as_ref().is_none_or(|only| *only == one.text())).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let reached = Mutex::new(BTreeMap::<(&str, &str), (u64, u64)>::new());
    let lock = "nothing panics while it holds this";
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(one) = tries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match one.run(only.is_some()) {
                        Ok(hit) => {
                            let mut reached = reached.lock().expect(lock);
                            let (hits, of) = reached.entry((one.name, one.part())).or_default();
                            (*hits, *of) = (*hits + u64::from(hit), *of + 1);
                        }
                        Err(why) => return *failed.lock().expect(lock) = Some((one.text(), why)),
                    }
                }
            });
        }
    });
    if let Some((point, why)) = failed.into_inner().expect(lock) {
        panic!("\n{}at this crash point; every step of it: RAFTKV_CRASH_POINT={point} make sim\n", why.report);
    }
    let reached = reached.into_inner().expect(lock);
    for ((name, part), (hits, of)) in &reached {
        println!("{name:<16} {part:<9} {hits:>3} of {of}");
    }
    let missed = reached.iter().filter(|(point, (hits, _))| *hits == 0 && !NEVER.contains(point));
    let missed: Vec<_> = missed.map(|(point, _)| point).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

#[test]
fn a_point_of_the_disk_names_a_call_that_changes_something() {
    for (name, place) in PLACES {
        let reads = matches!(place, Place::Disk(Call::Read | Call::List | Call::Len, _));
        assert!(!reads, "{name}");
    }
}
