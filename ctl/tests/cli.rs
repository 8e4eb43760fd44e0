//! The program itself: exit codes, and what people and programs read. No cluster is needed for these.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

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

#[test]
fn bash_completes_what_comes_behind_kube_and_all_else() {
    let script = text(&raftkvctl(&["completions", "bash"], "").stdout);
    for (words, word, expected) in
        [("kube st", "st", "status"), ("kube leader m", "m", "move"), ("expo", "expo", "export")]
    {
        let count = words.split(' ').count();
        let program = env!("CARGO_BIN_EXE_raftkvctl");
        let ask = format!(
            "{script}\nCOMP_WORDS=({program} {words}); COMP_CWORD={count}; _raftkvctl_and_kube {program} {word}; \
             echo \"${{COMPREPLY[@]}}\""
        );
        let bash = Command::new("bash").args(["-c", &ask]).output().expect("bash is there");
        assert_eq!(text(&bash.stdout).trim(), expected, "{words}: {}", text(&bash.stderr));
    }
}

/// A node that answers every request with this JSON; its URL.
fn node_that_answers(json: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = [0; 4096];
            // One read is enough for a request as small as these.
            let _bytes = stream.read(&mut head).expect("a request");
            let answer =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{json}", json.len());
            stream.write_all(answer.as_bytes()).expect("an answer");
        }
    });
    url
}

/// Runs `raftkvctl` at this endpoint with its standard output going elsewhere.
fn with_stdout(url: &str, args: &[&str], stdout: Stdio) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raftkvctl"))
        .args(args)
        .env("RAFTKV_ENDPOINTS", url)
        .stdin(Stdio::null())
        .stdout(stdout)
        .output()
        .expect("the program runs")
}

fn full() -> Stdio {
    std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there").into()
}

fn nobody() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn a_write_that_cannot_be_told_is_said_to_be_done() {
    let url = node_that_answers(r#"{"revision":7,"version":2}"#);
    for stdout in [full(), nobody()] {
        let output = with_stdout(&url, &["put", "k", "v"], stdout);
        assert_eq!(output.status.code(), Some(5));
        let told = text(&output.stderr);
        assert!(told.contains("revision 7, version 2") && told.contains("outcome: done"), "{told}");
    }
}

#[test]
fn a_reader_of_keys_may_leave_and_a_reader_of_an_export_may_not() {
    let url = node_that_answers(
        r#"{"revision":7,"count":1,"kvs":[{"key":"k","value":"v","create_revision":7,"mod_revision":7,"version":1}]}"#,
    );
    let range = with_stdout(&url, &["range"], nobody());
    assert_eq!((range.status.code(), text(&range.stderr)), (Some(0), String::new()));
    let export = with_stdout(&url, &["export", "--format", "jsonl"], nobody());
    assert_eq!(export.status.code(), Some(1));
    assert!(text(&export.stderr).contains("the export is incomplete"), "{}", text(&export.stderr));
}

#[test]
fn a_standard_error_that_nobody_takes_is_no_failure() {
    let url = node_that_answers(r#"{"revision":7,"count":0,"kvs":[]}"#);
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftkvctl"));
    command.args(["export", "--format", "jsonl"]).env("RAFTKV_ENDPOINTS", url).stdout(Stdio::null()).stderr(full());
    assert_eq!(command.status().expect("the program runs").code(), Some(0));
}

/// Starts `raftkvctl` at an endpoint that takes connections and never answers, interrupts it once `ready` holds, and
/// waits for its end.
fn interrupted(args: &[&str], stdin: Stdio, mut ready: impl FnMut(&TcpListener) -> bool) -> Output {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let child = Command::new(env!("CARGO_BIN_EXE_raftkvctl"))
        .args(args)
        .env("RAFTKV_ENDPOINTS", format!("http://{}", silent.local_addr().expect("bound")))
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ready(&silent) {
        assert!(Instant::now() < deadline, "it does not begin");
        std::thread::yield_now();
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill is there").success());
    child.wait_with_output().expect("the program ends")
}

#[test]
fn an_export_that_is_interrupted_leaves_no_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, partial) = (dir.path().join("out"), dir.path().join("out.partial"));
    let args = ["export", "--format", "jsonl", file.to_str().expect("UTF-8")];
    let output = interrupted(&args, Stdio::null(), |_| partial.exists());
    assert_eq!((output.status.code(), partial.exists(), file.exists()), (Some(130), false, false));
}

#[test]
fn an_import_that_is_interrupted_says_how_far_it_came() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("in");
    std::fs::write(&file, "{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"b\",\"value\":\"2\"}\n").expect("a file");
    let args = ["import", "--format", "jsonl", file.to_str().expect("UTF-8")];
    let output = interrupted(&args, Stdio::null(), |silent| silent.accept().is_ok());
    assert_eq!(output.status.code(), Some(130));
    let told = text(&output.stderr);
    assert!(told.contains("interrupted: 0 of 2 keys are written") && told.contains("outcome: unknown"), "{told}");
}

#[test]
fn an_import_is_checked_whole_before_its_first_write() {
    let long = format!("{{\"key\":\"a\",\"value\":\"1\"}}\n{{\"key\":\"{}\",\"value\":\"2\"}}\n", "k".repeat(4097));
    for (input, words) in
        [(long.as_str(), "line 2: the key has 4097 bytes"), ("\u{feff}{\"kee\":1}", "line 1: the field")]
    {
        let output = raftkvctl(&["import", "--format", "jsonl"], input);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "no key was tried, so there is nothing to sum up");
    }
}
