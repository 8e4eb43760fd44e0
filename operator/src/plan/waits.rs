//! What the tasks wait for, as the status shows it. PURE.

use crate::plan::Decision;
use crate::plan::action::Wait;
use crate::plan::facts::Facts;
use crate::plan::rows;
use crate::plan::table::{Row, Task};
use jiff::Timestamp;
use raftkv_crds::WaitStatus;
use std::collections::BTreeMap;

/// All waits, in the order of the tasks. A wait keeps its time as long as it is the same.
pub(crate) fn waits(facts: &Facts<'_>, decision: &Decision) -> Vec<WaitStatus> {
    let mut waits: Vec<WaitStatus> = decision.waits.iter().map(|(task, wait)| shown(facts, *task, wait)).collect();
    waits.dedup();
    waits
}

fn shown(facts: &Facts<'_>, task: Task, wait: &Wait) -> WaitStatus {
    let (task, on, member) = (task.as_str(), wait.on.as_str(), wait.underway.member.clone());
    let same = |old: &&WaitStatus| old.task == task && old.on == on && old.member == member;
    let before = facts.seen.memory.waits.iter().find(same).map(|old| old.since.clone());
    let since = before.unwrap_or_else(|| facts.seen.now.to_string());
    WaitStatus { task: task.to_string(), on: on.to_string(), member, since }
}

/// Since when members are mute. While there is no leader nobody knows, and the times stay.
pub(crate) fn mute(facts: &Facts<'_>) -> BTreeMap<u64, Timestamp> {
    let before = &facts.seen.memory.mute;
    if facts.leader.is_none() {
        return before.clone();
    }
    let mute = facts.roster.seats.iter().filter(|seat| facts.is_mute(seat));
    mute.map(|seat| (seat.id, before.get(&seat.id).copied().unwrap_or(facts.seen.now))).collect()
}

/// The row of each member, and since when it is in it.
pub(crate) fn rows(facts: &Facts<'_>) -> BTreeMap<u64, (Row, Timestamp)> {
    let since = |id: u64, row: Row| {
        let before = facts.seen.memory.rows.get(&id).filter(|(old, _)| *old == row);
        before.map_or(facts.seen.now, |(_, since)| *since)
    };
    let row = |seat| {
        let row = rows::member(facts, seat);
        (row, since(seat.id, row))
    };
    facts.roster.seats.iter().map(|seat| (seat.id, row(seat))).collect()
}
