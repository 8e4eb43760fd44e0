//! Debian's control format, as in a `Packages` file or `/var/lib/dpkg/status`.
//!
//! - A line ends with `\n`; the last one of a file may lack it. A line of nothing but spaces, tabs and
//!   carriage returns is blank. A stanza is a run of lines that are not blank; any number of blank lines
//!   separates two.
//! - The value is the stanza's bytes as they stand, from its first byte to the end of its last line, that
//!   line's `\n` included. Nothing is normalised: not CRLF, not trailing spaces, not the encoding. The
//!   separating blank lines belong to no value.
//! - The key is the value of the `Package` field (any case), which stands at the beginning of a line, without
//!   the white space around it. None, or two, is an error.
//! - Writing: the value, then one blank line (`\n`). So a file whose stanzas are in key order and each followed
//!   by one blank line, as apt's are, comes back byte for byte.
//! - A value without a final `\n` can only be written last in a file, so [`Writer`] keeps it until the end;
//!   a file has at most one of them.

use crate::record::{FormatError, Record};
use bytes::Bytes;

/// The field whose value is the key.
const KEY_FIELD: &[u8] = b"Package";

/// A stanza that is being read.
struct Stanza {
    begin: usize,
    line: u64,
    key: Option<Bytes>,
}

/// The records of an input; the values are slices of it.
pub(crate) fn parse(input: &Bytes) -> Result<Vec<Record>, FormatError> {
    let mut records = Vec::new();
    let mut open: Option<Stanza> = None;
    let mut begin = 0;
    for (text, line) in input.split_inclusive(|byte| *byte == b'\n').zip(1..) {
        if is_blank(text) {
            if let Some(stanza) = open.take() {
                records.push(close(input, stanza, begin)?);
            }
        } else {
            let stanza = open.get_or_insert(Stanza { begin, line, key: None });
            if let Some(key) = key_field(text)
                && stanza.key.replace(input.slice_ref(key)).is_some()
            {
                return Err(FormatError::TwoPackages { first_line: stanza.line, line });
            }
        }
        begin += text.len();
    }
    if let Some(stanza) = open {
        records.push(close(input, stanza, begin)?);
    }
    Ok(records)
}

fn close(input: &Bytes, stanza: Stanza, end: usize) -> Result<Record, FormatError> {
    let line = stanza.line;
    let key = stanza.key.ok_or(FormatError::NoPackage { line })?;
    if key.is_empty() {
        return Err(FormatError::EmptyKey { line });
    }
    Ok(Record { key, value: input.slice(stanza.begin..end), line })
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// The key, if the line is the key field. A continuation line begins with white space, so it never is.
fn key_field(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    line[..colon].eq_ignore_ascii_case(KEY_FIELD).then(|| line[colon + 1..].trim_ascii())
}

/// Writes stanzas; refuses values that [`parse`] would not give back under the same key.
#[derive(Default)]
pub(crate) struct Writer {
    unterminated: Option<Bytes>,
}

impl Writer {
    /// Adds one record.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, key: &[u8], value: &Bytes) -> Result<(), FormatError> {
        let refuse = |why| FormatError::NotAStanza { key: FormatError::quote(key), why };
        match parse(value).as_deref() {
            Ok([record]) if record.key != key => return Err(refuse("its Package field is not the key")),
            Ok([record]) if record.value != value => return Err(refuse("it begins or ends with a blank line")),
            Ok([_]) => {}
            Ok(_) | Err(_) => return Err(refuse("it is not one stanza with a Package field")),
        }
        if value.ends_with(b"\n") {
            out.extend_from_slice(value);
            out.push(b'\n');
        } else if self.unterminated.replace(value.clone()).is_some() {
            return Err(refuse("it does not end with a newline, and neither does another value"));
        }
        Ok(())
    }

    /// Writes what had to come last.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.unterminated.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(input: &'static [u8]) -> Vec<(Bytes, Bytes)> {
        let records = parse(&Bytes::from_static(input)).unwrap();
        records.into_iter().map(|record| (record.key, record.value)).collect()
    }

    fn written(records: &[(Bytes, Bytes)]) -> Result<Bytes, FormatError> {
        let (mut out, mut writer) = (Vec::new(), Writer::default());
        for (key, value) in records {
            writer.write(&mut out, key, value)?;
        }
        writer.finish(&mut out);
        Ok(out.into())
    }

    #[test]
    fn a_value_is_its_stanza_byte_for_byte() {
        let input = b"\n \nPackage: a\nDescription: x\n .\n  Package: no\n\n\t\nVersion: \xff \nPACKAGE:\tb \n\n";
        let expected: [(&[u8], &[u8]); 2] =
            [(b"a", b"Package: a\nDescription: x\n .\n  Package: no\n"), (b"b", b"Version: \xff \nPACKAGE:\tb \n")];
        assert_eq!(pairs(input), expected.map(|(key, value)| (key.into(), value.into())));
    }

    #[test]
    fn crlf_and_a_missing_last_newline_are_kept() {
        let expected: [(&[u8], &[u8]); 2] = [(b"a", b"Package: a\r\nX: 1\r\n"), (b"b", b"Package: b")];
        let records = pairs(b"Package: a\r\nX: 1\r\n\r\nPackage: b");
        assert_eq!(records, expected.map(|(key, value)| (key.into(), value.into())));
        assert_eq!(parse(&written(&records).unwrap()).unwrap().len(), 2);
    }

    #[test]
    fn a_file_in_apts_shape_and_key_order_comes_back() {
        let input = b"Package: a\nX: 1\n\nPackage: b\nY: \xff\n\n";
        assert_eq!(written(&pairs(input)).unwrap(), &input[..]);
    }

    #[test]
    fn errors_name_the_line() {
        let error = |input: &'static str| parse(&Bytes::from(input)).unwrap_err();
        assert_eq!(error("Package: a\n\n\nVersion: 1\n"), FormatError::NoPackage { line: 4 });
        assert_eq!(error("\nPackage: \n"), FormatError::EmptyKey { line: 2 });
        assert_eq!(error("X: 1\nPackage: a\npackage: b"), FormatError::TwoPackages { first_line: 1, line: 3 });
    }

    #[test]
    fn only_stanzas_are_written() {
        let refused = |key: &'static str, value: &'static str| written(&[(key.into(), value.into())]).unwrap_err();
        refused("a", "no stanza");
        refused("a", "");
        refused("a", "Package: b\n");
        refused("a", "Package: a\n\n");
        refused("a", "\nPackage: a\n");
        refused("a", "Package: a\n\nPackage: b\n");
        let unterminated = |key: &'static str, value: &'static str| (key.into(), value.into());
        let (a, b) = (unterminated("a", "Package: a"), unterminated("b", "Package: b"));
        assert!(written(std::slice::from_ref(&a)).is_ok());
        assert!(written(&[a, b]).is_err());
    }

    /// Stanzas of arbitrary bytes that are lines, with their keys.
    fn stanzas() -> impl Strategy<Value = Vec<(Bytes, Bytes)>> {
        let junk = proptest::collection::vec(any::<u8>().prop_filter("one line", |byte| *byte != b'\n'), 0..20);
        let lines = proptest::collection::vec((junk, any::<bool>()), 0..5);
        proptest::collection::btree_map("[a-z0-9+.-]{1,12}", lines, 0..6).prop_map(|stanzas| {
            let stanza = |(key, lines): (String, Vec<(Vec<u8>, bool)>)| {
                let mut value = format!("Package: {key}\n").into_bytes();
                for (junk, crlf) in lines {
                    value.extend_from_slice(b"X-Junk: ");
                    value.extend_from_slice(&junk);
                    value.extend_from_slice(if crlf { b"\r\n" } else { b"\n" });
                }
                (key.into(), value.into())
            };
            stanzas.into_iter().map(stanza).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed(records in stanzas(), cut: bool) {
            let mut records = records;
            if cut && let Some((_, last)) = records.last_mut() {
                last.truncate(last.len() - 1);
            }
            let input = written(&records).unwrap();
            let back: Vec<_> = parse(&input).unwrap().into_iter().map(|record| (record.key, record.value)).collect();
            prop_assert_eq!(back, records);
        }

        #[test]
        fn what_is_parsed_can_be_written(input in "(([Pp]ackage: [ab]|X: 1| y|\r|)(\n|\n\n|\r\n)?){0,12}") {
            if let Ok(records) = parse(&Bytes::from(input)) {
                let records: Vec<_> = records.into_iter().map(|record| (record.key, record.value)).collect();
                prop_assert!(written(&records).is_ok());
            }
        }
    }
}
