//! What lies between the nodes: streams with their hellos, frames and the consequences of their loss, copies of
//! snapshot files.

use crate::invariants::{Check, Violation};
use crate::net::{Packet, Sent, Slot};
use crate::node::{Life, SimNode};
use crate::swarm::Fault;
use crate::world::World;
use raft::prelude::MessageType;
use raftkv_core::driver::Event;
use raftkv_core::limits::HELLO_WAIT_TICKS;
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot::{self, SnapshotMeta};
use raftkv_core::types::MemberId;
use raftkv_core::wire::{Frame, HelloVerdict};
use std::io;

/// Chance per tick, per mille, that a process that has just started reaches another one.
const DIAL_PER_MILLE: u64 = 250;
/// From this tick on it does, if anything can.
const DIALLED_TICKS: u64 = 8;
/// Bytes of a snapshot file that arrive in one turn.
const COPY_BYTES: usize = 16 * 1024;

/// A snapshot file on its way.
#[derive(Debug)]
pub struct Copy {
    from: Slot,
    to: Slot,
    to_boot: u64,
    to_member: MemberId,
    file: CopiedFile,
}

/// How much of a file has arrived.
#[derive(Debug)]
pub struct CopiedFile {
    /// The snapshot that is being copied.
    pub meta: Box<SnapshotMeta>,
    /// Bytes that have arrived.
    pub done: u64,
}

impl World {
    /// Sends a frame of a node, and tells the node if it is lost.
    pub(crate) fn send(&mut self, from: Slot, to: MemberId, frame: Frame) -> Check {
        if let Frame::Raft(message) = &frame {
            if !self.may_speak(from, message)? {
                return Ok(());
            }
            self.invariants.sent(message)?;
        }
        if let Frame::Removed(record) = &frame {
            self.tells_removed(from, record.member_id)?;
        }
        let Some(from_member) = self.nodes[from].member_id() else { return Ok(()) };
        let Some(target) = self.slot_of(from, to) else {
            self.was_lost(from, to, &frame);
            return Ok(());
        };
        if !self.connect(from, target, to)? {
            self.was_lost(from, to, &frame);
            return Ok(());
        }
        let packet = Packet { from, to: target, from_member, frame };
        // The net keeps the frame that it takes: a copy is made only if its loss must be told to the sender.
        let heard = self.rng.chance(500)
            || matches!(&packet.frame, Frame::Raft(m) if m.get_msg_type() == MessageType::MsgSnapshot);
        let copy = heard.then(|| packet.frame.clone());
        if self.net.send(self.now, packet, &mut self.rng) == Sent::Lost
            && let Some(frame) = copy
            && !matches!(frame, Frame::Forward(_))
        {
            self.was_lost(from, to, &frame);
        }
        Ok(())
    }

    /// Finds the slot of a member as the sender can know it: by its membership, or by a stream that the other opened.
    fn slot_of(&self, from: Slot, to: MemberId) -> Option<Slot> {
        let running = self.nodes[from].running()?;
        let known = running.members.members.get(&to).map(|member| member.incarnation);
        let by_incarnation = |node: &SimNode| Some(node.incarnation) == known;
        self.nodes.iter().position(by_incarnation).or_else(|| {
            let has_dialled = |slot: &Slot| {
                self.nodes[*slot].member_id() == Some(to)
                    && self.streams.get(&(*slot, from)) == self.boots(*slot, from).as_ref()
            };
            (0..self.nodes.len()).find(has_dialled)
        })
    }

    pub(crate) fn boots(&self, from: Slot, to: Slot) -> Option<(u64, u64)> {
        let (from, to) = (&self.nodes[from], &self.nodes[to]);
        (from.running().is_some() && to.running().is_some()).then_some((from.boots, to.boots))
    }

    /// A process that has just started dials everyone whom it knows, until its hello is answered (rule N20).
    pub(crate) fn dial(&mut self, slot: Slot) -> Check {
        let Some(running) = self.nodes[slot].running() else { return Ok(()) };
        let ticks = running.ticks();
        if ticks >= HELLO_WAIT_TICKS {
            return Ok(());
        }
        for (id, incarnation) in World::others_in(&running.members.clone(), self.nodes[slot].member_id()) {
            let is_due = ticks >= DIALLED_TICKS || self.rng.chance(DIAL_PER_MILLE);
            let target = self.nodes.iter().position(|node| node.incarnation == incarnation);
            if let Some(target) = target.filter(|_| is_due && self.nodes[slot].running().is_some()) {
                self.connect(slot, target, id)?;
            }
        }
        Ok(())
    }

    /// Opens a stream unless one is open (rules N4, N7, N19, N20).
    pub(crate) fn connect(&mut self, from: Slot, target: Slot, to: MemberId) -> Result<bool, Violation> {
        let stands = |world: &World| {
            let stream = world.streams.get(&(from, target));
            stream.is_some() && stream == world.boots(from, target).as_ref()
        };
        if stands(self) {
            return Ok(true);
        }
        let linked = !self.net.is_blocked(from, target) && !self.net.is_blocked(target, from);
        let reachable = linked && !self.paused.contains_key(&target);
        let known = self.nodes[from].running().and_then(|running| running.members.members.get(&to).cloned());
        let (true, Some(member)) = (reachable, known) else {
            // Frames can go by the stream that the other opened.
            let back = self.streams.get(&(target, from));
            return Ok(back.is_some() && back == self.boots(target, from).as_ref());
        };
        let Some(hello) = self.nodes[from].hello(to, member.incarnation) else { return Ok(false) };
        if matches!(self.nodes[target].life, Life::Blank) && !self.held.contains(&target) {
            if !self.join(target, &hello)? {
                return Ok(false);
            }
            self.trace.line(self.now, &format!("{} joins as member {to}", self.nodes[target].name));
            self.boot(target)?;
        }
        let Some(verdict) = self.nodes[target].check_hello(&hello) else { return Ok(false) };
        self.due.push_back((from, Event::HelloAnswered { by: to }));
        match verdict {
            Ok(()) => {
                // The answer is a hello, too: who was put back shows it there, and hears it when it dials itself.
                let answer = self.nodes[target].hello(hello.from, hello.from_incarnation);
                let heard = answer.and_then(|answer| self.nodes[from].check_hello(&answer));
                if let Some(Err(HelloVerdict::RolledBack(why))) = heard {
                    let (name, target) = (&self.nodes[from].name, &self.nodes[target].name);
                    self.trace.line(self.now, &format!("{name} does not speak to {target}: {why}"));
                    return Ok(false);
                }
                if let Some(boots) = self.boots(from, target) {
                    self.streams.insert((from, target), boots);
                }
                Ok(true)
            }
            Err(HelloVerdict::Gone(record)) => {
                self.trace.line(
                    self.now,
                    &format!("{} tells {} that it is removed", self.nodes[target].name, self.nodes[from].name),
                );
                self.tells_removed(target, record.member_id)?;
                self.due.push_back((from, Event::Removed(record)));
                Ok(false)
            }
            Err(HelloVerdict::RolledBack(why)) => {
                self.is_rolled_back(from, why)?;
                Ok(false)
            }
            Err(HelloVerdict::Differs(why) | HelloVerdict::Later(why)) => {
                self.trace
                    .line(self.now, &format!("{} refuses {}: {why}", self.nodes[target].name, self.nodes[from].name));
                Ok(false)
            }
            Err(HelloVerdict::Accept(_)) => Ok(true),
        }
    }

    /// A node tells a member that it was removed.
    fn tells_removed(&mut self, teller: Slot, id: MemberId) -> Check {
        let Some(status) = self.nodes[teller].status() else { return Ok(()) };
        self.invariants.told_removed(id, &status)
    }

    /// Tells the sender that the transport did not take a frame.
    fn was_lost(&mut self, from: Slot, to: MemberId, frame: &Frame) {
        self.due.extend(Event::of_lost_frame(to, frame).map(|event| (from, event)));
    }

    /// Delivers the next frame that is due; false when there is none.
    pub(crate) fn deliver(&mut self) -> Result<bool, Violation> {
        let Some(packet) = self.net.deliver(self.now) else { return Ok(false) };
        if let Some(until) = self.paused.get(&packet.to) {
            self.net.hold(*until, packet);
            return Ok(true);
        }
        let Packet { from, to, from_member, frame } = packet;
        if self.nodes[to].running().is_none() {
            return Ok(true);
        }
        self.counts.delivered += 1;
        self.trace.line(self.now, &format!("{} -> {} {}", self.nodes[from].name, self.nodes[to].name, brief(&frame)));
        let event = match frame {
            Frame::Raft(message) => {
                self.heard(to, &message);
                Event::Message(message)
            }
            Frame::Forward(forward) => Event::Forwarded { from: from_member, forward, grows: true },
            Frame::ForwardReply(reply) => Event::ForwardReply { from: from_member, reply },
            Frame::Removed(record) => Event::Removed(record),
            Frame::Report(report) => Event::Report { from: from_member, report },
        };
        self.step_node(to, event)?;
        Ok(true)
    }

    /// Starts the copy of a snapshot file that a node asked for.
    pub(crate) fn fetch(&mut self, to: Slot, from: MemberId, meta: Box<SnapshotMeta>) {
        let node = &self.nodes[to];
        let (Some(from), Some(to_member)) = (self.slot_of(to, from), node.member_id()) else {
            return self.due.push_back((to, Event::Fetched { meta, whole: false }));
        };
        let to_boot = node.boots;
        self.occasion(Fault::InstallCut, to, from);
        self.copies.push(Copy { from, to, to_boot, to_member, file: CopiedFile { meta, done: 0 } });
    }

    /// One turn of a copy; false when no copy is under way.
    pub(crate) fn copy_turn(&mut self) -> bool {
        if self.copies.is_empty() {
            return false;
        }
        let at = self.rng.index(self.copies.len());
        let mut copy = self.copies.swap_remove(at);
        let same_process = self.nodes[copy.to].running().is_some() && self.nodes[copy.to].boots == copy.to_boot;
        let linked = self.nodes[copy.from].running().is_some() && !self.net.is_blocked(copy.from, copy.to);
        let breaks = !linked || !same_process || self.rng.chance(self.net.rates.loss_per_mille / 4);
        let result = if breaks {
            Err(io::Error::other("the stream broke"))
        } else {
            copy_some(&*self.nodes[copy.from].disk, &*self.nodes[copy.to].disk, &mut copy.file)
        };
        match result {
            Ok(false) => self.copies.push(copy),
            Ok(true) => self.copied(copy, same_process, true),
            Err(_) => self.copied(copy, same_process, false),
        }
        true
    }

    fn copied(&mut self, copy: Copy, same_process: bool, whole: bool) {
        let Copy { from, to, to_boot: _, to_member, file: CopiedFile { meta, done: _ } } = copy;
        self.trace.line(
            self.now,
            &format!("{} -> {} snapshot {} whole: {whole}", self.nodes[from].name, self.nodes[to].name, meta.index),
        );
        self.counts.copies += u64::from(whole);
        self.due.push_back((from, Event::SnapshotSent { to: to_member, index: meta.index, whole }));
        if whole {
            self.occasion(Fault::InstallCut, to, from);
        }
        if same_process {
            self.due.push_back((to, Event::Fetched { meta, whole }));
        }
    }
}

/// Copies a piece; true when the file is whole, verified and durable under its name (rule N13).
pub fn copy_some(source: &dyn LogDisk, target: &dyn LogDisk, copy: &mut CopiedFile) -> io::Result<bool> {
    let name = copy.meta.file_name();
    let temporary = format!("{name}.tmp");
    if copy.done == 0 {
        target.create(&temporary, 0)?;
    }
    let mut bytes = vec![0; COPY_BYTES];
    let read = source.read(&name, copy.done, &mut bytes)?;
    if read > 0 {
        target.write(&temporary, copy.done, &bytes[..read])?;
        copy.done += read as u64;
        return Ok(false);
    }
    target.sync(&temporary)?;
    if snapshot::verify(target, &temporary).map_err(io::Error::other)? != *copy.meta {
        return Err(io::Error::other("another snapshot"));
    }
    target.rename(&temporary, &name)?;
    target.sync_dir()?;
    Ok(true)
}

/// A frame in a few words.
pub fn brief(frame: &Frame) -> String {
    match frame {
        Frame::Raft(message) => {
            let mut text = format!("{:?} t{}", message.get_msg_type(), message.term);
            if message.index > 0 {
                text.push_str(&format!(" i{}@{}", message.index, message.log_term));
            }
            if !message.entries.is_empty() {
                text.push_str(&format!(" +{}", message.entries.len()));
            }
            if message.commit > 0 {
                text.push_str(&format!(" c{}", message.commit));
            }
            if message.reject {
                text.push_str(&format!(" reject hint {}", message.reject_hint));
            }
            text
        }
        Frame::Forward(forward) => {
            format!("Forward t{} {}/{}", forward.term, forward.request.origin, forward.request.seq)
        }
        Frame::ForwardReply(reply) => format!("{reply:?}"),
        Frame::Removed(record) => format!("Removed member {} at {}", record.member_id, record.removed.index),
        Frame::Report(report) => format!("Report applied {} conf {}", report.applied, report.durable_conf_index),
    }
}
