//! Tests of what helm renders from the chart. They are one program, since each further program would link everything
//! again.
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
