//! A very small HTTP client for a node's own machine: one request, one connection, JSON in and out.
//!
//! `raftkv dev` drives its three nodes with it. It never repeats a request: whoever calls decides what a missing answer
//! means. Answers are bounded in size and in time.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use raftkv_api::Problem;
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest wait for one answer: a membership change is answered within 15 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The node refused; what it said.
    #[error("{method} {url}: {} {}: {}", problem.status, problem.code.as_str(), problem.detail)]
    Refused {
        /// The method.
        method: Method,
        /// The whole URL.
        url: String,
        /// What the node answered.
        problem: Box<Problem>,
    },
    /// Nothing listens, the connection broke, or no answer came in time.
    #[error("{method} {url}: {reason}")]
    NoAnswer {
        /// The method.
        method: Method,
        /// The whole URL.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is not what this call answers.
    #[error("{method} {url}: the answer ({status}) is not understood: {reason}")]
    NotUnderstood {
        /// The method.
        method: Method,
        /// The whole URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
}

impl AdminError {
    /// The refusal, when it is one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            AdminError::Refused { problem, .. } => Some(problem),
            AdminError::NoAnswer { .. } | AdminError::NotUnderstood { .. } => None,
        }
    }
}

/// Calls one node with the cluster's token.
#[derive(Clone, Debug)]
pub struct AdminClient {
    token: String,
}

impl AdminClient {
    /// A client that shows `token` with every request.
    pub fn new(token: impl Into<String>) -> Self {
        AdminClient { token: token.into() }
    }

    /// `GET url`.
    pub async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, AdminError> {
        self.call(Method::GET, url, &[], Bytes::new()).await
    }

    /// `POST url` with a JSON body and further headers.
    pub async fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        headers: &[(&str, String)],
        body: &impl Serialize,
    ) -> Result<T, AdminError> {
        let body = serde_json::to_vec(body).expect("a wire type has string keys and no failing serializer");
        self.call(Method::POST, url, headers, body.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<T, AdminError> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(&method, url, headers, body)).await;
        let (status, body) = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(AdminError::NoAnswer { method, url: url.into(), reason: error.to_string() }),
            Err(_) => {
                let reason = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
                return Err(AdminError::NoAnswer { method, url: url.into(), reason });
            }
        };
        let understood = match status {
            200..300 => serde_json::from_slice(&body).map(Ok),
            _ => serde_json::from_slice(&body).map(Err),
        };
        match understood {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(problem)) => Err(AdminError::Refused { method, url: url.into(), problem: Box::new(problem) }),
            Err(error) => Err(AdminError::NotUnderstood { method, url: url.into(), status, reason: error.to_string() }),
        }
    }

    async fn exchange(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> anyhow::Result<(u16, Bytes)> {
        let authority = url.strip_prefix("http://").ok_or_else(|| anyhow::anyhow!("not an http:// URL"))?;
        let (authority, target) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
        let mut request = Request::builder()
            .method(method)
            .uri(if target.is_empty() { "/" } else { target })
            .header(header::HOST, authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let stream = TcpStream::connect(authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let answer = sender.send_request(request.body(Full::new(body))?).await?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|error| anyhow::anyhow!(error))?.to_bytes()))
        };
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            // The connection ends first only when it broke, or when the answer is read and just has to be picked up.
            ended = connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(error.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_api::{Code, Version};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Answers one request with `answer` and gives back what was asked.
    async fn one_answer(answer: String) -> (String, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let len = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&asked[..len]).into_owned()
        });
        (url, served)
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn an_answer_is_read_and_the_token_is_shown() {
        let (url, asked) = one_answer(http("200 OK", r#"{"version":"1","admin_url":"u"}"#)).await;
        let version: Version = AdminClient::new("secret").get(&format!("{url}/version?x")).await.unwrap();
        assert_eq!(version.version, "1");
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("GET /version?x HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: Bearer secret\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn a_refusal_carries_the_problem() {
        let problem = Problem::new(Code::NotLeader, "ask n2");
        let (url, _asked) = one_answer(http("409 Conflict", &serde_json::to_string(&problem).unwrap())).await;
        let error = AdminClient::new("t").post::<Version>(&url, &[], &()).await.unwrap_err();
        assert_eq!(error.problem(), Some(&problem));
        assert!(error.to_string().ends_with("409 not_leader: ask n2"), "{error}");
    }

    #[tokio::test]
    async fn nonsense_and_silence_are_told_apart() {
        let (url, _asked) = one_answer(http("502 Bad Gateway", "<html>")).await;
        let error = AdminClient::new("t").get::<Version>(&url).await.unwrap_err();
        assert!(matches!(error, AdminError::NotUnderstood { status: 502, .. }), "{error}");
        let (url, _asked) = one_answer(String::new()).await;
        let error = AdminClient::new("t").get::<Version>(&url).await.unwrap_err();
        assert!(matches!(error, AdminError::NoAnswer { .. }), "{error}");
    }
}
