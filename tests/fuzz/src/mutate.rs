//! Turns good inputs into slightly wrong ones. PURE: everything follows from the generator's seed.
//!
//! The steps are those that break decoders: a flipped bit, a missing end, a doubled part, the tail of another input, a
//! number where lengths stand, a number in text, a word that the decoder knows.

use raftkv_sim::rng::Rng;

/// Largest input in bytes.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Most steps on one input.
const STEPS_MAX: u64 = 4;

/// Numbers at the edges of arithmetic and of limits.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    1 << 20,
    8 * 1024 * 1024,
    8 * 1024 * 1024 + 1,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    (1 << 56) - 1,
    1 << 56,
    1 << 62,
    (1 << 62) + 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

const NUMBERS_AS_TEXT: &[&str] = &[
    "0",
    "1",
    "-1",
    "007",
    "10000",
    "10001",
    "4611686018427387905",
    "18446744073709551615",
    "18446744073709551616",
    "1e9",
];

/// A changed copy of `base`; parts of `others` can be put in, and `words`, which the decoder knows.
pub fn mutate(rng: &mut Rng, base: &[u8], others: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut out = base.to_vec();
    for _ in 0..rng.between(1, STEPS_MAX) {
        step(rng, &mut out, others, words);
    }
    out.truncate(INPUT_BYTES_MAX);
    out
}

fn step(rng: &mut Rng, out: &mut Vec<u8>, others: &[Vec<u8>], words: &[&[u8]]) {
    match rng.below(12) {
        0 | 1 => flip(rng, out),
        2 => set_byte(rng, out),
        3 => out.truncate(rng.index(out.len() + 1)),
        4 => drop(out.drain(part(rng, out.len()))),
        5 => {
            let copy = out[part(rng, out.len())].to_vec();
            insert(rng, out, &copy);
        }
        6 => {
            let random: Vec<u8> = (0..rng.between(1, 16)).map(|_| rng.bits() as u8).collect();
            insert(rng, out, &random);
        }
        7 => splice(rng, out, others),
        8 | 9 => write_number(rng, out),
        10 => replace_text_number(rng, out),
        _ => match rng.pick(words) {
            Some(word) => insert(rng, out, word),
            None => flip(rng, out),
        },
    }
}

fn flip(rng: &mut Rng, out: &mut [u8]) {
    if !out.is_empty() {
        out[rng.index(out.len())] ^= 1 << rng.below(8);
    }
}

fn set_byte(rng: &mut Rng, out: &mut [u8]) {
    if let Some(value) = rng.pick(&[0, 1, 0x0a, 0x20, 0x7f, 0x80, 0xfe, 0xff]).copied()
        && !out.is_empty()
    {
        out[rng.index(out.len())] = value;
    }
}

/// A random range, more often a short one than a long one.
fn part(rng: &mut Rng, len: usize) -> std::ops::Range<usize> {
    let start = rng.index(len + 1);
    let most = if rng.chance(700) { (len - start).min(32) } else { len - start };
    start..start + rng.index(most + 1)
}

fn insert(rng: &mut Rng, out: &mut Vec<u8>, bytes: &[u8]) {
    let at = rng.index(out.len() + 1);
    out.splice(at..at, bytes.iter().copied());
}

/// Joins the beginning of this input and the end of another one.
fn splice(rng: &mut Rng, out: &mut Vec<u8>, others: &[Vec<u8>]) {
    if let Some(other) = rng.pick(others) {
        out.truncate(rng.index(out.len() + 1));
        out.extend_from_slice(&other[rng.index(other.len() + 1)..]);
    }
}

/// Overwrites two, four or eight bytes with a special number, or changes the number that stands there a little.
fn write_number(rng: &mut Rng, out: &mut [u8]) {
    let width = [2, 4, 8][rng.index(3)];
    if out.len() < width {
        return;
    }
    let at = rng.index(out.len() - width + 1);
    let field = &mut out[at..at + width];
    let big_endian = rng.chance(500);
    let mut bytes = [0; 8];
    let number = if rng.chance(300) {
        bytes[8 - width..].copy_from_slice(field);
        u64::from_be_bytes(bytes).wrapping_add(rng.below(9)).wrapping_sub(4)
    } else {
        rng.pick(NUMBERS).copied().unwrap_or_default()
    };
    if big_endian {
        field.copy_from_slice(&number.to_be_bytes()[8 - width..]);
    } else {
        field.copy_from_slice(&number.to_le_bytes()[..width]);
    }
}

/// Replaces the digits at some place by another number.
fn replace_text_number(rng: &mut Rng, out: &mut Vec<u8>) {
    let from = rng.index(out.len() + 1);
    let Some(start) = out[from..].iter().position(u8::is_ascii_digit).map(|at| from + at) else { return };
    let end = out[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(out.len(), |at| start + at);
    if let Some(text) = rng.pick(NUMBERS_AS_TEXT) {
        out.splice(start..end, text.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_the_same_inputs_and_nothing_panics_on_the_smallest() {
        let all = |seed| {
            let mut rng = Rng::new(seed);
            let others = [b"12345".to_vec(), Vec::new()];
            (0..2000).map(|nth| mutate(&mut rng, &others[nth % 2], &others, &[b"word"])).collect::<Vec<_>>()
        };
        let (first, again) = (all(7), all(7));
        assert_eq!(first, again);
        assert_ne!(first, all(8));
        assert!(first.iter().any(|input| input.starts_with(b"word")));
        assert!(first.iter().any(|input| input.windows(8).any(|window| window == [0xff; 8])));
    }
}
