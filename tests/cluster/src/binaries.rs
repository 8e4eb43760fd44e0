//! The programs under test: built once per test process, in the profile of the test itself.
//!
//! `RAFTKV_BIN_DIR` names a directory with programs that were built already; nothing is built then.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

static BIN_DIR: OnceLock<PathBuf> = OnceLock::new();

/// The path of `raftkv`.
pub fn raftkv() -> PathBuf {
    bin_dir().join("raftkv")
}

/// The path of `raftkvctl`.
pub fn raftkvctl() -> PathBuf {
    bin_dir().join("raftkvctl")
}

/// # Panics
/// When the programs cannot be built: then no test of this process can say anything.
fn bin_dir() -> &'static Path {
    BIN_DIR.get_or_init(|| match std::env::var_os("RAFTKV_BIN_DIR") {
        Some(dir) => dir.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    // The test is <target>/<profile>/deps/<test>.
    let exe = std::env::current_exe().expect("a running test has a file");
    let profile_dir = exe.parent().and_then(Path::parent).expect("tests lie in <target>/<profile>/deps").to_path_buf();
    let target_dir = profile_dir.parent().expect("a profile's directory lies in the target directory");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()).expect("profiles have plain names") {
        "debug" => "dev",
        other => other,
    };
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "-p", "raftkv-node", "-p", "raftkvctl", "--bins", "--profile", profile])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs: it has started this test");
    assert!(built.status.success(), "raftkv does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    profile_dir
}
