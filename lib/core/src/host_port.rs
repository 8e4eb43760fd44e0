//! Where a member's peers dial it: `host:port`, as the membership stores it (rule N3). PURE.
//!
//! Enters: what a flag or a call says, with or without `http://`. Leaves: the address without a scheme, or what would be
//! right instead. A scheme is no part of a membership: whether peers speak TLS is a matter of a member's mode, and may
//! change while its address does not. What people are shown has the scheme again.
//!
//! An address is text here: names are not looked up, and one that does not resolve yet is right for a pod that is about
//! to get its DNS record.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The scheme that is shown.
const SCHEME: &str = "http://";
/// Most bytes of a DNS name.
const HOST_BYTES_MAX: usize = 253;
/// Most bytes of one of its labels.
const LABEL_BYTES_MAX: usize = 63;

/// `host:port`, or `[address]:port` for IPv6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostPort(String);

/// Why a text is no address at which a member can be dialled, and what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHostPort {
    /// It asks for TLS.
    #[error("give http://host:port (TLS is not supported yet)")]
    Tls,
    /// The host stands for every address of the machine that reads it.
    #[error("nobody can dial that; give the address at which the others reach the node, as in http://host:port")]
    Everywhere,
    /// It is anything else.
    #[error("give http://host:port and nothing behind it")]
    Shape,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HostPort {
    /// Reads `http://host:port` or `host:port`.
    pub fn parse(text: &str) -> Result<HostPort, NoHostPort> {
        if text.starts_with("https://") {
            return Err(NoHostPort::Tls);
        }
        let rest = text.strip_prefix(SCHEME).unwrap_or(text);
        let (host, port) = rest.rsplit_once(':').ok_or(NoHostPort::Shape)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0).ok_or(NoHostPort::Shape)?;
        if !is_name(host) && !is_ipv6(host) {
            return Err(NoHostPort::Shape);
        }
        if is_everywhere(host) {
            return Err(NoHostPort::Everywhere);
        }
        Ok(HostPort(format!("{host}:{port}")))
    }

    /// What stands in a membership: it was parsed when it was proposed, and every member must read it alike, also what
    /// a later version accepts.
    pub(crate) fn stored(text: String) -> HostPort {
        HostPort(text)
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As people are shown it, and as peers dial it.
    pub fn url(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }
}

/// A DNS name or an IPv4 address.
fn is_name(host: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| {
        !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.bytes().all(inner) && !label.starts_with('-')
    };
    host.len() <= HOST_BYTES_MAX && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// What may be an IPv6 address in brackets.
fn is_ipv6(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.is_some_and(|inside| {
        let good = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
        (2..=45).contains(&inside.len()) && inside.contains(':') && inside.bytes().all(good)
    })
}

/// `0.0.0.0` and `[::]`, however they are written, are every address of whoever reads them.
fn is_everywhere(host: &str) -> bool {
    host.bytes().all(|byte| matches!(byte, b'0' | b'.' | b':' | b'[' | b']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_dropped_and_shown_again() {
        for text in ["n1:2380", "demo-0.demo-peers.team.svc.cluster.local:2380", "10.0.0.1:1", "[::1]:65535", "a_b.:9"]
        {
            let parsed = HostPort::parse(text).expect(text);
            assert_eq!((parsed.as_str(), parsed.to_string().as_str()), (text, text));
            assert_eq!(parsed.url(), format!("http://{text}"));
            assert_eq!(HostPort::parse(&parsed.url()), Ok(parsed.clone()));
            assert_eq!(HostPort::stored(text.to_string()), parsed);
        }
        assert_eq!(HostPort::parse("http://n1:02380"), HostPort::parse("n1:2380"), "a port has one form");
    }

    #[test]
    fn what_nobody_can_dial_is_refused_with_what_would_be_right() {
        let long = format!("{}:1", "a.".repeat(127));
        for (text, why) in [
            ("https://n1:2380", NoHostPort::Tls),
            ("0.0.0.0:1", NoHostPort::Everywhere),
            ("http://[::]:1", NoHostPort::Everywhere),
            ("http://[0:0::0]:1", NoHostPort::Everywhere),
            ("", NoHostPort::Shape),
            ("n1", NoHostPort::Shape),
            ("http://n1", NoHostPort::Shape),
            ("n1:", NoHostPort::Shape),
            (":1", NoHostPort::Shape),
            ("n1:0", NoHostPort::Shape),
            ("n1:65536", NoHostPort::Shape),
            ("n1:+1", NoHostPort::Shape),
            ("n1:1/", NoHostPort::Shape),
            ("http://n1:1/x", NoHostPort::Shape),
            ("http://n1:1?x", NoHostPort::Shape),
            ("http://u@n1:1", NoHostPort::Shape),
            ("http://http://n1:1", NoHostPort::Shape),
            ("HTTP://n1:1", NoHostPort::Shape),
            ("tcp://n1:1", NoHostPort::Shape),
            ("n 1:1", NoHostPort::Shape),
            ("::1:2380", NoHostPort::Shape),
            ("[::1:2380", NoHostPort::Shape),
            ("[x]:1", NoHostPort::Shape),
            ("[1]:1", NoHostPort::Shape),
            (&long, NoHostPort::Shape),
        ] {
            assert_eq!(HostPort::parse(text), Err(why), "{text}");
            assert!(why.to_string().contains("http://host:port"), "{why}");
        }
    }
}
