//! The rules over the real tree. A finding is a failure; its text says where and what to do.

use raftkv_tidy::{Exception, File, check, long_files, read_tree};
use std::path::Path;

/// Where a rule's own reason does not hold, with the reason why.
const EXCEPTIONS: &[Exception] = &[];

fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    read_tree(&root).expect("the repository can be read")
}

#[test]
fn the_house_is_tidy() {
    let findings = check(&tree(), EXCEPTIONS);
    let list: String = findings.iter().map(|finding| format!("  {finding}\n")).collect();
    assert!(findings.is_empty(), "{} findings\n{list}", findings.len());
}

#[test]
fn the_whole_tree_is_read() {
    let tree = tree();
    for path in ["Cargo.toml", ".ci/run", "api/src/lib.rs", "node/src/lib.rs", "tests/tidy/tests/house.rs"] {
        assert!(tree.iter().any(|file| file.path == path), "{path} was not read");
    }
    assert!(tree.iter().all(|file| !file.path.starts_with("target/")), "build products were read");
}

#[test]
fn long_files_are_reported() {
    let sources: Vec<_> = tree().iter().filter(|file| file.is_rust()).map(File::source).collect();
    for (path, lines) in long_files(&sources) {
        println!("{path}: {lines} lines outside tests, on its way to the limit");
    }
}
