//! The binary `raftkv`: reads the command line and runs its command.
//!
//! Enters: arguments and `RAFTKV_LOG`. Leaves: the exit code, and for a failure one line on standard error.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use raftkv_node::cli::{Cli, Command};
use raftkv_node::config::LogFormat;
use raftkv_node::words;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// About thirty times a request, one thread frees what another allocated: glibc's allocator spends a sixth of the time
/// on that.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code for a command line that makes no sense, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let ran = match Cli::parse().command {
        Command::Serve(args) => {
            log_to_stderr(args.log_format);
            match args.validate() {
                Ok(config) => raftkv_node::process::serve::run(config),
                Err(error) => {
                    words::warn(format_args!("raftkv: {error}"));
                    return ExitCode::from(USAGE);
                }
            }
        }
        Command::Dev(args) => raftkv_node::dev::run(args),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            words::warn(format_args!("raftkv: {}", whole(&error)));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, without those that the text names already.
fn whole(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// `RAFTKV_LOG` takes the directives of `tracing_subscriber::EnvFilter`, as in `debug` or
/// `raftkv_node::transport=debug`.
fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_env("RAFTKV_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // They would go to the same standard error with `eprintln!`, which panics when nobody takes the log.
    let lines = lines.log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().init(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("permission denied").context("file a: permission denied").context("--data-dir");
        assert_eq!(whole(&error), "--data-dir: file a: permission denied");
    }
}
