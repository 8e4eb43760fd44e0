//! The order of the runs and the pairs that are compared: A B B A, again and again, so that a drift of the machine
//! affects both. Each half of such a block is a pair. A block whose two A runs differ too much is run again, which is
//! reported.

use crate::figures::{LoadFigures, Measured};
use crate::load;
use crate::system::System;
use crate::workload::{self, Workload};
use anyhow::{Context, Result};
use std::path::Path;

/// raftkv's two runs in a block may differ by at most this part, in requests a second of any workload.
const SPREAD_MAX: f64 = 0.15;
/// A block is run again at most this often; then it counts as it is.
const REPEATS_MAX: usize = 1;

/// The measurements of one block: two pairs.
#[derive(Clone, Debug)]
pub struct Block {
    /// raftkv's first run with etcd's first, and raftkv's second with etcd's second.
    pub pairs: [(Measured, Measured); 2],
    /// The largest part by which raftkv's two runs differ, over all workloads.
    pub spread: f64,
}

impl Block {
    fn of(runs: [Measured; 4]) -> Block {
        let [a1, b1, b2, a2] = runs;
        let differ = |(one, other): (&LoadFigures, &LoadFigures)| {
            let (one, other) = (one.seen.per_second, other.seen.per_second);
            (one - other).abs() / one.max(other)
        };
        let spread = a1.loads.iter().zip(&a2.loads).map(differ).fold(0.0, f64::max);
        Block { pairs: [(a1, b1), (a2, b2)], spread }
    }

    fn is_steady(&self) -> bool {
        self.spread <= SPREAD_MAX
    }
}

/// Runs `blocks` blocks; `tell` gets lines for people.
pub fn run(blocks: usize, loads: &[Workload], etcd: &Path, tell: &dyn Fn(&str)) -> Result<Vec<Block>> {
    let mut kept = Vec::new();
    for block in 1..=blocks {
        for attempt in 0..=REPEATS_MAX {
            let mut runs = Vec::new();
            for system in [System::Raftkv, System::Etcd, System::Etcd, System::Raftkv] {
                tell(&format!("block {block} of {blocks}: {}", system.name()));
                runs.push(instance(system, loads, etcd, tell).with_context(|| system.name())?);
            }
            let runs: [Measured; 4] = runs.try_into().ok().context("four runs")?;
            let done = Block::of(runs);
            let spread = 100.0 * done.spread;
            if done.is_steady() || attempt == REPEATS_MAX {
                tell(&format!("block {block} of {blocks}: kept, raftkv's two runs differ by {spread:.0} %"));
                kept.push(done);
                break;
            }
            tell(&format!("block {block} of {blocks}: run again, raftkv's two runs differ by {spread:.0} %"));
        }
    }
    Ok(kept)
}

/// Starts a system, runs every workload, and stops it.
pub fn instance(system: System, loads: &[Workload], etcd: &Path, tell: &dyn Fn(&str)) -> Result<Measured> {
    let running = system.start(etcd)?;
    let (protocol, nodes) = (running.protocol(), running.nodes());
    load::run(&workload::FILL, protocol, &nodes)?;
    let mut measured = Measured::default();
    for load in loads {
        let before = running.cpu_seconds()?;
        let seen = load::run(load, protocol, &nodes)?;
        let cpu_us = (running.cpu_seconds()? - before) * 1e6 / load.requests as f64;
        tell(&format!(
            "  {:<18} {:>6.0}/s  p50 {:>6.2} ms  p99 {:>6.2} ms  {:>4.0} us of server CPU each",
            load.name,
            seen.per_second,
            seen.p50.as_secs_f64() * 1e3,
            seen.p99.as_secs_f64() * 1e3,
            cpu_us
        ));
        measured.add(load, seen, cpu_us);
        if load.kind == workload::Kind::Put {
            measured.resident_bytes = running.resident_bytes()?;
        }
    }
    tell(&format!("  {} MiB resident after the puts", measured.resident_bytes / 1024 / 1024));
    running.stop()?;
    Ok(measured)
}
