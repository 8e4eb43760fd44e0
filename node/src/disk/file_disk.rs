//! The real disk: one data directory, used by one process.
//!
//! Enters: calls of [`LogDisk`]. Leaves: system calls. The directory is 0700 and its files are 0600. An flock on the
//! file `lock` is taken before anything is read (rule N7) and held until the last clone of the disk is dropped. Open
//! handles are kept, so that the write path does not open a file per batch.

use crate::disk::reserve::RESERVE_FILE;
use crate::disk::reserve::space;
use raftkv_api::Hex128;
use raftkv_core::identity::{IDENTITY_FILE, LOCK_FILE};
use raftkv_core::ports::LogDisk;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Zeros written at once when a file is created.
const ZEROS: &[u8] = &[0; 1024 * 1024];

/// Files of one data directory.
pub struct FileDisk {
    path: PathBuf,
    /// Locked during its fsync: the kernel reports an error only once, and another caller must not take it.
    directory: Mutex<File>,
    /// The error of the first fsync that failed.
    sync_failed: OnceLock<String>,
    handles: Mutex<BTreeMap<String, Arc<File>>>,
    /// Holds the flock.
    _lock: File,
}

/// For `reset`: moves the data to `trash-<incarnation>`. The identity goes last: if the move is cut short, the rest
/// still counts as quarantined data of this incarnation, and the call can be repeated.
pub fn set_aside(path: &Path, incarnation: Hex128) -> io::Result<()> {
    let trash = path.join(format!("trash-{incarnation}"));
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&trash)?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name());
    }
    let stays = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name == LOCK_FILE || name == "lost+found" || name.starts_with("trash-")
    };
    names.retain(|name| !stays(name));
    names.sort_by_key(|name| name == IDENTITY_FILE);
    for name in names {
        if name == RESERVE_FILE {
            // The reserve file holds nothing to keep.
            std::fs::remove_file(path.join(name))?;
        } else {
            std::fs::rename(path.join(&name), trash.join(&name))?;
        }
    }
    File::open(&trash)?.sync_all()?;
    File::open(path)?.sync_all()
}

impl FileDisk {
    /// Makes the directory if it is missing, and locks it. An error of kind `WouldBlock` means that another process
    /// uses it.
    pub fn open(path: &Path) -> io::Result<FileDisk> {
        make_directory(path)?;
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path.join(LOCK_FILE))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => (),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let what = format!("{} is in use by another process", path.display());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, what));
            }
            Err(error) => return Err(error.into()),
        }
        let directory = File::open(path)?;
        Ok(FileDisk {
            path: path.to_path_buf(),
            directory: Mutex::new(directory),
            sync_failed: OnceLock::new(),
            handles: Mutex::default(),
            _lock: lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn handles(&self) -> MutexGuard<'_, BTreeMap<String, Arc<File>>> {
        self.handles.lock().expect("no holder of the handles panics")
    }

    fn path_of(&self, name: &str) -> io::Result<PathBuf> {
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("'{name}' is not a plain file name")));
        }
        Ok(self.path.join(name))
    }

    /// After one fsync has failed, every later one fails too, whoever calls it (rule N11). The kernel reports a failure
    /// only once, perhaps to the thread that writes a snapshot, and would not report that a rename of the log was lost
    /// with it.
    fn sync_once(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let result = match self.sync_failed.get() {
            None => sync(),
            Some(first) => Err(io::Error::other(format!("an earlier fsync failed: {first}"))),
        };
        if let Err(error) = &result {
            self.sync_failed.get_or_init(|| error.to_string());
        }
        result
    }

    /// The open file of that name; the file must exist.
    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        let mut handles = self.handles();
        if let Some(file) = handles.get(name) {
            return Ok(file.clone());
        }
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(self.path_of(name)?)?);
        handles.insert(name.to_string(), file.clone());
        Ok(file)
    }
}

/// Makes the missing directories of `path`, durably: if a directory's entry were lost, everything in it would be lost
/// too.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_directory(parent)?;
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => File::open(parent)?.sync_all(),
    }
}

fn fill_with_zeros(file: &File, len: u64) -> io::Result<()> {
    let mut offset = 0;
    while offset < len {
        let count = (len - offset).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..count as usize], offset)?;
        offset += count;
    }
    Ok(())
}

impl LogDisk for FileDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.metadata()?.len())
    }

    fn read(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let file = self.file(name)?;
        let mut filled = 0;
        while filled < buf.len() {
            match file.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<()> {
        let path = self.path_of(name)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
        // A file that does not fit would take the space that is left from others, if only for a moment.
        let (free, _) = space(self.path())?;
        if free < len {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("{name}: no space left for its {len} bytes"),
            ));
        }
        if let Err(error) = fill_with_zeros(&file, len) {
            // What was written would take space from others while the disk is full. The first error says more than one
            // of this call.
            let _stays = file.set_len(0);
            return Err(error);
        }
        self.handles().insert(name.to_string(), Arc::new(file));
        Ok(())
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let file = self.file(name)?;
        self.sync_once(|| file.sync_data())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        // The handles stay locked meanwhile, so that nobody opens a name between the rename and the change here.
        let mut handles = self.handles();
        std::fs::rename(self.path_of(from)?, self.path_of(to)?)?;
        let moved = handles.remove(from);
        match moved {
            Some(file) => handles.insert(to.to_string(), file),
            None => handles.remove(to),
        };
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut handles = self.handles();
        std::fs::remove_file(self.path_of(name)?)?;
        handles.remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let directory = self.directory.lock().expect("no fsync panics");
        self.sync_once(|| directory.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_zero_filled_overwritten_renamed_and_private() {
        let (_guard, disk) = disk();
        disk.create("a", 3_000_000).expect("create");
        assert_eq!(disk.len("a").expect("len"), 3_000_000);
        disk.write("a", 2_999_999, b"xyz").expect("extends");
        disk.sync("a").expect("sync");
        disk.rename("a", "b").expect("rename");
        disk.sync_dir().expect("sync_dir");
        let mut buf = [9; 8];
        assert_eq!(disk.read("b", 2_999_998, &mut buf).expect("read"), 4);
        assert_eq!(&buf[..4], b"\0xyz");
        assert_eq!(disk.read("a", 0, &mut buf).expect_err("moved").kind(), io::ErrorKind::NotFound);
        let mode = |path: PathBuf| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(disk.path().join("b")), mode(disk.path().to_path_buf())), (0o600, 0o700));
    }

    #[test]
    fn a_file_that_does_not_fit_is_not_begun() {
        let (_guard, disk) = disk();
        let error = disk.create("huge", u64::MAX / 2).expect_err("no volume is so large");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.len("huge").expect("it is there, and empty"), 0);
    }

    #[test]
    fn a_replaced_or_removed_file_is_not_read_through_an_old_handle() {
        let (_guard, disk) = disk();
        disk.create("old", 4).expect("create");
        std::fs::write(disk.path().join("new"), b"new!").expect("write");
        disk.rename("new", "old").expect("rename");
        let mut buf = [0; 4];
        disk.read("old", 0, &mut buf).expect("read");
        assert_eq!(&buf, b"new!");
        disk.remove("old").expect("remove");
        assert!(disk.len("old").is_err());
    }

    #[test]
    fn after_an_fsync_that_failed_no_other_one_succeeds() {
        let (_guard, disk) = disk();
        disk.create("log", 4).expect("create");
        disk.sync("log").expect("sync");
        assert!(disk.sync("missing").is_err());
        disk.sync("log").expect("a file that is not there is no failed fsync");
        // fdatasync of a device without storage fails with EINVAL.
        disk.handles().insert("snapshot".to_string(), Arc::new(File::open("/dev/null").expect("opens")));
        disk.sync("snapshot").expect_err("fails");
        for later in [disk.sync("log"), disk.sync_dir()] {
            let error = later.expect_err("must not claim success").to_string();
            assert!(error.starts_with("an earlier fsync failed: "), "{error}");
        }
    }

    #[test]
    fn a_second_process_is_kept_out_and_names_stay_in_the_directory() {
        let (_guard, disk) = disk();
        let second = FileDisk::open(disk.path()).map(|_| ()).expect_err("locked");
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        for name in ["", ".", "..", "a/b", "/etc/passwd"] {
            assert_eq!(disk.create(name, 0).expect_err(name).kind(), io::ErrorKind::InvalidInput);
        }
        let path = disk.path().to_path_buf();
        drop(disk);
        FileDisk::open(&path).expect("free again");
    }

    fn disk() -> (tempfile::TempDir, FileDisk) {
        let guard = tempfile::tempdir().expect("a temporary directory");
        let disk = FileDisk::open(&guard.path().join("deep/data")).expect("opens");
        (guard, disk)
    }
}
