//! Long histories drawn from seeds. Anything can happen at any time, and operators sleep and wake. In the end, when
//! nothing breaks any more, the cluster must be what is asked for.
//!
//! `PLAN_SEED=7 cargo test -p raftkv-operator --test plan one_seed -- --nocapture` tells one history;
//! `PLAN_SEEDS=100000` looks at more of them.

use super::explore::{Expect, WAITED_PASSES, is_end};
use super::model::operator::Look;
use super::model::script::Event;
use super::model::{Flaw, World};
use raftkv_operator::plan::{Plan, plan};
use std::collections::VecDeque;

/// Histories that every test run looks at.
const SEEDS: u64 = 1_500;
/// Moves of a history.
const MOVES: usize = 260;
/// How many earlier worlds a cache may still show.
const STALE_LOOKS: usize = 8;
/// Rounds in which a cluster must have become what is asked for.
const ROUNDS_MAX: usize = 150;

/// SplitMix64: a history needs numbers that differ, not good ones.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A history.
struct History {
    draw: Draw,
    world: World,
    /// Plans that an operator made and fell asleep over.
    asleep: Vec<(Look, Plan)>,
    /// What was seen lately: a cache may still show it.
    looks: VecDeque<Look>,
    told: Vec<String>,
    tells: bool,
}

impl History {
    fn new(seed: u64, tells: bool) -> History {
        let mut draw = Draw(seed);
        let replicas = [1, 2, 3, 3, 3, 5][draw.below(6) as usize];
        History { draw, world: World::new(replicas, 9), asleep: vec![], looks: VecDeque::new(), told: vec![], tells }
    }

    fn tell(&mut self, text: impl Fn() -> String) {
        if self.tells {
            let text = text();
            println!("{text}");
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..MOVES {
            self.one_move();
            self.sound()?;
        }
        for event in [
            Event::StartMachines,
            Event::Suspend(false),
            Event::Pause(false),
            Event::Room(9),
            Event::Cut(false),
            Event::Mended,
            Event::Image { bad: false },
        ] {
            self.happen(event);
        }
        let (mut last, mut waited) = (0, 0);
        for round in 0..ROUNDS_MAX {
            if round % 20 == 0 {
                self.happen(Event::StopDoomed);
            }
            self.world.step_kube();
            self.world.step_rafts();
            let plan = self.world.pass();
            self.tell(|| format!("end {round}: {:?} {:?}", plan.actions().collect::<Vec<_>>(), plan.status.message));
            self.sound()?;
            let now = self.world.fingerprint();
            waited = if last == now { waited + 1 } else { 0 };
            if waited > WAITED_PASSES {
                return is_end(&mut self.world, Expect::Ready);
            }
            if waited == 1 {
                self.world.wait_long();
            }
            last = now;
        }
        Err("it does not come to rest".to_string())
    }

    fn sound(&self) -> Result<(), String> {
        self.world.broken.clone().map_or(Ok(()), Err)
    }

    fn one_move(&mut self) {
        match self.draw.below(100) {
            0..26 => self.pass(),
            26..30 => self.stale_pass(),
            30..38 => {
                let steps = self.draw.below(4) as usize;
                self.tell(|| format!("the operator ends after {steps} actions"));
                self.world.pass_until(steps);
            }
            38..42 => self.fall_asleep(),
            42..45 => self.wake(),
            45..70 => self.kube(),
            70..95 => {
                self.tell(|| "raft".to_string());
                self.world.step_rafts();
            }
            _ => {
                let event = self.draw_event();
                if self.is_bearable(event) {
                    self.happen(event);
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        self.told.push(format!("{event:?}"));
        self.tell(|| format!("{event:?}"));
        self.world.happen(event);
    }

    /// The cache shows an earlier world. A plan without steps is believed; one with steps is made again from live reads.
    fn stale_pass(&mut self) {
        let at = self.draw.below(self.looks.len().max(1) as u64) as usize;
        let Some(mut look) = self.looks.get(at).cloned() else { return self.pass() };
        look.observed.memory = self.world.memory.clone();
        let made = plan(&look.desired, &look.observed);
        if !made.steps.is_empty() {
            return self.pass();
        }
        self.tell(|| "a stale pass".to_string());
        self.world.carry_out(&look, &made);
    }

    fn pass(&mut self) {
        self.looks.push_back(self.world.look());
        if self.looks.len() > STALE_LOOKS {
            self.looks.pop_front();
        }
        let made = self.world.pass();
        self.tell(|| format!("pass: {:?} {:?}", made.actions().collect::<Vec<_>>(), made.status.message));
    }

    fn fall_asleep(&mut self) {
        let look = self.world.look();
        let made = plan(&look.desired, &look.observed);
        self.tell(|| format!("asleep over {:?}", made.actions().collect::<Vec<_>>()));
        self.asleep.push((look, made));
    }

    /// Another operator has worked meanwhile; this one goes on with its old plan.
    fn wake(&mut self) {
        let Some((look, made)) = self.asleep.pop() else { return };
        self.tell(|| "wakes".to_string());
        self.world.sleepwalk(&look, &made);
    }

    fn kube(&mut self) {
        if self.draw.chance(50) {
            self.tell(|| "kube".to_string());
            self.world.step_kube();
            return;
        }
        let ordinal = self.draw.below(6) as u32;
        self.tell(|| format!("pod {ordinal}"));
        self.world.run_pod(ordinal);
    }

    fn draw_event(&mut self) -> Event {
        let at = self.draw.below(5) as u32;
        let yes = self.draw.chance(50);
        match self.draw.below(27) {
            0..5 => Event::Replicas([1, 2, 3, 3, 4, 5][self.draw.below(6) as usize]),
            5 => Event::Suspend(yes),
            6 => Event::Pause(yes && self.draw.chance(50)),
            7 | 8 => Event::Image { bad: self.draw.chance(25) },
            9 => Event::ScaleSet(self.draw.below(8) as u32),
            10 => Event::DeletePod(at),
            11..13 => Event::LoseDisk(at),
            13 => Event::DeleteClaim(at),
            14 => Event::Quarantine(at),
            15 => Event::StopMachineOf(at),
            16..18 => Event::StartMachines,
            18 => Event::LoseMachineOf(at),
            19 => Event::OutOfService(at),
            20 => Event::Room([3, 9, 9][self.draw.below(3) as usize]),
            21 => Event::WipeStatus,
            22 => [Event::Cut(yes), Event::BadSpec(yes), Event::Webhook { down: yes }][self.draw.below(3) as usize],
            23 => [Event::Joint, Event::Strict(yes), Event::Replace(at)][self.draw.below(3) as usize],
            // Settings under which nothing opens have scenarios of their own: with a status that was wiped as well, only a
            // person gets out of them.
            24 => Event::Template(if yes { Flaw::NeverReady } else { Flaw::None }),
            25 => [Event::HangDisk(at), Event::DropSet, Event::Unseen(at)][self.draw.below(3) as usize],
            26 => [Event::LoseRecords, Event::NoElections(yes), Event::FillVolume(at)][self.draw.below(3) as usize],
            _ => unreachable!("below 27"),
        }
    }

    /// An event that destroys a disk may hit only a cluster that is formed and whose other disks are enough.
    fn is_bearable(&mut self, event: Event) -> bool {
        let hurts = matches!(
            event,
            Event::LoseDisk(_)
                | Event::DeleteClaim(_)
                | Event::Quarantine(_)
                | Event::LoseMachineOf(_)
                | Event::OutOfService(_)
                | Event::Replace(_)
                | Event::Joint
                | Event::DropSet
                | Event::LoseRecords
        );
        if !hurts {
            return true;
        }
        if self.world.rafts.values().all(|raft| !raft.conf().formed) || !self.world.latch.bootstrapped {
            return false;
        }
        // Only the Lease protects from an operator that sleeps through this.
        self.asleep.clear();
        let mut after = self.world.clone();
        after.happen(event);
        after.forget_lost_disks();
        self.world.rafts.keys().all(|genesis| after.is_intact(*genesis))
    }
}

fn check(seed: u64, tells: bool) -> Result<(), String> {
    let mut history = History::new(seed, tells);
    history.run().map_err(|why| {
        format!(
            "seed {seed}: {why}\nevents: {}\n{}\nPLAN_SEED={seed} cargo test -p raftkv-operator --test plan one_seed -- --nocapture",
            history.told.join(", "),
            history.world.text()
        )
    })
}

#[test]
fn many_seeds() {
    let seeds = std::env::var("PLAN_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let wrong: Vec<String> = (0..seeds).filter_map(|seed| check(seed, false).err()).collect();
    for why in &wrong {
        println!("{}", why.lines().next().unwrap_or_default());
    }
    if let Some(first) = wrong.first() {
        panic!("{} of {seeds} histories end badly; the first one: {first}", wrong.len());
    }
}

#[test]
fn one_seed() {
    let Ok(seed) = std::env::var("PLAN_SEED") else { return };
    if let Err(why) = check(seed.parse().unwrap(), true) {
        panic!("{why}");
    }
}
