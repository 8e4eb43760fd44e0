//! Flags and environment of `raftkv serve`, parsed once, validated once, then trusted.
//!
//! [`ServeArgs`] is what clap read, still text; [`ServeArgs::validate`] turns it into the [`Config`] that everything
//! else uses. Each rule is one sentence that names the flag, its value and what would be right. Validation touches
//! neither the disk nor the network: a missing directory, an unreadable token or a port in use is found and reported by
//! the code that opens it.

mod address;
mod units;

use address::Address;
use clap::{Args, ValueEnum};
use raftkv_core::host_port::{HostPort, NoHostPort};
use raftkv_core::limits;
use std::path::PathBuf;
use std::time::Duration;

/// Longest name of a node: a DNS label, since pods carry it.
const NAME_BYTES_MAX: usize = 63;
/// Longest `--drain`: an hour.
const DRAIN_MAX: Duration = Duration::from_secs(3600);
/// Smallest `--quota`: it must hold the largest value and its history.
const QUOTA_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Smallest `--reserve`: half of it is for deletes, compaction and membership changes.
const RESERVE_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Smallest `--segment-bytes`: the largest batch and the segment's header, since a batch never spans two segments
/// (rule N2).
const SEGMENT_BYTES_MIN: u64 = limits::BATCH_BYTES_MAX as u64 + 1024 * 1024;
/// Largest `--segment-bytes`: offsets in a segment are 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Smallest `--snapshot-log-bytes`.
const SNAPSHOT_LOG_BYTES_MIN: u64 = 64 * 1024;
/// Shortest `--compact-retention`.
const COMPACT_RETENTION_MIN: Duration = Duration::from_secs(1);

/// The configuration of one node, after validation.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, fixed for its life.
    pub name: String,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Refuse to start unless a volume is mounted at `data_dir`.
    pub require_mount: bool,
    /// Client port, `host:port`.
    pub listen_client: String,
    /// Peer port, `host:port`.
    pub listen_peer: String,
    /// Admin port, `host:port`.
    pub listen_admin: String,
    /// `http://host:port` that clients use.
    pub client_url: String,
    /// Where peers dial it; fixed for the member's life.
    pub peer: HostPort,
    /// `http://host:port` of the admin port.
    pub admin_url: String,
    /// File with the cluster's bearer tokens, 64 hex digits a line; the first is sent, each is accepted.
    pub token_file: PathBuf,
    /// Further host names that the Host header may carry, besides the advertised and loopback ones.
    pub allowed_hosts: Vec<String>,
    /// How long to go on serving after SIGTERM.
    pub drain: Duration,
    /// Largest kv db; puts are refused above it.
    pub quota_bytes: u64,
    /// Space to be kept on the data volume.
    pub reserve_bytes: u64,
    /// How much history to keep; `None` keeps all of it. The leader proposes a compaction of older revisions.
    pub compact_retention: Option<Duration>,
    /// Log bytes after which a snapshot is cut.
    pub snapshot_log_bytes_min: u64,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// End when standard input is closed (children of `raftkv dev`).
    pub exit_on_stdin_close: bool,
}

impl Config {
    /// Sizes of the log.
    pub fn log(&self) -> raftkv_core::log::LogConfig {
        raftkv_core::log::LogConfig {
            segment_bytes: self.segment_bytes,
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            cache_bytes_max: limits::LOG_CACHE_BYTES_MAX,
            spare_segments: limits::SPARE_SEGMENTS,
        }
    }
}

/// How log lines look on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags of `raftkv serve`, as they were written.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// The node's name, fixed for its life
    #[arg(long, env = "RAFTKV_NAME")]
    pub name: String,
    /// Directory of the node's data; made when it is missing
    #[arg(long, env = "RAFTKV_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Refuse to start unless a volume is mounted at --data-dir
    #[arg(long, env = "RAFTKV_REQUIRE_MOUNT")]
    pub require_mount: bool,
    /// Where clients are served
    #[arg(long, env = "RAFTKV_LISTEN_CLIENT", value_name = "HOST:PORT", default_value = "127.0.0.1:2379")]
    pub listen_client: String,
    /// Where the other members are served
    #[arg(long, env = "RAFTKV_LISTEN_PEER", value_name = "HOST:PORT", default_value = "127.0.0.1:2380")]
    pub listen_peer: String,
    /// Where administration, health and metrics are served
    #[arg(long, env = "RAFTKV_LISTEN_ADMIN", value_name = "HOST:PORT", default_value = "127.0.0.1:2381")]
    pub listen_admin: String,
    /// Where clients reach this node [default: from --listen-client]
    #[arg(long, env = "RAFTKV_CLIENT_URL", value_name = "URL")]
    pub client_url: Option<String>,
    /// Where the other members reach this node; fixed for the member's life [default: from --listen-peer]
    #[arg(long, env = "RAFTKV_PEER_URL", value_name = "URL")]
    pub peer_url: Option<String>,
    /// Where administrators reach this node [default: from --listen-admin]
    #[arg(long, env = "RAFTKV_ADMIN_URL", value_name = "URL")]
    pub admin_url: Option<String>,
    /// File with the cluster's bearer tokens, 64 hex digits a line: the first is sent, each is accepted
    #[arg(long, env = "RAFTKV_TOKEN_FILE", value_name = "FILE")]
    pub token_file: PathBuf,
    /// A further host name that requests may be addressed to; may be repeated
    #[arg(long = "allowed-host", env = "RAFTKV_ALLOWED_HOSTS", value_name = "HOST", value_delimiter = ',')]
    pub allowed_hosts: Vec<String>,
    /// How long to go on serving after SIGTERM, so that load balancers notice: `3s`, `500ms`, or seconds
    #[arg(long, env = "RAFTKV_DRAIN", value_name = "TIME", default_value = "0s")]
    pub drain: String,
    /// Largest key-value database; puts are refused above it
    #[arg(long, env = "RAFTKV_QUOTA", value_name = "BYTES", default_value = "8GiB")]
    pub quota: String,
    /// Space to keep on the data volume, or 5 % of it if that is more; puts are refused when less is left
    #[arg(long, env = "RAFTKV_RESERVE", value_name = "BYTES", default_value = "256MiB")]
    pub reserve: String,
    /// How much history to keep: `1h`, `7d`, or `off` for all of it
    #[arg(long, env = "RAFTKV_COMPACT_RETENTION", value_name = "TIME", default_value = "off")]
    pub compact_retention: String,
    /// Log bytes after which a snapshot is cut
    #[arg(long, env = "RAFTKV_SNAPSHOT_LOG_BYTES", value_name = "BYTES", default_value = "64MiB")]
    pub snapshot_log_bytes: String,
    /// Bytes of a log segment
    #[arg(long, env = "RAFTKV_SEGMENT_BYTES", value_name = "BYTES", default_value = "64MiB", hide = true)]
    pub segment_bytes: String,
    /// End when standard input is closed
    #[arg(long, env = "RAFTKV_EXIT_ON_STDIN_CLOSE")]
    pub exit_on_stdin_close: bool,
    /// How log lines look on standard error
    #[arg(long, env = "RAFTKV_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// A flag that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The value is not of the kind that the flag takes.
    #[error("{flag} '{value}' is not usable: {right}")]
    Value {
        /// The flag, with its dashes.
        flag: &'static str,
        /// The value as it was given.
        value: String,
        /// What a right value is.
        right: String,
    },
    /// Two ports are the same.
    #[error("{flag} and {other} are both '{value}': give each its own port")]
    SamePort {
        /// One flag, with its dashes.
        flag: &'static str,
        /// The other flag.
        other: &'static str,
        /// The address that both were given.
        value: String,
    },
    /// The advertised URL cannot be derived.
    #[error(
        "{url_flag} is missing: {listen_flag} '{value}' listens on every address, and none of them can be told to others; give http://host:port"
    )]
    NoUrl {
        /// The flag that is missing.
        url_flag: &'static str,
        /// The flag from which it would have been derived.
        listen_flag: &'static str,
        /// The value as it was given.
        value: String,
    },
}

impl ServeArgs {
    /// Checks every flag; the error is about the first one that cannot be used.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let client = listen("--listen-client", &self.listen_client)?;
        let peer = listen("--listen-peer", &self.listen_peer)?;
        let admin = listen("--listen-admin", &self.listen_admin)?;
        distinct(("--listen-client", &client), ("--listen-peer", &peer))?;
        distinct(("--listen-client", &client), ("--listen-admin", &admin))?;
        distinct(("--listen-peer", &peer), ("--listen-admin", &admin))?;
        Ok(Config {
            client_url: advertised("--client-url", self.client_url, "--listen-client", &client)?,
            peer: peer_address(self.peer_url, &peer)?,
            admin_url: advertised("--admin-url", self.admin_url, "--listen-admin", &admin)?,
            name: name(self.name)?,
            data_dir: path("--data-dir", self.data_dir)?,
            require_mount: self.require_mount,
            listen_client: client.to_string(),
            listen_peer: peer.to_string(),
            listen_admin: admin.to_string(),
            token_file: path("--token-file", self.token_file)?,
            allowed_hosts: self.allowed_hosts.into_iter().map(allowed_host).collect::<Result<_, _>>()?,
            drain: drain(self.drain)?,
            quota_bytes: size("--quota", self.quota, QUOTA_BYTES_MIN, u64::MAX)?,
            reserve_bytes: size("--reserve", self.reserve, RESERVE_BYTES_MIN, u64::MAX)?,
            compact_retention: compact_retention(self.compact_retention)?,
            snapshot_log_bytes_min: size(
                "--snapshot-log-bytes",
                self.snapshot_log_bytes,
                SNAPSHOT_LOG_BYTES_MIN,
                u64::MAX,
            )?,
            segment_bytes: size("--segment-bytes", self.segment_bytes, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)?,
            exit_on_stdin_close: self.exit_on_stdin_close,
        })
    }
}

fn unusable(flag: &'static str, value: impl Into<String>, right: impl Into<String>) -> ConfigError {
    ConfigError::Value { flag, value: value.into(), right: right.into() }
}

/// A name appears in headers, file names and pod names, so it is a DNS label in which dots are allowed.
fn name(value: String) -> Result<String, ConfigError> {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = value.as_bytes();
    let good = bytes.iter().all(|byte| edge(*byte) || *byte == b'-' || *byte == b'.')
        && bytes.first().is_some_and(|byte| edge(*byte))
        && bytes.last().is_some_and(|byte| edge(*byte))
        && bytes.len() <= NAME_BYTES_MAX;
    let right = format!(
        "give 1 to {NAME_BYTES_MAX} lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
    );
    if good { Ok(value) } else { Err(unusable("--name", value, right)) }
}

fn path(flag: &'static str, value: PathBuf) -> Result<PathBuf, ConfigError> {
    if value.as_os_str().is_empty() {
        return Err(unusable(flag, "", "give a path"));
    }
    Ok(value)
}

fn listen(flag: &'static str, value: &str) -> Result<Address, ConfigError> {
    let right = "give host:port with a port from 1 to 65535, as in 127.0.0.1:2379 or [::1]:2379";
    Address::parse(value).ok_or_else(|| unusable(flag, value, right))
}

fn distinct(one: (&'static str, &Address), two: (&'static str, &Address)) -> Result<(), ConfigError> {
    if one.1.collides(two.1) {
        return Err(ConfigError::SamePort { flag: one.0, other: two.0, value: two.1.to_string() });
    }
    Ok(())
}

fn advertised(
    url_flag: &'static str,
    url: Option<String>,
    listen_flag: &'static str,
    listen: &Address,
) -> Result<String, ConfigError> {
    let right = "give http://host:port and nothing behind it (TLS is not supported yet)";
    match url {
        Some(url) => match Address::parse_url(&url) {
            Some(address) if !address.is_wildcard() => Ok(address.url()),
            Some(_) => Err(unusable(
                url_flag,
                url,
                "others are told it, and nobody can dial that; give an address of this node",
            )),
            None => Err(unusable(url_flag, url, right)),
        },
        None if listen.is_wildcard() => Err(ConfigError::NoUrl { url_flag, listen_flag, value: listen.to_string() }),
        None => Ok(listen.url()),
    }
}

/// Where peers dial this node. It is compared as text with what the members know (rule O34), so an IPv6 address gets its
/// one canonical form.
fn peer_address(given: Option<String>, listen: &Address) -> Result<HostPort, ConfigError> {
    const FLAG: &str = "--peer-url";
    let text = match given {
        Some(given) => given,
        None => advertised(FLAG, None, "--listen-peer", listen)?,
    };
    let unusable = |wrong: NoHostPort| unusable(FLAG, text.as_str(), wrong.to_string());
    let peer = HostPort::parse(&text).map_err(unusable)?;
    let address = Address::parse(peer.as_str()).ok_or_else(|| unusable(NoHostPort::Shape))?;
    HostPort::parse(&address.to_string()).map_err(unusable)
}

fn allowed_host(value: String) -> Result<String, ConfigError> {
    let right = "give a host name or an address, without scheme and port";
    let good = address::is_host(&value) || value.parse::<std::net::Ipv6Addr>().is_ok();
    if good { Ok(value) } else { Err(unusable("--allowed-host", value, right)) }
}

fn drain(value: String) -> Result<Duration, ConfigError> {
    let right = "give 0s to 1h, as in 3s or 500ms";
    match units::duration(&value) {
        Ok(drain) if drain <= DRAIN_MAX => Ok(drain),
        Ok(_) | Err(None) => Err(unusable("--drain", value, right)),
        Err(Some(wrong)) => Err(unusable("--drain", value, wrong)),
    }
}

fn compact_retention(value: String) -> Result<Option<Duration>, ConfigError> {
    let right = "give at least 1s, as in 1h or 7d, or off to keep everything";
    match units::duration(&value) {
        _ if value == "off" => Ok(None),
        Ok(kept) if kept >= COMPACT_RETENTION_MIN => Ok(Some(kept)),
        Ok(_) | Err(None) => Err(unusable("--compact-retention", value, right)),
        Err(Some(wrong)) => Err(unusable("--compact-retention", value, wrong)),
    }
}

fn size(flag: &'static str, value: String, bytes_min: u64, bytes_max: u64) -> Result<u64, ConfigError> {
    match units::bytes(&value) {
        Ok(bytes) if (bytes_min..=bytes_max).contains(&bytes) => Ok(bytes),
        Ok(_) | Err(None) => {
            let most =
                if bytes_max == u64::MAX { String::new() } else { format!(" and at most {}", units::told(bytes_max)) };
            let right = format!("give at least {}{most}, as in 64MiB or 8GiB", units::told(bytes_min));
            Err(unusable(flag, value, right))
        }
        Err(Some(wrong)) => Err(unusable(flag, value, wrong)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn validate(more: &[&str]) -> Result<Config, ConfigError> {
        let least = ["raftkv", "--data-dir", "d", "--token-file", "t"];
        let named = if more.contains(&"--name") { vec![] } else { vec!["--name", "n1"] };
        let args = least.iter().chain(&named).chain(more);
        Command::try_parse_from(args).unwrap().serve.validate()
    }

    #[test]
    fn a_peer_address_has_one_form_with_and_without_a_scheme() {
        for given in ["http://[0:0::1]:2380", "[::1]:2380", "http://[::1]:02380"] {
            let config = validate(&["--peer-url", given]).unwrap();
            assert_eq!(config.peer.as_str(), "[::1]:2380", "{given}");
        }
        assert_eq!(validate(&["--listen-peer=[::1]:2380"]).unwrap().peer.as_str(), "[::1]:2380");
    }

    #[test]
    fn the_least_flags_give_the_documented_defaults() {
        let config = validate(&[]).unwrap();
        assert_eq!(config.client_url, "http://127.0.0.1:2379");
        assert_eq!(config.peer.url(), "http://127.0.0.1:2380");
        assert_eq!(config.admin_url, "http://127.0.0.1:2381");
        assert_eq!(config.drain, Duration::ZERO);
        assert_eq!(config.quota_bytes, limits::QUOTA_BYTES_DEFAULT);
        assert_eq!(config.reserve_bytes, limits::RESERVE_BYTES_DEFAULT);
        assert_eq!(config.compact_retention, None);
        assert_eq!(config.snapshot_log_bytes_min, limits::SNAPSHOT_LOG_BYTES_MIN);
        assert_eq!(config.segment_bytes, limits::SEGMENT_BYTES);
        assert!(!config.exit_on_stdin_close);
    }

    #[test]
    fn flags_reach_the_configuration() {
        let config = validate(&[
            "--listen-client=0.0.0.0:1",
            "--client-url=http://demo-0.demo:1",
            "--allowed-host=demo,demo.default.svc",
            "--allowed-host=::1",
            "--drain=3s",
            "--quota=1GiB",
            "--compact-retention=1h",
        ])
        .unwrap();
        assert_eq!(config.listen_client, "0.0.0.0:1");
        assert_eq!(config.client_url, "http://demo-0.demo:1");
        assert_eq!(config.allowed_hosts, ["demo", "demo.default.svc", "::1"]);
        assert_eq!(config.drain, Duration::from_secs(3));
        assert_eq!(config.quota_bytes, 1 << 30);
        assert_eq!(config.compact_retention, Some(Duration::from_secs(3600)));
    }

    #[test]
    fn each_rule_names_the_flag_the_value_and_what_would_be_right() {
        let long = "n".repeat(64);
        let cases = [
            ("--name", "N1", "lower-case"),
            ("--name", "-a", "letter or digit at both ends"),
            ("--name", "", "1 to 63"),
            ("--name", &long, "1 to 63"),
            ("--data-dir", "", "give a path"),
            ("--token-file", "", "give a path"),
            ("--listen-client", "2379", "host:port"),
            ("--listen-peer", "localhost:0", "1 to 65535"),
            ("--listen-admin", "localhost:70000", "1 to 65535"),
            ("--client-url", "https://a:1", "http://host:port"),
            ("--peer-url", "http://a:1/path", "nothing behind it"),
            ("--peer-url", "https://a:1", "TLS is not supported yet"),
            ("--peer-url", "a", "http://host:port"),
            ("--admin-url", "http://0.0.0.0:1", "nobody can dial that"),
            ("--peer-url", "http://[::]:1", "nobody can dial that"),
            ("--allowed-host", "http://a", "without scheme"),
            ("--drain", "2h", "0s to 1h"),
            ("--drain", "soon", "as in 3s"),
            ("--drain", "3", "give it a unit"),
            ("--quota", "1KiB", "at least 4MiB"),
            ("--quota", "8GB", "'GB' is no unit here"),
            ("--quota", "99999999TiB", "too large for 64 bits"),
            ("--reserve", "1MiB", "at least 16MiB"),
            ("--compact-retention", "0s", "off"),
            ("--compact-retention", "1", "give it a unit: ms, s, m, h, d"),
            ("--snapshot-log-bytes", "1", "at least 64KiB"),
            ("--segment-bytes", "1MiB", "at most"),
        ];
        for (flag, value, right) in cases {
            let given = format!("{flag}={value}");
            let args: &[&str] = if flag == "--name" { &["--name", value] } else { &[&given] };
            // The least flags contain the two paths already, and clap allows each flag only once.
            let error = match flag {
                "--data-dir" => path("--data-dir", PathBuf::from(value)).unwrap_err(),
                "--token-file" => path("--token-file", PathBuf::from(value)).unwrap_err(),
                "--name" if value.starts_with('-') => name(value.to_string()).unwrap_err(),
                _ => validate(args).unwrap_err(),
            };
            let text = error.to_string();
            for part in [flag, &format!("'{value}'"), right] {
                assert!(text.contains(part), "{given}: '{part}' is missing in: {text}");
            }
        }
    }

    #[test]
    fn ports_must_differ_and_wildcards_need_a_url() {
        let same = validate(&["--listen-admin=0.0.0.0:2379", "--admin-url=http://a:1"]).unwrap_err();
        assert_eq!(
            same.to_string(),
            "--listen-client and --listen-admin are both '0.0.0.0:2379': give each its own port"
        );
        let blind = validate(&["--listen-peer=[::]:2380"]).unwrap_err();
        assert!(blind.to_string().starts_with("--peer-url is missing: --listen-peer '[::]:2380'"), "{blind}");
    }
}
