//! What can be asked on the command line, parsed by clap and not interpreted further here.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use raftkv_api::{DecimalId, Hex128};
use raftkv_client::Condition;
use raftkv_client::http::Endpoint;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where `raftkv dev` stores its client URLs, by default.
const DEV_ENDPOINTS_FILE: &str = "./raftkv-data/endpoints";
/// Its client URLs, by default.
const DEV_ENDPOINTS: &str = "http://127.0.0.1:2379,http://127.0.0.1:12379,http://127.0.0.1:22379";
/// Writes in flight by default: enough to fill the batches of one leader.
const CONCURRENCY_DEFAULT: usize = 64;
/// Most writes in flight; each holds a connection.
const CONCURRENCY_MAX: usize = 256;
/// How long one key may take by default: several elections, or a node that restarts.
const KEY_TIMEOUT_S_DEFAULT: u64 = 60;
const EXIT_CODES: &str = "\
Exit codes: 0 ok; 1 failed, without effect; 2 usage; 3 outcome unknown: it may have had an effect;
4 not found; 5 done, but standard output could not be written.";

/// Read, write and look after a raftkv cluster.
#[derive(Debug, Parser)]
#[command(name = "raftkvctl", version, about, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Client URLs; a call that fails at one is tried at the others [default: those in ./raftkv-data/endpoints, or the
    /// three of `raftkv dev`]
    #[arg(long, global = true, env = "RAFTKV_ENDPOINTS", value_delimiter = ',', value_parser = parse_url)]
    #[arg(value_name = "URL,...")]
    pub endpoints: Vec<String>,
    /// Admin URLs; by default each endpoint is asked for its own
    #[arg(long, global = true, env = "RAFTKV_ADMIN_ENDPOINTS", value_delimiter = ',', value_parser = parse_url)]
    #[arg(value_name = "URL,...")]
    pub admin_endpoints: Vec<String>,
    /// File whose first line is the cluster's token, for the admin calls
    #[arg(long, global = true, env = "RAFTKV_TOKEN_FILE", default_value = "./raftkv-data/token", value_name = "FILE")]
    pub token_file: PathBuf,
    /// For people, or for programs
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

impl Global {
    /// Where no endpoints were named: those of the `raftkv dev` that was started here, or those that it has by default.
    pub(crate) fn find_endpoints(self) -> Global {
        if !self.endpoints.is_empty() {
            return self;
        }
        Global { endpoints: dev_endpoints(Path::new(DEV_ENDPOINTS_FILE)), ..self }
    }
}

fn dev_endpoints(file: &Path) -> Vec<String> {
    let stored = std::fs::read_to_string(file).unwrap_or_default();
    let urls = |text: &str| -> Vec<String> { text.trim().split(',').filter_map(|url| parse_url(url).ok()).collect() };
    Some(urls(&stored)).filter(|urls| !urls.is_empty()).unwrap_or_else(|| urls(DEV_ENDPOINTS))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a key
    Put(Put),
    /// Print a key's value, byte for byte
    Get(Get),
    /// Delete a key
    Del(Del),
    /// List keys, all at one revision
    Range(Range),
    /// Write many keys from a file
    Import(Import),
    /// Write all keys to a file, all at one revision
    Export(Export),
    /// Show how every node is, and what to do if one is not well
    Status,
    /// List the members
    Members,
    /// Add a Blank node as a learner
    Add(Add),
    /// Make a learner a voter
    Promote(Promote),
    /// Remove a member for ever
    Remove(Remove),
    /// Move leadership to another voter
    Transfer(Transfer),
    /// Make one Blank node the first voter of a new cluster
    Init(Init),
    /// Set a Removed or Quarantined node's data aside, so that it can join anew
    Reset(Reset),
    /// Look after a cluster in Kubernetes, as `kubectl raftkv` does; `raftkvctl kube --help` shows how
    Kube {
        /// A command of `kubectl raftkv`, and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    /// The key
    pub key: OsString,
    /// KEY is base64
    #[arg(long)]
    pub key_b64: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Conditions {
    /// Only if the key was last written at this revision; `*`: only if it exists
    #[arg(long, value_name = "REVISION", value_parser = parse_if_match)]
    pub if_match: Option<Condition>,
    /// Only if the key does not exist
    #[arg(long, conflicts_with = "if_match")]
    pub if_none_match: bool,
}

impl Conditions {
    pub(crate) fn condition(&self) -> Condition {
        match self.if_match {
            Some(condition) => condition,
            None if self.if_none_match => Condition::Absent,
            None => Condition::None,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Reading {
    /// Read the store as it was at this revision
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub revision: Option<u64>,
    /// Read what the node has, without asking the leader: fast, possibly old
    #[arg(long)]
    pub stale: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    #[command(flatten)]
    pub key: Key,
    /// The value; `-` reads it from standard input
    pub value: OsString,
    #[command(flatten)]
    pub conditions: Conditions,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub key: Key,
    #[command(flatten)]
    pub reading: Reading,
}

#[derive(Debug, Args)]
pub(crate) struct Del {
    #[command(flatten)]
    pub key: Key,
    #[command(flatten)]
    pub conditions: Conditions,
}

#[derive(Debug, Args)]
pub(crate) struct Range {
    /// Keys that begin with this
    #[arg(conflicts_with_all = ["start", "end"])]
    pub prefix: Option<OsString>,
    /// At most so many keys; 0: all
    #[arg(long, default_value_t = 0)]
    pub limit: u64,
    /// Leave the values out
    #[arg(long)]
    pub keys_only: bool,
    /// Print the number of keys only
    #[arg(long)]
    pub count_only: bool,
    /// Keys from this one on, itself included
    #[arg(long, value_name = "KEY")]
    pub start: Option<OsString>,
    /// Keys up to this one, itself excluded
    #[arg(long, value_name = "KEY")]
    pub end: Option<OsString>,
    /// PREFIX, --start and --end are base64
    #[arg(long)]
    pub key_b64: bool,
    #[command(flatten)]
    pub reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// One JSON object a line: {"key","value"} or {"key_b64","value_b64"}
    Jsonl,
    /// Debian control stanzas; the key is the Package field, the value the stanza
    Deb822,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// How the input is written
    #[arg(long, value_enum)]
    pub format: FileFormat,
    /// Writes in flight at the same time
    #[arg(long, default_value_t = CONCURRENCY_DEFAULT, value_parser = parse_concurrency)]
    pub concurrency: usize,
    /// How long one key may take before the import fails
    #[arg(long, default_value_t = KEY_TIMEOUT_S_DEFAULT, value_name = "SECONDS")]
    pub timeout_s: u64,
    /// The input; it is read whole before anything is written
    #[arg(default_value = "-")]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// How the output is written
    #[arg(long, value_enum)]
    pub format: FileFormat,
    /// Read this node only: its client URL
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub node: Option<String>,
    /// Only keys that begin with this
    #[arg(long, default_value = "")]
    pub prefix: OsString,
    /// The output; it appears under this name when it is complete
    #[arg(default_value = "-")]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Ask the node at this admin URL who it is, instead of saying it
    #[arg(long, value_name = "URL", value_parser = parse_url, conflicts_with_all = ["name", "peer_url", "incarnation"])]
    pub admin_url: Option<String>,
    /// The node's name
    #[arg(required_unless_present = "admin_url")]
    pub name: Option<String>,
    /// Where its peers dial it
    #[arg(required_unless_present = "admin_url")]
    pub peer_url: Option<String>,
    /// The incarnation that its status shows
    #[arg(required_unless_present = "admin_url")]
    pub incarnation: Option<Hex128>,
}

#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// The learner
    #[arg(value_parser = parse_id)]
    pub id: DecimalId,
    /// The voter that leaves in the same change
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub replaces: Option<DecimalId>,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The member
    #[arg(value_parser = parse_id)]
    pub id: DecimalId,
}

#[derive(Debug, Args)]
pub(crate) struct Transfer {
    /// The voter to lead next; by default the most caught-up one
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub to: Option<DecimalId>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The admin URL of the node; no other node is asked
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub admin_url: String,
    /// The id of the new cluster, 32 hex digits; random by default
    #[arg(long, value_name = "HEX")]
    pub cluster_id: Option<Hex128>,
    /// Voters that the cluster must have had once before it serves clients
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub min_voters: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// The admin URL of the node; no other node is asked
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub admin_url: String,
    /// Give up a directory that may hold the only copy of acknowledged writes, because a leader's log contradicts it
    #[arg(long)]
    pub diverged: bool,
    /// The admin URL of a member that a learner asks whether it was removed, if it knows nobody; can be repeated
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub ask: Vec<String>,
}

fn parse_url(text: &str) -> Result<String, String> {
    Endpoint::new(text).map(|endpoint| endpoint.url().to_string()).map_err(|error| error.to_string())
}

fn parse_if_match(text: &str) -> Result<Condition, String> {
    match text {
        "*" => Ok(Condition::Exists),
        revision => revision.parse().map(Condition::Revision).map_err(|_| "neither a revision nor *".to_string()),
    }
}

fn parse_id(text: &str) -> Result<DecimalId, String> {
    text.parse().map(DecimalId).map_err(|_| "not a member id in decimal; see `raftkvctl members`".to_string())
}

fn parse_concurrency(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=CONCURRENCY_MAX) => Ok(count),
        Ok(_) | Err(_) => Err(format!("not a number from 1 to {}", CONCURRENCY_MAX)),
    }
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
    fn the_defaults_are_the_dev_cluster() {
        let cli = Cli::try_parse_from(["raftkvctl", "put", "k", "-", "--if-match", "7"]).unwrap();
        assert!(cli.global.endpoints.is_empty());
        match cli.command {
            Command::Put(put) => assert_eq!(put.conditions.condition(), Condition::Revision(7)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_endpoints_that_dev_stored_come_before_its_defaults() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(dev_endpoints(file.path()).join(","), DEV_ENDPOINTS);
        assert_eq!(dev_endpoints(Path::new("/nonexistent")).len(), 3);
        std::fs::write(file.path(), "http://127.0.0.1:3000,http://127.0.0.1:13000\n").unwrap();
        assert_eq!(dev_endpoints(file.path()), ["http://127.0.0.1:3000", "http://127.0.0.1:13000"]);
    }

    #[test]
    fn wrong_usage_is_refused() {
        for wrong in [
            &["put", "k"][..],
            &["put", "k", "v", "--if-match", "1", "--if-none-match"],
            &["put", "k", "v", "--if-match", "x"],
            &["add", "n", "http://h:1"],
            &["add", "--admin-url", "http://h:1", "n"],
            &["promote", "x"],
            &["range", "p/", "--start", "a"],
            &["import"],
            &["import", "--format", "jsonl", "--concurrency", "0"],
            &["init"],
            &["reset"],
            &["init", "--admin-url", "h:1"],
            &["reset", "--admin-url", "https://h:1"],
            &["add", "--admin-url", "http://h"],
            &["members", "--endpoints", "https://h:1"],
            &["members", "--admin-endpoints", "http://h:1/path"],
            &["export", "--format", "jsonl", "--node", "x"],
            &["get", "k", "--revision", "0"],
        ] {
            assert!(Cli::try_parse_from(["raftkvctl"].iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }
}
