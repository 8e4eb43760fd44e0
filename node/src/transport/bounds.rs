//! The transport's limits as values, so that tests need not wait for the real ones. The real ones are the default, and
//! their numbers come from [`raftkv_core::limits`].

use raftkv_core::limits;
use std::time::Duration;

/// Limits of one [`super::Transport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportLimits {
    /// Largest payload of a frame.
    pub frame_bytes_max: usize,
    /// Frames that may wait for one peer.
    pub out_frames_max: usize,
    /// Bytes of frames that may wait for one peer.
    pub out_bytes_max: usize,
    /// Connections on the peer port.
    pub connections_max: usize,
    /// Time for DNS and TCP connect.
    pub connect: Duration,
    /// Time for a request head, and for the answer to ours.
    pub handshake: Duration,
    /// Time between two probes.
    pub probe: Duration,
    /// Time for the end of a stream to answer that it is there.
    pub ask: Duration,
    /// A stream without a sign of life for this long is broken.
    pub idle: Duration,
    /// First pause before dialling again.
    pub redial_min: Duration,
    /// Longest pause before dialling again.
    pub redial_max: Duration,
    /// A transfer, or any write on the peer port, that does not move for this long is broken off.
    pub stall: Duration,
    /// A transfer that does not move for this long, over however many connections, is given up.
    pub resume: Duration,
    /// Speed of all snapshot bodies together.
    pub snapshot_bytes_per_second: u64,
}

impl Default for TransportLimits {
    fn default() -> Self {
        TransportLimits {
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            out_frames_max: limits::PEER_OUT_FRAMES_MAX,
            out_bytes_max: limits::PEER_OUT_BYTES_MAX,
            connections_max: limits::PEER_CONNECTIONS_MAX,
            connect: Duration::from_millis(limits::PEER_CONNECT_MS),
            handshake: Duration::from_millis(limits::PEER_HANDSHAKE_MS),
            probe: Duration::from_millis(limits::PEER_PROBE_MS),
            ask: Duration::from_millis(limits::PEER_ASK_MS),
            idle: Duration::from_millis(limits::PEER_IDLE_MS),
            redial_min: Duration::from_millis(limits::PEER_REDIAL_MS_MIN),
            redial_max: Duration::from_millis(limits::PEER_REDIAL_MS_MAX),
            stall: Duration::from_millis(limits::SNAPSHOT_STALL_MS),
            resume: Duration::from_millis(limits::SNAPSHOT_GIVE_UP_MS),
            snapshot_bytes_per_second: limits::SNAPSHOT_SEND_BYTES_PER_SECOND,
        }
    }
}
