//! raftkv's HTTP API.

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A client with a connection of its own.
#[derive(Debug)]
pub struct Client {
    authority: String,
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects; the connection ends with the runtime.
    pub async fn connect(node: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(node).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Client { authority: node.to_string(), sender })
    }

    /// `PUT /v1/kv/KEY`.
    pub async fn put(&mut self, key: &str, value: Bytes) -> Result<()> {
        self.exchange(Method::PUT, key, value).await.map(drop)
    }

    /// `GET /v1/kv/KEY`, which is linearizable.
    pub async fn get(&mut self, key: &str) -> Result<usize> {
        Ok(self.exchange(Method::GET, key, Bytes::new()).await?.len())
    }

    async fn exchange(&mut self, method: Method, key: &str, body: Bytes) -> Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/kv/{key}"))
            .header(header::HOST, &self.authority)
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}
