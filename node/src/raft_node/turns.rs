//! The loop of the raft thread while the node is a member.
//!
//! Enters: [`Input`]s and ticks. Leaves: effects, carried out in order, published state, and at last why the member
//! phase ended. The driver decides; nothing here does.

use super::effects::Outputs;
use super::end::{End, Exit};
use super::input::Input;
use super::phases::{RaftNode, answer, refuse_reset};
use super::shared::{Phase, Published};
use crate::crash_point;
use crate::log_lines;
use raftkv_core::driver::{Driver, Event};
use raftkv_core::identity::Finding;
use raftkv_core::limits;
use raftkv_core::types::MemberIdentity;
use raftkv_core::wire::HelloVerdict;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Most inputs that are stepped before the effects are carried out.
const INPUTS_PER_TURN: usize = 1024;

impl RaftNode {
    /// The loop: drain a bounded batch of inputs, step them, carry out the effects, publish.
    pub(super) fn turn(&mut self, identity: MemberIdentity, driver: &mut Driver, outputs: &mut Outputs) -> End {
        let tick = Duration::from_millis(limits::TICK_MS);
        let mut next_tick = Instant::now() + tick;
        let mut shown = None;
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            let mut input = match self.inputs.recv_timeout(wait) {
                Ok(input) => Some(input),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return End::Exit(Exit::Stopped),
            };
            let mut taken = 0;
            while let Some(one) = input {
                if let Some(end) = self.take(identity, driver, one) {
                    return end;
                }
                taken += 1;
                input = if taken < INPUTS_PER_TURN { self.inputs.try_recv().ok() } else { None };
            }
            let now = Instant::now();
            let ticks = now >= next_tick;
            if ticks {
                next_tick = tick_after(next_tick, now);
                driver.step(Event::Tick);
            }
            let effects = driver.effects();
            let show = driver.headline();
            let is_news = shown != Some(show);
            if ticks || is_news {
                if shown.is_some_and(|shown| shown.leader != show.leader) {
                    self.shared.metrics.leader_changes_seen_total.inc();
                    log_lines::tell_leader(identity.member_id, show.leader, show.term);
                }
                if shown.is_some_and(|shown| shown.hangs != show.hangs) {
                    log_lines::tell_hang(show.hangs);
                }
                shown = Some(show);
                // Published before the effects: a read that they release must find the membership that it waited for.
                self.publish_driver(identity, driver);
                if is_news {
                    self.shared.tell_news();
                }
            }
            if let Some(end) = outputs.carry_out(effects) {
                return end;
            }
            self.shared.raft_turned();
        }
    }

    fn publish_driver(&self, identity: MemberIdentity, driver: &Driver) {
        let status = driver.status();
        crash_point::plays(&status);
        self.shared.publish(Published {
            phase: Phase::Member,
            incarnation: Some(identity.incarnation),
            identity: Some(identity),
            durable: driver.durable_position(),
            driver: Some(status),
        });
    }

    /// Takes one input; `Some` ends the member phase.
    fn take(&self, identity: MemberIdentity, driver: &mut Driver, input: Input) -> Option<End> {
        match input {
            Input::Event(event) => driver.step(event),
            Input::Events(events) => events.into_iter().for_each(|event| driver.step(event)),
            Input::Peer { event, bytes } => {
                self.shared.messages.leave(bytes);
                driver.step(event);
            }
            Input::Hello { hello, verdict } => {
                let answered = match driver.check_hello(&hello) {
                    Ok(()) if self.shared.is_elsewhere(identity.member_id, driver.membership()) => {
                        HelloVerdict::Differs("this member was started under another peer URL".to_string())
                    }
                    Ok(()) => {
                        self.heard(&hello);
                        let durable = driver.durable_position();
                        let ours = self.shared.own_hello(&identity, durable, hello.from, hello.from_incarnation);
                        HelloVerdict::Accept(Box::new(ours))
                    }
                    Err(refused) => refused,
                };
                answer(verdict, answered);
            }
            Input::Connected(hello) => {
                match driver.check_hello(&hello) {
                    Ok(()) => self.heard(&hello),
                    Err(refused) => {
                        tracing::warn!(peer = hello.from, ?refused, "a peer that we dialled does not fit");
                        if let HelloVerdict::RolledBack(_) = refused {
                            // It hears so when it dials this node; until then nothing that it says counts.
                            self.transport.hang_up(hello.from);
                        }
                    }
                }
                driver.step(Event::HelloAnswered { by: hello.from });
            }
            Input::Quarantine(why) => return Some(End::Quarantined(Finding::new(why))),
            Input::Init { init, reply } => {
                answer(reply, self.init_again(identity, &init));
            }
            Input::Reset { reset, removed: Some(index), reply } => {
                // It is taken up again when raft has stopped. Nobody knows the term of an entry that was never here.
                self.shared.send(Input::Reset { reset, removed: None, reply });
                return Some(End::Removed { index, term: 0 });
            }
            Input::Reset { reply, .. } => refuse_reset(reply, "a member"),
            Input::Fatal(why) => return Some(End::Exit(Exit::Fatal(why))),
            Input::Restart(why) => return Some(End::Exit(Exit::Restart(why))),
            Input::Stop => driver.step(Event::Close),
        }
        None
    }
}

/// When the next tick is due, if the last one was due at `due` and came at `now`.
///
/// Ticks keep their own beat: if they were counted from each wake-up, they would fall into step with the leader's
/// messages on all followers, and two followers that drew the same timeout would campaign at the same instant. Ticks
/// lost to a stall are not made up: a stalled node must not rush into an election.
fn tick_after(due: Instant, now: Instant) -> Instant {
    let tick = Duration::from_millis(limits::TICK_MS);
    let next = due + tick;
    if next > now { next } else { now + tick }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_their_beat_and_those_lost_to_a_stall_are_not_made_up() {
        let due = Instant::now();
        let after = |late_ms| tick_after(due, due + Duration::from_millis(late_ms)) - due;
        let tick = Duration::from_millis(limits::TICK_MS);
        assert_eq!(after(0), tick);
        assert_eq!(after(limits::TICK_MS - 1), tick, "late by less than a tick: the next one is in time");
        assert_eq!(after(10 * limits::TICK_MS), 11 * tick);
    }
}
