//! Every decoder over its corpus and over mutations of it.
//!
//! Environment, for `make fuzz`: `RAFTKV_FUZZ_SEED` (a fixed one if unset), `RAFTKV_FUZZ_MINUTES` (run this long,
//! divided among the decoders, instead of a fixed number of inputs), `RAFTKV_FUZZ_DECODER` (only this one),
//! `RAFTKV_FUZZ_FILE` (only this input), `RAFTKV_FUZZ_WRITE` (writes real encodings of this build into the corpus).

use raftkv_fuzz_tests::run::{self, Effort, Tally};
use raftkv_fuzz_tests::{DECODERS, Decoder};
use std::env;
use std::path::PathBuf;
use std::time::Duration;

/// The seed of the test command, so that every run is the same.
const SEED: u64 = 20_240_229;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn wanted() -> Vec<&'static Decoder> {
    let only = env::var("RAFTKV_FUZZ_DECODER").unwrap_or_default();
    let wanted: Vec<_> = DECODERS.iter().filter(|decoder| only.is_empty() || decoder.name == only).collect();
    let names: Vec<_> = DECODERS.iter().map(|decoder| decoder.name).collect();
    assert!(!wanted.is_empty(), "there is no decoder {only}: {names:?}");
    wanted
}

/// One test for all decoders, since the peak of the process's memory is part of what is checked.
#[test]
fn no_input_breaks_a_decoder() {
    let wanted = wanted();
    if let Some(file) = env::var_os("RAFTKV_FUZZ_FILE").filter(|file| !file.is_empty()) {
        for decoder in wanted {
            match run::replay(decoder, &PathBuf::from(&file)) {
                Ok(accepted) => println!("{}: {}", decoder.name, if accepted { "accepted" } else { "refused" }),
                Err(failure) => panic!("{failure}"),
            }
        }
        return;
    }
    if env::var_os("RAFTKV_FUZZ_WRITE").is_some() {
        for decoder in &wanted {
            run::write_seeds(decoder).expect("the corpus can be written");
        }
    }
    let seed = number("RAFTKV_FUZZ_SEED").unwrap_or(SEED);
    let effort = match number("RAFTKV_FUZZ_MINUTES") {
        Some(minutes) => Effort::Time(Duration::from_secs(60 * minutes) / wanted.len() as u32),
        None => Effort::PerMille(1000),
    };
    let mut all = Tally::default();
    for decoder in &wanted {
        println!("fuzz {}: seed {seed}", decoder.name);
        let tally = run::run(decoder, seed, effort).unwrap_or_else(|failure| panic!("{failure}"));
        let Tally { corpus, inputs, accepted } = tally;
        println!("fuzz {}: {corpus} of the corpus, {inputs} mutated, {accepted} of them accepted", decoder.name);
        assert!(corpus > 0, "{} has no corpus", decoder.name);
        assert!(accepted > inputs / 200, "{}: mutations reach nothing but the first checks", decoder.name);
        all = Tally { corpus: all.corpus + corpus, inputs: all.inputs + inputs, accepted: all.accepted + accepted };
    }
    let Tally { corpus, inputs, accepted } = all;
    println!("TABLE fuzz: decoders={} inputs={inputs} accepted={accepted} corpus={corpus}", wanted.len());
}
