//! Tests of the operator's plan over a modelled Kubernetes with raftkv nodes in it.

mod explore;
mod golden;
mod model;
mod random;
mod scenarios;
