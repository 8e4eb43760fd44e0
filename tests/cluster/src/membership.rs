//! Membership calls as an operator makes them: ask the leader who the members are, then call with the answer as the
//! fence.
//!
//! Each call is level-triggered. After a lost answer, a move of the leader or a broken fence it looks again, and does
//! not ask for what has happened already.

use crate::http::{Answer, Request};
use crate::wait::eventually;
use crate::{Cluster, Node};
use anyhow::{Context, Result, anyhow};
use raftkv_api::{AddMember, DecimalId, Hex128, Init, Member, MemberRole, Members, Outcome, Promote, Transfer};

impl Cluster {
    /// Makes the first node the first member.
    pub fn init(&self, min_voters: u32) -> Result<()> {
        let node = self.nodes.first().context("a cluster without nodes")?;
        // The node answers even while it still looks at its directory.
        let status = node.wait_for("has read its directory", |status| status.incarnation.is_some())?;
        let incarnation = status.incarnation.context("a Blank node has an incarnation")?;
        let init = Init { cluster_id: Hex128(rand::random()), name: node.name.clone(), incarnation, min_voters };
        node.admin_guarded("POST", "/v1/init", &status).json(&init).send()?.expect(200)?;
        Ok(())
    }

    /// The members, as the leader knows them.
    pub fn members(&self) -> Result<Members> {
        let leader = self.leader()?;
        self.nodes[leader].admin("GET", "/v1/members").send()?.expect(200)?.json()
    }

    /// Adds a Blank node as a learner, and returns its id.
    pub fn add(&self, node: usize) -> Result<DecimalId> {
        let node = &self.nodes[node];
        let incarnation = node.status()?.incarnation.context("a Blank node has an incarnation")?;
        let add = AddMember { name: node.name.clone(), peer_url: node.peer_url(), incarnation };
        let of = |members: &Members| members.members.iter().find(|m| m.incarnation == incarnation).map(|m| m.id);
        let members = self.change(
            &format!("{} is added", node.name),
            |members| of(members).is_some(),
            |leader, status| leader.admin_guarded("POST", "/v1/members", status).json(&add),
        )?;
        of(&members).context("it is a member: the change has just been seen")
    }

    /// Promotes a learner as soon as it is caught up, in the place of another voter if one is named.
    pub fn promote(&self, id: DecimalId, replaces: Option<DecimalId>) -> Result<()> {
        let path = format!("/v1/members/{}/promote", id.0);
        let done = |members: &Members| {
            let role = |id| find(members, id).map(|member| member.role);
            role(id) == Some(MemberRole::Voter) && !members.joint && replaces.is_none_or(|old| role(old).is_none())
        };
        self.change(&format!("member {} is promoted", id.0), done, |leader, status| {
            leader.admin_guarded("POST", &path, status).json(&Promote { replaces })
        })
        .map(drop)
    }

    /// Adds a Blank node, promotes it, and returns its id.
    pub fn join(&self, node: usize) -> Result<DecimalId> {
        let id = self.add(node)?;
        self.promote(id, None)?;
        self.nodes[node].wait_for("is a voter", |status| status.state == raftkv_api::NodeState::Voter)?;
        Ok(id)
    }

    /// Removes a member; the leader hands its leadership over first.
    pub fn remove(&self, id: DecimalId) -> Result<()> {
        let path = format!("/v1/members/{}", id.0);
        let done = |members: &Members| find(members, id).is_none();
        self.change(&format!("member {} is removed", id.0), done, |leader, status| {
            leader.admin_guarded("DELETE", &path, status)
        })
        .map(drop)
    }

    /// The member id of this node.
    pub fn member_id(&self, node: usize) -> Result<DecimalId> {
        self.nodes[node].status()?.member_id.with_context(|| format!("{} is no member", self.nodes[node].name))
    }

    /// Moves leadership away from this node.
    pub fn lead_elsewhere(&self, node: usize) -> Result<()> {
        eventually(&format!("{} leads no longer", self.nodes[node].name), || {
            let leader = self.leader()?;
            if leader != node {
                return Ok(());
            }
            let status = self.nodes[leader].status()?;
            self.nodes[leader]
                .admin_guarded("POST", "/v1/leader/transfer", &status)
                .json(&serde_json::json!({}))
                .send()?;
            Err(anyhow!("it was asked to"))
        })
    }

    /// Makes this node lead.
    pub fn lead_at(&self, node: usize) -> Result<()> {
        let to = self.member_id(node)?;
        eventually(&format!("{} leads", self.nodes[node].name), || {
            let leader = self.leader()?;
            if leader == node {
                return Ok(());
            }
            let status = self.nodes[leader].status()?;
            let transfer = self.nodes[leader].admin_guarded("POST", "/v1/leader/transfer", &status);
            let answer = transfer.json(&Transfer { to: Some(to) }).send()?;
            Err(anyhow!("{} was asked to let it: {}", self.nodes[leader].name, answer.text()))
        })
    }

    fn change(
        &self,
        what: &str,
        done: impl Fn(&Members) -> bool,
        call: impl Fn(&Node, &raftkv_api::Status) -> Request,
    ) -> Result<Members> {
        eventually(what, || {
            let leader = &self.nodes[self.leader()?];
            let status = leader.status()?;
            let members: Members = leader.admin("GET", "/v1/members").send()?.expect(200)?.json()?;
            if done(&members) {
                return Ok(Ok(members));
            }
            let if_match = format!("\"{}\"", members.conf_index);
            let answer = call(leader, &status).header("If-Match", if_match).send()?;
            let error = anyhow!("status {}: {}", answer.status, answer.text());
            if hopeless(&answer) { Ok(Err(error)) } else { Err(error) }
        })?
    }
}

/// Whether the call was refused for good, and not because the state has changed since it was looked at.
fn hopeless(answer: &Answer) -> bool {
    let refused = answer.problem().is_ok_and(|problem| !problem.retryable && problem.outcome == Outcome::None);
    refused && answer.status != 409
}

fn find(members: &Members, id: DecimalId) -> Option<&Member> {
    members.members.iter().find(|member| member.id == id)
}
