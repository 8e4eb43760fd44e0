//! The loop: every input of the corpus, then mutations of these from one seed, each checked against what its decoder
//! promises.

use crate::corpus;
use crate::decoders::Decoder;
use crate::memory;
use crate::mutate;
use raftkv_sim::rng::Rng;
use std::fs;
use std::io;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// In this many of a thousand inputs the sums are made right; the rest shows that wrong sums are refused.
const REPAIRED_PER_MILLE: u64 = 850;
/// Inputs between two checks of the clock and the memory.
const INPUTS_AT_ONCE: u64 = 16;
/// Most accepted inputs of this run that are kept, to be mutated further.
const KEPT_MAX: usize = 64;

/// How long to continue with one decoder.
#[derive(Clone, Copy, Debug)]
pub enum Effort {
    /// This many thousandths of the decoder's own number of inputs.
    PerMille(u64),
    /// Until this time has passed.
    Time(Duration),
}

/// The inputs that one decoder was given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Committed inputs.
    pub corpus: u64,
    /// Mutated inputs.
    pub inputs: u64,
    /// Mutated inputs that were accepted.
    pub accepted: u64,
}

/// Replays the corpus, then mutates. An error names the input's file and the command that replays it.
pub fn run(decoder: &Decoder, seed: u64, effort: Effort) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut pool = (decoder.seeds)();
    for seed in &pool {
        one(decoder, seed, true, None)?;
    }
    for input in corpus::read(decoder.name).map_err(|error| error.to_string())? {
        one(decoder, &input.bytes, input.is_real(), Some(&input.path))?;
        tally.corpus += 1;
        pool.push(input.bytes);
    }
    let mut rng = Rng::new(seed);
    let begun = Instant::now();
    let first_kept = pool.len();
    while goes_on(decoder, effort, begun, tally.inputs) {
        let peak = memory::peak();
        for _ in 0..INPUTS_AT_ONCE {
            let base = rng.index(pool.len());
            let mut input = mutate::mutate(&mut rng, &pool[base], &pool, decoder.words);
            if let Some(repair) = decoder.repair.filter(|_| rng.chance(REPAIRED_PER_MILLE)) {
                repair(&mut input);
            }
            keep_before(decoder, &input);
            tally.inputs += 1;
            if one(decoder, &input, false, None)? {
                tally.accepted += 1;
                match pool.len() - first_kept < KEPT_MAX {
                    true => pool.push(input),
                    false => pool[first_kept + rng.index(KEPT_MAX)] = input,
                }
            }
        }
        let grown = memory::peak() - peak;
        if grown > memory::ONE_INPUT_MAX {
            return Err(format!(
                "{}: the last {INPUTS_AT_ONCE} inputs before number {} of seed {seed} took {grown} bytes of memory",
                decoder.name, tally.inputs
            ));
        }
    }
    Ok(tally)
}

fn goes_on(decoder: &Decoder, effort: Effort, begun: Instant, inputs: u64) -> bool {
    match effort {
        Effort::PerMille(share) => inputs < decoder.inputs * share / 1000,
        Effort::Time(time) => begun.elapsed() < time,
    }
}

/// Runs one input; whether it was accepted.
fn one(decoder: &Decoder, bytes: &[u8], must_accept: bool, path: Option<&Path>) -> Result<bool, String> {
    let run = decoder.run;
    let why = match catch_unwind(|| run(bytes)) {
        Ok(true) => return Ok(true),
        Ok(false) if !must_accept => return Ok(false),
        Ok(false) => "does not accept what this software wrote".to_string(),
        Err(_) => "panicked, see above".to_string(),
    };
    let kept = match path {
        Some(path) => Ok(path.to_path_buf()),
        None => corpus::keep(decoder.name, "crash-", bytes),
    };
    let kept =
        kept.map_or_else(|error| format!("the input cannot be kept: {error}"), |path| path.display().to_string());
    Err(format!("{}: {why}\n  input: {kept}\n  again: make fuzz DECODER={} FILE={kept}", decoder.name, decoder.name))
}

/// Runs a decoder over one file.
pub fn replay(decoder: &Decoder, file: &Path) -> Result<bool, String> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    one(decoder, &bytes, false, Some(file))
}

/// Writes the real encodings of this build as files of the corpus.
pub fn write_seeds(decoder: &Decoder) -> io::Result<Vec<PathBuf>> {
    (decoder.seeds)().iter().map(|seed| corpus::keep(decoder.name, corpus::REAL, seed)).collect()
}

fn keep_before(decoder: &Decoder, input: &[u8]) {
    if std::env::var_os("RAFTKV_FUZZ_KEEP").is_some() {
        let path = std::env::temp_dir().join(format!("raftkv-fuzz-{}", decoder.name));
        fs::write(path, input).expect("the directory for temporary files can be written");
    }
}
