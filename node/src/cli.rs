//! The commands of the binary `raftkv`.
//!
//! Enters: the command line. Leaves: a [`Cli`] whose flags are not validated yet. The comments on commands and flags
//! are the help texts.

use crate::config::ServeArgs;
use crate::dev::layout::check_base;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A replicated key-value store.
#[derive(Debug, Parser)]
#[command(name = "raftkv", version, about, propagate_version = true)]
pub struct Cli {
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
}

/// What `raftkv` can run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one node. It starts blank: `raftkvctl init` makes it the first of a new cluster, `raftkvctl add` makes it a
    /// member of an existing one
    Serve(Box<ServeArgs>),
    /// Run a cluster of three nodes on this machine, to develop and to try things
    Dev(DevArgs),
}

/// Flags of `raftkv dev`.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// Directory of the cluster's data, token and logs; kept between runs
    #[arg(long, value_name = "DIR", default_value = "./raftkv-data")]
    pub data_dir: PathBuf,
    /// The first node's client port; its peer and admin ports follow, and the other nodes' are 10000 and 20000 higher
    /// [default: 2379, or the one that the data were made with]
    #[arg(long, value_name = "PORT", value_parser = parse_port_base)]
    pub port_base: Option<u16>,
    /// Copy the nodes' logs to the terminal
    #[arg(long, short)]
    pub verbose: bool,
}

fn parse_port_base(text: &str) -> Result<u16, String> {
    let base = text.parse().map_err(|_| "it is no port".to_string())?;
    check_base(base).map(|()| base).map_err(|error| error.to_string())
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
    fn dev_has_the_documented_defaults() {
        let Command::Dev(dev) = Cli::parse_from(["raftkv", "dev"]).command else {
            panic!("'raftkv dev' was read as another command")
        };
        assert_eq!(dev.data_dir, PathBuf::from("./raftkv-data"));
        assert_eq!((dev.port_base, dev.verbose), (None, false));
    }
}
