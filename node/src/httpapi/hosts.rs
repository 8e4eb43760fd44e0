//! Which `Host` and `Origin` a request may carry, so that no web page can control a node through a browser: neither by
//! a host name that its owner points at our address (DNS rebinding), nor from another origin.
//!
//! Enters: a request's target and headers. Leaves: nothing, or the problem with them.

use crate::config::Config;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Uri, header};
use raftkv_api::{Code, Problem};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// The names of this node, in lower case.
#[derive(Debug, Default)]
pub struct Hosts {
    names: BTreeSet<String>,
    /// The last name that was found good: nearly every request carries the same.
    last: Mutex<Option<String>>,
}

impl FromIterator<String> for Hosts {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Hosts {
        Hosts { names: names.into_iter().collect(), last: Mutex::default() }
    }
}

impl Hosts {
    /// The advertised names and those that the user allows.
    pub fn of(config: &Config) -> Self {
        let peer_url = config.peer.url();
        let urls = [&config.client_url, &peer_url, &config.admin_url];
        let advertised = urls.into_iter().filter_map(|url| url.parse::<Uri>().ok()?.host().map(normal));
        Hosts::from_iter(advertised.chain(config.allowed_hosts.iter().map(|host| normal(host))))
    }

    /// Checks both headers; an absolute request target takes the place of `Host`.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let host = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => one(headers, &header::HOST)?.ok_or_else(|| forbidden("the Host header is missing"))?,
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(host) {
            let authority: Authority = host.parse().map_err(|_| forbidden(&format!("Host '{host}' is malformed")))?;
            if !self.allows(authority.host()) {
                return Err(forbidden(&format!("Host '{host}' is not a name of this node; see --allowed-host")));
            }
            *last = Some(host.to_string());
        }
        drop(last);
        match one(headers, &header::ORIGIN)? {
            Some(origin) if !same_origin(origin, host) => {
                Err(forbidden(&format!("Origin '{origin}' is not this node's")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Any IP literal is allowed: pods are probed by their address, and rebinding needs a name.
    fn allows(&self, host: &str) -> bool {
        let host = normal(host);
        let ip6 = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_ip = ip6.map_or(host.parse::<Ipv4Addr>().is_ok(), |ip| ip.parse::<Ipv6Addr>().is_ok());
        is_ip || host == "localhost" || self.names.contains(&host)
    }
}

/// Lower case, without the dot of a fully qualified name.
fn normal(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn same_origin(origin: &str, host: &str) -> bool {
    let origin = origin.to_ascii_lowercase();
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority == Some(host.to_ascii_lowercase().as_str())
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(forbidden(&format!("{name} is given more than once")));
    }
    value.to_str().map(Some).map_err(|_| forbidden(&format!("{name} is not ASCII")))
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(Code::ForbiddenHost, detail)
}

#[cfg(test)]
impl Hosts {
    /// Allows exactly these names.
    pub fn these(hosts: &[&str]) -> Self {
        Hosts::from_iter(hosts.iter().map(|host| normal(host)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn own_names_and_any_ip_are_allowed_and_other_names_are_not() {
        let cases = [
            ("localhost:2379", true),
            ("LocalHost", true),
            ("127.0.0.1:2379", true),
            ("10.1.2.3", true),
            ("[::1]:2379", true),
            ("[fe80::1]", true),
            ("Demo-0.Demo.svc:2379", true),
            ("demo-0.demo.svc.", true),
            ("demo-0.demo", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("[evil]", false),
            ("", false),
            ("a b", false),
        ];
        for (host, allowed) in cases {
            assert_eq!(check("/v1/kv/a", &[("host", host)]), allowed, "{host}");
        }
        assert!(!check("/", &[]), "no Host");
        assert!(!check("/", &[("host", "localhost"), ("host", "localhost")]), "two");
        assert!(!check("http://evil.example/", &[("host", "localhost")]), "the absolute target wins");
        assert!(check("http://localhost/", &[("host", "evil.example")]));
    }

    #[test]
    fn an_origin_must_be_the_host_itself() {
        let cases = [
            ("http://localhost:2379", true),
            ("https://LOCALHOST:2379", true),
            ("http://localhost:8080", false),
            ("http://localhost", false),
            ("http://evil.example", false),
            ("null", false),
            ("", false),
        ];
        for (origin, allowed) in cases {
            assert_eq!(check("/", &[("host", "localhost:2379"), ("origin", origin)]), allowed, "{origin}");
        }
    }

    fn check(target: &str, given: &[(&'static str, &str)]) -> bool {
        let headers = given.iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(*name, HeaderValue::from_str(value).expect("ASCII"));
            headers
        });
        let uri = target.parse().expect("a URI");
        match Hosts::these(&["demo-0.demo.svc"]).check(&uri, &headers) {
            Ok(()) => true,
            Err(problem) => {
                assert_eq!(problem.status, 403);
                false
            }
        }
    }
}
