//! The binary `raftkv-operator`: reads flags and environment and runs what they say.

use clap::Parser;
use raftkv_operator::edge::config::{Args, LogFormat};
use raftkv_operator::edge::{probe::probe, run::run};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    operate(Args::parse()).unwrap_or_else(|error| {
        eprintln!("raftkv-operator: {}", whole(&error));
        ExitCode::FAILURE
    })
}

/// One thread is enough for what it does, and costs the least memory.
fn operate(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(url) = args.probe() {
        return runtime.block_on(probe(url)).map(|()| ExitCode::SUCCESS);
    }
    let (filter, format) = args.log();
    log_to_stderr(filter, format)?;
    let config = args.validate()?;
    Ok(match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        // Why the process ends is said in the form in which logs are collected.
        Err(error) => {
            tracing::error!("{}", whole(&error));
            ExitCode::FAILURE
        }
    })
}

/// The error and its causes; one that its effect has told already is not told again.
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
    match format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
