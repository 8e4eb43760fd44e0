//! Reads every text file of the repository that git would keep. This is the only file of the crate that touches the
//! disk.

use crate::File;
use std::fs;
use std::io;
use std::path::Path;

/// Names that git does not keep or that are git's own (`.git` is a file in a linked worktree).
const SKIPPED: &[&str] = &[".git", "target", "raftkv-data", "node_modules"];

/// Every UTF-8 file below `root`, sorted by path; links are not followed.
pub fn read_tree(root: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    read_directory(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read_directory(directory: &Path, prefix: &str, files: &mut Vec<File>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if kind.is_dir() {
            read_directory(&entry.path(), &format!("{prefix}{name}/"), files)?;
        } else if kind.is_file()
            && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
        {
            files.push(File { path: format!("{prefix}{name}"), text });
        }
    }
    Ok(())
}
