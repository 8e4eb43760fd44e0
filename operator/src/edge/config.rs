//! How the operator was installed. The [`Args`] that were read become a checked [`Config`], and everything else works
//! with that.

use crate::edge::flags::Args;
use crate::resources::Settings;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The Lease of an operator that watches all namespaces. If it watches only some, a hash of their names is appended.
const LEASE: &str = "raftkv-operator";
/// Longest name of a namespace.
const NAMESPACE_CHARS_MAX: usize = 63;

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
    /// The identity under which the Lease is held, if it was given.
    pub pod_uid: Option<String>,
    /// For tests only: the process ends after so many actions.
    pub exit_after: Option<u64>,
}

/// A flag has a value that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} '{value}': {why}")]
pub struct ConfigError {
    flag: &'static str,
    value: String,
    why: String,
}

impl Config {
    /// Checks what the parser of the command line does not.
    pub fn new(args: Args) -> Result<Config, ConfigError> {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Config {
            scope: scope(&args.watch_namespace)?,
            settings: Settings {
                node_image: word("--node-image", args.node_image)?,
                node_image_pull_policy: args.node_image_pull_policy,
                cluster_domain: domain(args.cluster_domain)?,
                cluster_reads: args.cluster_reads,
            },
            listen: args.listen.expect("--listen has a default"),
            lease_namespace: given(args.lease_namespace),
            pod_name: given(args.pod_name).unwrap_or_else(|| LEASE.to_string()),
            pod_uid: given(args.pod_uid),
            exit_after: args.exit_after,
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
    use crate::edge::command_line::{self, Asked};
    use std::ffi::OsString;

    fn config(args: &[&str]) -> Result<Config, ConfigError> {
        match command_line::read(args.iter().map(OsString::from), |_| None).unwrap() {
            Asked::Run(args) => Config::new(*args),
            Asked::Print(text) => panic!("{text}"),
        }
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
}
