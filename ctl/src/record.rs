//! What the import formats have in common: records, and what can be wrong with an input.
//!
//! An input is read whole before anything is written, so that a mistake on its last line costs nothing.
//! Its records point into that one buffer where the format allows it.

use bytes::Bytes;
use raftkv_api::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use raftkv_client::bytes_text::printable;
use std::collections::BTreeMap;

/// Longest part of a key that a message quotes.
const KEY_CHARS_MAX: usize = 120;

/// One key to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub key: Bytes,
    pub value: Bytes,
    /// Line of the input at which the record begins, from 1.
    pub line: u64,
}

/// An input that cannot be imported, or a value that cannot be exported.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// Two records have the same key.
    #[error("key '{key}' occurs twice: at line {first_line} and at line {line}")]
    Duplicate { key: String, first_line: u64, line: u64 },
    /// The store takes no such key.
    #[error("line {line}: the key has {bytes} bytes; {KEY_BYTES_MAX} are allowed: '{key}'")]
    KeyTooLarge { key: String, line: u64, bytes: usize },
    /// The store takes no such value.
    #[error("line {line}: the value of key '{key}' has {bytes} bytes; {VALUE_BYTES_MAX} are allowed")]
    ValueTooLarge { key: String, line: u64, bytes: usize },
    /// A file as some editors of another system write it.
    #[error("line 1: the input is UTF-16, by its first two bytes; write it as UTF-8")]
    Utf16,
    /// A JSON line that is none, or has the wrong fields.
    #[error("line {line}: {why}")]
    Json { line: u64, why: String },
    /// A key without a byte.
    #[error("line {line}: the key is empty")]
    EmptyKey { line: u64 },
    /// A stanza that has no name.
    #[error("line {line}: the stanza that begins here has no Package field")]
    NoPackage { line: u64 },
    /// A stanza that has two names.
    #[error("line {line}: a second Package field in the stanza that begins at line {first_line}")]
    TwoPackages { first_line: u64, line: u64 },
    /// Not every value is a stanza.
    #[error("the value of key '{key}' cannot be written as deb822: {why}; use --format jsonl")]
    NotAStanza { key: String, why: &'static str },
}

impl FormatError {
    /// A key as a message shows it.
    pub(crate) fn quote(key: &[u8]) -> String {
        printable(key, KEY_CHARS_MAX)
    }
}

/// The input without the byte order mark with which some editors begin a file of UTF-8.
pub(crate) fn without_mark(input: Bytes) -> Result<Bytes, FormatError> {
    match &input[..] {
        [0xef, 0xbb, 0xbf, ..] => Ok(input.slice(3..)),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(FormatError::Utf16),
        _ => Ok(input),
    }
}

/// Refuses an input that the store would take only in part.
pub(crate) fn check(records: &[Record]) -> Result<(), FormatError> {
    records.iter().try_for_each(check_sizes)?;
    check_unique(records)
}

fn check_sizes(record: &Record) -> Result<(), FormatError> {
    let (key, line) = (|| FormatError::quote(&record.key), record.line);
    match (record.key.len(), record.value.len()) {
        (bytes, _) if bytes > KEY_BYTES_MAX => Err(FormatError::KeyTooLarge { key: key(), line, bytes }),
        (_, bytes) if bytes > VALUE_BYTES_MAX => Err(FormatError::ValueTooLarge { key: key(), line, bytes }),
        (_, _) => Ok(()),
    }
}

/// Refuses an input in which a key occurs twice: which of the two values would win depends on timing.
fn check_unique(records: &[Record]) -> Result<(), FormatError> {
    let mut first_lines = BTreeMap::new();
    for record in records {
        if let Some(first_line) = first_lines.insert(&record.key, record.line) {
            let key = FormatError::quote(&record.key);
            return Err(FormatError::Duplicate { key, first_line, line: record.line });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_names_both_lines() {
        let record = |key: &'static str, line| Record { key: key.into(), value: Bytes::new(), line };
        assert_eq!(check_unique(&[record("a", 1), record("b", 2)]), Ok(()));
        let error = check_unique(&[record("a", 1), record("b", 4), record("a", 9)]).unwrap_err();
        assert_eq!(error.to_string(), "key 'a' occurs twice: at line 1 and at line 9");
    }

    #[test]
    fn what_the_store_takes_fits_and_a_byte_more_does_not() {
        let record =
            |key: usize, value: usize| Record { key: vec![b'k'; key].into(), value: vec![0; value].into(), line: 7 };
        assert_eq!(check(&[record(KEY_BYTES_MAX, VALUE_BYTES_MAX)]), Ok(()));
        let told = |record: Record| check(&[record]).unwrap_err().to_string();
        assert!(told(record(KEY_BYTES_MAX + 1, 0)).starts_with("line 7: the key has 4097 bytes; 4096 are allowed"));
        let value = told(record(1, VALUE_BYTES_MAX + 1));
        assert_eq!(value, "line 7: the value of key 'k' has 1572865 bytes; 1572864 are allowed");
    }

    #[test]
    fn a_byte_order_mark_belongs_to_no_record() {
        assert_eq!(without_mark("\u{feff}{}".into()), Ok("{}".into()));
        assert_eq!(without_mark("{}".into()), Ok("{}".into()));
        assert_eq!(without_mark(Bytes::from_static(b"\xff\xfe{\0")), Err(FormatError::Utf16));
    }
}
