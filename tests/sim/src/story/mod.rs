//! A small cluster without chance, for readable stories (`tests/golden.rs`).
//!
//! Time, frames and crashes come from the script alone. Disks and apply threads work at once unless the script holds
//! them. Everything that happens becomes a line of text.

mod streams;

use crate::disk::{CrashModel, SimDisk};
use crate::kv::Damage;
use crate::net::Slot;
use crate::node::{Life, Out, SimNode, Sizes};
use crate::rng::Rng;
use crate::tell;
use crate::threads::DiskTurn;
use raftkv_api::Hex128;
use raftkv_core::driver::MembershipCall;
use raftkv_core::driver::{DriverStatus, Event, Role};
use raftkv_core::kvstore::{Command, Condition};
use raftkv_core::membership::Member;
use raftkv_core::ports::LogDisk;
use raftkv_core::types::{Index, MemberId, RequestId};
use raftkv_core::wire::Frame;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

/// Shortest election timeout of a story's first node in ticks; each further node waits two ticks longer.
const ELECTION_TICKS: usize = 15;
/// A story must come to rest within this many rounds.
const ROUNDS_MAX: usize = 2_000;

/// The cluster of a story.
pub struct Story {
    pub(crate) nodes: Vec<SimNode>,
    wires: BTreeMap<(Slot, Slot), VecDeque<Frame>>,
    streams: BTreeMap<(Slot, Slot), (u64, u64)>,
    blocked: BTreeSet<(Slot, Slot)>,
    held_disks: BTreeSet<Slot>,
    held_applies: BTreeSet<Slot>,
    /// Names of calls, for people: `#1`, `#2`, ...
    calls: BTreeMap<RequestId, usize>,
    reads: BTreeMap<(Slot, u64), String>,
    count: usize,
    roles: BTreeMap<Slot, (Role, u64)>,
    backups: BTreeMap<Slot, (Arc<SimDisk>, Option<u64>)>,
    due: VecDeque<(Slot, Event)>,
    breaking_copies: u64,
    rng: Rng,
    boots: u64,
    text: String,
}

impl Story {
    /// A story of `nodes` Blank nodes with logs of these sizes.
    pub fn new(nodes: u64, sizes: Sizes) -> Story {
        Story {
            nodes: (1..=nodes).map(|number| SimNode::blank(number, sizes)).collect(),
            wires: BTreeMap::new(),
            streams: BTreeMap::new(),
            blocked: BTreeSet::new(),
            held_disks: BTreeSet::new(),
            held_applies: BTreeSet::new(),
            calls: BTreeMap::new(),
            reads: BTreeMap::new(),
            count: 0,
            roles: BTreeMap::new(),
            backups: BTreeMap::new(),
            due: VecDeque::new(),
            breaking_copies: 0,
            rng: Rng::new(1),
            boots: 0,
            text: String::new(),
        }
    }

    /// Takes everything that was told since the last call.
    pub fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Puts text back that was taken.
    pub fn tell(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The slot of `n1`, `n2`, ...
    pub fn slot(&self, name: &str) -> Result<Slot, String> {
        self.nodes.iter().position(|node| node.name == name).ok_or_else(|| format!("there is no node {name}"))
    }

    fn say(&mut self, slot: Slot, what: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{} {what}", self.nodes[slot].name);
    }

    /// Makes `n1` the first voter of a new cluster, and starts it.
    pub fn init(&mut self, min_voters: u32) {
        self.nodes[0].init(Hex128([1; 16]), min_voters).expect("an empty directory takes an init");
        self.boot(0);
    }

    /// Starts a process on what its disk holds.
    pub fn boot(&mut self, slot: Slot) {
        self.boots += 1;
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        match self.nodes[slot].boot(self.boots, ELECTION_TICKS + 2 * slot, &logger) {
            Ok(out) => {
                if let Some(status) = self.nodes[slot].status() {
                    let text = format!(
                        "starts: term {} applied {} commit {} last {}",
                        status.term, status.applied, status.commit, status.last_index
                    );
                    self.say(slot, &text);
                }
                self.took(slot, out);
                self.dial(slot);
            }
            Err(e) => self.say(slot, &format!("does not start: {e}")),
        }
        self.work();
    }

    /// Steps one event and lets disks and applies work.
    pub fn step(&mut self, slot: Slot, event: Event) {
        if matches!(event, Event::Tick) {
            self.dial(slot);
        }
        let out = self.nodes[slot].step(event, true);
        self.took(slot, out);
        self.work();
    }

    /// Steps events as one batch.
    pub fn step_batch(&mut self, slot: Slot, events: Vec<Event>) {
        let last = events.len().saturating_sub(1);
        for (at, event) in events.into_iter().enumerate() {
            let out = self.nodes[slot].step(event, at == last);
            self.took(slot, out);
        }
        self.work();
    }

    /// Lets a tick pass for everyone.
    pub fn tick_all(&mut self) {
        for slot in 0..self.nodes.len() {
            self.step(slot, Event::Tick);
        }
    }

    /// Lets time pass for followers until they may answer a candidate, which they may not while they have just heard of
    /// a leader.
    pub fn let_leases_end(&mut self) {
        for slot in 0..self.nodes.len() {
            let hears = |story: &Story| {
                let status = story.nodes[slot].status()?;
                let ticks =
                    status.leader_contact_ticks.filter(|_| status.role == Role::Follower && status.leader != 0)?;
                (ticks < ELECTION_TICKS as u64 - 1).then_some(())
            };
            while hears(self).is_some() {
                self.step(slot, Event::Tick);
            }
        }
    }

    /// Lets disks and applies that are not held work until they are idle.
    pub fn work(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if let Some((slot, event)) = self.due.pop_front() {
                let out = self.nodes[slot].step(event, true);
                self.took(slot, out);
                continue;
            }
            if self.read_log() {
                continue;
            }
            let disk_works = |slot: &Slot| {
                !self.held_disks.contains(slot)
                    && self.nodes[*slot].running().is_some_and(|running| !running.disk_thread.is_idle())
            };
            let apply_works = |slot: &Slot| {
                !self.held_applies.contains(slot)
                    && self.nodes[*slot].running().is_some_and(|running| !running.apply_thread.is_idle())
            };
            if let Some(slot) = (0..self.nodes.len()).find(disk_works) {
                self.disk_turn(slot, usize::MAX);
            } else if let Some(slot) = (0..self.nodes.len()).find(apply_works) {
                let out = self.nodes[slot].apply_turn(usize::MAX, &mut self.rng);
                self.took(slot, out);
            } else {
                return;
            }
        }
        panic!("the story does not come to rest");
    }

    /// Does one of the smallest things that could happen next: a step of a disk, of an apply, or the arrival of a
    /// frame. Disks and applies must be held, so that nothing else happens. False when there is nothing to do.
    pub fn one_thing(&mut self, choice: u64) -> bool {
        if let Some((slot, event)) = self.due.pop_front() {
            let out = self.nodes[slot].step(event, true);
            self.took(slot, out);
            return true;
        }
        if self.read_log() {
            return true;
        }
        let mut disks = Vec::new();
        let mut applies = Vec::new();
        for (slot, node) in self.nodes.iter().enumerate() {
            let Some(running) = node.running() else { continue };
            if !running.disk_thread.is_idle() {
                disks.push(slot);
            }
            if !running.apply_thread.is_idle() {
                applies.push(slot);
            }
        }
        let ways: Vec<(Slot, Slot)> =
            self.wires.iter().filter(|(_, frames)| !frames.is_empty()).map(|(way, _)| *way).collect();
        let all = disks.len() + applies.len() + ways.len();
        if all == 0 {
            return false;
        }
        let at = (choice % all as u64) as usize;
        if let Some(slot) = disks.get(at) {
            self.disk_turn(*slot, 1);
        } else if let Some(slot) = applies.get(at - disks.len()) {
            let out = self.nodes[*slot].apply_turn(1, &mut self.rng);
            self.took(*slot, out);
        } else {
            let (from, to) = ways[at - disks.len() - applies.len()];
            self.deliver(from, to, 1);
        }
        true
    }

    /// Reads the log for a member that catches up; false when nobody wants that.
    fn read_log(&mut self) -> bool {
        let reads = |node: &SimNode| node.running().is_some_and(|running| !running.log_reads.is_empty());
        let Some(slot) = self.nodes.iter().position(reads) else { return false };
        let out = self.nodes[slot].log_read_turn();
        self.took(slot, out);
        true
    }

    fn disk_turn(&mut self, slot: Slot, ops: usize) {
        let event = match self.nodes[slot].disk_turn(ops).expect("a story's disk does not fail") {
            DiskTurn::Worked => return,
            DiskTurn::Durable { batch, .. } => Event::Persisted { batch },
            DiskTurn::SpareMade { name } => Event::SpareMade { name },
        };
        let out = self.nodes[slot].step(event, true);
        self.took(slot, out);
    }

    fn took(&mut self, slot: Slot, out: Vec<Out>) {
        let id = self.nodes[slot].member_id();
        let nonce = self.nodes[slot].running().map(|running| running.nonce);
        self.nodes[slot].end_if_stopped(&out);
        self.tell_role(slot);
        for one in out {
            match one {
                Out::Frame { to, frame } => self.send(slot, to, frame),
                Out::Answer { request, answer } => {
                    let call = self.calls.get(&request).copied().unwrap_or_default();
                    self.say(slot, &format!("answers #{call}: {}", tell::answer(&answer)));
                }
                Out::Applied { items, results, hash: _ } => {
                    for (item, result) in items.iter().zip(&results) {
                        let mut text = format!("applies {}", tell::committed(item));
                        let ours = result.request.filter(|of| Some(of.origin) == id && Some(of.nonce) == nonce);
                        if let (Some(request), Some(outcome)) = (ours, &result.outcome) {
                            let call = self.calls.get(&request).copied().unwrap_or_default();
                            let _ = write!(text, ", answers #{call}: {}", tell::outcome(outcome));
                        }
                        self.say(slot, &text);
                    }
                }
                Out::ReadReady { read } => self.read_ready(slot, read),
                Out::ReadFailed { read, why } => {
                    let key = self.reads.remove(&(slot, read)).unwrap_or_default();
                    self.say(slot, &format!("cannot read {key}: {why}"));
                }
                Out::Persists { batch: _ } | Out::Members(_) => {}
                Out::Fetch { from, meta } => self.fetch(slot, from, meta),
                Out::Cut { index } => self.say(slot, &format!("cuts snapshot {index}")),
                Out::StoreReady { index } => self.say(slot, &format!("serves its kv db at {index}")),
                Out::Gone { index } => self.say(slot, &format!("stops: its removal at {index} is safe")),
                Out::Quarantined(found) if found.diverged => self.say(slot, &format!("diverged: {}", found.why)),
                Out::Quarantined(found) => self.say(slot, &format!("is quarantined: {}", found.why)),
                Out::DistrustsKv(why) => self.say(slot, &format!("sets its kv db aside: {why}")),
                Out::Closed => self.say(slot, "stopped"),
                Out::DiskFailed(why) => self.say(slot, &format!("ends: {why}")),
            }
        }
    }

    fn tell_role(&mut self, slot: Slot) {
        let Some(running) = self.nodes[slot].running() else {
            self.roles.remove(&slot);
            return;
        };
        let status = running.driver.status();
        let now = (status.role, status.term);
        let before = self.roles.insert(slot, now);
        let text = match (before, now) {
            (Some(before), now) if before == now => return,
            (_, (Role::Leader, term)) => format!("leads term {term}"),
            (_, (Role::Candidate, term)) => format!("campaigns behind term {term}"),
            (Some((Role::Follower, old)), (Role::Follower, term)) => format!("moves from term {old} to {term}"),
            (Some(_), (Role::Follower, term)) => format!("follows in term {term}"),
            (None, (Role::Follower, _)) => return,
        };
        self.say(slot, &text);
    }

    /// Holds or releases a node's disk.
    pub fn hold_disk(&mut self, slot: Slot, hold: bool) {
        match hold {
            true => self.held_disks.insert(slot),
            false => self.held_disks.remove(&slot),
        };
        self.work();
    }

    /// Holds or releases a node's apply thread.
    pub fn hold_apply(&mut self, slot: Slot, hold: bool) {
        match hold {
            true => self.held_applies.insert(slot),
            false => self.held_applies.remove(&slot),
        };
        self.work();
    }

    /// Power loss: everything that was not synced is gone; so is the kv db, with `kv_is_lost`.
    pub fn crash(&mut self, slot: Slot, kv_is_lost: bool) {
        self.nodes[slot].life = Life::Down;
        self.nodes[slot].disk.crash(0, CrashModel::Nothing);
        let home = self.nodes[slot].home.clone();
        home.end_run();
        if kv_is_lost {
            home.names().iter().for_each(|name| home.damage(name, Damage::LostAll, 0));
        }
        self.forget_process(slot);
    }

    /// Kill -9.
    pub fn kill(&mut self, slot: Slot) {
        self.nodes[slot].kill();
        self.forget_process(slot);
    }

    fn forget_process(&mut self, slot: Slot) {
        self.held_disks.remove(&slot);
        self.held_applies.remove(&slot);
        self.roles.remove(&slot);
        self.due.retain(|(of, _)| *of != slot);
        self.wires.retain(|(_, to), _| *to != slot);
    }

    /// Keeps a copy of a node's disk.
    pub fn backup(&mut self, slot: Slot) {
        self.backups.insert(slot, (copy_of(&self.nodes[slot].disk), self.nodes[slot].member_id()));
    }

    /// Puts the disk back as it was when the copy was made, like a restored volume.
    pub fn restore(&mut self, slot: Slot) -> Result<(), String> {
        let (disk, _) = self.backups.get(&slot).ok_or("there is no backup")?;
        self.nodes[slot].disk = copy_of(disk);
        let home = self.nodes[slot].home.clone();
        home.end_run();
        home.names().iter().for_each(|name| home.damage(name, Damage::LostAll, 0));
        Ok(())
    }

    fn new_call(&mut self, slot: Slot) -> Result<RequestId, String> {
        let running = self.nodes[slot].running_mut().ok_or("that node does not run")?;
        let request = running.next_request();
        self.count += 1;
        self.calls.insert(request, self.count);
        Ok(request)
    }

    /// A client's command, as an event to be stepped.
    pub fn write(&mut self, slot: Slot, command: &Command) -> Result<Event, String> {
        let request = self.new_call(slot)?;
        let text = format!("takes #{}: {}", self.count, tell::command(command));
        self.say(slot, &text);
        Ok(Event::Propose { request, data: command.encode(), grows: matches!(command, Command::Put { .. }) })
    }

    /// A linearizable read, as an event to be stepped.
    pub fn read(&mut self, slot: Slot, key: &str) -> Event {
        let read = self.reads.len() as u64 + 1 + self.count as u64 * 1000;
        self.reads.insert((slot, read), key.to_string());
        Event::Read { read }
    }

    fn read_ready(&mut self, slot: Slot, read: u64) {
        let Some(key) = self.reads.remove(&(slot, read)) else { return };
        let view = self.nodes[slot].running().and_then(|running| running.view()).cloned();
        let Some(view) = view else { return };
        let text = match view.get(key.as_bytes(), 0) {
            Ok((revision, Some(record))) => {
                format!("reads {key}={} at revision {revision}", String::from_utf8_lossy(&record.value))
            }
            Ok((revision, None)) => format!("reads that there is no {key} at revision {revision}"),
            Err(e) => format!("cannot read {key}: {e}"),
        };
        self.say(slot, &text);
    }

    /// Makes a membership call at a node; `if_match` is that node's own conf index unless given.
    pub fn change(&mut self, slot: Slot, call: MembershipCall, if_match: Option<Index>) -> Result<(), String> {
        let request = self.new_call(slot)?;
        let current = self.nodes[slot].status().map_or(0, |status| status.membership.conf_index);
        let text = format!("takes #{}: {}", self.count, tell::call(&call));
        self.say(slot, &text);
        self.step(slot, Event::Change { request, call, if_match: if_match.unwrap_or(current) });
        Ok(())
    }

    /// The membership call that adds a node.
    pub fn add_call(&self, slot: Slot) -> MembershipCall {
        let node = &self.nodes[slot];
        let (name, peer, incarnation) = (node.name.clone(), node.peer(), node.incarnation);
        MembershipCall::Add(Member { name, peer, incarnation })
    }

    /// The member id of a node, or an error when it has none.
    pub fn id(&self, slot: Slot) -> Result<MemberId, String> {
        self.nodes[slot].member_id().ok_or_else(|| format!("{} is no member", self.nodes[slot].name))
    }

    /// Asks a node to move leadership.
    pub fn transfer(&mut self, slot: Slot, to: Option<MemberId>) -> Result<(), String> {
        let request = self.new_call(slot)?;
        let text = format!("takes #{}: transfer leadership", self.count);
        self.say(slot, &text);
        self.step(slot, Event::Transfer { request, to });
        Ok(())
    }

    /// What a node's driver shows of itself, while it runs.
    pub fn status_of(&self, slot: Slot) -> Option<DriverStatus> {
        self.nodes[slot].status()
    }

    /// The state of a node's life.
    pub fn life_of(&self, slot: Slot) -> &Life {
        &self.nodes[slot].life
    }

    /// Whether its process runs.
    pub fn is_running(&self, slot: Slot) -> bool {
        self.nodes[slot].running().is_some()
    }

    /// Tells the status of each node in one line.
    pub fn status(&mut self) {
        for slot in 0..self.nodes.len() {
            let text = tell::node(&self.nodes[slot]);
            self.say(slot, &text);
        }
    }

    /// Tells the entries that a node's log holds.
    pub fn log(&mut self, slot: Slot) -> Result<(), String> {
        let running = self.nodes[slot].running().ok_or("that node does not run")?;
        let text = tell::log(running.driver.log());
        self.say(slot, &format!("log: {text}"));
        Ok(())
    }
}

fn copy_of(disk: &SimDisk) -> Arc<SimDisk> {
    let copy = SimDisk::new();
    for name in disk.names() {
        let bytes = disk.bytes(&name);
        let done = copy.create(&name, 0).and_then(|()| copy.write(&name, 0, &bytes)).and_then(|()| copy.sync(&name));
        done.expect("a simulated disk takes a file");
    }
    copy.sync_dir().expect("a simulated disk takes its names");
    Arc::new(copy)
}

/// A put, for scripts.
pub fn put(key: &str, value: &str, condition: Condition) -> Command {
    Command::Put { key: key.to_string().into(), value: value.to_string().into(), condition }
}
