//! The binary `raftkv-operator`: reads flags and environment and runs what they say.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use raftkv_operator::edge::command_line::{self, Asked};
use raftkv_operator::edge::config::Config;
use raftkv_operator::edge::flags::{Args, LogFormat};
use raftkv_operator::edge::{probe::probe, run::run};
use std::fmt::Arguments;
use std::io::Write;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// The exit code when the command line or the environment cannot be read.
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    match command_line::read(std::env::args_os().skip(1), |name| std::env::var_os(name)) {
        Ok(Asked::Run(args)) => operate(*args).unwrap_or_else(|error| {
            warn(format_args!("raftkv-operator: {}", whole(&error)));
            ExitCode::FAILURE
        }),
        Ok(Asked::Print(text)) => {
            // A reader such as `head` may close the pipe early, which is no error.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            warn(format_args!("error: {error}\n\nFor more information, try '--help'."));
            ExitCode::from(BAD_USAGE)
        }
    }
}

/// A line on standard error. A reader that has gone loses it and nothing else; `eprintln!` would panic.
fn warn(line: Arguments) {
    let _lost = writeln!(std::io::stderr(), "{line}");
}

/// One thread is enough for the work, and costs the least memory.
fn operate(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(url) = &args.probe {
        return runtime.block_on(probe(url)).map(|()| ExitCode::SUCCESS);
    }
    log_to_stderr(&args.log, args.log_format)?;
    let config = Config::new(args)?;
    Ok(match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        // The reason is logged, so that it has the form in which logs are collected.
        Err(error) => {
            tracing::error!("{}", whole(&error));
            ExitCode::FAILURE
        }
    })
}

/// The error and its causes. A cause that the text of the error already contains is left out.
fn whole(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn log_to_stderr(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| anyhow::anyhow!("--log '{filter}': {error}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // They would go to the same standard error with `eprintln!`, which panics when nobody takes the log.
    let lines = lines.log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
