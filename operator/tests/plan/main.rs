//! Tests of the operator's plan over a modelled Kubernetes with raftkv nodes in it: every state of every scenario, long
//! histories from seeds, stories to read, and for each rule a plan or world that breaks it.
#![allow(clippy::unwrap_used)] // A test that unwraps fails with the line that did it.

mod controls;
mod disks;
mod evidence;
mod explore;
mod golden;
mod model;
mod random;
mod scenarios;
mod table;
