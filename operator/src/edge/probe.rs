//! `--probe URL`: whether a URL answers with success. The image has no shell and no curl, and `helm test` needs one.

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time for the whole probe.
const PROBE_TIMEOUT_MS: u64 = 5_000;
/// The port of a URL that names none.
const HTTP_PORT: u16 = 80;

/// Asks the URL once.
pub async fn probe(url: &str) -> anyhow::Result<()> {
    let uri: Uri = url.parse().with_context(|| format!("'{url}' is not a URL"))?;
    let (Some("http"), Some(host)) = (uri.scheme_str(), uri.host()) else { bail!("'{url}' is not http://host…") };
    let ask = async {
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(HTTP_PORT))).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let request = Request::get(target).header(HOST, host).body(Empty::<Bytes>::new())?;
        anyhow::Ok(sender.send_request(request).await?.status())
    };
    let status = timeout(Duration::from_millis(PROBE_TIMEOUT_MS), ask)
        .await
        .with_context(|| format!("{url} did not answer within {PROBE_TIMEOUT_MS} ms"))?
        .with_context(|| format!("{url} did not answer"))?;
    if !status.is_success() {
        bail!("{url} answered {status}");
    }
    Ok(())
}
