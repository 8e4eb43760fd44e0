//! The program itself: exit codes, and what people and programs read. No cluster is needed for these.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

/// Runs `raftkvctl` against an endpoint that refuses connections, with this standard input.
fn raftkvctl(args: &[&str], input: &str) -> Output {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let mut child = Command::new(env!("CARGO_BIN_EXE_raftkvctl"))
        .args(args)
        .env("RAFTKV_ENDPOINTS", format!("http://{free}"))
        .env_remove("RAFTKV_ADMIN_ENDPOINTS")
        .env("RAFTKV_TOKEN_FILE", "/nonexistent/token")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A program that does not read its input closes the pipe; that is no failure of the test.
    let _closed = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("the program ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in [&["frobnicate"][..], &["put", "k"], &["get", "?", "--key-b64"], &["get", ""]] {
        assert_eq!(raftkvctl(args, "").status.code(), Some(2), "{args:?}");
    }
    assert_eq!(raftkvctl(&["get", "k", "--endpoints", "https://h:1"], "").status.code(), Some(2));
}

#[test]
fn a_cluster_that_is_not_there_is_a_failure_without_effect() {
    for args in [&["put", "k", "-"][..], &["get", "k"], &["range"]] {
        let output = raftkvctl(args, "value");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains("outcome: none"), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn programs_read_errors_as_json() {
    let output = raftkvctl(&["-o", "json", "del", "k"], "");
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!((&error["outcome"], &error["exit_code"]), (&"none".into(), &1.into()));
}

#[test]
fn admin_calls_say_which_token_file_is_missing() {
    let output = raftkvctl(&["members"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent/token"), "{}", text(&output.stderr));
}

#[test]
fn a_repeated_key_is_found_before_anything_is_written() {
    let input = "Package: a\n\nPackage: b\n\nPackage: a\n";
    let output = raftkvctl(&["import", "--format", "deb822"], input);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("key 'a' occurs twice: at line 1 and at line 5"), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty(), "no key was tried, so there is nothing to sum up");
}

#[test]
fn an_import_that_cannot_start_names_the_key_and_the_time_is_bounded() {
    let output = raftkvctl(&["import", "--format", "jsonl", "--timeout-s", "0"], "{\"key\":\"a\",\"value\":\"1\"}\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("key 'a' (line 1)"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("imported 0 of 1 keys"), "{}", text(&output.stdout));
}

#[test]
fn completions_are_a_script() {
    let output = raftkvctl(&["completions", "bash"], "");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("raftkvctl"));
}
