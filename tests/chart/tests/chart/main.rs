//! The chart, over what helm renders of it. One program, since each would link everything again.
#![allow(clippy::unwrap_used)]

mod crds;
mod deployment;
mod guards;
mod matrix;
mod monitoring;
mod rbac;
mod schema;
mod users;
mod values;
