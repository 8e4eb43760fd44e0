//! One seed's world: nodes, network, clients and faults, one small action at a time.
//!
//! Each step draws one action, and all its consequences are checked before the next step. Only the seed decides.

use crate::admin::Admin;
use crate::client::{Ask, Clients, Ticket};
use crate::counts::Counts;
use crate::crash_points::{Armed, Place};
use crate::faults::Troubles;
use crate::invariants::{Check, Invariants, broken};
use crate::net::{SimNet, Slot};
use crate::node::{Life, Out, SimNode};
use crate::rng::Rng;
use crate::swarm::{Fault, Swarm};
use crate::threads::{DiskThread, DiskTurn};
use crate::trace::Trace;
use crate::wires::Copy;
use raftkv_api::Hex128;
use raftkv_core::driver::{Answer, DriverStatus, Event, Role};
use raftkv_core::identity::Finding;
use raftkv_core::kvstore::{Applied, View};
use raftkv_core::limits::{MAX_ELECTION_TICKS, MIN_ELECTION_TICKS};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most data directories of a run.
pub const SLOTS_MAX: usize = 14;
/// Of the turns of disks, so many in a thousand read the log for a member that catches up, if there is one.
const LOG_READ_PER_MILLE: u64 = 300;
/// Steps after which a growing cluster gets its faults, whether it has grown or not.
const PEACE_STEPS_MAX: u64 = 6_000;

/// The world.
pub struct World {
    /// The seed that everything follows from.
    pub seed: u64,
    pub(crate) rng: Rng,
    pub(crate) swarm: Swarm,
    pub(crate) nodes: Vec<SimNode>,
    pub(crate) net: SimNet,
    /// Snapshot files on their way.
    pub(crate) copies: Vec<Copy>,
    /// Open streams, with the boots of both ends when they were opened.
    pub(crate) streams: BTreeMap<(Slot, Slot), (u64, u64)>,
    pub(crate) clients: Clients,
    pub(crate) admin: Admin,
    pub(crate) invariants: Invariants,
    /// What happened.
    pub trace: Trace,
    /// Steps made.
    pub now: u64,
    /// What happened, in numbers.
    pub counts: Counts,
    /// Events that a node has yet to be told.
    pub(crate) due: VecDeque<(Slot, Event)>,
    pub(crate) paused: BTreeMap<Slot, u64>,
    pub(crate) troubles: Troubles,
    /// Data directories on which nothing may start.
    pub(crate) held: BTreeSet<Slot>,
    /// Whether there are no faults and no lost frames.
    pub(crate) peace: bool,
    leader_seen: BTreeMap<Slot, bool>,
    /// The place at which the power of a node will fail.
    pub(crate) armed: Option<Armed>,
    pub(crate) logger: slog::Logger,
}

/// The actions of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Deliver,
    Tick,
    Disk,
    Apply,
    Client,
}

impl World {
    /// A world with a cluster of one, and Blank nodes around it.
    pub fn new(seed: u64) -> Result<World, crate::invariants::Violation> {
        World::build(seed, |_| {}, Admin::new, |number| format!("n{number}"))
    }

    /// The same with a changed character, another administrator, and other names.
    pub(crate) fn build(
        seed: u64,
        change: impl FnOnce(&mut Swarm),
        admin: impl FnOnce(usize) -> Admin,
        name: impl Fn(u64) -> String,
    ) -> Result<World, crate::invariants::Violation> {
        let mut rng = Rng::new(seed);
        let mut swarm = Swarm::draw(&mut rng);
        change(&mut swarm);
        let node = |number| swarm.blank(number).named(name(number));
        let nodes = (1..=swarm.voters as u64).map(node).collect();
        let mut world = World {
            seed,
            clients: Clients::new(swarm.traffic),
            admin: admin(swarm.voters),
            nodes,
            net: SimNet::default(),
            copies: Vec::new(),
            streams: BTreeMap::new(),
            invariants: Invariants::default(),
            trace: Trace::default(),
            now: 0,
            counts: Counts::default(),
            due: VecDeque::new(),
            paused: BTreeMap::new(),
            troubles: Troubles::default(),
            held: BTreeSet::new(),
            peace: swarm.grows_in_peace,
            leader_seen: BTreeMap::new(),
            armed: None,
            logger: slog::Logger::root(slog::Discard, slog::o!()),
            rng,
            swarm,
        };
        if !world.peace {
            world.net.rates = world.swarm.net;
        }
        if let Err(e) = world.nodes[0].init(Hex128([1; 16]), 1) {
            broken("opening", format!("init: {e}"))?;
        }
        world.boot(0)?;
        Ok(world)
    }

    /// Does one action and its consequences, with all checks.
    pub fn step(&mut self) -> Check {
        self.now += 1;
        self.faults()?;
        self.end_peace_when_grown();
        let shares = self.swarm.shares;
        let mut draw = self.rng.below(shares.iter().sum());
        let actions = [Action::Deliver, Action::Tick, Action::Disk, Action::Apply, Action::Client];
        let drawn = actions.into_iter().zip(shares).find(|(_, share)| {
            let hit = draw < *share;
            draw = draw.saturating_sub(*share);
            hit
        });
        let (action, _) = drawn.expect("the draw is below the sum of all shares");
        // An idle thread gives its turn to the others; time passes only when nobody else has work.
        let rest = [Action::Deliver, Action::Disk, Action::Apply, Action::Client, Action::Tick];
        for action in std::iter::once(action).chain(rest) {
            if self.act(action)? {
                break;
            }
        }
        self.tell_consequences()
    }

    fn act(&mut self, action: Action) -> Result<bool, crate::invariants::Violation> {
        match action {
            Action::Deliver => self.deliver(),
            Action::Tick => self.tick(),
            Action::Disk => self.disk(),
            Action::Apply => self.apply(),
            Action::Client => self.client(),
        }
    }

    fn tell_consequences(&mut self) -> Check {
        while let Some((slot, event)) = self.due.pop_front() {
            self.step_node(slot, event)?;
        }
        Ok(())
    }

    fn end_peace_when_grown(&mut self) {
        if self.peace && !self.admin.is_resting() && (self.admin.has_grown() || self.now > PEACE_STEPS_MAX) {
            self.peace = false;
            self.net.rates = self.swarm.net;
        }
    }

    /// Slots whose process runs and is not paused, and for which `wanted` holds.
    pub(crate) fn awake(&self, wanted: impl Fn(&SimNode) -> bool) -> Vec<Slot> {
        let runs = |slot: &Slot| self.nodes[*slot].running().is_some() && !self.paused.contains_key(slot);
        (0..self.nodes.len()).filter(runs).filter(|slot| wanted(&self.nodes[*slot])).collect()
    }

    fn pick_awake(&mut self, wanted: impl Fn(&SimNode) -> bool) -> Option<Slot> {
        let slots = self.awake(wanted);
        self.rng.pick(&slots).copied()
    }

    fn tick(&mut self) -> Result<bool, crate::invariants::Violation> {
        let Some(slot) = self.next_clock() else { return Ok(false) };
        self.clients.lose_patience(self.now);
        self.admin_turn()?;
        self.dial(slot)?;
        self.step_node(slot, Event::Tick)?;
        Ok(true)
    }

    fn disk(&mut self) -> Result<bool, crate::invariants::Violation> {
        let reads = |node: &SimNode| node.running().is_some_and(|running| !running.log_reads.is_empty());
        if self.nodes.iter().any(reads)
            && self.rng.chance(LOG_READ_PER_MILLE)
            && let Some(slot) = self.pick_awake(reads)
        {
            let out = self.nodes[slot].log_read_turn();
            self.took(slot, out)?;
            return Ok(true);
        }
        let spares = self.rng.chance(self.swarm.spare_per_mille);
        let has_work = |thread: &DiskThread| !thread.is_idle() && (spares || !thread.has_only_spares());
        let busy = |node: &SimNode| node.running().is_some_and(|running| has_work(&running.disk_thread));
        let Some(slot) = self.pick_awake(busy).filter(|slot| !self.disk_dawdles(*slot)) else { return Ok(false) };
        let ops = self.rng.between(1, self.swarm.disk_ops_max) as usize;
        let is_trapped = self.lay_trap(slot);
        let turn = self.nodes[slot].disk_turn(ops);
        if is_trapped {
            self.take_trap(slot);
        }
        self.counts.add(Fault::Recycled, self.nodes[slot].disk.take_reused());
        self.counts.add(Fault::FullDisk, self.nodes[slot].disk.take_refused());
        match turn {
            Err(e) => self.disk_failed(slot, &e.to_string()),
            Ok(turn) => self.worked(slot, turn)?,
        }
        Ok(true)
    }

    fn worked(&mut self, slot: Slot, turn: DiskTurn) -> Check {
        match turn {
            DiskTurn::Worked => {}
            DiskTurn::SpareMade { name } => self.step_node(slot, Event::SpareMade { name })?,
            DiskTurn::Durable { batch, last_index, term } => {
                self.trace.line(self.now, &format!("{} durable to {last_index} term {term}", self.nodes[slot].name));
                if let (Some(running), Some(id)) = (self.nodes[slot].running(), self.nodes[slot].member_id()) {
                    let log = running.driver.log();
                    match self.troubles.forgetful.contains(&slot) {
                        true => self.invariants.durable_again(id, log, last_index, term),
                        false => self.invariants.durable(id, log, last_index, term)?,
                    }
                }
                self.step_node(slot, Event::Persisted { batch })?;
            }
        }
        Ok(())
    }

    fn apply(&mut self) -> Result<bool, crate::invariants::Violation> {
        let busy = |node: &SimNode| node.running().is_some_and(|running| !running.apply_thread.is_idle());
        let Some(slot) = self.pick_awake(busy).filter(|slot| !self.is_stalled(*slot)) else {
            return Ok(self.copy_turn());
        };
        if !self.copies.is_empty() && self.rng.chance(300) {
            return Ok(self.copy_turn());
        }
        let items = self.rng.between(1, self.swarm.apply_items_max) as usize;
        if self.loses_power(slot, Place::Apply, false) {
            return Ok(true);
        }
        let is_trapped = self.lay_trap(slot);
        let out = self.nodes[slot].apply_turn(items, &mut self.rng);
        if is_trapped {
            self.take_trap(slot);
        }
        match self.loses_power(slot, Place::Apply, true) {
            true => self.witness(slot, &out)?,
            false => self.took(slot, out)?,
        }
        Ok(true)
    }

    fn client(&mut self) -> Result<bool, crate::invariants::Violation> {
        if self.admin.is_resting() || !self.clients.is_any_idle() {
            return Ok(false);
        }
        let leads = |node: &SimNode| node.running().is_some_and(|running| running.driver.role() == Role::Leader);
        let leader = if self.rng.chance(600) { self.pick_awake(leads) } else { None };
        let Some(slot) = leader.or_else(|| self.pick_awake(|_| true)) else { return Ok(false) };
        let ask = self.clients.draw(&mut self.rng, self.invariants.history.model.revision());
        self.ask(slot, ask)?;
        Ok(true)
    }

    /// Lets a client ask a node.
    pub(crate) fn ask(&mut self, slot: Slot, ask: Ask) -> Check {
        let boots = self.nodes[slot].boots;
        match ask {
            Ask::Write { command, key, grows } => {
                let running = self.nodes[slot].running_mut().expect("the caller looked");
                let request = running.next_request();
                self.clients.began(Ticket::Write(request), slot, key, self.now);
                self.trace
                    .line(self.now, &format!("{} write {} {}", self.nodes[slot].name, request.origin, request.seq));
                self.step_node(slot, Event::Propose { request, data: command.encode(), grows })
            }
            Ask::Read { key } => {
                let read = self.clients.next_read();
                self.clients.began(Ticket::Read(slot, boots, read), slot, key, self.now);
                self.trace.line(self.now, &format!("{} read {read}", self.nodes[slot].name));
                self.step_node(slot, Event::Read { read })
            }
        }
    }

    /// Steps an event and carries out what follows. In some runs the effects wait for the next event, as in a batch.
    pub(crate) fn step_node(&mut self, slot: Slot, event: Event) -> Check {
        if self.nodes[slot].running().is_none() {
            return Ok(());
        }
        let waits = matches!(event, Event::Message(_) | Event::Propose { .. } | Event::Read { .. });
        let now = !(waits && self.rng.chance(self.swarm.batch_per_mille));
        let out = self.nodes[slot].step(event, now);
        self.took(slot, out)
    }

    /// Carries out a node's outputs, then checks the node.
    pub(crate) fn took(&mut self, slot: Slot, out: Vec<Out>) -> Check {
        let stopped = self.end_if_stopped(slot, &out);
        for one in out {
            let place = Place::of(&one);
            if place.is_some_and(|place| self.loses_power(slot, place, false)) {
                return Ok(());
            }
            self.carry_out(slot, one)?;
            if place.is_some_and(|place| self.loses_power(slot, place, true)) {
                return Ok(());
            }
        }
        if stopped { Ok(()) } else { self.look(slot) }
    }

    fn end_if_stopped(&mut self, slot: Slot, out: &[Out]) -> bool {
        let ends = |one: &Out| {
            matches!(
                one,
                Out::Gone { .. } | Out::Quarantined(_) | Out::Closed | Out::DistrustsKv(_) | Out::DiskFailed(_)
            )
        };
        if !out.iter().any(ends) {
            return false;
        }
        self.process_ends(slot);
        self.nodes[slot].end_if_stopped(out)
    }

    /// Ends a process for everyone else: tells the clients, the administrator and the invariants.
    pub(crate) fn process_ends(&mut self, slot: Slot) {
        if let (Some(running), Some(id)) = (self.nodes[slot].running(), self.nodes[slot].member_id()) {
            // What a directory that was put back lacks, no batch was replacing.
            let log = (!self.troubles.forgetful.contains(&slot)).then(|| running.driver.log());
            self.invariants.ended(slot, id, log);
        }
        self.clients.disconnected(slot);
        self.admin.disconnected(slot);
        self.paused.remove(&slot);
        self.leader_seen.remove(&slot);
        self.due.retain(|(of, _)| *of != slot);
    }

    /// Checks a process with every invariant.
    pub(crate) fn look(&mut self, slot: Slot) -> Check {
        let Some(running) = self.nodes[slot].running() else { return Ok(()) };
        if running.owes_effects {
            return Ok(());
        }
        let status = running.driver.status();
        let leads = status.role == Role::Leader;
        if self.leader_seen.insert(slot, leads) != Some(true) && leads {
            self.counts.elections += 1;
            let (name, term) = (&self.nodes[slot].name, status.term);
            self.trace.line(self.now, &format!("{name} leads term {term}"));
        }
        self.invariants.looked(slot, status, running.driver.log())
    }

    fn carry_out(&mut self, slot: Slot, out: Out) -> Check {
        match out {
            Out::Frame { to, frame } => self.send(slot, to, frame),
            Out::Answer { request, answer } => self.answered(slot, request, answer),
            Out::Applied { items, results, hash } => {
                let Some(id) = self.nodes[slot].member_id() else { return Ok(()) };
                self.trace.line(self.now, &format!("{} applied to {}", self.nodes[slot].name, hash.applied));
                self.invariants.applied(id, &items, &results, &hash)?;
                self.answer_writers(slot, id, &results)
            }
            Out::ReadReady { read } => self.read(slot, read),
            Out::ReadFailed { read, why: _ } => {
                self.clients.read_failed(&Ticket::Read(slot, self.nodes[slot].boots, read));
                Ok(())
            }
            Out::Persists { batch: _ } | Out::StoreReady { .. } => Ok(()),
            Out::Members(members) => {
                self.membership_occasion(slot, &members);
                Ok(())
            }
            Out::Fetch { from, meta } => {
                self.fetch(slot, from, meta);
                Ok(())
            }
            Out::Cut { index } => {
                self.counts.cuts += 1;
                self.trace.line(self.now, &format!("{} cut {index}", self.nodes[slot].name));
                Ok(())
            }
            Out::Gone { index } => {
                self.counts.gone += 1;
                self.trace.line(self.now, &format!("{} is gone, removed at {index}", self.nodes[slot].name));
                Ok(())
            }
            Out::Quarantined(finding) => self.lost_trust(slot, &finding),
            Out::DistrustsKv(why) if !self.nodes[slot].damaged_kv => {
                broken("kv_atomic", format!("{} lost whole batches at most: {why}", self.nodes[slot].name))
            }
            Out::DistrustsKv(why) => {
                self.counts.distrusted += 1;
                self.trace.line(self.now, &format!("{} sets its kv db aside: {why}", self.nodes[slot].name));
                Ok(())
            }
            Out::Closed => {
                self.trace.line(self.now, &format!("{} stopped", self.nodes[slot].name));
                Ok(())
            }
            Out::DiskFailed(why) => {
                self.disk_failed(slot, &why);
                Ok(())
            }
        }
    }

    fn answered(&mut self, slot: Slot, request: raftkv_core::types::RequestId, answer: Answer) -> Check {
        self.trace.line(self.now, &format!("{} answers {}: {answer:?}", self.nodes[slot].name, request.seq));
        if self.admin.answered(request, &answer) {
            self.counts.changes += u64::from(matches!(answer, Answer::Changed(_)));
            return Ok(());
        }
        match answer {
            Answer::Refused(refusal) if self.clients.refused(request, &refusal) => {
                self.invariants.answered_none(request)
            }
            Answer::Refused(_) | Answer::Changed(_) | Answer::Transferred(_) => Ok(()),
        }
    }

    fn answer_writers(&mut self, slot: Slot, id: u64, results: &[Applied]) -> Check {
        let Some(nonce) = self.nodes[slot].running().map(|running| running.nonce) else { return Ok(()) };
        for Applied { index: _, request, outcome } in results {
            if let (Some(request), Some(outcome)) = (request, outcome)
                && (request.origin, request.nonce) == (id, nonce)
            {
                self.clients.written(*request, outcome)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, slot: Slot, read: u64) -> Check {
        let ticket = Ticket::Read(slot, self.nodes[slot].boots, read);
        let Some(key) = self.clients.key_of(&ticket) else { return Ok(()) };
        let view: Option<&std::sync::Arc<View>> = self.nodes[slot].running().and_then(|running| running.view());
        let Some(view) = view else { return Ok(()) };
        match view.get(&key, 0) {
            Ok((revision, record)) => {
                let value = record.as_ref().map(|record| &record.value);
                self.clients.read(&ticket, revision, value, &self.invariants.history.model)
            }
            Err(e) => broken("client", format!("a read of the newest revision failed: {e}")),
        }
    }

    /// Starts a process on its disk.
    pub(crate) fn boot(&mut self, slot: Slot) -> Check {
        if self.troubles.forgetful.contains(&slot) {
            return Ok(());
        }
        self.counts.boots += 1;
        self.draw_clock(slot);
        let nonce = self.rng.bits();
        let ticks = self.rng.between(MIN_ELECTION_TICKS as u64, MAX_ELECTION_TICKS as u64) as usize;
        let out = match self.nodes[slot].boot(nonce, ticks, &self.logger) {
            Ok(out) => out,
            Err(e) if e.to_string().contains("injected") => {
                self.disk_failed(slot, &e.to_string());
                return Ok(());
            }
            Err(e) => return broken("opening", format!("{} does not open: {e}", self.nodes[slot].name)),
        };
        if let (Some(Finding { why, .. }), Life::Running(_)) = (&self.nodes[slot].finding, &self.nodes[slot].life) {
            return broken("quarantine", format!("{} forgot that it must not run: {why}", self.nodes[slot].name));
        }
        if let Some(running) = self.nodes[slot].running() {
            let status = running.driver.status();
            self.trace.line(
                self.now,
                &format!(
                    "{} starts: term {} applied {} commit {} last {}",
                    self.nodes[slot].name, status.term, status.applied, status.commit, status.last_index
                ),
            );
            self.invariants.started(slot, &status, running.driver.log())?;
        }
        self.took(slot, out)
    }

    /// The slot and status of the leader of the highest term, if there is a leader.
    pub(crate) fn leader(&self) -> Option<(Slot, DriverStatus)> {
        let leading = |slot: Slot| {
            let running = self.nodes[slot].running()?;
            (running.driver.role() == Role::Leader).then(|| (slot, running.driver.status()))
        };
        (0..self.nodes.len()).filter_map(leading).max_by_key(|(_, status)| status.term)
    }
}
