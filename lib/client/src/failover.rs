//! Which endpoint is asked next, and whether the same call may be sent there (rule N5).

use crate::error::{Cause, Error};
use crate::http::{Answer, Call, Endpoint, EndpointError};
use raftkv_api::Outcome;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// First pause after all endpoints failed; it doubles ...
const PAUSE_MIN_MS: u64 = 50;
/// ... up to this.
const PAUSE_MAX_MS: u64 = 1_000;

/// How long one call is waited for and how long it is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// One exchange with one endpoint; longer than the node's own limit of 5 s, so that the node's
    /// answer, which says more than silence, comes first.
    pub attempt_timeout: Duration,
    /// The endpoints are gone through again, with pauses, until this has passed. Each is tried at least once.
    pub retry_for: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { attempt_timeout: Duration::from_secs(8), retry_for: Duration::from_secs(10) }
    }
}

/// Pauses that double.
pub(crate) struct Pauses {
    next_ms: u64,
}

impl Pauses {
    /// The first pause is the shortest.
    pub(crate) fn new() -> Self {
        Pauses { next_ms: PAUSE_MIN_MS }
    }

    /// Waits; `false`, without waiting, when the pause would end after the deadline.
    pub(crate) async fn pause(&mut self, deadline: Instant) -> bool {
        let pause = Duration::from_millis(self.next_ms);
        self.next_ms = (self.next_ms * 2).min(PAUSE_MAX_MS);
        if Instant::now() + pause > deadline {
            return false;
        }
        sleep(pause).await;
        true
    }
}

/// A list of endpoints, and the one that is preferred because it answered last.
pub(crate) struct Failover {
    endpoints: Vec<Endpoint>,
    preferred: AtomicUsize,
    policy: Policy,
}

impl Failover {
    pub(crate) fn new(urls: &[impl AsRef<str>], policy: Policy) -> Result<Self, EndpointError> {
        let endpoints = urls.iter().map(|url| Endpoint::new(url.as_ref())).collect::<Result<_, _>>()?;
        Ok(Failover { endpoints, preferred: AtomicUsize::new(0), policy })
    }

    /// Sends the call until it is answered with success, may not be sent again, or time is up. Gives up
    /// early when no endpoint accepts a connection: then nothing runs there, and waiting helps nobody.
    pub(crate) async fn call(&self, call: &Call) -> Result<(&str, Answer), Error> {
        let deadline = Instant::now() + self.policy.retry_for;
        let mut pauses = Pauses::new();
        loop {
            let error = match self.round(call).await {
                Ok(answered) => return Ok(answered),
                Err(Round::Final(error) | Round::NobodyListens(error)) => return Err(error),
                Err(Round::Transient(error)) => error,
            };
            if !pauses.pause(deadline).await {
                return Err(error);
            }
        }
    }

    /// Tries each endpoint once, the preferred one first.
    async fn round(&self, call: &Call) -> Result<(&str, Answer), Round> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut nobody_listens = true;
        let mut refused = Vec::new();
        let mut last_error = None;
        for step in 0..self.endpoints.len() {
            let at = (first + step) % self.endpoints.len();
            let endpoint = &self.endpoints[at];
            match endpoint.call(call, self.policy.attempt_timeout).await {
                Ok(answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok((endpoint.url(), answer));
                }
                Err(error) => {
                    // Also after a final error: the next call, a reader settling this one say, starts elsewhere.
                    self.avoid(at, &error);
                    if !may_be_sent_again(&error) {
                        return Err(Round::Final(error));
                    }
                    match &error.cause {
                        Cause::NotSent(why) => refused.push((endpoint.url(), why.clone())),
                        Cause::NoAnswer(_) | Cause::Problem(_) | Cause::Foreign { .. } => nobody_listens = false,
                    }
                    last_error = Some(error);
                }
            }
        }
        let all_of = |refused: &[_]| nobody(refused, call.mutates);
        let error = last_error
            .unwrap_or_else(|| Error::new("(none)", call.mutates, Cause::NotSent("there is no endpoint".to_string())));
        Err(if nobody_listens {
            Round::NobodyListens(all_of(&refused).unwrap_or(error))
        } else {
            Round::Transient(error)
        })
    }

    /// The next call starts at another endpoint, unless somebody else has moved on meanwhile.
    fn avoid(&self, at: usize, error: &Error) {
        if error.is_transient() {
            let next = (at + 1) % self.endpoints.len();
            // A failed exchange means that another task has chosen; its choice is as good.
            let _ = self.preferred.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// One failure for all endpoints, if they are several: whoever reads it may have mistyped any of them.
pub(crate) fn nobody(refused: &[(&str, String)], mutates: bool) -> Option<Error> {
    let [(_, first), _, ..] = refused else { return None };
    if refused.iter().all(|(_, why)| why == first) {
        let urls: Vec<&str> = refused.iter().map(|(url, _)| *url).collect();
        return Some(Error::new(&urls.join(", "), mutates, Cause::NotSent(first.clone())));
    }
    let (url, why) = refused.first()?;
    let others = refused[1..].iter().map(|(url, why)| format!("; {url}: {why}"));
    Some(Error::new(url, mutates, Cause::NotSent(format!("{why}{}", others.collect::<String>()))))
}

enum Round {
    Final(Error),
    Transient(Error),
    NobodyListens(Error),
}

/// Rule N5: what may have had an effect is not sent again; what another node would answer the same way is
/// not worth it.
fn may_be_sent_again(error: &Error) -> bool {
    error.outcome() == Outcome::None && error.is_transient()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Client, Condition, Found, ReadOptions};
    use crate::testing::{Reply, Server};
    use raftkv_api::Code;

    async fn pair(first: Reply, second: Reply) -> (Server, Server, Client) {
        let (first, second) = (Server::start([first]).await, Server::start([second]).await);
        let client = Client::new(&[first.url(), second.url()]).unwrap();
        (first, second, client)
    }

    async fn put(client: &Client) -> Result<raftkv_api::Put, Error> {
        client.put(b"k", "v".into(), Condition::None).await
    }

    async fn get(client: &Client) -> Result<Option<Found>, Error> {
        client.get(b"k", ReadOptions::default()).await
    }

    #[tokio::test]
    async fn a_refused_connection_sends_reads_and_writes_elsewhere() {
        let server = Server::start([Reply::found("v", 3), Reply::put(4)]).await;
        let client = Client::new(&[Server::refusing().await.as_str(), server.url()]).unwrap();
        assert_eq!(get(&client).await.unwrap().unwrap().mod_revision, 3);
        assert_eq!(put(&client).await.unwrap().revision, 4);
        assert_eq!(server.targets(), ["GET /v1/kv/k", "PUT /v1/kv/k"]);
        assert_eq!(server.seen()[1].body, "v");
    }

    #[tokio::test]
    async fn a_write_that_had_no_effect_is_sent_elsewhere() {
        for code in [Code::NoLeader, Code::Overloaded, Code::Removed] {
            let (first, second, client) = pair(Reply::problem(code, Outcome::None), Reply::put(4)).await;
            assert_eq!(put(&client).await.unwrap().revision, 4);
            assert_eq!((first.targets().len(), second.targets().len()), (1, 1));
        }
    }

    #[tokio::test]
    async fn a_write_whose_outcome_is_unknown_is_never_sent_again() {
        let foreign = Reply::Answer(502, vec![], "a proxy's words".into());
        let garbled = Reply::Answer(200, vec![], "not JSON".into());
        for unknown in [Reply::Hangup, Reply::problem(Code::Timeout, Outcome::Unknown), foreign, garbled] {
            let (first, second, client) = pair(unknown, Reply::put(4)).await;
            let error = put(&client).await.unwrap_err();
            assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
            assert_eq!((first.targets().len(), second.targets().len()), (1, 0), "{error}");
        }
    }

    #[tokio::test]
    async fn a_write_that_is_refused_for_good_is_not_sent_elsewhere() {
        let (_, second, client) = pair(Reply::problem(Code::ConditionFailed, Outcome::None), Reply::put(4)).await;
        let error = put(&client).await.unwrap_err();
        assert_eq!((error.code(), error.outcome()), (Some(Code::ConditionFailed), Outcome::None));
        assert!(second.targets().is_empty());
    }

    #[tokio::test]
    async fn a_read_goes_on_elsewhere_whatever_happened() {
        let foreign = Reply::Answer(502, vec![], "a proxy's words".into());
        for failure in [Reply::Hangup, Reply::problem(Code::Timeout, Outcome::Unknown), foreign] {
            let (_, _, client) = pair(failure, Reply::found("v", 3)).await;
            assert_eq!(get(&client).await.unwrap().unwrap().value, "v");
        }
        let (_, second, client) = pair(Reply::problem(Code::KeyNotFound, Outcome::None), Reply::found("v", 3)).await;
        assert_eq!(get(&client).await.unwrap(), None);
        assert!(second.targets().is_empty());
    }

    #[tokio::test]
    async fn rounds_go_on_until_a_leader_is_found() {
        let no_leader = || Reply::problem(Code::NoLeader, Outcome::None);
        let server = Server::start([no_leader(), no_leader(), Reply::put(4)]).await;
        let client = Client::new(&[server.url()]).unwrap();
        assert_eq!(put(&client).await.unwrap().revision, 4);
        assert_eq!(server.connections(), 1, "the connection is kept");
    }

    #[tokio::test]
    async fn nobody_listening_is_said_at_once() {
        let client = Client::new(&[Server::refusing().await]).unwrap();
        let error = put(&client).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::None);
        assert!(matches!(error.cause, Cause::NotSent(_)), "{error}");
    }

    #[tokio::test]
    async fn when_nobody_listens_every_endpoint_is_named() {
        let (one, two) = (Server::refusing().await, Server::refusing().await);
        let error = put(&Client::new(&[&one, &two]).unwrap()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{one}, {two}: ")), "{error}");
        let nowhere = "http://nowhere.invalid:1";
        let error = put(&Client::new(&[nowhere, &one]).unwrap()).await.unwrap_err().to_string();
        assert!(error.contains(&one) && error.contains(nowhere), "{error}");
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_idle_is_no_unknown_outcome() {
        let closing = Reply::Answer(200, vec![("connection", "close".into())], r#"{"revision":1,"version":1}"#.into());
        let server = Server::start([closing, Reply::put(2)]).await;
        let client = Client::new(&[server.url()]).unwrap();
        put(&client).await.unwrap();
        assert_eq!(put(&client).await.unwrap().revision, 2);
        assert_eq!(server.connections(), 2);
    }
}
