//! `raftkv-bench`: measures raftkv beside etcd and prints a table.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use raftkv_bench::figures::{Line, lines, table};
use raftkv_bench::system::System;
use raftkv_bench::workload::{self, Workload};
use raftkv_bench::{audit, ours, rounds};
use std::path::PathBuf;
use std::time::Instant;

/// Measures raftkv beside etcd: three nodes of each in turn, the same clients, keys and values.
#[derive(Debug, Parser)]
#[command(name = "raftkv-bench")]
struct Flags {
    /// etcd's binary
    #[arg(long, value_name = "FILE")]
    etcd: PathBuf,
    /// Blocks of A B B A; each is two pairs
    #[arg(long, default_value_t = 3)]
    blocks: usize,
    /// Only workloads, or parts of --ours, with this in their names
    #[arg(long, default_value = "")]
    only: String,
    /// Run raftkv alone, once, and print what it does: to profile it
    #[arg(long)]
    alone: bool,
    /// Measure only what has no counterpart in etcd: puts after replacements of members, and while a member catches up
    #[arg(long)]
    ours: bool,
}

/// Measures something of raftkv alone.
type Part = fn(&dyn Fn(&str)) -> Result<()>;

fn main() -> Result<()> {
    let flags = Flags::parse();
    let begun = Instant::now();
    let tell = |line: &str| eprintln!("[{:>4} s] {line}", begun.elapsed().as_secs());
    if flags.ours {
        return measure_ours(&flags.only, &tell);
    }
    let loads: Vec<Workload> = workload::ALL.into_iter().filter(|load| load.name.contains(&flags.only)).collect();
    ensure!(!loads.is_empty(), "--only {}: there is no such workload", flags.only);
    if flags.alone {
        rounds::instance(System::Raftkv, &loads, &flags.etcd, &tell)?;
        return Ok(());
    }
    let blocks = rounds::run(flags.blocks, &loads, &flags.etcd, &tell)?;
    let mut lines = lines(&blocks);
    lines.extend(syncs(&flags, &tell).context("counting fdatasyncs")?);
    println!("{}", table(&lines));
    let missed: Vec<&str> = lines.iter().filter(|line| !line.holds()).map(|line| line.what.as_str()).collect();
    println!(
        "{} of {} floors missed: {missed:?}",
        missed.len(),
        lines.iter().filter(|line| line.floor.is_some()).count()
    );
    if flags.only.is_empty() { measure_ours("", &tell) } else { Ok(()) }
}

fn measure_ours(only: &str, tell: &dyn Fn(&str)) -> Result<()> {
    let all: [(&str, Part); 2] =
        [("puts after replacements", ours::replacements), ("puts while a member catches up", ours::catch_up)];
    let wanted: Vec<_> = all.into_iter().filter(|(name, _)| name.contains(only)).collect();
    ensure!(!wanted.is_empty(), "--only {only}: there is no such part");
    println!("| raftkv alone | raftkv | compared with | ratio |\n|---|---|---|---|");
    wanted.into_iter().try_for_each(|(name, part)| part(tell).context(name))
}

fn syncs(flags: &Flags, tell: &dyn Fn(&str)) -> Result<[Line; 2]> {
    let mut of = [(0.0, 0.0); 2];
    for (system, of) in [System::Raftkv, System::Etcd].into_iter().zip(&mut of) {
        tell(&format!("counting what {} makes durable", system.name()));
        let running = system.start(&flags.etcd)?;
        *of = audit::syncs_per_put(&running)?;
        running.stop()?;
    }
    let [ours, theirs] = of;
    let line = |calls: &[&str], pair| {
        let what = format!("put, 64 clients, traced: {} a put, each node", calls.join(" + "));
        Line { what, pairs: vec![pair], floor: None, goal: None }
    };
    Ok([line(audit::DURABLE, (ours.0, theirs.0)), line(audit::HANDED_OVER, (ours.1, theirs.1))])
}
