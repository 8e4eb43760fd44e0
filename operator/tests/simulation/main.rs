//! The operator's plan over the node's own simulation: the real driver, log and store of every member, on networks and
//! disks that lose and tear data, under clients whose every answer is checked.
//!
//! Kubernetes is thin here ([`kubernetes`]): pods and volumes that come and go. `tests/plan` has a thick Kubernetes and
//! thin members. Between two actions of a plan anything may happen, and an operator ends at any time.
//!
//! `RAFTKV_OPERATOR_SIM_SEEDS`, `RAFTKV_OPERATOR_SIM_STEPS` and `RAFTKV_OPERATOR_SIM_FIRST_SEED` say how many; a failure
//! prints the command that shows it again.
#![allow(clippy::unwrap_used)] // A test that unwraps fails with the line that did it.

mod controls;
mod kubernetes;
mod operator;
mod rules;
mod run;
mod view;

use operator::HONEST;
use run::{Totals, run, run_all};

/// Runs that every test run looks at.
const SEEDS: u64 = 400;
/// Steps of a run with faults.
const STEPS: u64 = 12_000;

fn setting(name: &str, default: u64) -> u64 {
    let name = format!("RAFTKV_OPERATOR_SIM_{name}");
    match std::env::var(&name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

fn steps() -> u64 {
    setting("STEPS", STEPS)
}

#[test]
fn many_seeds() {
    let first = setting("FIRST_SEED", 1);
    let seeds = setting("SEEDS", SEEDS);
    let totals = run_all(first..first + seeds, steps()).unwrap_or_else(|report| panic!("\n{report}"));
    println!("{totals:?}");
    let Totals { passes, changes, replaced, volumes, restarts, ended } = totals;
    let all_happened = [passes, changes, replaced, volumes, restarts, ended].iter().all(|count| *count > 0);
    assert!(seeds < SEEDS || all_happened, "a simulation in which nothing happens shows nothing");
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 1..=5 {
        let hash = || run(seed, steps().min(4_000), false, HONEST).unwrap_or_else(|report| panic!("\n{report}")).1;
        assert_eq!(hash(), hash(), "seed {seed} gave two different runs");
    }
}

/// `RAFTKV_OPERATOR_SIM_SEED=<n>` with `--nocapture` prints every step.
#[test]
fn one_seed() {
    let echo = std::env::var("RAFTKV_OPERATOR_SIM_SEED").is_ok();
    if let Err(report) = run(setting("SEED", 1), steps(), echo, HONEST) {
        panic!("\n{report}");
    }
}
