//! The program `raftkvctl`. Everything is in the library, so that tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    raftkvctl::run(std::env::args_os())
}
