//! What the import formats have in common: records, and what can be wrong with an input.
//!
//! An input is read whole before anything is written, so that a mistake on its last line costs nothing.
//! Its records point into that one buffer where the format allows it.

use bytes::Bytes;
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

/// Refuses an input in which a key occurs twice: which of the two values would win depends on timing.
pub(crate) fn check_unique(records: &[Record]) -> Result<(), FormatError> {
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
}
