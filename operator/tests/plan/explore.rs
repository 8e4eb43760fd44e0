//! Visits every state that a scenario can reach, and asks from each of them: does the plan bring the cluster to what is
//! asked for?
//!
//! A state's successors are: one step of the controllers and kubelets, one step of the clusters, a whole pass of the
//! operator, a pass that ends after any number of its actions with the memory lost, and the next thing that the
//! scenario has to happen. Two states with the same fingerprint are the same.

use super::model::World;
use super::model::script::Event;
use raftkv_operator::plan::{Pace, Plan};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// Passes of a world at rest after which nothing comes any more.
pub const WAITED_PASSES: usize = 3;
/// Rounds in which a cluster must have become what is asked for.
const ROUNDS_MAX: usize = 120;

/// How a scenario must end.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// Ready, and what the spec asks for.
    Ready,
    /// Not ready, quiet, and with one of these reasons in its conditions; the membership stays.
    Stuck(&'static [&'static str]),
    /// Either, depending on when things happened.
    Either(&'static [&'static str]),
    /// Anything that is quiet.
    Quiet,
}

/// A story with the end of each of its parts.
pub struct Scenario {
    pub name: &'static str,
    pub start: World,
    pub first: Expect,
    pub script: Vec<(Event, Expect)>,
    /// The most states to look at.
    pub states_max: usize,
}

/// Who makes the passes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Operator {
    Steady,
    /// Killed after each action.
    Killed,
}

/// How a state came about.
#[derive(Clone, Copy)]
enum Move {
    Kube,
    Raft,
    Pass,
    Crash(usize),
    Happens(Event),
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Move::Kube => f.write_str("kube"),
            Move::Raft => f.write_str("raft"),
            Move::Pass => f.write_str("pass"),
            Move::Crash(actions) => write!(f, "the operator ends after {actions} actions"),
            Move::Happens(event) => write!(f, "{event:?}"),
        }
    }
}

struct State {
    world: World,
    part: usize,
    from: Option<(u64, Move)>,
}

/// Looks at every state, and returns how many there are. Panics with the moves that led to a state that is wrong.
pub fn explore(scenario: &Scenario) -> usize {
    let mut search = Search { scenario, states: BTreeMap::new(), good: Default::default(), queue: VecDeque::new() };
    search.meet(State { world: scenario.start.clone(), part: 0, from: None });
    while let Some(key) = search.queue.pop_front() {
        search.visit(key);
    }
    search.states.len()
}

struct Search<'a> {
    scenario: &'a Scenario,
    states: BTreeMap<u64, State>,
    /// States from which each kind of operator brings the cluster to its end.
    good: BTreeMap<Operator, BTreeSet<u64>>,
    queue: VecDeque<u64>,
}

/// The fingerprint of a world at a part of its story.
fn key(world: &World, part: usize) -> u64 {
    world.fingerprint().wrapping_add((part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Search<'_> {
    fn meet(&mut self, state: State) {
        let key = key(&state.world, state.part);
        if let Some(broken) = &state.world.broken {
            let path = self.path(&state);
            panic!("{}: {broken}\n{path}{}", self.scenario.name, state.world.text());
        }
        if self.states.contains_key(&key) || self.states.len() >= self.scenario.states_max {
            return;
        }
        self.states.insert(key, state);
        self.queue.push_back(key);
        self.converges(key, Operator::Steady);
        self.converges(key, Operator::Killed);
    }

    fn visit(&mut self, at: u64) {
        let (world, part) = (self.states[&at].world.clone(), self.states[&at].part);
        let mut next = Vec::new();
        let mut moved = |how, world| next.push(State { world, part, from: Some((at, how)) });
        let mut kube = world.clone();
        kube.step_kube();
        moved(Move::Kube, kube);
        let mut raft = world.clone();
        raft.step_rafts();
        moved(Move::Raft, raft);
        if !world.deleted {
            let mut pass = world.clone();
            let steps = pass.pass().steps.len();
            moved(Move::Pass, pass);
            for done in 0..=steps {
                let mut crash = world.clone();
                crash.pass_until(done);
                moved(Move::Crash(done), crash);
            }
        }
        if let Some((event, _)) = self.scenario.script.get(part) {
            let mut world = world.clone();
            world.happen(*event);
            next.push(State { world, part: part + 1, from: Some((at, Move::Happens(*event))) });
        }
        for state in next {
            self.meet(state);
        }
    }

    fn expected(&self, part: usize) -> Expect {
        part.checked_sub(1).map_or(self.scenario.first, |at| self.scenario.script[at].1)
    }

    /// Runs everything in turn until nothing moves. If the end is good, every state on the way is good.
    fn converges(&mut self, from: u64, operator: Operator) {
        let (mut world, part) = (self.states[&from].world.clone(), self.states[&from].part);
        let (mut seen, mut last, mut waited) = (Vec::new(), None, 0);
        for _ in 0..ROUNDS_MAX {
            let at = key(&world, part);
            if self.good.get(&operator).is_some_and(|good| good.contains(&at)) && waited == 0 {
                break;
            }
            let quiet = last.replace(at) == Some(at);
            waited = if quiet { waited + 1 } else { 0 };
            // What needs time alone happens once it has passed: it is seen in one pass, and done in the next.
            if waited == 1 {
                world.wait_long();
            }
            if waited > WAITED_PASSES {
                if let Err(why) = is_end(&mut world, self.expected(part)) {
                    self.fail(from, &world, &why);
                }
                break;
            }
            seen.push(at);
            world.step_kube();
            world.step_rafts();
            match operator {
                _ if world.deleted => {}
                Operator::Steady => {
                    world.pass();
                }
                Operator::Killed => world.pass_one_action(),
            }
            if let Some(broken) = world.broken.clone() {
                self.fail(from, &world, &broken);
            }
        }
        if seen.len() == ROUNDS_MAX {
            self.fail(from, &world, &format!("it does not come to rest, by an operator that is {operator:?}"));
        }
        self.good.entry(operator).or_default().extend(seen);
    }

    fn fail(&self, from: u64, world: &World, why: &str) -> ! {
        let path = self.path(&self.states[&from]);
        panic!("{}: {why}\nfrom\n{path}it came to\n{}", self.scenario.name, world.text());
    }

    fn path(&self, state: &State) -> String {
        let mut moves = Vec::new();
        let mut at = state.from;
        while let Some((key, how)) = at {
            moves.push(format!("  {how}\n"));
            at = self.states[&key].from;
        }
        moves.reverse();
        moves.concat()
    }
}

/// Whether a world in which nothing moves is as it should be.
pub fn is_end(world: &mut World, expected: Expect) -> Result<(), String> {
    if world.deleted {
        return Ok(());
    }
    // The first pass that sees the world at rest writes that into the status; later passes write nothing.
    settle(world);
    let before = serde_json::to_string(&world.status).unwrap();
    let again = world.pass();
    quiet(&again, &before)?;
    let ready = condition(&again, "Ready") == Some("True");
    let reasons: Vec<&str> = again.status.conditions.iter().map(|it| it.reason.as_str()).collect();
    let lacks = world.lacks();
    let stuck = |wanted: &[&str]| match reasons.iter().any(|reason| wanted.contains(reason)) {
        true if !ready => Ok(()),
        true | false => {
            Err(format!("expected one of {wanted:?}, and the reasons are {reasons:?}; it lacks: {lacks:?}"))
        }
    };
    match expected {
        Expect::Ready => match (ready, &lacks) {
            (true, None) if again.pace == Pace::Calm => Ok(()),
            (ready, lacks) => Err(format!("Ready is {ready}, lacking: {lacks:?}, pace {:?}", again.pace)),
        },
        Expect::Either(_) if ready && lacks.is_none() => Ok(()),
        Expect::Stuck(wanted) | Expect::Either(wanted) => stuck(wanted),
        Expect::Quiet => Ok(()),
    }?;
    match (ready && !world.spec.paused, world.lacks()) {
        (true, Some(lack)) => Err(format!("it says Ready, and {lack}")),
        _ => Ok(()),
    }
}

fn settle(world: &mut World) {
    world.clock += 120;
    for _ in 0..3 {
        world.step_kube();
        world.step_rafts();
        world.pass();
    }
}

/// Whether a pass does, tells and writes nothing.
pub fn quiet(plan: &Plan, before: &str) -> Result<(), String> {
    if !plan.steps.is_empty() {
        return Err(format!("it does not come to rest: {:?}", plan.steps));
    }
    if !plan.notes.is_empty() {
        return Err(format!("it tells the same again: {:?}", plan.notes));
    }
    let after = serde_json::to_string(&plan.status).unwrap();
    if after != before {
        return Err(format!("the status is written anew:\n{before}\n{after}"));
    }
    Ok(())
}

/// The status of a condition.
pub fn condition<'a>(plan: &'a Plan, kind: &str) -> Option<&'a str> {
    plan.status.conditions.iter().find(|it| it.type_ == kind).map(|it| it.status.as_str())
}
