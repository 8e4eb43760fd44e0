//! How the operator was installed: flags and environment in, a checked [`Config`] out. Nothing else reads either.

use crate::resources::Settings;
use clap::{ArgAction, Parser, ValueEnum};
use raftkv_crds::PullPolicy;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Image of clusters that name none, where the installation names none either.
const NODE_IMAGE: &str = concat!("ghcr.io/raftkv/raftkv:", env!("CARGO_PKG_VERSION"));
/// The Lease of an operator that watches all namespaces. With some namespaces, a hash of their names follows.
const LEASE: &str = "raftkv-operator";
/// Longest name of a namespace.
const NAMESPACE_CHARS_MAX: usize = 63;

/// Runs raftkv clusters on Kubernetes: each RaftKvCluster becomes a running cluster, and its replicas its membership.
#[derive(Parser, Clone, Debug)]
#[command(name = "raftkv-operator", version)]
pub struct Args {
    /// Namespaces whose clusters are run, separated by commas; all of them without it
    #[arg(long, env = "RAFTKV_WATCH_NAMESPACE", default_value = "", hide_default_value = true)]
    watch_namespace: String,
    /// Image of clusters whose spec names none
    #[arg(long, env = "RAFTKV_NODE_IMAGE", default_value = NODE_IMAGE)]
    node_image: String,
    /// When that image is pulled
    #[arg(long, env = "RAFTKV_NODE_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    node_image_pull_policy: PullPolicyArg,
    /// DNS domain of the Kubernetes cluster
    #[arg(long, env = "RAFTKV_CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "RAFTKV_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Namespace of the Lease; the one that the operator runs in without it
    #[arg(long, env = "POD_NAMESPACE", default_value = "", hide_default_value = true)]
    lease_namespace: String,
    /// Name of the operator's pod, for Events
    #[arg(long, env = "POD_NAME", default_value = "", hide_default_value = true)]
    pod_name: String,
    /// uid of the operator's pod: who holds the Lease; drawn by chance without it
    #[arg(long, env = "POD_UID", default_value = "", hide_default_value = true)]
    pod_uid: String,
    /// Whether Nodes, PersistentVolumes and the CustomResourceDefinition may be read
    #[arg(long, env = "RAFTKV_CLUSTER_READS", default_value = "true", action = ArgAction::Set)]
    cluster_reads: bool,
    /// What is logged: error, warn, info, debug, or a filter such as info,raftkv_operator=debug
    #[arg(long, env = "RAFTKV_LOG", default_value = "info")]
    log: String,
    /// Form of log lines
    #[arg(long, env = "RAFTKV_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Ask for this URL, and exit with 0 if the answer is a success, else with 1
    #[arg(long, hide = true)]
    probe: Option<String>,
    /// For tests only: exit with 17 after so many actions that change the world
    #[arg(long, hide = true, env = "RAFTKV_OPERATOR_EXIT_AFTER")]
    exit_after: Option<u64>,
}

/// As Kubernetes writes it.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum PullPolicyArg {
    #[value(name = "IfNotPresent")]
    IfNotPresent,
    #[value(name = "Always")]
    Always,
    #[value(name = "Never")]
    Never,
}

/// Form of log lines.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces.
    All,
    /// These.
    Namespaces(BTreeSet<String>),
}

/// How the operator was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What is watched.
    pub scope: Scope,
    /// What shows in children.
    pub settings: Settings,
    /// Where health and metrics are served.
    pub listen: SocketAddr,
    /// Namespace of the Lease, if it was given.
    pub lease_namespace: Option<String>,
    /// The pod, for Events.
    pub pod_name: String,
    /// Who holds the Lease, if it was given.
    pub pod_uid: Option<String>,
    /// Test only: the process ends after so many actions.
    pub exit_after: Option<u64>,
}

/// A flag has a bad value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} '{value}': {why}")]
pub struct ConfigError {
    flag: &'static str,
    value: String,
    why: String,
}

impl Args {
    /// The URL to ask instead of running.
    pub fn probe(&self) -> Option<&str> {
        self.probe.as_deref()
    }

    /// What is logged, and how.
    pub fn log(&self) -> (&str, LogFormat) {
        (&self.log, self.log_format)
    }

    /// Checks what clap cannot.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Config {
            scope: scope(&self.watch_namespace)?,
            settings: Settings {
                node_image: word("--node-image", self.node_image)?,
                node_image_pull_policy: self.node_image_pull_policy.into(),
                cluster_domain: domain(self.cluster_domain)?,
                cluster_reads: self.cluster_reads,
            },
            listen: self.listen,
            lease_namespace: given(self.lease_namespace),
            pod_name: given(self.pod_name).unwrap_or_else(|| LEASE.to_string()),
            pod_uid: given(self.pod_uid),
            exit_after: self.exit_after,
        })
    }
}

impl Scope {
    /// The Lease of an operator with this scope: two of the same scope exclude each other.
    pub fn lease_name(&self) -> String {
        match self {
            Scope::All => LEASE.to_string(),
            Scope::Namespaces(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("{LEASE}-{:016x}", fnv(names.join(",").as_bytes()))
            }
        }
    }

    /// The namespaces to watch, one by one; `None` is all of them at once.
    pub fn namespaces(&self) -> Vec<Option<String>> {
        match self {
            Scope::All => vec![None],
            Scope::Namespaces(names) => names.iter().cloned().map(Some).collect(),
        }
    }
}

impl From<PullPolicyArg> for PullPolicy {
    fn from(policy: PullPolicyArg) -> PullPolicy {
        match policy {
            PullPolicyArg::IfNotPresent => PullPolicy::IfNotPresent,
            PullPolicyArg::Always => PullPolicy::Always,
            PullPolicyArg::Never => PullPolicy::Never,
        }
    }
}

fn scope(list: &str) -> Result<Scope, ConfigError> {
    let names: BTreeSet<String> =
        list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect();
    let is_name = |name: &String| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        name.len() <= NAMESPACE_CHARS_MAX && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
    };
    match names.iter().find(|name| !is_name(name)) {
        Some(bad) => Err(ConfigError {
            flag: "--watch-namespace",
            value: bad.clone(),
            why: "a namespace has at most 63 lower-case letters, digits and '-'".to_string(),
        }),
        None if names.is_empty() => Ok(Scope::All),
        None => Ok(Scope::Namespaces(names)),
    }
}

fn word(flag: &'static str, value: String) -> Result<String, ConfigError> {
    if value.is_empty() || value.contains(char::is_whitespace) {
        return Err(ConfigError { flag, value, why: "it must be one word".to_string() });
    }
    Ok(value)
}

fn domain(value: String) -> Result<String, ConfigError> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if value.is_empty() || !value.bytes().all(inner) || value.starts_with('.') || value.ends_with('.') {
        let why = "give a DNS domain without dots at its ends, as in cluster.local".to_string();
        return Err(ConfigError { flag: "--cluster-domain", value, why });
    }
    Ok(value)
}

/// FNV-1a: the same in every build, so that two releases agree on the name of their Lease.
fn fnv(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config, ConfigError> {
        Args::try_parse_from([&["raftkv-operator"], args].concat()).unwrap().validate()
    }

    #[test]
    fn nothing_given_is_all_namespaces() {
        let config = config(&[]).unwrap();
        assert_eq!((config.scope.lease_name().as_str(), config.scope.namespaces()), ("raftkv-operator", vec![None]));
        assert_eq!((config.pod_name.as_str(), config.pod_uid, config.lease_namespace), ("raftkv-operator", None, None));
        assert!(config.settings.node_image.starts_with("ghcr.io/raftkv/raftkv:"));
        assert!(config.settings.cluster_reads);
    }

    #[test]
    fn the_lease_is_named_by_what_is_watched() {
        let name = |list| config(&["--watch-namespace", list]).unwrap().scope.lease_name();
        assert_eq!(name("b, a,,a"), name("a,b"));
        assert_ne!(name("a"), name("a,b"));
        assert_eq!(name("a"), "raftkv-operator-af63dc4c8601ec8c", "another name would let two releases act at once");
        assert_eq!(name(" , "), "raftkv-operator");
    }

    #[test]
    fn a_bad_value_is_named_with_its_flag() {
        let long = "a".repeat(64);
        for (flag, bad) in [
            ("--watch-namespace", "Team"),
            ("--watch-namespace", "a.b"),
            ("--watch-namespace", long.as_str()),
            ("--node-image", ""),
            ("--node-image", "a b"),
            ("--cluster-domain", ""),
            ("--cluster-domain", "cluster.local."),
            ("--cluster-domain", "a/b"),
        ] {
            let error = config(&[flag, bad]).unwrap_err();
            assert_eq!((error.flag, error.value.as_str()), (flag, bad), "{error}");
        }
    }

    #[test]
    fn what_clap_knows_is_refused_by_clap() {
        for bad in [
            ["--listen", "8080"],
            ["--node-image-pull-policy", "Sometimes"],
            ["--cluster-reads", "maybe"],
            ["--log-format", "xml"],
            ["--exit-after", "-1"],
        ] {
            assert!(Args::try_parse_from(["raftkv-operator", bad[0], bad[1]]).is_err(), "{bad:?}");
        }
        assert!(!config(&["--cluster-reads", "false"]).unwrap().settings.cluster_reads);
    }
}
