//! `raftkvctl`: everything is in the library, so that tests and `raftkv dev` can use the same client.

use std::process::ExitCode;

fn main() -> ExitCode {
    raftkvctl::run(std::env::args_os())
}
