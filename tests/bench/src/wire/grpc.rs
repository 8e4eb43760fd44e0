//! The part of etcd's gRPC API that a put and a range of one key need. A dozen bytes of protobuf do not need a code
//! generator, and the less the client costs, the less it takes from the server beside it.
//!
//! Sources: gRPC over HTTP/2 (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>) and etcd's `rpc.proto`.

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use hyper::{Method, Request, StatusCode, header};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Bytes before each message, which say whether it is compressed and how long it is.
const PREFIX_BYTES: usize = 5;
/// Larger than all answers in flight on one connection.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// Fields of `PutRequest` and `RangeRequest`.
const KEY: u8 = 1;
const PUT_VALUE: u8 = 2;
/// A field of `RangeResponse`, and one of the `KeyValue` in it.
const RANGE_KVS: u64 = 2;
const KV_VALUE: u64 = 5;
/// Protobuf's wire types.
const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

/// A client on a connection, which it may share.
#[derive(Clone, Debug)]
pub struct Client {
    authority: String,
    sender: SendRequest<Bytes>,
}

impl Client {
    /// Connects; the connection ends with the runtime.
    pub async fn connect(node: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(node).await?;
        stream.set_nodelay(true)?;
        let mut settings = h2::client::Builder::new();
        settings.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (sender, connection) = settings.handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Client { authority: node.to_string(), sender })
    }

    /// `KV.Put`.
    pub async fn put(&mut self, key: &str, value: Bytes) -> Result<()> {
        self.call("/etcdserverpb.KV/Put", &message(&[(KEY, key.as_bytes()), (PUT_VALUE, &value)])).await.map(drop)
    }

    /// `KV.Range` of one key, and the length of its value; linearizable, since `serializable` is not set.
    pub async fn get(&mut self, key: &str) -> Result<usize> {
        let answer = self.call("/etcdserverpb.KV/Range", &message(&[(KEY, key.as_bytes())])).await?;
        let kv = field(&answer, RANGE_KVS)?.context("no such key")?;
        Ok(field(kv, KV_VALUE)?.map_or(0, <[u8]>::len))
    }

    async fn call(&mut self, path: &str, message: &[u8]) -> Result<Bytes> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.authority))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())?;
        let mut sender = self.sender.clone().ready().await?;
        let (answer, mut stream) = sender.send_request(request, false)?;
        stream.send_data(framed(message)?, true)?;
        let answer = answer.await?;
        ensure!(answer.status() == StatusCode::OK, "HTTP {}", answer.status());
        // An answer without a message has its gRPC status among its headers.
        if let Some(status) = answer.headers().get("grpc-status") {
            bail!("gRPC status {status:?}: {:?}", answer.headers().get("grpc-message"));
        }
        let mut body = answer.into_body();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            bytes.put(chunk);
        }
        let trailers = body.trailers().await?.context("no trailers")?;
        let status = trailers.get("grpc-status").context("no gRPC status")?;
        ensure!(status == "0", "gRPC status {status:?}: {:?}", trailers.get("grpc-message"));
        ensure!(bytes.len() >= PREFIX_BYTES && bytes[0] == 0, "an answer without a message, or a compressed one");
        bytes.advance(PREFIX_BYTES);
        Ok(bytes.freeze())
    }
}

fn framed(message: &[u8]) -> Result<Bytes> {
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len().try_into()?);
    frame.put_slice(message);
    Ok(frame.freeze())
}

/// Encodes a message of fields that hold bytes.
fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, bytes) in fields {
        message.push(number << 3 | LENGTH_DELIMITED as u8);
        let mut left = bytes.len();
        while left >= 0x80 {
            message.push(left as u8 | 0x80);
            left >>= 7;
        }
        message.push(left as u8);
        message.extend_from_slice(bytes);
    }
    message
}

/// The first field with this number, which must have a length; `None` when there is none.
fn field(mut message: &[u8], number: u64) -> Result<Option<&[u8]>> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            VARINT => drop(varint(&mut message)?),
            LENGTH_DELIMITED => {
                let length = varint(&mut message)? as usize;
                let (bytes, rest) = message.split_at_checked(length).context("a field that ends too early")?;
                if tag >> 3 == number {
                    return Ok(Some(bytes));
                }
                message = rest;
            }
            other => bail!("wire type {other}"),
        }
    }
    Ok(None)
}

fn varint(message: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().ok_or_else(|| anyhow!("a number that ends too early"))?;
        *message = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number of more than 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_has_the_bytes_that_protobuf_prescribes() {
        let value = [7; 300];
        let put = message(&[(KEY, b"k"), (PUT_VALUE, &value)]);
        assert_eq!(put[..6], [0x0A, 1, b'k', 0x12, 0xAC, 0x02]);
        assert_eq!(framed(&put).unwrap()[..6], [0, 0, 0, 1, 0x32, 0x0A]);
    }

    #[test]
    fn a_value_is_found_behind_other_fields() {
        let kv = message(&[(KEY, b"k"), (5, &[9; 256])]);
        let mut range = vec![0x18, 0x01];
        range.extend(message(&[(1, b"header"), (2, &kv)]));
        let found = field(&range, RANGE_KVS).unwrap().unwrap();
        assert_eq!(field(found, KV_VALUE).unwrap().unwrap(), [9; 256]);
        assert_eq!(field(found, 6).unwrap(), None);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let kv = message(&[(KEY, b"key")]);
        for end in 1..kv.len() {
            assert!(field(&kv[..end], 9).is_err(), "{end}");
        }
    }
}
