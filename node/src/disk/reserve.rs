//! The reserve file of a data directory: space that nobody else can take, given back piece by piece when the rest of
//! the volume runs out (rule N11). [`raftkv_core::space`] decides its size; this module measures the volume and makes
//! the file that size.
//!
//! The file holds no data and need not be durable. Only a member has one: a Blank directory holds nothing at all
//! (rule N7), and data that are set aside need no reserve.

use raftkv_core::space::{Room, Sizes, mib};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The file's name.
pub const RESERVE_FILE: &str = "reserve";
const FILE_MODE: u32 = 0o600;
/// What one write writes where the file system cannot allocate beforehand.
const ZEROS: &[u8] = &[0; 1024 * 1024];

/// The space on the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Free bytes.
    pub free_bytes: u64,
    /// Bytes of the whole volume.
    pub volume_bytes: u64,
    /// The free bytes together with the reserve file, and how many are needed.
    pub room: Room,
}

/// The reserve of one data directory.
pub struct Reserve {
    dir: PathBuf,
    sizes: Sizes,
    file: Mutex<Keeping>,
}

/// Whether the file may exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// It is kept at its right size.
    Yes,
    /// The data are about to be set aside.
    Never,
}

impl Reserve {
    /// The reserve of this directory; no file is made yet.
    pub fn new(dir: &Path, sizes: Sizes) -> Reserve {
        Reserve { dir: dir.to_path_buf(), sizes, file: Mutex::new(Keeping::Yes) }
    }

    /// The sizes that follow from the least reserve.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Looks at the volume and corrects the file's size: it is cut when the rest of the volume is short, and made if
    /// this is a member that has room.
    pub fn look(&self, is_member: bool) -> io::Result<Space> {
        let keeping = self.lock();
        let (free, volume) = space(&self.dir)?;
        let file = self.len()?;
        let wanted = match *keeping {
            Keeping::Yes if is_member => self.sizes.file_wanted(free, file, volume),
            // It is only cut: a node that is not a member has no file, or is about to become a member that has one.
            Keeping::Yes => self.sizes.file_wanted(free, file, volume).min(file),
            Keeping::Never => 0,
        };
        if wanted != file {
            self.resize(file, wanted)?;
        }
        let (free_bytes, _) = space(&self.dir)?;
        let room =
            Room { headroom_bytes: free_bytes.saturating_add(self.len()?), reserve_bytes: self.sizes.reserve(volume) };
        Ok(Space { free_bytes, volume_bytes: volume, room })
    }

    /// Gives the whole file back at once, since a write found no space.
    pub fn release(&self) {
        let _keeping = self.lock();
        self.remove();
    }

    /// Gives the file back for good, before the data are set aside.
    pub fn close(&self) {
        let mut keeping = self.lock();
        *keeping = Keeping::Never;
        self.remove();
    }

    /// Free bytes on the volume, without the file.
    pub fn free_bytes(&self) -> io::Result<u64> {
        space(&self.dir).map(|(free, _)| free)
    }

    /// Whether there is enough space to try again what met a full disk.
    pub fn has_working_space(&self) -> bool {
        self.free_bytes().is_ok_and(|free| free >= self.sizes.working())
    }

    fn lock(&self) -> MutexGuard<'_, Keeping> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(RESERVE_FILE)
    }

    fn len(&self) -> io::Result<u64> {
        match std::fs::metadata(self.path()) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn resize(&self, from: u64, to: u64) -> io::Result<()> {
        if to == 0 {
            self.remove();
            tracing::warn!("the last {} of the reserve file are given back", mib(from));
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(FILE_MODE).open(self.path())?;
        if to < from {
            tracing::warn!(bytes = to, "{} of the reserve file are given back", mib(from - to));
            return file.set_len(to);
        }
        if let Err(error) = allocate(&file, from, to) {
            // Otherwise the part that was allocated would be counted as reserve.
            let _stays = file.set_len(from);
            return Err(error);
        }
        tracing::info!(bytes = to, "the reserve file is made");
        Ok(())
    }

    fn remove(&self) {
        match std::fs::remove_file(self.path()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the reserve file cannot be given back"),
        }
    }
}

/// Allocates blocks for the bytes from `from` to `to`: with `fallocate` where the file system supports it, elsewhere by
/// writing.
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), from, to - from) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut offset = from;
    while offset < to {
        let count = (to - offset).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..count as usize], offset)?;
        offset += count;
    }
    Ok(())
}

/// Free and total bytes of the volume that holds this directory.
pub fn space(dir: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn reserve(least_bytes: u64) -> (tempfile::TempDir, Reserve) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let reserve = Reserve::new(dir.path(), Sizes { least_bytes });
        (dir, reserve)
    }

    #[test]
    fn a_member_with_room_gets_the_file_and_nobody_else() {
        let (dir, reserve) = reserve(4 * MIB);
        let file = dir.path().join(RESERVE_FILE);
        reserve.look(false).expect("looks");
        assert!(!file.exists(), "a blank directory holds nothing");
        // Less than five percent of the test machine's volume may be free; then there is no file to speak of.
        let (free, volume) = space(dir.path()).expect("space");
        let wanted = reserve.sizes.file_wanted(free, 0, volume);
        let seen = reserve.look(true).expect("looks");
        assert_eq!(reserve.len().expect("len"), wanted);
        assert_eq!(seen.room.headroom_bytes, seen.free_bytes + wanted);
    }

    #[test]
    fn the_file_takes_space_and_gives_it_back() {
        use std::os::unix::fs::MetadataExt;
        let (dir, reserve) = reserve(4 * MIB);
        reserve.resize(0, 2 * MIB).expect("room for 2 MiB");
        let file = dir.path().join(RESERVE_FILE);
        assert!(std::fs::metadata(&file).expect("there").blocks() * 512 >= 2 * MIB, "a hole reserves nothing");
        reserve.resize(2 * MIB, MIB).expect("cut");
        assert_eq!(reserve.len().expect("len"), MIB);
        reserve.release();
        assert!(!file.exists());
        reserve.release();
    }

    #[test]
    fn a_volume_without_room_gets_no_file_and_the_one_it_has_is_cut() {
        // More than any disk has.
        let (dir, reserve) = reserve(1 << 60);
        std::fs::write(dir.path().join(RESERVE_FILE), [0; 4096]).expect("writes");
        let seen = reserve.look(true).expect("looks");
        assert_eq!(reserve.len().expect("len"), 0);
        assert_eq!(seen.room.level(), raftkv_core::space::Level::Nothing);
        assert!(!reserve.has_working_space());
    }

    #[test]
    fn data_that_are_set_aside_have_no_reserve() {
        let (dir, reserve) = reserve(4 * MIB);
        reserve.resize(0, MIB).expect("room for 1 MiB");
        reserve.close();
        reserve.look(true).expect("looks");
        assert!(!dir.path().join(RESERVE_FILE).exists());
    }
}
