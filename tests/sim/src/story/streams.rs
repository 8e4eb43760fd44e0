//! What lies between a story's nodes: streams with their hellos, frames in order, copies of snapshot files.

use super::{ROUNDS_MAX, Story};
use crate::net::Slot;
use crate::node::Life;
use crate::tell;
use crate::wires::{CopiedFile, copy_some};
use raftkv_core::driver::Event;
use raftkv_core::identity::Finding;
use raftkv_core::snapshot::{self, SnapshotMeta};
use raftkv_core::types::MemberId;
use raftkv_core::wire::{Frame, HelloVerdict};
use std::collections::VecDeque;
use std::fmt::Write as _;

impl Story {
    pub(super) fn send(&mut self, from: Slot, to: MemberId, frame: Frame) {
        let target = self.target(from, to);
        let Some(target) = target.filter(|target| !self.blocked.contains(&(from, *target))) else {
            return self.was_lost(from, to, &frame);
        };
        if !self.connect(from, target, to) {
            return self.was_lost(from, to, &frame);
        }
        self.wires.entry((from, target)).or_default().push_back(frame);
    }

    fn target(&self, from: Slot, to: MemberId) -> Option<Slot> {
        let known = self.nodes[from].running().and_then(|running| running.members.members.get(&to));
        match known {
            Some(member) => self.nodes.iter().position(|node| node.incarnation == member.incarnation),
            None => {
                let slot = self.nodes.iter().position(|node| node.member_id() == Some(to))?;
                self.streams.contains_key(&(slot, from)).then_some(slot)
            }
        }
    }

    fn was_lost(&mut self, from: Slot, to: MemberId, frame: &Frame) {
        self.due.extend(Event::of_lost_frame(to, frame).map(|event| (from, event)));
    }

    /// A process that has just started dials the members that it waits for (rule N20).
    pub(super) fn dial(&mut self, slot: Slot) {
        for to in self.nodes[slot].unanswered() {
            let cut = |story: &Story, target| {
                story.blocked.contains(&(slot, target)) || story.blocked.contains(&(target, slot))
            };
            if let Some(target) = self.target(slot, to).filter(|target| !cut(self, *target)) {
                self.connect(slot, target, to);
            }
        }
    }

    /// Opens a stream with a hello, unless one is open; false when there is none.
    fn connect(&mut self, from: Slot, target: Slot, to: MemberId) -> bool {
        let boots = |story: &Story| (story.nodes[from].boots, story.nodes[target].boots);
        if self.streams.get(&(from, target)) == Some(&boots(self)) && self.nodes[target].running().is_some() {
            return true;
        }
        let Some(hello) = self.nodes[from].hello(to, self.nodes[target].incarnation) else { return false };
        if matches!(self.nodes[target].life, Life::Blank) {
            self.nodes[target].join(&hello).expect("an empty directory takes a join");
            self.say(target, &format!("joins as member {to}, spoken to by {}", self.nodes[from].name.clone()));
            self.boot(target);
        }
        let verdict = self.nodes[target].check_hello(&hello);
        if verdict.is_some() {
            self.due.push_back((from, Event::HelloAnswered { by: to }));
        }
        match verdict {
            None => false,
            Some(Ok(())) => {
                let answer = self.nodes[target].hello(hello.from, hello.from_incarnation);
                let heard = answer.and_then(|answer| self.nodes[from].check_hello(&answer));
                if let Some(Err(HelloVerdict::RolledBack(_))) = heard {
                    // It hears so when it dials itself.
                    return false;
                }
                let boots = boots(self);
                self.streams.insert((from, target), boots);
                true
            }
            Some(Err(verdict)) => {
                let name = self.nodes[from].name.clone();
                match verdict {
                    HelloVerdict::Gone(record) => {
                        self.say(target, &format!("answers 410 to {name}: removed at {}", record.removed.index));
                        self.due.push_back((from, Event::Removed(record)));
                    }
                    HelloVerdict::RolledBack(why) => {
                        self.say(target, &format!("answers 409 to {name}: {why}"));
                        self.nodes[from].quarantine(Finding::new(why));
                    }
                    HelloVerdict::Differs(why) | HelloVerdict::Later(why) => {
                        self.say(target, &format!("refuses {name}: {why}"));
                    }
                    HelloVerdict::Accept(_) => {}
                }
                false
            }
        }
    }

    /// Delivers at most `count` frames from one node to another; `false` when there were none.
    pub fn deliver(&mut self, from: Slot, to: Slot, count: usize) -> bool {
        let mut any = false;
        for _ in 0..count {
            let Some(frame) = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { break };
            any = true;
            self.hand_over(from, to, frame);
        }
        any
    }

    fn hand_over(&mut self, from: Slot, to: Slot, frame: Frame) {
        if self.nodes[to].running().is_none() {
            return;
        }
        if !tell::is_chatter(&frame) {
            let _ = writeln!(self.text, "{} -> {} {}", self.nodes[from].name, self.nodes[to].name, tell::frame(&frame));
        }
        let Some(member) = self.nodes[from].member_id() else { return };
        let event = match frame {
            Frame::Raft(message) => Event::Message(message),
            Frame::Forward(forward) => Event::Forwarded { from: member, forward, grows: true },
            Frame::ForwardReply(reply) => Event::ForwardReply { from: member, reply },
            Frame::Removed(record) => Event::Removed(record),
            Frame::Report(report) => Event::Report { from: member, report },
        };
        self.step(to, event);
    }

    /// Delivers everything, in rounds, until nothing is on its way.
    pub fn stabilize(&mut self) {
        self.work();
        for _ in 0..ROUNDS_MAX {
            let full = self.wires.iter().find(|(way, frames)| !frames.is_empty() && !self.blocked.contains(way));
            let Some((from, to)) = full.map(|(way, _)| *way) else { return };
            self.deliver(from, to, 1);
        }
        panic!("the story does not come to rest");
    }

    /// Drops everything that is on its way from one node to another, and tells what it was.
    pub fn drop_frames(&mut self, from: Slot, to: Slot) {
        for frame in self.wires.remove(&(from, to)).unwrap_or_default() {
            if !tell::is_chatter(&frame) {
                let text = format!("-> {} lost: {}", self.nodes[to].name, tell::frame(&frame));
                self.say(from, &text);
            }
        }
    }

    /// Makes the first frame on its way arrive twice.
    pub fn double(&mut self, from: Slot, to: Slot) {
        let wire = self.wires.entry((from, to)).or_default();
        if let Some(frame) = wire.front().cloned() {
            wire.push_front(frame);
        }
    }

    /// Tells which frames are on their way.
    pub fn frames(&mut self) {
        for ((from, to), frames) in &self.wires {
            for frame in frames {
                let _ = writeln!(
                    self.text,
                    "{} -> {} on its way: {}",
                    self.nodes[*from].name,
                    self.nodes[*to].name,
                    tell::frame(frame)
                );
            }
        }
    }

    /// Cuts these nodes off from all others; what is on its way between them is lost.
    pub fn partition(&mut self, group: &[Slot]) {
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if group.contains(&from) != group.contains(&to) {
                    self.block(from, to);
                }
            }
        }
    }

    /// Cuts one direction.
    pub fn block(&mut self, from: Slot, to: Slot) {
        self.blocked.insert((from, to));
        self.wires.remove(&(from, to));
    }

    /// Makes the next copies of snapshot files break.
    pub fn break_copies(&mut self, count: u64) {
        self.breaking_copies = count;
    }

    /// Ends all cuts.
    pub fn heal(&mut self) {
        self.blocked.clear();
    }

    pub(super) fn fetch(&mut self, to: Slot, from: MemberId, meta: Box<SnapshotMeta>) {
        let there = snapshot::verify(&*self.nodes[to].disk, &meta.file_name()).is_ok_and(|found| found == *meta);
        let source = self.target(to, from).or_else(|| self.nodes.iter().position(|n| n.member_id() == Some(from)));
        let Some(source) = source else { return };
        let breaks = self.breaking_copies > 0;
        self.breaking_copies = self.breaking_copies.saturating_sub(1);
        let linked = !breaks && !self.blocked.contains(&(source, to)) && self.nodes[source].running().is_some();
        let mut file = CopiedFile { meta, done: 0 };
        let mut whole = there;
        while linked && !whole {
            match copy_some(&*self.nodes[source].disk, &*self.nodes[to].disk, &mut file) {
                Ok(done) => whole = done,
                Err(_) => break,
            }
        }
        let meta = file.meta;
        let text = format!("copies snapshot {} from {}, whole: {whole}", meta.index, self.nodes[source].name);
        self.say(to, &text);
        if let Some(to_member) = self.nodes[to].member_id() {
            self.due.push_back((source, Event::SnapshotSent { to: to_member, index: meta.index, whole }));
        }
        self.due.push_back((to, Event::Fetched { meta, whole }));
    }

    /// Delivers a frame that its sender never sent.
    pub fn forge(&mut self, from: Slot, to: Slot, frame: Frame) {
        self.hand_over(from, to, frame);
    }
}
