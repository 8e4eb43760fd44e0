//! The decoders, each as one function: `false` refuses, `true` accepts, a panic is a bug.

mod dir;
mod frame;
mod head;
mod http;
mod kv;
mod manifest;
mod peer;
mod segment;
mod snapshot;
mod sums;
mod text;
mod wal;

/// A decoder of bytes from outside.
pub struct Decoder {
    /// Its name, and the name of its folder in the corpus.
    pub name: &'static str,
    /// Decodes, and checks what was accepted.
    pub run: fn(&[u8]) -> bool,
    /// Real encodings, as this build makes them.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Makes the checksums right again after a mutation.
    pub repair: Option<fn(&mut Vec<u8>)>,
    /// What a mutation may insert.
    pub words: &'static [&'static [u8]],
    /// Mutated inputs in the test command; the numbers are chosen so that each decoder takes about the same time.
    pub inputs: u64,
}

/// All decoders.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "frame",
        run: frame::frame,
        seeds: frame::seeds,
        repair: Some(sums::frames),
        words: frame::WORDS,
        inputs: 100_000,
    },
    Decoder { name: "hello", run: peer::hello, seeds: peer::hellos, repair: None, words: peer::WORDS, inputs: 60_000 },
    Decoder {
        name: "refusal",
        run: peer::refusal,
        seeds: peer::refusals,
        repair: None,
        words: peer::WORDS,
        inputs: 60_000,
    },
    Decoder { name: "offer", run: peer::offer, seeds: peer::offers, repair: None, words: peer::WORDS, inputs: 40_000 },
    Decoder {
        name: "stream",
        run: peer::stream,
        seeds: peer::streams,
        repair: Some(sums::frames_behind_a_byte),
        words: frame::WORDS,
        inputs: 5_000,
    },
    Decoder { name: "wal", run: wal::wal, seeds: wal::seeds, repair: Some(sums::wal), words: &[], inputs: 60_000 },
    Decoder {
        name: "dir",
        run: dir::dir,
        seeds: dir::seeds,
        repair: Some(sums::dir),
        words: dir::WORDS,
        inputs: 30_000,
    },
    Decoder {
        name: "snapshot",
        run: snapshot::snapshot,
        seeds: snapshot::seeds,
        repair: Some(sums::snapshot),
        words: &[],
        inputs: 20_000,
    },
    Decoder {
        name: "record",
        run: segment::record,
        seeds: segment::records,
        repair: Some(sums::records),
        words: &[],
        inputs: 200_000,
    },
    Decoder {
        name: "table",
        run: segment::table,
        seeds: segment::tables,
        repair: Some(sums::table),
        words: &[],
        inputs: 200_000,
    },
    Decoder {
        name: "segment",
        run: segment::segment,
        seeds: segment::seeds,
        repair: Some(sums::sealed),
        words: &[b"rkvseg03"],
        inputs: 200_000,
    },
    Decoder {
        name: "manifest",
        run: manifest::manifest,
        seeds: manifest::seeds,
        repair: Some(sums::manifest),
        words: &[b"rkvsnap3"],
        inputs: 100_000,
    },
    Decoder {
        name: "head",
        run: head::head,
        seeds: head::seeds,
        repair: Some(sums::head),
        words: &[b"m/claim\0\0", b"s/\x01\0\0", b"s/\x02\0\0"],
        inputs: 20_000,
    },
    Decoder {
        name: "identity",
        run: text::identity,
        seeds: text::identities,
        repair: Some(sums::identity),
        words: peer::WORDS,
        inputs: 60_000,
    },
    Decoder { name: "token", run: text::token, seeds: text::tokens, repair: None, words: text::WORDS, inputs: 60_000 },
    Decoder { name: "command", run: kv::command, seeds: kv::commands, repair: None, words: &[], inputs: 60_000 },
    Decoder {
        name: "kv",
        run: kv::kv,
        seeds: kv::seeds,
        repair: Some(sums::kv),
        words: &[b"m/state", b"m/members", b"m/hashes"],
        inputs: 20_000,
    },
    Decoder { name: "call", run: http::call, seeds: http::calls, repair: None, words: http::WORDS, inputs: 60_000 },
    Decoder {
        name: "http",
        run: http::connection,
        seeds: http::connections,
        repair: None,
        words: http::WORDS,
        inputs: 30_000,
    },
];
