//! Small files: identity and tokens.

use super::wal;
use raftkv_core::identity::{self, Found, IDENTITY_FILE, Identity};
use raftkv_core::limits::TOKEN_FILE_BYTES_MAX;
use raftkv_core::ports::LogDisk;
use raftkv_node::token;
use raftkv_sim::disk::SimDisk;
use std::path::Path;

/// Bytes that may stand around tokens.
pub const WORDS: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b" ",
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
];

/// An identity file alone in its directory: a blank one is Blank, any other state needs a log.
pub fn identity(bytes: &[u8]) -> bool {
    let disk = wal::disk_with(&[(IDENTITY_FILE.into(), bytes.to_vec())]);
    match identity::find(&*disk) {
        Ok(Found::Blank { incarnation, cut_short }) => {
            assert!(cut_short.is_empty(), "there is nothing to remove");
            identity::write(&*disk, &Identity::Blank { incarnation }).expect("memory");
            assert_eq!(identity::find(&*disk).expect("memory"), Found::Blank { incarnation, cut_short });
            true
        }
        Ok(Found::Quarantined { identity, .. }) => identity.is_some(),
        Ok(found) => panic!("{found:?} of an identity file alone"),
        Err(_) => false,
    }
}

/// Identity files as this build writes them.
pub fn identities() -> Vec<Vec<u8>> {
    let identity = wal::identity();
    let removed = Identity::Removed { identity, index: 4, term: 1 };
    let quarantined = Identity::Quarantined { identity, why: "its log is damaged".to_string(), diverged: false };
    [Identity::Blank { incarnation: identity.incarnation }, Identity::Member(identity), removed, quarantined]
        .iter()
        .map(|identity| {
            let disk = SimDisk::new();
            identity::write(&disk, identity).expect("memory");
            let mut bytes = vec![0; disk.len(IDENTITY_FILE).expect("written") as usize];
            disk.read(IDENTITY_FILE, 0, &mut bytes).expect("memory");
            bytes
        })
        .collect()
}

/// The text of a token file.
pub fn token(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match token::parse(Path::new("token"), text) {
        Ok(tokens) => {
            assert!(!tokens.is_empty());
            assert!(tokens.len() as u64 * 64 <= TOKEN_FILE_BYTES_MAX);
            assert_eq!(token::parse(Path::new("token"), &tokens.join("\n")).expect("written by us"), tokens);
            true
        }
        Err(error) => {
            // Half a token is secret too.
            let said = error.to_string();
            let shown = text.split_whitespace().find(|word| word.len() > 16 && said.contains(*word));
            assert_eq!(shown, None, "an error shows what stands in the file");
            false
        }
    }
}

/// One token, two tokens, and tokens with blank lines between them.
pub fn tokens() -> Vec<Vec<u8>> {
    let (one, two) = ("0123456789abcdef".repeat(4), "fedcba9876543210".repeat(4));
    vec![one.clone().into_bytes(), format!("{one}\n{two}\n").into_bytes(), format!("\n {two} \r\n\n{one}").into_bytes()]
}
