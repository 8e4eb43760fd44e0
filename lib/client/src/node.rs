//! The client of one node's admin API: each call is sent to that node and sent once, and its headers carry what the caller
//! says.
//!
//! A call that changes something names the node that is meant (cluster, name, incarnation), so that it cannot hit
//! another node behind the same address; a membership call also carries the index of the membership that it was
//! decided on (rule O5). Nothing is looked up, followed or sent again here: [`crate::admin`] does that for people, and
//! the operator does it in its next pass.

use crate::error::Error;
use crate::http::{Answer, Call, Endpoint, EndpointError, parse};
use crate::token::Token;
use bytes::Bytes;
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, IF_MATCH};
use raftkv_api::{
    AddMember, DecimalId, HEADER_CLUSTER, HEADER_INCARNATION, HEADER_NAME, Hex128, Init, InitDone, MemberAdded,
    Members, Promote, Reset, Status, Transfer, Transferred,
};
use serde::Serialize;
use std::time::Duration;

/// A linearizable read: longer than the node's own limit of 5 s for one.
pub const READ_TIMEOUT_MS: u64 = 8_000;
/// A status, which a node gives without asking anybody. Short: whoever asks all nodes waits for the slowest.
pub const STATUS_TIMEOUT_MS: u64 = 2_000;
/// A change: longer than the node's own limit of 15 s.
pub const CHANGE_TIMEOUT_MS: u64 = 20_000;
/// An idle connection is reused for this long. A node closes its own after 75 s, and there is no proxy in between.
const IDLE_MAX_MS: u64 = 30_000;
/// What `X-Raftkv-Cluster` says of a node that belongs to no cluster.
const NO_CLUSTER: &str = "none";

/// The node that a call is meant for. A node that is another one refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressee {
    /// Its cluster, if it belongs to one.
    pub cluster: Option<Hex128>,
    /// Its name.
    pub name: String,
    /// Its data directory.
    pub incarnation: Hex128,
}

impl Addressee {
    /// The node that gave this status; `None` while it is still opening its data.
    pub fn of(status: &Status) -> Option<Addressee> {
        let incarnation = status.incarnation?;
        Some(Addressee { cluster: status.cluster_id, name: status.name.clone(), incarnation })
    }
}

/// The admin port of one node, with its idle connections.
pub struct NodeClient {
    endpoint: Endpoint,
    token: Token,
    limits: Limits,
}

/// How long an answer is waited for.
struct Limits {
    status: Duration,
    read: Duration,
    change: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Limits { status: ms(STATUS_TIMEOUT_MS), read: ms(READ_TIMEOUT_MS), change: ms(CHANGE_TIMEOUT_MS) }
    }
}

impl NodeClient {
    /// `url` is an admin URL, `http://host:port`.
    pub fn new(url: &str, token: Token) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::new(url)?.keeping_idle(Duration::from_millis(IDLE_MAX_MS));
        Ok(NodeClient { endpoint, token, limits: Limits::default() })
    }

    /// Every answer is waited for this long, that of a status or a read, too: for whoever has nobody else to ask.
    pub fn answered_within(self, limit: Duration) -> Self {
        NodeClient { limits: Limits { status: limit, read: limit, change: limit }, ..self }
    }

    /// The URL in its normal form.
    pub fn url(&self) -> &str {
        self.endpoint.url()
    }

    /// What the node says of itself, in every state.
    pub async fn status(&self) -> Result<Status, Error> {
        let answer = self.send(Call::get("/v1/status"), self.limits.status).await?;
        parse(self.url(), false, &answer)
    }

    /// The members, read linearizably; `conf_index` is what the calls below take.
    pub async fn members(&self) -> Result<Members, Error> {
        let answer = self.send(Call::get("/v1/members"), self.limits.read).await?;
        parse(self.url(), false, &answer)
    }

    /// Makes this Blank node the first voter of a new cluster; doing it twice is harmless (rule N19).
    pub async fn init(&self, to: &Addressee, cluster_id: Hex128, min_voters: u32) -> Result<InitDone, Error> {
        let init = Init { cluster_id, name: to.name.clone(), incarnation: to.incarnation, min_voters };
        let answer = self.change(to, Call::change(Method::POST, "/v1/init", json(&init))).await?;
        parse(self.url(), true, &answer)
    }

    /// Sets the data of this Removed or Quarantined node aside; `reset` says what else may be given up, and who is
    /// asked.
    pub async fn reset(&self, to: &Addressee, reset: &Reset) -> Result<Reset, Error> {
        let answer = self.change(to, Call::change(Method::POST, "/v1/reset", json(reset))).await?;
        parse(self.url(), true, &answer)
    }

    /// Adds a Blank node as a learner; idempotent on its incarnation. To the leader.
    pub async fn add(&self, to: &Addressee, conf_index: u64, member: &AddMember) -> Result<MemberAdded, Error> {
        let call = Call::change(Method::POST, "/v1/members", json(member));
        let answer = self.change(to, fenced(call, conf_index)).await?;
        parse(self.url(), true, &answer)
    }

    /// Makes a learner a voter; with `replaces`, that voter leaves in the same joint change. To the leader.
    pub async fn promote(
        &self,
        to: &Addressee,
        conf_index: u64,
        id: DecimalId,
        replaces: Option<DecimalId>,
    ) -> Result<(), Error> {
        let path = format!("/v1/members/{}/promote", id.0);
        let call = Call::change(Method::POST, path, json(&Promote { replaces }));
        self.change(to, fenced(call, conf_index)).await.map(|_| ())
    }

    /// Removes a member for ever. To the leader.
    pub async fn remove(&self, to: &Addressee, conf_index: u64, id: DecimalId) -> Result<(), Error> {
        let call = Call::change(Method::DELETE, format!("/v1/members/{}", id.0), Bytes::new());
        self.change(to, fenced(call, conf_index)).await.map(|_| ())
    }

    /// Moves leadership away from this leader, to the most caught-up voter unless one is named.
    pub async fn transfer(&self, to: &Addressee, successor: Option<DecimalId>) -> Result<Transferred, Error> {
        let transfer = Transfer { to: successor };
        let answer = self.change(to, Call::change(Method::POST, "/v1/leader/transfer", json(&transfer))).await?;
        parse(self.url(), true, &answer)
    }

    async fn change(&self, to: &Addressee, call: Call) -> Result<Answer, Error> {
        let cluster = to.cluster.map_or_else(|| NO_CLUSTER.to_string(), |id| id.to_string());
        let call = call
            .header(CONTENT_TYPE, "application/json")
            .header(HeaderName::from_static(HEADER_CLUSTER), cluster)
            .header(HeaderName::from_static(HEADER_NAME), to.name.clone())
            .header(HeaderName::from_static(HEADER_INCARNATION), to.incarnation.to_string());
        self.send(call, self.limits.change).await
    }

    async fn send(&self, call: Call, limit: Duration) -> Result<Answer, Error> {
        let call = call.header(AUTHORIZATION, self.token.bearer());
        self.endpoint.call(&call, limit).await
    }
}

fn fenced(call: Call, conf_index: u64) -> Call {
    call.header(IF_MATCH, format!("\"{conf_index}\""))
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("structs of strings and numbers always serialize").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Reply, Server, status};
    use crate::token::TOKEN_DIGITS;
    use raftkv_api::{Code, Outcome};

    const CLUSTER: Hex128 = Hex128([7; 16]);

    fn node() -> Addressee {
        Addressee { cluster: Some(CLUSTER), name: "n1".to_string(), incarnation: Hex128([1; 16]) }
    }

    async fn client(replies: impl IntoIterator<Item = Reply>) -> (Server, NodeClient) {
        let server = Server::start(replies).await;
        let client = NodeClient::new(server.url(), "ab".repeat(TOKEN_DIGITS / 2).parse().unwrap());
        (server, client.unwrap())
    }

    #[tokio::test]
    async fn a_membership_call_names_the_node_and_the_membership() {
        let (server, client) = client([Reply::Answer(200, vec![], Bytes::new())]).await;
        client.promote(&node(), 5, DecimalId(3), Some(DecimalId(2))).await.unwrap();
        let post = server.seen().pop().unwrap();
        assert_eq!((post.method.as_str(), post.target.as_str()), ("POST", "/v1/members/3/promote"));
        assert_eq!(post.body, r#"{"replaces":"2"}"#);
        assert_eq!(post.header("if-match"), Some("\"5\""));
        assert_eq!(post.header(HEADER_NAME), Some("n1"));
        assert_eq!(post.header(HEADER_CLUSTER), Some("07".repeat(16).as_str()));
        assert_eq!(post.header(HEADER_INCARNATION), Some("01".repeat(16).as_str()));
        assert_eq!(post.header("authorization"), Some(format!("Bearer {}", "ab".repeat(32)).as_str()));
    }

    #[tokio::test]
    async fn a_node_without_a_cluster_is_addressed_as_such() {
        let done = InitDone { cluster_id: CLUSTER, genesis: Hex128([4; 16]), member_id: DecimalId(1) };
        let (server, client) = client([Reply::json(200, &done)]).await;
        let blank = Addressee { cluster: None, ..node() };
        assert_eq!(client.init(&blank, CLUSTER, 2).await.unwrap(), done);
        let post = server.seen().pop().unwrap();
        let init = Init { cluster_id: CLUSTER, name: "n1".into(), incarnation: Hex128([1; 16]), min_voters: 2 };
        assert_eq!(serde_json::from_slice::<Init>(&post.body).unwrap(), init);
        assert_eq!((post.header(HEADER_CLUSTER), post.header("if-match")), (Some("none"), None));
    }

    #[tokio::test]
    async fn nothing_is_sent_twice_or_elsewhere() {
        let (server, client) = client([Reply::problem(Code::NotLeader, Outcome::None), Reply::Hangup]).await;
        let refused = client.remove(&node(), 5, DecimalId(3)).await.unwrap_err();
        assert_eq!((refused.code(), refused.outcome()), (Some(Code::NotLeader), Outcome::None));
        let lost = client.remove(&node(), 5, DecimalId(3)).await.unwrap_err();
        assert_eq!(lost.outcome(), Outcome::Unknown);
        assert_eq!(server.targets(), ["DELETE /v1/members/3", "DELETE /v1/members/3"]);
    }

    #[test]
    fn an_opening_node_cannot_be_addressed() {
        let mut opening = status(2);
        assert_eq!(Addressee::of(&opening).map(|to| to.name).as_deref(), Some("n2"));
        opening.incarnation = None;
        assert_eq!(Addressee::of(&opening), None);
    }
}
