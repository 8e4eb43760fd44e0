//! Mutated bytes from outside, for every decoder that reads what it did not write itself.
//!
//! ```text
//!   corpus ─┐                                  ┌─ refused: an error, no panic
//!           ├─ mutate ─ repair ─► a decoder ───┤
//!   seeds ──┘           (sums)                 └─ accepted: encodes again to the same, keeps the limits
//! ```
//!
//! A [`Decoder`] is one function over bytes that returns whether they were accepted, and panics when a check fails.
//! Where a checksum comes before the code that matters, `repair` makes it right again after the mutation, so that the
//! code behind it is reached. [`run`] drives all decoders from one seed; a fuzzer with coverage can call the same
//! functions.
//!
//! # Caveats
//! A panic is caught and reported with its input; an overflow of the stack or an abort ends the process. Then the last
//! printed line names the decoder, and `RAFTKV_FUZZ_KEEP=1` writes each input to a file before it is tried.

pub mod archive;
pub mod corpus;
pub mod decoders;
mod memory;
pub mod mutate;
pub mod run;

pub use decoders::{DECODERS, Decoder};
