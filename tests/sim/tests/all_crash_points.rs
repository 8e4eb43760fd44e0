//! Tries every crash point ([`raftkv_sim::crash_points`]), before and after, for every part, at its first to its
//! twentieth pass: the node starts again, and all checks at the end of a run must hold.
//!
//! `RAFTKV_CRASH_POINT=<place>/<before|after>/<part>/<hit>` runs one of them and prints every step (`make sim
//! POINT=...`).

use raftkv_sim::crash_points::{Armed, PLACES, Part, Place};
use raftkv_sim::disk::Call;
use raftkv_sim::run::{Failed, play};
use raftkv_sim::world::World;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The power fails when a place is passed for the first time, for the second time, and so on up to this many times.
const HITS: u64 = 20;
/// A part must reach the place that often within this many steps, in one of `SEEDS_MAX` seeds: in some seeds the
/// cluster comes to a standstill before.
const STEPS_MAX: u64 = 40_000;
const SEEDS_MAX: u64 = 20;
/// Steps of the run after that.
const STEPS_AFTER: u64 = 2_000;
/// Every so many steps a node loses its kv db, where an installation is what must be cut short: otherwise these are
/// rare.
const INSTALL_EVERY: u64 = 300;
/// Places that a part never reaches, and why; one run of `STEPS_NEVER` steps checks this.
const NEVER: [(&str, Part, &str); 1] = [(
    "install-switch",
    Part::Leader,
    "whoever installs a snapshot follows, and nobody leads before the kv db is proved",
)];
const STEPS_NEVER: u64 = 6_000;
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

    fn never(&self) -> Option<&'static str> {
        NEVER.iter().find(|(name, part, _)| (*name, *part) == (self.name, self.armed.part)).map(|(.., why)| *why)
    }

    /// Runs the try; true when the power failed at the place.
    fn run(&self, echo: bool) -> Result<bool, Failed> {
        let (seeds, steps_max) = if self.never().is_some() { (1, STEPS_NEVER) } else { (SEEDS_MAX, STEPS_MAX) };
        for seed in (0..seeds).map(|nth| nth * HITS + self.armed.left) {
            if self.run_seed(seed, steps_max, echo)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn run_seed(&self, seed: u64, steps_max: u64, echo: bool) -> Result<bool, Failed> {
        let replay = format!("make sim POINT={}", self.text());
        let mut end = None;
        let world = play(
            seed,
            echo,
            &replay,
            |seed| World::with_crash_point(seed, self.armed),
            |world| {
                if self.name == "install-switch" && world.now.is_multiple_of(INSTALL_EVERY) {
                    world.lose_kv((world.now / INSTALL_EVERY) as usize % world.slots())?;
                }
                if end.is_none() && !world.is_armed() {
                    end = Some(world.now + STEPS_AFTER);
                }
                Ok(world.now < end.unwrap_or(steps_max))
            },
        )?;
        Ok(!world.is_armed())
    }
}

#[test]
fn every_crash_point_is_survived() {
    let only = std::env::var("RAFTKV_CRASH_POINT").ok();
    let tries: Vec<Try> =
        all().into_iter().filter(|one| only.as_ref().is_none_or(|only| *only == one.text())).collect();
    assert!(!tries.is_empty(), "RAFTKV_CRASH_POINT={} is no crash point", only.unwrap_or_default());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let (died, odd) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let lock = "nothing panics while it holds this";
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(one) = tries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match (one.run(only.is_some()), one.never()) {
                        (Err(why), _) => return *failed.lock().expect(lock) = Some(why),
                        (Ok(true), None) => drop(died.fetch_add(1, Ordering::Relaxed)),
                        (Ok(false), Some(_)) => {}
                        (Ok(false), None) => odd.lock().expect(lock).push(format!("{} was not reached", one.text())),
                        (Ok(true), Some(why)) => {
                            odd.lock().expect(lock).push(format!("{} was reached, but {why}", one.text()));
                        }
                    }
                }
            });
        }
    });
    if let Some(why) = failed.into_inner().expect(lock) {
        panic!("\n{}", why.report);
    }
    let odd = odd.into_inner().expect(lock);
    assert!(odd.is_empty(), "{}", odd.join("\n"));
    // Not by a macro: the test harness hides what macros print.
    let (tries, died) = (tries.len(), died.into_inner());
    writeln!(
        std::io::stdout(),
        "\nTABLE crash_points_sim: tries={tries} died={died} hits={HITS} places={}",
        PLACES.len()
    )
    .expect("standard output is there");
}

#[test]
fn a_point_of_the_disk_names_a_call_that_changes_something() {
    for (name, place) in PLACES {
        let reads = matches!(place, Place::Disk(Call::Read | Call::List | Call::Len, _));
        assert!(!reads, "{name}");
    }
}
