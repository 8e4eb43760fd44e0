//! An HTTP/1.1 connection to a peer: DNS, TCP, one request.
//!
//! Enters: a peer's URL. Leaves: the answer to one GET. DNS is looked up for every connection: in Kubernetes a member
//! keeps its name and changes its address. The lookup and all addresses together have one deadline.
//!
//! # Caveats
//! A lookup that hangs keeps one thread of the runtime's blocking pool until the system's resolver gives up.

use super::bounds::TransportLimits;
use super::shared::Inner;
use super::{handshake, stream};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::http::request;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use raftkv_core::wire::Hello;
use std::io;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// Why a peer could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("'{0}' is not http://host:port")]
    Url(String),
    #[error("cannot connect to {authority}: {source}")]
    Tcp { authority: String, source: io::Error },
    #[error("cannot connect to {authority} within {ms} ms")]
    Timeout { authority: String, ms: u128 },
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the token cannot stand in a header")]
    Token,
}

/// A connection that carries one request; it ends when this is dropped, unless it was upgraded.
pub(super) struct Connection {
    /// A second handle to the socket, for the stream that this may become.
    pub socket: Option<std::net::TcpStream>,
    authority: String,
    requests: hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Looks the host up and connects.
    pub async fn open(url: &str, limits: &TransportLimits) -> Result<Connection, ConnectError> {
        let (host, port) = host_and_port(url).ok_or_else(|| ConnectError::Url(url.to_string()))?;
        let authority = format!("{host}:{port}");
        let lookup = host.trim_start_matches('[').trim_end_matches(']');
        // With a name and a port, connect() looks the name up and tries each of its addresses.
        let tcp = match tokio::time::timeout(limits.connect, TcpStream::connect((lookup, port))).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(source)) => return Err(ConnectError::Tcp { authority, source }),
            Err(_) => return Err(ConnectError::Timeout { authority, ms: limits.connect.as_millis() }),
        };
        tcp.set_nodelay(true).map_err(|source| ConnectError::Tcp { authority: authority.clone(), source })?;
        let socket = stream::second_handle(&tcp);
        let (requests, driver) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
        // An error of the connection is also the result of its one request.
        let driver = tokio::spawn(async move { drop(driver.with_upgrades().await) }).abort_handle();
        Ok(Connection { socket, authority, requests, driver })
    }

    /// Sends a GET with our token and our hello.
    pub async fn get(
        &mut self,
        inner: &Inner,
        ours: &Hello,
        path: &str,
        more: impl FnOnce(request::Builder) -> request::Builder,
    ) -> Result<Response<Incoming>, ConnectError> {
        let token = format!("Bearer {}", inner.credentials.to_send());
        let mut token = HeaderValue::try_from(token).map_err(|_| ConnectError::Token)?;
        token.set_sensitive(true);
        let request = Request::get(path)
            .header(HOST, &self.authority)
            .header(AUTHORIZATION, token)
            .header(handshake::HEADER, handshake::to_header(ours));
        let request = more(request).body(Empty::new()).map_err(|_| ConnectError::Url(self.authority.clone()))?;
        Ok(self.requests.send_request(request).await?)
    }
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let plain = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
    let (host, port) = (uri.host()?, uri.port_u16()?);
    (plain && !host.is_empty()).then(|| (host.to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn only_plain_urls_with_a_port_are_dialled() {
        assert_eq!(host_and_port("http://n1.peers:2380"), Some(("n1.peers".into(), 2380)));
        assert_eq!(host_and_port("http://[::1]:2380/"), Some(("[::1]".into(), 2380)));
        for bad in ["", "n1:2380", "http://n1", "https://n1:2380", "http://n1:2380/x", "http://n1:2380?x", "http://:1"]
        {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }
}
