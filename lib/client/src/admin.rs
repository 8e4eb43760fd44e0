//! The client of the admin API: who the nodes are, who leads, and the calls that change the membership.
//!
//! Calls go out through [`crate::node`] and are addressed to the node as its own status showed it just before. Calls that
//! change the membership go to the leader, which the nodes' statuses name; a `not_leader` answer is followed to the
//! leader that it names. Only calls with outcome `none` are sent again.

use crate::error::{Cause, Error};
use crate::failover::{Failover, Pauses, Policy, nobody};
use crate::http::{Call, Endpoint, EndpointError, parse};
use crate::node::{Addressee, NodeClient, READ_TIMEOUT_MS, STATUS_TIMEOUT_MS};
use crate::token::Token;
use hyper::header::AUTHORIZATION;
use raftkv_api::{
    AddMember, Code, DecimalId, Hex128, InitDone, MemberAdded, Members, Outcome, Problem, Reset, Status, Transferred,
    Version,
};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// For how long a leader is looked for.
const LEADER_WAIT_MS: u64 = 10_000;

/// What one node said of itself, or why it could not be asked.
#[derive(Debug)]
pub struct NodeStatus {
    /// The URL that was asked.
    pub url: String,
    /// The answer.
    pub status: Result<Status, Error>,
}

/// A client of the admin API of one cluster.
#[derive(Clone)]
pub struct Admin {
    urls: Vec<String>,
    token: Token,
}

impl Admin {
    /// `urls` are admin URLs, as many of the cluster's as are known.
    pub fn new(urls: &[impl AsRef<str>], token: Token) -> Result<Self, EndpointError> {
        let normal = |url: &_| Endpoint::new(AsRef::as_ref(url)).map(|endpoint| endpoint.url().to_string());
        Ok(Admin { urls: urls.iter().map(normal).collect::<Result<_, _>>()?, token })
    }

    /// Finds the admin URLs by asking each client endpoint for its `/version`; fails when none answers.
    pub async fn discover(client_urls: &[String], token: Token) -> Result<Self, Error> {
        let answers = versions(client_urls, Duration::from_millis(STATUS_TIMEOUT_MS)).await;
        let (mut urls, mut refused, mut last_error) = (Vec::new(), Vec::new(), None);
        for (client_url, answer) in client_urls.iter().zip(answers) {
            match answer {
                Ok(version) if urls.contains(&version.admin_url) => {}
                Ok(version) => urls.push(version.admin_url),
                Err(error) => {
                    if let Cause::NotSent(why) = &error.cause {
                        refused.push((client_url.as_str(), why.clone()));
                    }
                    last_error = Some(error);
                }
            }
        }
        match last_error {
            Some(error) if urls.is_empty() => {
                Err(nobody(&refused, false).filter(|_| refused.len() == client_urls.len()).unwrap_or(error))
            }
            Some(_) | None => Ok(Admin { urls, token }),
        }
    }

    /// The status of one node.
    pub async fn status_of(&self, url: &str) -> Result<Status, Error> {
        self.node(url)?.status().await
    }

    /// The status of the leader.
    pub async fn leader(&self) -> Result<Status, Error> {
        self.status_of(&self.find_leader().await?).await
    }

    /// The status of each of this client's nodes, asked at the same time.
    pub async fn statuses(&self) -> Vec<NodeStatus> {
        self.statuses_of(&self.urls).await
    }

    /// The status of each of these nodes, asked at the same time.
    pub async fn statuses_of(&self, urls: &[String]) -> Vec<NodeStatus> {
        let ask = |url: String| {
            let admin = self.clone();
            async move {
                let status = admin.status_of(&url).await;
                NodeStatus { url, status }
            }
        };
        ask_all(urls.iter().cloned().map(ask)).await
    }

    /// The members, read linearizably from the first node that can.
    pub async fn members(&self) -> Result<Members, Error> {
        let failover = Failover::new(&self.urls, read_policy()).map_err(|error| unusable(&error))?;
        let call = Call::get("/v1/members").header(AUTHORIZATION, self.token.bearer());
        let (url, answer) = failover.call(&call).await?;
        parse(url, false, &answer)
    }

    /// Adds a Blank node as a learner; idempotent on its incarnation.
    pub async fn add(&self, member: &AddMember) -> Result<MemberAdded, Error> {
        self.change(async |leader, to| leader.add(to, leader.members().await?.conf_index, member).await).await
    }

    /// Makes a learner a voter; with `replaces`, that voter leaves in the same joint change.
    pub async fn promote(&self, id: DecimalId, replaces: Option<DecimalId>) -> Result<(), Error> {
        self.change(async |leader, to| leader.promote(to, leader.members().await?.conf_index, id, replaces).await).await
    }

    /// Removes a member for ever.
    pub async fn remove(&self, id: DecimalId) -> Result<(), Error> {
        self.change(async |leader, to| leader.remove(to, leader.members().await?.conf_index, id).await).await
    }

    /// Moves leadership, to the most caught-up voter unless one is named.
    pub async fn transfer(&self, to: Option<DecimalId>) -> Result<Transferred, Error> {
        self.change(async |leader, addressee| leader.transfer(addressee, to).await).await
    }

    /// Makes one Blank node the first voter of a new cluster. Sent to that node alone and bound to the
    /// incarnation that it shows, so doing it twice is harmless (rule N19).
    pub async fn init(&self, url: &str, cluster_id: Hex128, min_voters: u32) -> Result<InitDone, Error> {
        let node = self.node(url)?;
        node.init(&shown(&node).await?, cluster_id, min_voters).await
    }

    /// Sets the data of a Removed or Quarantined node aside, those of the incarnation that it shows; with
    /// `diverged`, also if it may hold the only copy of acknowledged writes (rule N20). A learner that knows nobody asks
    /// the members at `ask` whether it was removed.
    pub async fn reset(&self, url: &str, diverged: bool, ask: Vec<String>) -> Result<Reset, Error> {
        let node = self.node(url)?;
        let to = shown(&node).await?;
        node.reset(&to, &Reset { diverged, ask, ..Reset::of(to.incarnation) }).await
    }

    /// Makes a change at the leader, wherever it is or moves to.
    async fn change<T>(
        &self,
        at_leader: impl AsyncFn(&NodeClient, &Addressee) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + Duration::from_millis(LEADER_WAIT_MS);
        let mut pauses = Pauses::new();
        let mut named = None;
        loop {
            let attempt = async {
                let url = match named.take() {
                    Some(url) => url,
                    None => self.find_leader().await?,
                };
                let leader = self.node(&url)?;
                at_leader(&leader, &shown(&leader).await?).await
            };
            let error = match attempt.await {
                Ok(answered) => return Ok(answered),
                Err(error) => error,
            };
            if !leader_may_be_elsewhere(&error) || !pauses.pause(deadline).await {
                return Err(error);
            }
            named = error.problem().and_then(named_leader);
        }
    }

    async fn find_leader(&self) -> Result<String, Error> {
        let nodes = self.statuses().await;
        if let Some(url) = leader_url(&nodes) {
            return Ok(url);
        }
        let mut why = "no node that answers knows a leader";
        for node in nodes {
            match node.status {
                Ok(status) if status.cluster_id.is_none() => why = "no node that answers belongs to a cluster",
                Ok(_) => {}
                Err(error) if error.code() == Some(Code::Unauthorized) => return Err(error),
                Err(_) => {}
            }
        }
        Err(Error::new(&self.urls.join(","), true, Cause::NotSent(why.to_string())))
    }

    fn node(&self, url: &str) -> Result<NodeClient, Error> {
        NodeClient::new(url, self.token.clone()).map_err(|error| unusable(&error))
    }
}

/// Asks each client endpoint once for its version and the URL of its admin API; those that do not answer are errors in their place.
pub async fn versions(endpoints: &[String], attempt_timeout: Duration) -> Vec<Result<Version, Error>> {
    let ask = |url: String| async move {
        let unusable = |error: EndpointError| Error::new(&url, false, Cause::NotSent(error.to_string()));
        let endpoint = Endpoint::new(&url).map_err(unusable)?;
        let answer = endpoint.call(&Call::get("/version"), attempt_timeout).await?;
        parse(endpoint.url(), false, &answer)
    };
    ask_all(endpoints.iter().cloned().map(ask)).await
}

/// Runs all at the same time; the results are in the order of the futures.
pub async fn ask_all<F>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for (at, future) in futures.into_iter().enumerate() {
        tasks.spawn(async move { (at, future.await) });
    }
    let mut results = tasks.join_all().await;
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Who the node says it is.
async fn shown(node: &NodeClient) -> Result<Addressee, Error> {
    let status = node.status().await?;
    let opening = || Cause::NotSent(format!("node {} is still opening its data; try again", status.name));
    Addressee::of(&status).ok_or_else(|| Error::new(node.url(), true, opening()))
}

/// The admin URL of the leader, as the node with the highest term knows it; a URL that was reached before
/// one that is advertised.
fn leader_url(nodes: &[NodeStatus]) -> Option<String> {
    let answered = || nodes.iter().filter_map(|node| node.status.as_ref().ok().map(|status| (&node.url, status)));
    let (_, newest) = answered().filter(|(_, status)| status.leader_id.is_some()).max_by_key(|(_, s)| s.term)?;
    let reached = answered().find(|(_, status)| status.member_id == newest.leader_id);
    let advertised = || newest.leader.as_ref().and_then(|leader| leader.admin_url.clone());
    reached.map(|(url, _)| url.clone()).or_else(advertised)
}

/// Nothing happened, and the reason is that the leader, or the time, was the wrong one.
fn leader_may_be_elsewhere(error: &Error) -> bool {
    let elsewhere = match &error.cause {
        Cause::NotSent(_) => true,
        Cause::Problem(problem) => problem.status >= 500 && problem.retryable || problem.code == Code::NotLeader,
        Cause::NoAnswer(_) | Cause::Foreign { .. } => false,
    };
    elsewhere && error.outcome() == Outcome::None
}

fn named_leader(problem: &Problem) -> Option<String> {
    if problem.code == Code::NotLeader { problem.leader.as_ref()?.admin_url.clone() } else { None }
}

fn unusable(error: &EndpointError) -> Error {
    Error::new("admin", false, Cause::NotSent(error.to_string()))
}

fn read_policy() -> Policy {
    Policy { attempt_timeout: Duration::from_millis(READ_TIMEOUT_MS), retry_for: Duration::from_millis(LEADER_WAIT_MS) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Reply, Server, status};
    use crate::token::TOKEN_DIGITS;
    use bytes::Bytes;
    use raftkv_api::{HEADER_CLUSTER, HEADER_INCARNATION, HEADER_NAME, Init, LeaderRef, NodeState};

    fn token() -> Token {
        "ab".repeat(TOKEN_DIGITS / 2).parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn members(conf_index: u64) -> Reply {
        let body = serde_json::json!({"cluster_id": Hex128([7; 16]), "conf_index": conf_index, "joint": false,
            "leader": "1", "members": [], "removed": []});
        Reply::Answer(200, vec![("etag", format!("\"{conf_index}\""))], body.to_string().into())
    }

    fn not_leader(leader_url: &str) -> Reply {
        let leader = LeaderRef { name: "n1".into(), client_url: None, admin_url: Some(leader_url.to_string()) };
        let problem = Problem { leader: Some(leader), ..Problem::new(Code::NotLeader, "scripted") };
        Reply::json(409, &problem)
    }

    #[tokio::test]
    async fn a_change_names_the_node_and_the_membership() {
        let shown = || Reply::json(200, &status(1));
        let server = Server::start([shown(), shown(), members(5), Reply::Answer(200, vec![], Bytes::new())]).await;
        let admin = Admin::new(&[server.url()], token()).unwrap();
        admin.promote(DecimalId(3), Some(DecimalId(2))).await.unwrap();
        let post = server.seen().pop().unwrap();
        assert_eq!((post.method.as_str(), post.target.as_str()), ("POST", "/v1/members/3/promote"));
        assert_eq!(post.body, r#"{"replaces":"2"}"#);
        assert_eq!(post.header("if-match"), Some("\"5\""));
        assert_eq!(post.header(HEADER_NAME), Some("n1"));
        assert_eq!(post.header(HEADER_CLUSTER), Some("07".repeat(16).as_str()));
        assert_eq!(post.header(HEADER_INCARNATION), Some("01".repeat(16).as_str()));
        assert_eq!(post.header("authorization"), Some(token().bearer().as_str()));
    }

    #[tokio::test]
    async fn not_leader_is_followed_to_the_leader() {
        let leader =
            Server::start([Reply::json(200, &status(1)), Reply::json(200, &Transferred { leader: DecimalId(3) })]);
        let leader = leader.await;
        let mut follower_status = status(2);
        // The follower believes that it leads, until it is asked to do so.
        follower_status.leader_id = follower_status.member_id;
        let shown = || Reply::json(200, &follower_status);
        let follower = Server::start([shown(), shown(), not_leader(leader.url())]).await;
        let admin = Admin::new(&[follower.url()], token()).unwrap();
        assert_eq!(admin.transfer(Some(DecimalId(3))).await.unwrap().leader, DecimalId(3));
        assert_eq!(leader.targets(), ["GET /v1/status", "POST /v1/leader/transfer"]);
    }

    #[tokio::test]
    async fn a_change_whose_outcome_is_unknown_is_not_sent_again() {
        let shown = || Reply::json(200, &status(1));
        let server = Server::start([shown(), shown(), members(5), Reply::Hangup]).await;
        let error = Admin::new(&[server.url()], token()).unwrap().remove(DecimalId(3)).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(server.targets().last().map(String::as_str), Some("DELETE /v1/members/3"));
        assert_eq!(server.targets().len(), 4);
    }

    #[tokio::test]
    async fn init_is_bound_to_the_incarnation_that_the_node_shows() {
        let mut blank = status(2);
        (blank.state, blank.cluster_id, blank.member_id) = (NodeState::Blank, None, None);
        let done = InitDone { cluster_id: Hex128([3; 16]), genesis: Hex128([4; 16]), member_id: DecimalId(1) };
        let server = Server::start([Reply::json(200, &blank), Reply::json(200, &done)]).await;
        let admin = Admin::new(&[server.url()], token()).unwrap();
        assert_eq!(admin.init(server.url(), Hex128([3; 16]), 1).await.unwrap(), done);
        let post = server.seen().pop().unwrap();
        let body: Init = serde_json::from_slice(&post.body).unwrap();
        let expected =
            Init { cluster_id: Hex128([3; 16]), name: "n2".into(), incarnation: Hex128([2; 16]), min_voters: 1 };
        assert_eq!(body, expected);
        assert_eq!(post.header(HEADER_CLUSTER), Some("none"));
    }

    #[tokio::test]
    async fn reset_names_the_incarnation_that_the_node_shows() {
        let done = Reset::of(Hex128([2; 16]));
        let server = Server::start([Reply::json(200, &status(2)), Reply::json(200, &done)]).await;
        assert_eq!(
            Admin::new(&[server.url()], token()).unwrap().reset(server.url(), false, vec![]).await.unwrap(),
            done
        );
        let post = server.seen().pop().unwrap();
        assert_eq!((post.target.as_str(), serde_json::from_slice(&post.body).ok()), ("/v1/reset", Some(done)));
        assert_eq!(post.header(HEADER_INCARNATION), Some("02".repeat(16).as_str()));
    }

    #[test]
    fn the_leader_is_where_the_newest_term_says() {
        let node = |id: u64, term: u64, leader: u64| {
            let mut status = status(id);
            (status.term, status.leader_id) = (term, Some(DecimalId(leader)));
            NodeStatus { url: format!("http://reached{id}:1"), status: Ok(status) }
        };
        assert_eq!(leader_url(&[]), None);
        assert_eq!(leader_url(&[node(1, 4, 1), node(2, 5, 2)]).as_deref(), Some("http://reached2:1"));
        assert_eq!(leader_url(&[node(2, 5, 1), node(1, 4, 1)]).as_deref(), Some("http://reached1:1"));
        assert_eq!(leader_url(&[node(2, 5, 1)]).as_deref(), Some("http://n1:2381"));
    }
}
