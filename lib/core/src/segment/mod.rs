//! Sealed segments: the files that hold the records of the key-value store, oldest first, and never change. PURE.
//!
//! ```text
//! 0        records bytes     + table bytes    + marks        + FOOT_BYTES
//! │ record │ record │ ...    │ table          │ marks        │ foot │
//!   in order of (main, sub)    by key, then     where a scan   where all that is, sums,
//!                              (main, sub)      begins         hash of the records
//!
//! bytes of records ──► Sealer ──► table, marks, foot      foot ──► TableReader ──► lines, by key
//! ```
//!
//! The records are the truth: all that stands behind them follows from their bytes, is made by whoever has these, and
//! is made again when it is damaged. So a segment is known by the hash of its records alone. Integers are little-endian.
//!
//! A file passes when its foot decodes for its length, its records ascend by (main, sub), and sealing them gives that
//! very foot. What a newer build wrote (`Newer`) is told from damage: it ends the process, and nothing may be made again
//! over it.
//!
//! All here is bytes, but for `file` and `merge`, which read and write them through a [`crate::ports::LogDisk`]. When
//! that happens is not this module's affair.

pub mod file;
mod foot;
pub mod groups;
mod input;
mod list;
mod marks;
pub mod merge;
mod record;
mod seal;
mod stamp;
mod table;
mod table_reader;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_files;

pub use foot::{BadFoot, FOOT_BYTES, Foot, RECORDS_BYTES_MAX};
pub use list::{BadListed, Listed, ascends};
pub use marks::{BadMarks, MARK_BYTES, MARK_EVERY_BYTES, Marks};
pub use record::{BadRecord, RECORD_BYTES_MAX, RECORD_FIXED_BYTES, Record};
pub use seal::{BadRecords, Sealed, Sealer, seal};
pub use stamp::{Position, Stamp};
pub use table::{Line, TableBuilder};
pub use table_reader::{BadTable, Step, TableReader};
