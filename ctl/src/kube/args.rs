//! What can be asked of `kubectl raftkv`, parsed by clap and not interpreted further here.
//!
//! The commands that read and write keys are those of `raftkvctl`; only where they go differs.

use crate::args::{Del, FileFormat, Get, Import, Output, Put, Range};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// Lines of each log in a report.
const LOG_LINES_DEFAULT: u32 = 2_000;
/// Most lines of each log in a report.
const LOG_LINES_MAX: i64 = 100_000;

const AFTER_HELP: &str = "\
It runs kubectl (RAFTKV_KUBECTL names another program), so it reaches what kubectl reaches, with the rights of its user:
it reads raftkvclusters, pods, persistentvolumeclaims and events, and opens port-forwards to pods; `members`, `leader
move` and the numbers in `status` also need the Secret NAME-auth.

Exit codes: 0 ok; 1 failed, without effect, and `status` of a cluster that does not serve; 2 usage; 3 outcome unknown: it
may have had an effect; 4 not found; 5 done, but standard output could not be written.";

/// Look after raftkv clusters in Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "raftkv", version, about, after_help = AFTER_HELP, args_override_self = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What is handed through to kubectl.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Global {
    /// The namespace of the cluster; by default that of kubectl's context
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// The context of the kubeconfig
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The kubeconfig
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show on one screen how the cluster is, and what to do next
    Status(Status),
    /// List the members, as a majority of them has it
    Members(Members),
    /// Who leads
    Leader {
        #[command(subcommand)]
        command: Leader,
    },
    /// Write a key
    Put(Data<Put>),
    /// Print a key's value, byte for byte
    Get(Data<Get>),
    /// Delete a key
    Del(Data<Del>),
    /// List keys, all at one revision
    Range(Data<Range>),
    /// Write many keys from a file
    Import(Data<Import>),
    /// Write all keys to a file, all at one revision
    Export(Data<Export>),
    /// Write what others need to look into a problem to a .tar.gz, without Secrets, keys and values
    Report(Report),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Leader {
    /// Move leadership to another voter
    Move(Move),
}

#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// The cluster; it can be left out where the namespace has only one
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Format {
    /// For people, or for programs
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub cluster: Cluster,
    /// Show it again every two seconds
    #[arg(short, long)]
    pub watch: bool,
    #[command(flatten)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Members {
    #[command(flatten)]
    pub cluster: Cluster,
    #[command(flatten)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Move {
    #[command(flatten)]
    pub cluster: Cluster,
    /// The pod whose member is to lead; by default the most caught-up voter
    #[arg(long, value_name = "POD")]
    pub to: Option<String>,
    #[command(flatten)]
    pub format: Format,
}

/// A command that reads or writes keys, and how it gets there.
#[derive(Debug, Args)]
pub(crate) struct Data<A: Args> {
    #[command(flatten)]
    pub through: Through,
    #[command(flatten)]
    pub args: A,
}

#[derive(Debug, Args)]
pub(crate) struct Through {
    /// The cluster; it can be left out where the namespace has only one
    #[arg(short, long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Ask the node in this pod and no other
    #[arg(long)]
    pub pod: Option<String>,
    #[command(flatten)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// How the output is written
    #[arg(long, value_enum)]
    pub format: FileFormat,
    /// Only keys that begin with this
    #[arg(long, default_value = "")]
    pub prefix: OsString,
    /// The output; it appears under this name when it is complete
    #[arg(default_value = "-")]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    #[command(flatten)]
    pub cluster: Cluster,
    /// The file to write, `-` for standard output; by default one in the working directory that is named by cluster and time
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Lines of each log, the newest ones
    #[arg(long, default_value_t = LOG_LINES_DEFAULT, value_name = "LINES")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=LOG_LINES_MAX))]
    pub log_lines: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn kubectls_flags_go_before_and_after_the_command() {
        for args in [
            &["raftkv", "-n", "prod", "status", "demo", "--watch"][..],
            &["raftkv", "status", "demo", "-w", "--namespace", "prod"],
        ] {
            let cli = Cli::try_parse_from(args).unwrap();
            assert_eq!(cli.global.namespace.as_deref(), Some("prod"));
            assert!(matches!(cli.command, Command::Status(Status { watch: true, .. })), "{args:?}");
        }
    }

    #[test]
    fn keys_are_positional_and_the_cluster_is_a_flag() {
        let cli = Cli::try_parse_from(["raftkv", "put", "-c", "demo", "color", "green", "--if-none-match"]).unwrap();
        let Command::Put(put) = cli.command else { panic!("not a put") };
        assert_eq!((put.through.cluster.as_deref(), put.args.key.key.to_str()), (Some("demo"), Some("color")));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for wrong in [&["put", "k"][..], &["leader"], &["export"], &["report", "--log-lines", "0"], &["init"], &[]] {
            assert!(Cli::try_parse_from(["raftkv"].iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }
}
