//! `--require-mount`: a node whose volume is missing must not start afresh on the disk below the mount point (rule N7).
//!
//! Enters: the data directory. Leaves: nothing, or an error that says what to do. The kernel's list of mounts decides.
//! Device numbers prove nothing, since a pod's volume is often a bind mount of a directory on the file system of the
//! machine's own disk; they are used only where there is no `/proc`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The kernel's list of what is mounted where, as this process sees it.
const MOUNTS: &str = "/proc/self/mountinfo";
/// The mount point is the fifth field of a line.
const MOUNT_POINT_FIELD: usize = 4;

/// Fails unless a volume is mounted at `path` itself.
pub fn check(path: &Path) -> io::Result<()> {
    let mounted = match std::fs::canonicalize(path) {
        Ok(path) => is_mount_point(&path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if mounted {
        return Ok(());
    }
    let what = format!("no volume is mounted at {}: mount it, or start without --require-mount", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, what))
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    match std::fs::read(MOUNTS) {
        Ok(mounts) => Ok(mount_points(&mounts).any(|mounted| mounted == path)),
        Err(_) => has_own_device(path),
    }
}

/// Whether `path` is on another device than its parent. True for the root, which has no parent and is a mount point.
fn has_own_device(path: &Path) -> io::Result<bool> {
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev());
    path.parent().map_or(Ok(true), |parent| Ok(device(path)? != device(parent)?))
}

fn mount_points(mounts: &[u8]) -> impl Iterator<Item = PathBuf> {
    let field = |line: &[u8]| line.split(|byte| *byte == b' ').nth(MOUNT_POINT_FIELD).map(unescaped);
    mounts.split(|byte| *byte == b'\n').filter_map(move |line| field(line).map(PathBuf::from))
}

/// The kernel writes space, tab, line feed and backslash as `\` and three octal digits.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| u8::from_str_radix(OsStr::from_bytes(digits).to_str()?, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &behind[3..] } else { behind };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container with two volumes: one is a bind mount from the disk that its hosts file comes from too, the other
    /// has a space in its name.
    const IN_A_POD: &[u8] = b"\
        1211 914 0:213 / / ro,relatime - overlay overlay rw,lowerdir=/l\n\
        1241 1211 0:216 / /proc rw,nosuid - proc proc rw\n\
        1260 1211 254:1 /pods/u/etc-hosts /etc/hosts rw - ext4 /dev/vda1 rw\n\
        1262 1211 254:1 /provisioner/pvc-1 /var/lib/raftkv rw,relatime shared:7 master:1 - ext4 /dev/vda1 rw\n\
        1263 1211 254:1 /x /mnt/a\\040b rw - ext4 /dev/vda1 rw\n";

    #[test]
    fn a_bind_mount_of_a_directory_is_found_in_the_list_of_mounts() {
        let points: Vec<PathBuf> = mount_points(IN_A_POD).collect();
        let mounted = |path: &str| points.contains(&PathBuf::from(path));
        assert!(mounted("/var/lib/raftkv") && mounted("/mnt/a b") && mounted("/"), "{points:?}");
        assert!(!mounted("/var/lib") && !mounted("/var/lib/raftkv/data") && !mounted("/provisioner/pvc-1"));
        assert_eq!(points.len(), 5, "an empty last line is no mount");
    }

    #[test]
    fn a_backslash_that_begins_no_number_stays() {
        assert_eq!(unescaped(b"a\\134b\\9x\\"), OsString::from("a\\b\\9x\\"));
    }

    #[test]
    fn a_plain_directory_and_a_missing_one_are_refused_and_a_mount_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for path in [dir.path().to_path_buf(), dir.path().join("missing")] {
            let error = check(&path).expect_err("not mounted").to_string();
            assert!(error.contains(&path.display().to_string()) && error.contains("--require-mount"), "{error}");
        }
        check(Path::new("/proc")).expect("always a mount of its own");
    }
}
