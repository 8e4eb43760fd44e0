//! Tests of the operator's plan over a modelled Kubernetes with raftkv nodes in it.

mod explore;
mod model;
mod random;
mod scenarios;
