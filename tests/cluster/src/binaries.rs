//! The programs under test: built once per test process, in the profile of the test itself.
//!
//! `RAFTKV_BIN_DIR` names a directory with programs that are built already; then nothing is built.
//! `RAFTKV_CRASH_BIN_DIR` does the same for the build of `raftkv` that has crash points (`node/src/crash_point/`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

static BIN_DIR: OnceLock<PathBuf> = OnceLock::new();
static CRASH_BIN_DIR: OnceLock<PathBuf> = OnceLock::new();

/// The variable that chooses a crash point in the build that has them.
pub const CRASH_AT: &str = "RAFTKV_CRASH_AT";

/// The path of `raftkv`.
pub fn raftkv() -> PathBuf {
    bin_dir().join("raftkv")
}

/// The path of `raftkvctl`.
pub fn raftkvctl() -> PathBuf {
    bin_dir().join("raftkvctl")
}

/// The path of the `raftkv` that has crash points.
///
/// # Panics
/// When it cannot be built.
pub fn raftkv_with_crash_points() -> PathBuf {
    let dir = CRASH_BIN_DIR.get_or_init(|| match std::env::var_os("RAFTKV_CRASH_BIN_DIR") {
        Some(dir) => dir.into(),
        None => build_with_crash_points(),
    });
    dir.join("raftkv")
}

/// # Panics
/// When the programs cannot be built, since then no test of this process means anything.
fn bin_dir() -> &'static Path {
    BIN_DIR.get_or_init(|| match std::env::var_os("RAFTKV_BIN_DIR") {
        Some(dir) => dir.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let (target_dir, profile_dir) = dirs();
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()).expect("profiles have plain names") {
        "debug" => "dev",
        other => other,
    };
    let args = ["--workspace", "--bins", "--profile", profile];
    cargo_build(Command::new(cargo()).args(["build", "--quiet"]).args(args), &target_dir);
    profile_dir
}

/// Does what `make crash-bin` does.
fn build_with_crash_points() -> PathBuf {
    let (target_dir, _) = dirs();
    let wrapper = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/rustc-mutant");
    let own_dir = target_dir.join("mutant");
    let mut command = Command::new(cargo());
    command.args(["build", "--quiet", "--workspace", "--bin", "raftkv"]);
    command.env("RUSTC_WORKSPACE_WRAPPER", wrapper).env("CARGO_BUILD_BUILD_DIR", &target_dir);
    cargo_build(&mut command, &own_dir);
    own_dir.join("debug")
}

/// The target directory, and the directory of the test's own profile in it.
fn dirs() -> (PathBuf, PathBuf) {
    // The test is <target>/<profile>/deps/<test>.
    let exe = std::env::current_exe().expect("a running test has a file");
    let profile_dir = exe.parent().and_then(Path::parent).expect("tests lie in <target>/<profile>/deps").to_path_buf();
    let target_dir = profile_dir.parent().expect("a profile's directory lies in the target directory").to_path_buf();
    (target_dir, profile_dir)
}

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn cargo_build(command: &mut Command, target_dir: &Path) {
    let built = command.arg("--target-dir").arg(target_dir).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let built = built.expect("cargo runs: it has started this test");
    assert!(built.status.success(), "raftkv does not build:\n{}", String::from_utf8_lossy(&built.stderr));
}
