//! Flags and environment of `raftkv serve`, parsed once, validated once, then trusted.

use crate::limits;
use std::path::PathBuf;
use std::time::Duration;

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
    /// `http://host:port` that peers dial; fixed for the member's life.
    pub peer_url: String,
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
    /// How much history to keep; `None`: all of it. The leader proposes a compaction of older revisions.
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
    pub fn log(&self) -> crate::log::LogConfig {
        crate::log::LogConfig {
            segment_bytes: self.segment_bytes,
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            cache_bytes_max: limits::LOG_CACHE_BYTES_MAX,
            spare_segments: limits::SPARE_SEGMENTS,
        }
    }
}
