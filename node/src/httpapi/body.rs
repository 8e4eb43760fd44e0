//! Bounds on request bodies and answers in memory: how large each is, how long it takes, and how many bytes there are
//! in all.
//!
//! Enters: bodies as they arrive. Leaves: whole bodies and answers, charged to a [`Budget`] until they are dropped, or
//! a problem.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use raftkv_api::{Code, Problem};
use raftkv_core::limits;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// A semaphore counts in u32, so one permit stands for this many bytes.
const BYTES_PER_PERMIT: usize = 64;

/// Bounds the bytes that a port holds for its clients, in bodies that arrive and in answers that are being read.
#[derive(Clone)]
pub struct Budget(Arc<Semaphore>);

/// Bytes taken from a budget; dropping it gives them back.
pub struct Charge(OwnedSemaphorePermit);

impl Budget {
    /// A budget of this many bytes.
    pub fn new(bytes: usize) -> Self {
        Budget(Arc::new(Semaphore::new(bytes / BYTES_PER_PERMIT)))
    }

    /// Takes bytes, or refuses the call at once.
    pub fn take(&self, bytes: usize) -> Result<Charge, Problem> {
        let permits = u32::try_from(bytes.div_ceil(BYTES_PER_PERMIT)).ok();
        let charge = permits.and_then(|permits| self.0.clone().try_acquire_many_owned(permits).ok());
        charge.map(Charge).ok_or_else(|| {
            Problem::new(Code::Overloaded, "too many bytes of requests and answers are in memory; nothing was done")
        })
    }

    /// An answer that is charged until its last byte is written to the socket.
    pub fn guard(&self, answer: Bytes) -> Result<Bytes, Problem> {
        let charge = self.take(answer.len())?;
        Ok(Bytes::from_owner(Charged { answer, _charge: charge }))
    }
}

struct Charged {
    answer: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

/// How large and how slow a body may be.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Most bytes.
    pub bytes_max: usize,
    /// Time from the head to the last byte.
    pub time: Duration,
}

impl BodyLimits {
    /// A limit of this many bytes, with the standard time.
    pub fn bytes(bytes_max: usize) -> Self {
        BodyLimits { bytes_max, time: Duration::from_millis(limits::BODY_TIMEOUT_MS) }
    }
}

/// Reads a body to its end. What has arrived is charged to the budget.
pub async fn read(
    body: &mut Body,
    headers: &HeaderMap,
    limits: BodyLimits,
    budget: &Budget,
) -> Result<(Bytes, Charge), Problem> {
    if announced(headers).is_some_and(|bytes| bytes > limits.bytes_max as u64) {
        return Err(too_large(limits));
    }
    match timeout(limits.time, collect(body, limits, budget)).await {
        Ok(result) => result,
        Err(_late) => {
            let detail = format!("the body was not complete after {} ms", limits.time.as_millis());
            Err(Problem::new(Code::RequestTimeout, detail))
        }
    }
}

async fn collect(body: &mut Body, limits: BodyLimits, budget: &Budget) -> Result<(Bytes, Charge), Problem> {
    let mut charge = budget.take(0)?;
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::new(Code::BadRequest, format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limits.bytes_max {
            return Err(too_large(limits));
        }
        charge.0.merge(budget.take(data.len())?.0);
        whole.extend_from_slice(&data);
    }
    Ok((whole.freeze(), charge))
}

/// Reads and forgets what is left of a refused request, within bounds: a connection that is closed with unread bytes is
/// reset, and the client would not see the answer.
pub async fn discard(body: &mut Body, headers: &HeaderMap) {
    let hopeless = announced(headers).is_some_and(|bytes| bytes > limits::DISCARD_BYTES_MAX as u64);
    // A client that waits for "100 Continue" has sent nothing and must not be asked to.
    if hopeless || headers.contains_key(header::EXPECT) {
        return;
    }
    let rest = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > limits::DISCARD_BYTES_MAX {
                return;
            }
        }
    };
    // Being late does no harm: the connection is closed then.
    let _late = timeout(Duration::from_millis(limits::DISCARD_TIMEOUT_MS), rest).await;
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(limits: BodyLimits) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("the body is larger than {} bytes", limits.bytes_max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[tokio::test]
    async fn a_body_may_be_as_large_as_the_limit_with_or_without_a_length() {
        let limits = BodyLimits::bytes(10);
        for (bytes, announced, ok) in
            [(0, true, true), (10, true, true), (10, false, true), (11, true, false), (11, false, false)]
        {
            let (mut body, headers) = body(bytes, announced);
            let result = read(&mut body, &headers, limits, &Budget::new(1024)).await;
            match result {
                Ok((whole, _charge)) => assert!(ok && whole.len() == bytes),
                Err(problem) => assert!(!ok && problem.code == Code::BodyTooLarge, "{problem:?}"),
            }
        }
    }

    #[tokio::test]
    async fn bodies_and_answers_are_charged_to_the_budget_until_they_are_dropped() {
        let budget = Budget::new(4 * BYTES_PER_PERMIT);
        let limits = BodyLimits::bytes(1000);
        let (mut first, headers) = body(3 * BYTES_PER_PERMIT, false);
        let held = read(&mut first, &headers, limits, &budget).await.map_err(|p| p.code).expect("fits");
        let (mut second, headers) = body(2 * BYTES_PER_PERMIT, false);
        let refused = read(&mut second, &headers, limits, &budget).await.err().expect("does not fit");
        assert_eq!(refused.code, Code::Overloaded);
        drop(held);
        let answer = budget.guard(Bytes::from(vec![1; 4 * BYTES_PER_PERMIT])).expect("fits");
        assert!(budget.take(1).is_err());
        let part = answer.slice(..1);
        drop(answer);
        assert!(budget.take(1).is_err(), "a part is still being written");
        drop(part);
        assert!(budget.take(1).is_ok());
    }

    #[tokio::test]
    async fn a_slow_body_is_answered_408() {
        let (_sender, receiver) = tokio::sync::mpsc::channel::<()>(1);
        let mut body = Body::new(Silent(receiver));
        let limits = BodyLimits { bytes_max: 10, time: Duration::from_millis(10) };
        let problem = read(&mut body, &HeaderMap::new(), limits, &Budget::new(1024)).await.err();
        assert_eq!(problem.expect("nothing came").code, Code::RequestTimeout);
    }

    /// Never yields a frame.
    struct Silent(tokio::sync::mpsc::Receiver<()>);

    impl hyper::body::Body for Silent {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            self.0.poll_recv(cx).map(|_| None)
        }
    }

    fn body(bytes: usize, announced: bool) -> (Body, HeaderMap) {
        let mut headers = HeaderMap::new();
        if announced {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
        }
        (Body::from(vec![7; bytes]), headers)
    }
}
