//! What is said to a client whose request cannot be read, on each of a node's ports.
//!
//! Enters: a connection, and what arrived on it: a head that is too large or malformed, or TLS or HTTP/2, which no port
//! speaks. Leaves: an answer of HTTP/1.1 with a problem that names the port. hyper answers such a request with an empty
//! body, or not at all; its answer is recognised, and kept from the client, by [`is_bare_refusal`].
//!
//! # Caveats
//!
//! A malformed request that was sent together with one before it, without waiting for the answer, may get hyper's.

use crate::httpapi::errors::PROBLEM_JSON;
use crate::httpapi::line_of_json;
use raftkv_api::{Code, Problem};
use raftkv_core::limits;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How a ClientHello of TLS begins.
const TLS: &[u8] = &[0x16, 0x03];
/// How a connection of HTTP/2 begins.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";
/// How hyper's own refusals begin and what is in them; no answer of ours has both.
const BARE: (&[u8], &[u8]) = (b"HTTP/1.1 4", b"\r\ncontent-length: 0\r\n");

/// Why a request cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The client speaks TLS.
    Tls,
    /// The client speaks HTTP/2.
    Http2,
    /// The head is larger than the server's buffer.
    TooLarge,
    /// It is no HTTP/1.1.
    Malformed,
}

impl Unread {
    /// What these first bytes of a connection are, if they are not HTTP/1.1.
    pub fn of(first: &[u8]) -> Option<Unread> {
        if first.starts_with(TLS) {
            Some(Unread::Tls)
        } else if first.len() >= 3 && HTTP2.starts_with(&first[..first.len().min(HTTP2.len())]) {
            Some(Unread::Http2)
        } else {
            None
        }
    }

    /// What is said about it. `port` names the port, as in `the client port of a raftkv node`.
    pub fn problem(self, port: &str) -> Problem {
        let speaks = format!("this is {port}, which speaks HTTP/1.1 without TLS");
        match self {
            Unread::Tls => Problem::new(Code::BadRequest, format!("{speaks}: begin its URL with http://")),
            Unread::Http2 => Problem::new(Code::BadRequest, format!("{speaks}, and not HTTP/2")),
            Unread::TooLarge => Problem::new(
                Code::HeadersTooLarge,
                format!("the request's head is too large; {} bytes are allowed", limits::HEADER_BYTES_MAX),
            ),
            Unread::Malformed => Problem::new(Code::BadRequest, format!("the request cannot be read; {speaks}")),
        }
    }
}

/// Whether these bytes are an answer that hyper made because it could not read the request.
pub fn is_bare_refusal(bytes: &[u8]) -> bool {
    let (begin, inside) = BARE;
    bytes.starts_with(begin) && bytes.windows(inside.len()).any(|part| part == inside)
}

/// Says it, and closes the connection so that the answer arrives: a connection that is closed while bytes wait to be
/// read is reset, and what was said is lost. Ends within `patience`.
pub async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin, problem: &Problem, patience: Duration) {
    let json = line_of_json(problem);
    let reason = hyper::StatusCode::from_u16(problem.status).ok().and_then(|status| status.canonical_reason());
    let answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM_JSON}\r\ncache-control: no-store\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        problem.status,
        reason.unwrap_or_default(),
        json.len()
    );
    let said = async {
        stream.write_all(&[answer.as_bytes(), &json].concat()).await?;
        stream.shutdown().await?;
        let mut rest = (&mut stream).take(limits::DISCARD_BYTES_MAX as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Whoever has gone, or goes on sending, has heard what there is to say.
    let _gone = timeout(patience, said).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_http_1_is_known_by_its_first_bytes() {
        assert_eq!(Unread::of(b"\x16\x03\x01\x02\x00"), Some(Unread::Tls));
        assert_eq!(Unread::of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(Unread::Http2));
        assert_eq!(Unread::of(b"PRI"), Some(Unread::Http2));
        for other in [&b""[..], b"P", b"PR", b"PUT /", b"GET / HTTP/1.1", b"\x16"] {
            assert_eq!(Unread::of(other), None, "{other:?}");
        }
    }

    #[test]
    fn only_an_answer_without_a_body_is_taken_for_one_of_hypers() {
        assert!(is_bare_refusal(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: x\r\n\r\n"));
        assert!(!is_bare_refusal(b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nwords"));
        assert!(!is_bare_refusal(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    }
}
