//! Nobody reads standard error: the operator says less, and does the same.

use std::process::{Command, ExitStatus, Stdio};

/// What the operator ends with when whoever collects its log has gone.
fn ends(flags: &[&str]) -> ExitStatus {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut operator = Command::new(env!("CARGO_BIN_EXE_raftkv-operator"));
    let operator = operator.args(flags).env_clear().env("KUBECONFIG", "/nowhere/config").stdin(Stdio::null());
    operator.stderr(writer).status().expect("the operator starts")
}

#[test]
fn wrong_usage_ends_with_its_own_exit_code() {
    assert_eq!(ends(&["--no-such-flag"]).code(), Some(2));
}

#[test]
fn an_error_that_is_only_logged_ends_with_its_own_exit_code() {
    assert_eq!(ends(&["--log", "debug"]).code(), Some(1));
}
