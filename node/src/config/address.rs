//! Addresses as flags carry them, `host:port` and `http://host:port`, and whether others can dial them.
//!
//! Enters: the text of a flag. Leaves: an [`Address`], or `None` if the text is not one. Names are not looked up here:
//! one that does not resolve yet is right for a pod that is about to get its DNS record. PURE.

use std::fmt;
use std::net::IpAddr;

/// A host and a port, written `host:port`, or `[address]:port` for IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Address {
    /// Reads `host:port`; `None` when it is anything else, or the port is 0.
    pub(super) fn parse(text: &str) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
            None => host.to_string(),
        };
        let digits_only = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits_only && *port != 0)?;
        (bracketed.is_some() || is_host(&host)).then_some(Address { host, port })
    }

    /// Reads `http://host:port`, with nothing after it.
    pub(super) fn parse_url(text: &str) -> Option<Address> {
        Address::parse(text.strip_prefix("http://")?)
    }

    /// `http://host:port`.
    pub(super) fn url(&self) -> String {
        format!("http://{self}")
    }

    /// `0.0.0.0` and `[::]` mean "every address of this machine", which no other machine can dial.
    pub(super) fn is_wildcard(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }

    /// Whether listening on both at once must fail.
    pub(super) fn collides(&self, other: &Address) -> bool {
        self.port == other.port && (self.host == other.host || self.is_wildcard() || other.is_wildcard())
    }
}

/// Whether `text` may be a DNS name or an IPv4 address.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(inner) && !label.starts_with('-')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["127.0.0.1:2379", "demo-0.demo-peers:2380", "[::1]:2381", "[::]:1", "localhost:65535"] {
            assert_eq!(Address::parse(text).map(|a| a.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", ":2379", "localhost", "localhost:", "a:0", "a:65536", "a:+1", "::1:2379", "a b:1", "a/b:1"] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
        for bad in ["a:1", "https://a:1", "http://a", "http://a:1/", "http://u@a:1", "http://a:1?x"] {
            assert_eq!(Address::parse_url(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wildcard_collides_with_every_address_on_its_port() {
        let address = |text| Address::parse(text).unwrap();
        assert!(address("0.0.0.0:1").collides(&address("127.0.0.1:1")));
        assert!(!address("0.0.0.0:1").collides(&address("127.0.0.1:2")));
        assert!(!address("127.0.0.2:1").collides(&address("127.0.0.1:1")));
    }
}
