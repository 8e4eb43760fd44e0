//! The real disk: one data directory, used by one process.
//!
//! Enters: calls of [`LogDisk`]. Leaves: system calls. The directory is 0700 and its files are 0600. An flock on the
//! file `lock` is taken before anything is read (rule N7) and held until the last clone of the disk is dropped. Open
//! handles are kept (`handles.rs`), so that neither a batch nor a read has to open a file.

use crate::disk::handles::Handles;
use crate::disk::reserve::RESERVE_FILE;
use crate::disk::reserve::space;
use raftkv_api::Hex128;
use raftkv_core::identity::{IDENTITY_FILE, LOCK_FILE};
use raftkv_core::limits::OPEN_SEGMENT_FILES_MAX;
use raftkv_core::ports::LogDisk;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
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
    handles: Mutex<Handles>,
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
            handles: Mutex::new(Handles::new(OPEN_SEGMENT_FILES_MAX)),
            _lock: lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
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
        self.file_in(&mut self.handles(), name)
    }

    fn file_in(&self, handles: &mut Handles, name: &str) -> io::Result<Arc<File>> {
        if let Some(file) = handles.get(name) {
            return Ok(file);
        }
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(self.path_of(name)?)?);
        handles.insert(name, file.clone());
        Ok(file)
    }

    /// An empty file, which no handle knows yet.
    fn open_empty(&self, name: &str) -> io::Result<File> {
        let path = self.path_of(name)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(FILE_MODE).open(path)
    }

    /// A file that does not fit would take the space that is left from others, if only for a moment.
    fn check_room(&self, name: &str, bytes: u64) -> io::Result<()> {
        let (free, _) = space(self.path())?;
        if free >= bytes {
            return Ok(());
        }
        let what = format!("{name}: no space left for its {bytes} bytes");
        Err(io::Error::new(io::ErrorKind::StorageFull, what))
    }

    /// Unlinks a file. The handle is closed outside the lock: with the last one the file system frees the file's blocks,
    /// and nobody who reads another file should wait for that.
    fn unlink(&self, name: &str) -> io::Result<()> {
        let path = self.path_of(name)?;
        let result = std::fs::remove_file(path);
        let is_gone = match &result {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        // Whoever opened it a moment before the unlinking left a handle here, which must not stay: an unlinked file
        // keeps its blocks as long as somebody has it open.
        let handle = if is_gone { self.handles().remove(name) } else { None };
        drop(handle);
        result
    }
}

/// Takes blocks for the first `bytes` of an empty file, which stays empty.
fn take_room(file: &File, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
        // Where the file system can't, a write may meet a full disk, as anywhere.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
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
        let file = self.open_empty(name)?;
        self.check_room(name, len)?;
        if let Err(error) = fill_with_zeros(&file, len) {
            // What was written would take space from others while the disk is full. The first error says more than one
            // of this call.
            let _stays = file.set_len(0);
            return Err(error);
        }
        self.handles().insert(name, Arc::new(file));
        Ok(())
    }

    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()> {
        let file = self.open_empty(name)?;
        if let Err(error) = self.check_room(name, bytes).and_then(|()| take_room(&file, bytes)) {
            // Some of the room may have been taken. The first error says more than one of this call.
            drop(file);
            let _stays = self.unlink(name);
            return Err(error);
        }
        self.handles().insert(name, Arc::new(file));
        Ok(())
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = {
            let mut handles = self.handles();
            let file = self.file_in(&mut handles, name)?;
            handles.written(name);
            file
        };
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let file = {
            let mut handles = self.handles();
            let file = self.file_in(&mut handles, name)?;
            // Before the sync, so that what is written meanwhile counts as written after it. An error is final.
            handles.synced(name);
            file
        };
        self.sync_once(|| file.sync_data())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        // The handles stay locked meanwhile, so that nobody opens a name between the rename and the change here.
        let mut handles = self.handles();
        std::fs::rename(self.path_of(from)?, self.path_of(to)?)?;
        let replaced = handles.rename(from, to);
        drop(handles);
        drop(replaced);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.unlink(name)
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
    fn an_allocated_file_is_empty_and_has_its_room() {
        let (_guard, disk) = disk();
        disk.allocate("kv-1", 3_000_000).expect("there is room");
        disk.allocate("kv-2", 0).expect("no room is needed");
        assert_eq!((disk.len("kv-1").expect("len"), disk.len("kv-2").expect("len")), (0, 0));
        // Not every file system can take room beforehand; the file must be there all the same.
        let probe = File::create(disk.path().join("probe")).expect("creates");
        if fallocate(&probe, FallocateFlags::KEEP_SIZE, 0, 1).is_ok() {
            assert!(blocks(&disk, "kv-1") * 512 >= 3_000_000, "a hole keeps no room");
        }
        disk.write("kv-1", 0, b"record").expect("writes");
        disk.sync("kv-1").expect("syncs");
        let mut buf = [0; 9];
        assert_eq!(disk.read("kv-1", 0, &mut buf).expect("read"), 6);
        disk.allocate("kv-1", 4096).expect("there is room");
        assert_eq!(disk.len("kv-1").expect("len"), 0, "it is emptied, as `create` does");
    }

    #[test]
    fn room_that_is_not_there_is_not_taken_and_leaves_no_file() {
        let (_guard, disk) = disk();
        let free = space(disk.path()).expect("space").0;
        disk.create("kv-2", 4).expect("create");
        for (name, bytes) in [("kv-1", u64::MAX / 2), ("kv-1", 2 * free + (1 << 40)), ("kv-2", u64::MAX)] {
            let error = disk.allocate(name, bytes).expect_err("no volume is so large");
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
            assert!(!disk.path().join(name).exists());
            assert_eq!(disk.len(name).expect_err("gone").kind(), io::ErrorKind::NotFound);
        }
        // What the kernel says when the space went in between.
        assert_eq!(io::Error::from(rustix::io::Errno::NOSPC).kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn more_segments_than_may_be_open_are_read_and_written_all_the_same() {
        let (_guard, disk) = disk_with(3);
        let names: Vec<String> = (0..10).map(|n| format!("kv-{n}")).collect();
        disk.create("log-1", 4).expect("create");
        for name in &names {
            disk.create(name, 0).expect("create");
            disk.write(name, 0, name.as_bytes()).expect("writes");
            disk.sync(name).expect("syncs");
        }
        for name in names.iter().chain(names.iter().rev()) {
            let mut buf = [0; 4];
            assert_eq!(disk.read(name, 0, &mut buf).expect("read"), 4);
            assert_eq!(&buf, name.as_bytes());
        }
        assert_eq!(open_files(&disk), 3 + 1, "three segments, and the log");
    }

    /// A removed file that stayed open would keep its blocks.
    #[test]
    fn a_removed_file_is_open_no_more_whoever_removed_it() {
        let (_guard, disk) = disk_with(3);
        for name in ["kv-1", "kv-2"] {
            disk.create(name, 4).expect("create");
        }
        disk.remove("kv-1").expect("removes");
        assert_eq!(open_files(&disk), 1);
        std::fs::remove_file(disk.path().join("kv-2")).expect("removes");
        assert_eq!(disk.remove("kv-2").expect_err("gone").kind(), io::ErrorKind::NotFound);
        assert_eq!(open_files(&disk), 0);
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
        disk.handles().insert("snapshot", Arc::new(File::open("/dev/null").expect("opens")));
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

    fn blocks(disk: &FileDisk, name: &str) -> u64 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(disk.path().join(name)).expect("metadata").blocks()
    }

    /// Files of the directory that this process has open, besides the lock; the kernel knows.
    fn open_files(disk: &FileDisk) -> usize {
        let fds = std::fs::read_dir("/proc/self/fd").expect("Linux");
        let open = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        open.filter(|path| path.starts_with(disk.path()) && path != disk.path() && !path.ends_with(LOCK_FILE)).count()
    }

    fn disk() -> (tempfile::TempDir, FileDisk) {
        let guard = tempfile::tempdir().expect("a temporary directory");
        let disk = FileDisk::open(&guard.path().join("deep/data")).expect("opens");
        (guard, disk)
    }

    fn disk_with(segments_max: usize) -> (tempfile::TempDir, FileDisk) {
        let (guard, mut disk) = disk();
        disk.handles = Mutex::new(Handles::new(segments_max));
        (guard, disk)
    }
}
