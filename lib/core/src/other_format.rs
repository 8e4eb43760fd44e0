//! What stands on a disk in a format that is not this build's: told from damage, and left exactly as it is. PURE.
//!
//! Enters: a file and what was met in it. Leaves: the sentence with which the process stops. Nothing is wrong with such
//! data, so nothing of it is ever set aside, quarantined, repaired or removed: another raftkv goes on with it.

/// A file of another format than this build's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtherFormat {
    /// A newer raftkv wrote it.
    #[error(
        "{file}: {what}: a newer raftkv than {version} wrote it; start that one again, the data are as they were",
        version = env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The file.
        file: String,
        /// What was met in it, and what this build knows.
        what: String,
    },
    /// An earlier raftkv wrote it, in a format that is not read any more.
    #[error(
        "{file} has format {found}, which an earlier raftkv wrote; raftkv {version} reads format {known} and does not \
         convert. The data are as they were: start the earlier raftkv again, or begin with an empty directory and let \
         the member join anew (to move a whole cluster, export its keys with the earlier raftkv and import them into \
         a new one)",
        version = env!("CARGO_PKG_VERSION")
    )]
    Older {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
        /// The format that this build reads.
        known: u32,
    },
}

impl OtherFormat {
    /// What to say of `file`, which has format `found`, where this build knows `known`; `None` if there is no such
    /// format, so that the file is damaged, or if it is this build's own.
    pub fn of(file: &str, found: u32, known: u32) -> Option<OtherFormat> {
        let file = file.to_string();
        if found > known {
            let what = format!("it has format {found}, and {known} is the newest that this raftkv knows");
            Some(OtherFormat::Newer { file, what })
        } else if found < known && found > 0 {
            Some(OtherFormat::Older { file, found, known })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_newer_older_ours_or_none() {
        let of = |found| OtherFormat::of("identity", found, 2);
        assert!(matches!(of(3), Some(OtherFormat::Newer { .. })));
        assert!(matches!(of(1), Some(OtherFormat::Older { found: 1, known: 2, .. })));
        assert_eq!((of(2), of(0)), (None, None));
    }

    #[test]
    fn each_says_what_was_met_what_is_known_and_what_can_go_on() {
        let said = |found| OtherFormat::of("identity", found, 2).expect("another format").to_string();
        for part in ["identity", "format 1", "reads format 2", "start the earlier raftkv again", "an empty directory"] {
            assert!(said(1).contains(part), "{part} is missing: {}", said(1));
        }
        for part in ["identity", "format 3", "2 is the newest", "a newer raftkv", "the data are as they were"] {
            assert!(said(3).contains(part), "{part} is missing: {}", said(3));
        }
    }
}
