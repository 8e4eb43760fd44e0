//! The thread that reads the log for members that catch up, so that the raft thread never waits for the disk.
//!
//! Enters: the driver's plans, in order. Leaves: `LogRead` events. Decides nothing: the driver knows what an error means.

use super::Input;
use super::shared::Shared;
use raftkv_core::driver::Event;
use raftkv_core::log::{ReadFailed, ReadPlan};
use raftkv_core::ports::LogDisk;
use std::sync::mpsc;

/// Runs until the sender is dropped.
pub fn run(plans: &mpsc::Receiver<ReadPlan>, disk: &dyn LogDisk, shared: &Shared) {
    while let Ok(plan) = plans.recv() {
        let result = plan.read(disk).map_err(ReadFailed::from);
        shared.send(Input::Event(Event::LogRead { first: plan.first(), result }));
    }
}
