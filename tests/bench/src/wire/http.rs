//! raftkv's HTTP API over one connection, with a client that is as small as the gRPC client beside it.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use httparse::Status;
use std::io::Write;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most headers of an answer.
const HEADERS_MAX: usize = 16;
/// Bytes read at once: more than an answer has.
const READ_BYTES: usize = 2048;

/// A client with a connection of its own.
#[derive(Debug)]
pub struct Client {
    authority: String,
    stream: TcpStream,
    request: Vec<u8>,
    answer: BytesMut,
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of the head itself.
    bytes: usize,
    /// Bytes of the body behind it.
    body_bytes: usize,
}

impl Client {
    /// Connects.
    pub async fn connect(node: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(node).await?;
        stream.set_nodelay(true)?;
        Ok(Client { authority: node.to_string(), stream, request: Vec::new(), answer: BytesMut::new() })
    }

    /// `PUT /v1/kv/KEY`.
    pub async fn put(&mut self, key: &str, value: Bytes) -> Result<()> {
        self.exchange("PUT", key, Some(&value)).await.map(drop)
    }

    /// `GET /v1/kv/KEY`, which is linearizable.
    pub async fn get(&mut self, key: &str) -> Result<usize> {
        self.exchange("GET", key, None).await
    }

    /// One request and its answer; the number of bytes of the answer's body.
    async fn exchange(&mut self, method: &str, key: &str, body: Option<&[u8]>) -> Result<usize> {
        self.request.clear();
        write!(self.request, "{method} /v1/kv/{key} HTTP/1.1\r\nhost: {}\r\n", self.authority)?;
        if let Some(body) = body {
            write!(self.request, "content-length: {}\r\n\r\n", body.len())?;
            self.request.extend_from_slice(body);
        } else {
            self.request.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&self.request).await?;
        loop {
            self.answer.reserve(READ_BYTES);
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the server closed the connection");
            let Some(head) = head(&self.answer)? else { continue };
            if self.answer.len() < head.bytes + head.body_bytes {
                continue;
            }
            let body = &self.answer[head.bytes..head.bytes + head.body_bytes];
            ensure!(head.status == 200, "{}: {}", head.status, String::from_utf8_lossy(body));
            self.answer.advance(head.bytes + head.body_bytes);
            ensure!(self.answer.is_empty(), "{} bytes behind the answer", self.answer.len());
            return Ok(head.body_bytes);
        }
    }
}

/// The head of an answer; `None` while it is not whole.
fn head(answer: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let Status::Complete(bytes) = response.parse(answer)? else { return Ok(None) };
    let status = response.code.context("an answer without a status")?;
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let Some(length) = length else { bail!("an answer without a length") };
    Ok(Some(Head { status, bytes, body_bytes: std::str::from_utf8(length.value)?.parse()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_when_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        for end in 0..answer.len() - 2 {
            assert_eq!(head(&answer[..end]).unwrap(), None, "{end}");
        }
        assert_eq!(head(answer).unwrap(), Some(Head { status: 200, bytes: answer.len() - 2, body_bytes: 2 }));
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "a body without a length has no end here");
    }
}
