//! The committed inputs: `corpus/<decoder>/<name>`, one file each.
//!
//! An input whose name begins with `real-` is an encoding as this software writes it, and must always be accepted. All
//! other inputs were found by fuzzing, and must only do no harm. A failing input is written here, to be committed with
//! its fix.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

/// The beginning of the names of inputs that must be accepted.
pub const REAL: &str = "real-";

/// A committed input.
pub struct Input {
    /// Its file.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Input {
    /// Whether the decoder must accept it.
    pub fn is_real(&self) -> bool {
        self.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(REAL))
    }
}

/// The folder of a decoder's inputs.
pub fn folder(decoder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(decoder)
}

/// All of a decoder's inputs, sorted by name; none when there is no folder.
pub fn read(decoder: &str) -> io::Result<Vec<Input>> {
    let folder = folder(decoder);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.into_iter().map(|path| Ok(Input { bytes: fs::read(&path)?, path })).collect()
}

/// Writes an input to a file of its own, and returns its path.
pub fn keep(decoder: &str, begin: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let folder = folder(decoder);
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{begin}{:016x}", hasher.finish()));
    fs::write(&path, bytes)?;
    Ok(path)
}
