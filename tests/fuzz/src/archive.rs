//! Several named pieces of bytes as one input: the files of a directory, or the records of a kv db. PURE.
//!
//! Each piece is: u8 length of the name, name, u32 little-endian length of the content, content. Every input is an
//! archive: a length that is too large takes what is left.

/// A name and its content.
pub type Piece = (Vec<u8>, Vec<u8>);

/// The pieces of an input.
pub fn unpack(mut input: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some((name_len, rest)) = input.split_first() {
        let (name, rest) = split(rest, usize::from(*name_len));
        let (len, rest) = split(rest, 4);
        let len = len.try_into().map_or(0, u32::from_le_bytes) as usize;
        let (content, rest) = split(rest, len);
        pieces.push((name.to_vec(), content.to_vec()));
        input = rest;
    }
    pieces
}

/// Reverses [`unpack`].
pub fn pack(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in pieces {
        out.push(u8::try_from(name.len()).expect("names are short"));
        out.extend_from_slice(name);
        out.extend_from_slice(&u32::try_from(content.len()).expect("inputs are small").to_le_bytes());
        out.extend_from_slice(content);
    }
    out
}

fn split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at(at.min(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_round_trip_and_a_long_length_takes_what_is_left() {
        let pieces = vec![(b"a".to_vec(), b"123".to_vec()), (Vec::new(), Vec::new())];
        assert_eq!(unpack(&pack(&pieces)), pieces);
        assert_eq!(unpack(b"\x01a\xff\xff\xff\xffxy"), [(b"a".to_vec(), b"xy".to_vec())]);
        assert_eq!(unpack(b"\x09ab"), [(b"ab".to_vec(), Vec::new())]);
    }
}
