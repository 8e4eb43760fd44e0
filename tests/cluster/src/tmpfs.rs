//! A small disk that can be filled: a tmpfs of so many MiB.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What fills it.
const FILLER: &str = "filler";
const PIECE_BYTES: usize = 1024 * 1024;
const PAGE_BYTES: usize = 4096;

/// A mounted tmpfs; unmounted when it is dropped.
#[derive(Debug)]
pub struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts one at `path`, which is made.
    ///
    /// # Errors
    /// When the machine does not permit it; what mount said.
    pub fn mount(path: &Path, mib: usize) -> Result<Tmpfs> {
        fs::create_dir_all(path)?;
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "raftkv-test"]).arg(path).output();
        let mounted = mounted.context("mount: install the package mount")?;
        ensure!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr).trim());
        Ok(Tmpfs { path: path.into() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves not one page free.
    pub fn fill(&self) -> Result<()> {
        let mut filler = File::create(self.path.join(FILLER))?;
        for piece in [PIECE_BYTES, PAGE_BYTES] {
            loop {
                match filler.write_all(&vec![0; piece]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling"),
                }
            }
        }
        Ok(())
    }

    /// Gives the space back.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.path.join(FILLER)).context("the filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a node may still run in it. An error leaves a mount behind, which a person can see.
        Command::new("umount").arg("-l").arg(&self.path).status().ok();
    }
}
