//! Makes a cluster of the three nodes: it asks them, lets [`form`](super::form) decide, and calls.
//!
//! Polling keeps this simple and, at 20 ms a pass, fast: a learner that has not caught up yet, an election, a restart and
//! a lost answer all look the same, which is like something to ask again. No call is repeated within a pass.

use super::form::{Change, Seen, Step, next_change, next_step};
use super::layout::{Layout, Place};
use crate::words;
use raftkv_api as api;
use raftkv_client::node::{Addressee, NodeClient};
use raftkv_client::{Cause, Client, Error, Policy, RangeQuery, Token};
use std::time::{Duration, Instant};

/// Pause between two passes.
const PASS_EVERY: Duration = Duration::from_millis(20);
/// So long the same obstacle may stand; progress that a node reports is a new one.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// An obstacle that stands so long is shown.
const SHOW_AFTER: Duration = Duration::from_secs(2);
/// Longest wait for one answer: a membership change is answered within 15 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Voters before the cluster serves: two of three, so that it never serves with a single disk.
const MIN_VOTERS: u32 = 2;

/// The three nodes as a cluster in the making. Its connections end with it.
pub(super) struct Forming<'a> {
    layout: &'a Layout,
    /// In the order of the layout's places.
    nodes: Vec<NodeClient>,
    cluster_id: api::Hex128,
}

/// What is to be known about a node when the cluster is up.
pub(super) enum Health {
    /// It answered a linearizable read.
    Serves,
    /// It takes no part; why, and what to do.
    Out(String),
}

/// A call that failed, with what was called: the obstacle that a person reads.
#[derive(Debug, thiserror::Error)]
#[error("{called}: {}", reason(.error))]
struct CallFailed {
    called: String,
    error: Error,
}

fn reason(error: &Error) -> String {
    match &error.cause {
        Cause::Problem(problem) => format!("{} {}: {}", problem.status, problem.code.as_str(), problem.detail),
        Cause::NotSent(why) | Cause::NoAnswer(why) => why.clone(),
        Cause::Foreign { status, excerpt } => format!("the answer ({status}) is not understood: {excerpt}"),
    }
}

fn called(method: &str, url: &str, path: &str) -> impl FnOnce(Error) -> CallFailed {
    let called = format!("{method} {url}{path}");
    move |error| CallFailed { called, error }
}

impl<'a> Forming<'a> {
    pub(super) fn new(layout: &'a Layout) -> Self {
        let token: Token = layout.token.parse().expect("the layout has read or made a token");
        let node = |place: &Place| {
            let node = NodeClient::new(&place.admin_url(), token.clone()).expect("an address and a port are a URL");
            node.answered_within(ANSWER_TIMEOUT)
        };
        Forming { layout, nodes: layout.places.iter().map(node).collect(), cluster_id: api::Hex128(rand::random()) }
    }

    /// Ends when every node is a voter that serves, or cannot be one.
    pub(super) async fn run(self) -> anyhow::Result<Vec<Health>> {
        let mut obstacle = Obstacle::new();
        loop {
            let world = self.observe().await;
            let why = match next_step(&world) {
                Step::Done => match self.read_everywhere(&world).await {
                    Ok(health) => return Ok(health),
                    Err(error) => error.to_string(),
                },
                Step::Wait(why) => why,
                Step::Init { node, incarnation } => passing(self.init(&world, node, incarnation).await)?,
                Step::AskMembers { leader } => passing(self.change(&world, leader).await)?,
            };
            obstacle.meet(why)?;
            tokio::time::sleep(PASS_EVERY).await;
        }
    }

    async fn observe(&self) -> Vec<Seen> {
        let mut world = Vec::new();
        for (place, node) in self.layout.places.iter().zip(&self.nodes) {
            world.push(Seen { name: place.name, peer_url: place.peer_url(), status: node.status().await.ok() });
        }
        world
    }

    async fn init(&self, world: &[Seen], node: usize, incarnation: api::Hex128) -> Result<(), CallFailed> {
        let (seen, node) = (&world[node], &self.nodes[node]);
        let cluster = seen.status.as_ref().and_then(|status| status.cluster_id);
        let to = Addressee { cluster, name: seen.name.to_string(), incarnation };
        let done = node.init(&to, self.cluster_id, MIN_VOTERS).await;
        done.map(drop).map_err(called("POST", node.url(), "/v1/init"))
    }

    /// Makes the next change, addressed to the leader as it showed itself and fenced by the membership that it has.
    async fn change(&self, world: &[Seen], leader: usize) -> Result<(), CallFailed> {
        let node = &self.nodes[leader];
        let members = node.members().await.map_err(called("GET", node.url(), "/v1/members"))?;
        let index = members.conf_index;
        // A node that leads has opened its data and can be addressed.
        let Some(to) = world[leader].status.as_ref().and_then(Addressee::of) else { return Ok(()) };
        match next_change(world, &members) {
            None => Ok(()),
            Some(Change::Add(add)) => {
                let added = node.add(&to, index, &add).await;
                added.map(drop).map_err(called("POST", node.url(), "/v1/members"))
            }
            Some(Change::Promote { id, replaces }) => {
                let promoted = node.promote(&to, index, id, replaces).await;
                promoted.map_err(called("POST", node.url(), &format!("/v1/members/{}/promote", id.0)))
            }
        }
    }

    /// A linearizable read on every voter; the others say why they are out.
    async fn read_everywhere(&self, world: &[Seen]) -> Result<Vec<Health>, CallFailed> {
        let mut health = Vec::new();
        for (place, seen) in self.layout.places.iter().zip(world) {
            let status = seen.status.as_ref();
            health.push(match status.and_then(|status| out_of_service(place, status)) {
                Some(why) => Health::Out(why),
                None => {
                    read_one_key(&place.client_url()).await?;
                    Health::Serves
                }
            });
        }
        Ok(health)
    }
}

async fn read_one_key(url: &str) -> Result<(), CallFailed> {
    // The next pass tries again.
    let once = Policy { attempt_timeout: ANSWER_TIMEOUT, retry_for: Duration::ZERO };
    let client = Client::with_policy(&[url], once).expect("an address and a port are a URL");
    let page = client.pages(RangeQuery::default(), 1).next(1).await;
    page.map(drop).map_err(called("GET", url, "/v1/kv?limit=1"))
}

fn out_of_service(place: &Place, status: &api::Status) -> Option<String> {
    let state = match status.state {
        api::NodeState::Removed => "removed",
        api::NodeState::Quarantined => "quarantined",
        api::NodeState::Opening | api::NodeState::Blank | api::NodeState::Learner | api::NodeState::Voter => {
            return None;
        }
    };
    Some(format!(
        "{} is {state}: {}; to start it anew, stop this command, move {} away and run it again",
        place.name,
        status.reason.as_deref().unwrap_or("it gives no reason"),
        place.data_dir.display()
    ))
}

/// What asking again cannot mend ends the command; the rest is an obstacle.
fn passing(called: Result<(), CallFailed>) -> anyhow::Result<String> {
    match called {
        Ok(()) => Ok("the nodes take up the last change".into()),
        Err(failed) => match failed.error.problem().map(|problem| problem.status) {
            Some(400 | 401 | 403 | 404 | 405 | 428) => Err(failed.into()),
            Some(_) | None => Ok(failed.to_string()),
        },
    }
}

/// What stands in the way, and since when.
struct Obstacle {
    why: String,
    since: Instant,
    shown: bool,
}

impl Obstacle {
    fn new() -> Self {
        Obstacle { why: String::new(), since: Instant::now(), shown: false }
    }

    fn meet(&mut self, why: String) -> anyhow::Result<()> {
        if why != self.why {
            *self = Obstacle { why, ..Obstacle::new() };
        }
        let stood = self.since.elapsed();
        if stood > SHOW_AFTER && !self.shown {
            words::tell(format_args!("waiting: {}", self.why));
            self.shown = true;
        }
        anyhow::ensure!(stood <= STUCK_AFTER, "no progress for {} s: {}", STUCK_AFTER.as_secs(), self.why);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Code, Problem};

    fn refused(code: Code) -> Result<(), CallFailed> {
        let problem = Box::new(Problem::new(code, "because"));
        Err(called("POST", "http://h:1", "/v1/init")(Error::new("http://h:1", true, Cause::Problem(problem))))
    }

    #[test]
    fn an_obstacle_names_the_call_and_what_the_node_said() {
        let why = passing(refused(Code::NotLeader)).unwrap();
        assert_eq!(why, "POST http://h:1/v1/init: 409 not_leader: because");
    }

    #[test]
    fn only_what_asking_again_can_mend_is_asked_again() {
        for code in [Code::WouldLoseQuorum, Code::NotLeader, Code::MembersMoved, Code::ChangePending, Code::Opening] {
            assert!(passing(refused(code)).unwrap().contains(code.as_str()));
        }
        for code in [Code::Unauthorized, Code::BadRequest, Code::ForbiddenHost, Code::PreconditionRequired] {
            assert!(passing(refused(code)).unwrap_err().to_string().contains(code.as_str()));
        }
    }

    #[test]
    fn progress_is_a_new_obstacle() {
        let mut obstacle = Obstacle::new();
        obstacle.meet("10 %".into()).unwrap();
        obstacle.since -= STUCK_AFTER * 2;
        obstacle.meet("20 %".into()).expect("it moved");
        obstacle.since -= STUCK_AFTER * 2;
        assert_eq!(obstacle.meet("20 %".into()).unwrap_err().to_string(), "no progress for 60 s: 20 %");
    }
}
