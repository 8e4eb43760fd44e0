//! Makes a cluster of the three nodes: asks them, lets [`form`](super::form) decide, calls.
//!
//! Polling is what keeps this simple and, at 20 ms a pass, fast: a learner that is not caught up yet, an election, a
//! restart and a lost answer all look the same, namely like something to ask again.

use super::form::{Change, Seen, Step, next_change, next_step};
use super::layout::{Layout, Place};
use crate::admin_client::{AdminClient, AdminError};
use raftkv_api as api;
use serde::{Serialize, de::DeserializeOwned};
use std::time::{Duration, Instant};

/// Pause between two passes.
const PASS_EVERY: Duration = Duration::from_millis(20);
/// So long the same obstacle may stand; progress that a node reports is a new one.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// An obstacle that stands so long is shown.
const SHOW_AFTER: Duration = Duration::from_secs(2);
/// Voters before the cluster serves: two of three, so that it never serves with a single disk.
const MIN_VOTERS: u32 = 2;

/// The three nodes as a cluster in the making.
pub(super) struct Forming<'a> {
    layout: &'a Layout,
    client: AdminClient,
    cluster_id: api::Hex128,
}

/// What is to be known about a node when the cluster is up.
pub(super) enum Health {
    /// It answered a linearizable read.
    Serves,
    /// It takes no part; why, and what to do.
    Out(String),
}

impl<'a> Forming<'a> {
    pub(super) fn new(layout: &'a Layout) -> Self {
        let cluster_id = api::Hex128(rand::random());
        Forming { layout, client: AdminClient::new(layout.token.as_str()), cluster_id }
    }

    /// Ends when every node is a voter that serves, or cannot be one.
    pub(super) async fn run(&self) -> anyhow::Result<Vec<Health>> {
        let mut obstacle = Obstacle::new();
        loop {
            let world = self.observe().await;
            let why = match next_step(&world) {
                Step::Done => match self.read_everywhere(&world).await {
                    Ok(health) => return Ok(health),
                    Err(error) => error.to_string(),
                },
                Step::Wait(why) => why,
                Step::Init { node, incarnation } => passing(self.init(&world[node], incarnation).await)?,
                Step::AskMembers { leader } => passing(self.change(&world, leader).await)?,
            };
            obstacle.meet(why)?;
            tokio::time::sleep(PASS_EVERY).await;
        }
    }

    async fn observe(&self) -> Vec<Seen> {
        let mut world = Vec::new();
        for place in &self.layout.places {
            let status = self.client.get(&format!("{}/v1/status", place.admin_url())).await.ok();
            world.push(Seen { name: place.name, peer_url: place.peer_url(), status });
        }
        world
    }

    async fn init(&self, seen: &Seen, incarnation: api::Hex128) -> Result<(), AdminError> {
        let init =
            api::Init { cluster_id: self.cluster_id, name: seen.name.into(), incarnation, min_voters: MIN_VOTERS };
        self.post::<api::InitDone>(seen, "/v1/init", None, &init).await.map(drop)
    }

    async fn change(&self, world: &[Seen], leader: usize) -> Result<(), AdminError> {
        let seen = &world[leader];
        let url = format!("{}/v1/members", self.place(seen).admin_url());
        let members: api::Members = self.client.get(&url).await?;
        let if_match = Some(members.conf_index);
        match next_change(world, &members) {
            None => Ok(()),
            Some(Change::Add(add)) => {
                self.post::<api::MemberAdded>(seen, "/v1/members", if_match, &add).await.map(drop)
            }
            Some(Change::Promote { id, replaces }) => {
                let path = format!("/v1/members/{}/promote", id.0);
                self.post::<serde_json::Value>(seen, &path, if_match, &api::Promote { replaces }).await.map(drop)
            }
        }
    }

    /// A mutating call names the node that it is sent to, and the membership that it was decided on.
    async fn post<T: DeserializeOwned>(
        &self,
        seen: &Seen,
        path: &str,
        if_match: Option<u64>,
        body: &impl Serialize,
    ) -> Result<T, AdminError> {
        let status = seen.status.as_ref();
        let text = |id: Option<api::Hex128>| id.map_or_else(|| "none".to_string(), |id| id.to_string());
        let mut headers = vec![
            (api::HEADER_CLUSTER, text(status.and_then(|status| status.cluster_id))),
            (api::HEADER_NAME, seen.name.to_string()),
            (api::HEADER_INCARNATION, text(status.and_then(|status| status.incarnation))),
        ];
        headers.extend(if_match.map(|index| ("if-match", format!("\"{index}\""))));
        let url = format!("{}{path}", self.place(seen).admin_url());
        self.client.post(&url, &headers, body).await
    }

    /// A linearizable read on every voter; the others say why they are out.
    async fn read_everywhere(&self, world: &[Seen]) -> Result<Vec<Health>, AdminError> {
        let mut health = Vec::new();
        for (place, seen) in self.layout.places.iter().zip(world) {
            let status = seen.status.as_ref();
            health.push(match status.and_then(|status| out_of_service(place, status)) {
                Some(why) => Health::Out(why),
                None => {
                    let url = format!("{}/v1/kv?limit=1", place.client_url());
                    self.client.get::<api::Range>(&url).await?;
                    Health::Serves
                }
            });
        }
        Ok(health)
    }

    fn place(&self, seen: &Seen) -> &Place {
        let named = self.layout.places.iter().find(|place| place.name == seen.name);
        named.expect("the world was made from the places")
    }
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
fn passing(called: Result<(), AdminError>) -> anyhow::Result<String> {
    match called {
        Ok(()) => Ok("the nodes take up the last change".into()),
        Err(error) => match error.problem().map(|problem| problem.status) {
            Some(400 | 401 | 403 | 404 | 405 | 428) => Err(error.into()),
            Some(_) | None => Ok(error.to_string()),
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
            println!("waiting: {}", self.why);
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

    fn refused(code: Code) -> Result<(), AdminError> {
        let problem = Box::new(Problem::new(code, "because"));
        Err(AdminError::Refused { method: hyper::Method::POST, url: "u".into(), problem })
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
