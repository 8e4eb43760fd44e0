//! `kubectl raftkv`: this program as a plugin of kubectl, which looks after clusters that the operator runs.
//!
//! ```text
//!   args ── what was asked            find ── which cluster, its pods, its token
//!                │                      │
//!            status, data, leader, bundle        one file per command family
//!                │            │
//!                │        kubectl, forward       kubectl as a subprocess; a port-forward to one pod
//!                │
//!         seen ──► judge ──► screen              what was seen becomes one screen (PURE)
//!                rows, next
//! ```
//!
//! Only kubectl asks Kubernetes. Keys and members are reached through port-forwards, with the commands that `raftkvctl` has
//! anyway. Nothing here changes an object of Kubernetes: the operator does that, and the user.

mod args;
mod bundle;
mod cluster;
#[cfg(test)]
mod command_tests;
mod complete;
mod context;
mod data;
mod failed;
mod find;
mod forward;
mod judge;
mod kubectl;
mod leader;
mod next;
mod objects;
mod redact;
mod rows;
mod screen;
mod seen;
mod status;
#[cfg(test)]
mod status_tests;
mod tar;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod worlds;

use crate::args::Output;
use crate::context::{SHUTDOWN_TIMEOUT, runtime, signalled};
use crate::report::{Effect, Failed};
use crate::streams::tell;
use args::{Cli, Command, Leader};
use clap::{CommandFactory, FromArgMatches};
use context::Kube;
use failed::KubeFailed;
use kubectl::Kubectl;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// How a plugin is called by kubectl, and by hand.
const PLUGIN: &[&str] = &["kubectl-raftkv", "kubectl_raftkv"];
/// The program that kubectl asks for completions of a plugin.
const COMPLETER: &[&str] = &["kubectl_complete-raftkv", "kubectl_complete_raftkv"];

/// What the name that the program was called by makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// `raftkvctl`.
    Ctl,
    /// `kubectl raftkv`.
    Plugin,
    /// `kubectl __complete raftkv`.
    Completer,
}

impl Called {
    /// By this name, perhaps with directories in front and an architecture or a version behind.
    pub(crate) fn by(program: Option<&OsStr>) -> Called {
        let name = program.and_then(|program| Path::new(program).file_name()).unwrap_or_default().to_string_lossy();
        let begins = |names: &[&str]| names.iter().any(|begin| name.starts_with(begin));
        match (begins(COMPLETER), begins(PLUGIN)) {
            (true, _) => Called::Completer,
            (false, true) => Called::Plugin,
            (false, false) => Called::Ctl,
        }
    }
}

/// Runs `kubectl raftkv` with these arguments, without the program's name.
pub(crate) fn run(called: &'static str, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = command(called).get_matches_from([called.into()].into_iter().chain(args));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let kube = Kube { kubectl: Kubectl::new(&cli.global), global: cli.global, called };
    let (output, effect) = (output(&cli.command), effect(&cli.command));
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(failed) => return tell(&KubeFailed::from(failed).account(), output),
    };
    let result = runtime.block_on(async {
        tokio::select! {
            result = carry_out(&kube, cli.command) => result,
            () = signalled() => Err(Failed::Interrupted(effect).into()),
        }
    });
    // Children of tasks are killed when those are dropped; a thread that waits for standard input must not keep the program.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => tell(&failed.account(), output),
    }
}

/// The command line, with the name that the user called.
fn command(called: &'static str) -> clap::Command {
    Cli::command().bin_name(called).display_name(called)
}

fn output(command: &Command) -> Output {
    match command {
        Command::Status(args) => args.format.output,
        Command::Members(args) => args.format.output,
        Command::Leader { command: Leader::Move(args) } => args.format.output,
        Command::Put(args) => args.through.format.output,
        Command::Get(args) => args.through.format.output,
        Command::Del(args) => args.through.format.output,
        Command::Range(args) => args.through.format.output,
        Command::Import(args) => args.through.format.output,
        Command::Export(args) => args.through.format.output,
        Command::Report(_) => Output::Table,
    }
}

/// What is known of a command that a signal ends.
fn effect(command: &Command) -> Effect {
    match command {
        Command::Put(_) | Command::Del(_) | Command::Import(_) | Command::Leader { .. } => Effect::Unknown,
        Command::Status(_) | Command::Members(_) | Command::Get(_) => Effect::None,
        Command::Range(_) | Command::Export(_) | Command::Report(_) => Effect::None,
    }
}

async fn carry_out(kube: &Kube, command: Command) -> Result<(), KubeFailed> {
    match command {
        Command::Status(args) => status::status(kube, args).await,
        Command::Members(args) => leader::members(kube, args).await,
        Command::Leader { command: Leader::Move(args) } => leader::move_to(kube, args).await,
        Command::Put(args) => data::put(kube, args).await,
        Command::Get(args) => data::get(kube, args).await,
        Command::Del(args) => data::del(kube, args).await,
        Command::Range(args) => data::range(kube, args).await,
        Command::Import(args) => data::import(kube, args).await,
        Command::Export(args) => data::export(kube, args).await,
        Command::Report(args) => bundle::report(kube, args).await,
    }
}

/// Answers kubectl, which asks what could come next on a command line.
pub(crate) fn completions(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    complete::run(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_how_it_was_called() {
        let called = |name: &str| Called::by(Some(OsStr::new(name)));
        assert_eq!(called("/usr/local/bin/kubectl-raftkv"), Called::Plugin);
        assert_eq!(called("kubectl_raftkv"), Called::Plugin);
        assert_eq!(called("kubectl_complete-raftkv"), Called::Completer);
        assert_eq!([called("raftkvctl"), called("kubectl"), Called::by(None)], [Called::Ctl; 3]);
    }
}
