//! What the nodes' statuses mean together: a row for each node, a verdict, and what to do next. PURE.
//!
//! The worst finding sets the level: `down` when clients cannot be served or data differs, `degraded` when
//! something needs attention, `healthy` otherwise.

use raftkv_api::{Hex128, KvState, Member, MemberRole, Members, NodeState, Status};
use raftkv_client::admin::NodeStatus;
use raftkv_client::bytes_text::shell_word;
use std::collections::{BTreeMap, BTreeSet};

/// Entries by which a member may be behind and still count as caught up (rule O6).
const CAUGHT_UP_ENTRIES: u64 = 1000;
/// Digits of a hash that a table shows.
const HASH_DIGITS: usize = 12;

/// How well the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing to do.
    Healthy,
    /// It serves, and something needs attention.
    Degraded,
    /// It does not serve, or its members' data differs.
    Down,
}

impl Level {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Level::Healthy => "healthy",
            Level::Degraded => "degraded",
            Level::Down => "down",
        }
    }
}

/// One node, in words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub name: String,
    pub state: &'static str,
    pub role: &'static str,
    pub term: Option<u64>,
    pub applied: Option<u64>,
    /// Entries between the leader's commit index and what is applied here.
    pub lag: Option<u64>,
    pub revision: Option<u64>,
    pub db_bytes: Option<u64>,
    /// The state hash at [`Report::hash_index`], shortened.
    pub hash: Option<String>,
}

/// The whole cluster in one sentence, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub level: Level,
    pub summary: String,
    pub next: Vec<String>,
}

/// What `status` shows.
#[derive(Debug)]
pub(crate) struct Report {
    pub rows: Vec<Row>,
    /// The highest applied index at which every member that answered has a hash.
    pub hash_index: Option<u64>,
    pub verdict: Verdict,
}

/// Something worth telling.
struct Finding {
    level: Level,
    what: String,
    next: String,
}

/// Judges what was seen. `members` is the membership, when some node could read it: that takes a majority.
pub(crate) fn report<'a>(nodes: impl IntoIterator<Item = &'a NodeStatus>, members: Option<&'a Members>) -> Report {
    let view = View { nodes: nodes.into_iter().collect(), members };
    let hash_index = view.common_hash_index();
    let mut rows: Vec<Row> = view.nodes.iter().map(|node| view.row(node, hash_index)).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Report { rows, hash_index, verdict: view.verdict() }
}

/// Whether members hold different data, or are not of one cluster: the one finding that cannot wait.
pub(crate) fn data_differs(nodes: &[NodeStatus], members: Option<&Members>) -> bool {
    View { nodes: nodes.iter().collect(), members }.divergence().is_some()
}

/// Everything that is known, and the questions that can be put to it.
struct View<'a> {
    nodes: Vec<&'a NodeStatus>,
    members: Option<&'a Members>,
}

impl<'a> View<'a> {
    fn answered(&self) -> impl Iterator<Item = (&'a str, &'a Status)> {
        self.nodes.iter().filter_map(|node| Some((node.url.as_str(), node.status.as_ref().ok()?)))
    }

    fn in_cluster(&self) -> impl Iterator<Item = &'a Status> {
        self.answered().map(|(_, status)| status).filter(|status| status.member_id.is_some())
    }

    /// The status with the newest opinion on who leads.
    fn newest(&self) -> Option<&'a Status> {
        self.in_cluster().filter(|status| status.leader_id.is_some()).max_by_key(|status| status.term)
    }

    fn leader(&self) -> Option<&'a Status> {
        let leader_id = self.newest()?.leader_id;
        self.in_cluster().find(|status| status.member_id == leader_id)
    }

    fn name_of(&self, node: &NodeStatus) -> String {
        let at = |member: &&Member| {
            let urls = [member.client_url.as_ref(), member.admin_url.as_ref(), Some(&member.peer_url)];
            urls.into_iter().flatten().any(|url| *url == node.url)
        };
        match &node.status {
            Ok(status) => status.name.clone(),
            Err(_) => {
                let member = self.members.and_then(|members| members.members.iter().find(at));
                member.map_or_else(|| node.url.clone(), |member| member.name.clone())
            }
        }
    }

    /// Whether this is a member, just added say, whose admin URL nobody knows yet, so that it could not be asked.
    fn is_unheard(&self, node: &NodeStatus) -> bool {
        let members = self.members.into_iter().flat_map(|members| &members.members);
        members.filter(|member| member.peer_url == node.url).any(|member| member.admin_url.is_none())
    }

    fn row(&self, node: &NodeStatus, hash_index: Option<u64>) -> Row {
        let name = self.name_of(node);
        let Ok(status) = &node.status else {
            let state = if self.is_unheard(node) { "not asked" } else { "unreachable" };
            return Row { name, state, ..Row::default() };
        };
        let lag = self.leader().filter(|_| status.member_id.is_some());
        let hash = hash_index.and_then(|index| hashes(status).get(&index).copied());
        Row {
            name,
            state: state(status.state),
            role: self.role(status),
            term: Some(status.term),
            applied: Some(status.applied),
            lag: lag.map(|leader| leader.commit.saturating_sub(status.applied)),
            revision: Some(status.revision),
            db_bytes: Some(status.db_bytes),
            hash: hash.map(|hash| hash.to_string()[..HASH_DIGITS].to_string()),
        }
    }

    fn role(&self, status: &Status) -> &'static str {
        let leads = self.leader().is_some_and(|leader| leader.member_id == status.member_id);
        match status.state {
            NodeState::Voter if leads => "leader",
            NodeState::Voter => "follower",
            NodeState::Learner => "learner",
            NodeState::Opening | NodeState::Blank | NodeState::Removed | NodeState::Quarantined => "",
        }
    }

    fn common_hash_index(&self) -> Option<u64> {
        let indexes = |status: &Status| hashes(status).into_keys().collect::<BTreeSet<_>>();
        let common = self.serving().map(indexes).reduce(|a, b| a.intersection(&b).copied().collect());
        common.and_then(|indexes| indexes.last().copied())
    }

    fn serving(&self) -> impl Iterator<Item = &'a Status> {
        self.in_cluster().filter(|status| matches!(status.state, NodeState::Voter | NodeState::Learner))
    }

    fn verdict(&self) -> Verdict {
        let mut findings: Vec<Finding> = self.divergence().into_iter().chain(self.service()).collect();
        findings.extend(self.nodes.iter().filter_map(|node| self.trouble(node)));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let level = findings.first().map_or(Level::Healthy, |worst| worst.level);
        let told = findings.iter().map(|finding| finding.what.clone());
        let summary =
            if level == Level::Down { told.collect() } else { self.praise().into_iter().chain(told).collect() };
        let summary: Vec<String> = summary;
        Verdict { level, summary: summary.join("; "), next: findings.into_iter().map(|f| f.next).collect() }
    }

    /// Two members whose hashes differ at an equal index (rule N15), or that are of two clusters.
    fn divergence(&self) -> Option<Finding> {
        let clusters: BTreeSet<_> = self.in_cluster().map(|status| (status.cluster_id, status.genesis)).collect();
        if clusters.len() > 1 {
            let what = "the nodes belong to different clusters".to_string();
            return Some(down(what, "name one cluster's endpoints with --endpoints"));
        }
        let mut seen: BTreeMap<u64, (Hex128, &str)> = BTreeMap::new();
        for status in self.serving() {
            for (index, hash) in hashes(status) {
                let (other_hash, other) = *seen.entry(index).or_insert((hash, &status.name));
                if other_hash != hash {
                    let what = format!("DATA DIFFERS between {other} and {} at index {index}", status.name);
                    let next =
                        "stop writing, keep every data directory, and compare `raftkvctl export --node URL` of both";
                    return Some(down(what, next));
                }
            }
        }
        None
    }

    /// Whether clients are served at all.
    fn service(&self) -> Option<Finding> {
        if self.answered().next().is_none() {
            let next = "start the nodes, or name their client URLs with --endpoints";
            return Some(down("no node answers".to_string(), next));
        }
        let Some(newest) = self.newest() else {
            return Some(self.no_leader());
        };
        if self.members.is_none() {
            let leader = newest.leader.as_ref().map_or("a member", |leader| leader.name.as_str());
            let what = format!("{leader} leads, as far as it knows, but no majority answers a read");
            return Some(down(what, "start the members that do not answer, with their data directories as they are"));
        }
        if !newest.formed {
            let what = "the cluster is forming: it has not had the voters that init asked for".to_string();
            return Some(down(what, "`raftkvctl add` and `raftkvctl promote` more members"));
        }
        None
    }

    fn no_leader(&self) -> Finding {
        let blank = self.answered().find(|(_, status)| status.state == NodeState::Blank);
        match blank {
            Some((url, _)) if self.in_cluster().next().is_none() => {
                down("there is no cluster yet".to_string(), format!("raftkvctl init --admin-url {}", shell_word(url)))
            }
            Some(_) | None => {
                let voters = self.in_cluster().filter(|status| status.state == NodeState::Voter).count();
                let answer = if voters == 1 { "voter answers" } else { "voters answer" };
                let what = format!("there is no leader; {voters} {answer}");
                let next = "wait for an election (2 s); else start the nodes that do not answer, with their data \
                            directories as they are, and delete nothing";
                down(what, next)
            }
        }
    }

    /// What one node needs.
    fn trouble(&self, node: &NodeStatus) -> Option<Finding> {
        let name = self.name_of(node);
        let status = match &node.status {
            Ok(status) => status,
            Err(_) if self.is_unheard(node) => {
                let next = format!("wait; if it stays so, see whether {name} runs at {}", shell_word(&node.url));
                return Some(degraded(format!("{name} has not told the leader yet where it can be asked"), next));
            }
            Err(error) => {
                let next = format!("start {name}, or look at its log ({error})");
                return Some(degraded(format!("{name} is unreachable"), next));
            }
        };
        let id = status.member_id.map_or(0, |id| id.0);
        let reason = status.reason.clone().unwrap_or_else(|| "no reason given".to_string());
        let (what, url) = (|words: &str| format!("{name} {words}"), shell_word(&node.url));
        match status.state {
            NodeState::Opening => Some(degraded(what("is opening its data"), format!("wait: {reason}"))),
            NodeState::Blank if self.in_cluster().next().is_none() => None,
            NodeState::Blank => Some(degraded(what("is no member"), format!("raftkvctl add --admin-url {url}"))),
            NodeState::Learner => {
                let next = format!("when its lag is below {CAUGHT_UP_ENTRIES}: raftkvctl promote {id}");
                Some(degraded(what("does not vote yet"), next))
            }
            NodeState::Removed => {
                let next = format!("stop it, or let it join anew: raftkvctl reset --admin-url {url} ({reason})");
                Some(degraded(what("was removed"), next))
            }
            NodeState::Quarantined => {
                let next = match self.leader() {
                    Some(_) => format!(
                        "raftkvctl reset --admin-url {url}, then add --admin-url {url}, then promote the new id \
                         --replaces {id}; its data are kept aside ({reason})"
                    ),
                    None => format!("keep its data directory ({reason})"),
                };
                Some(degraded(what("cannot trust its data"), next))
            }
            NodeState::Voter => self.slow(status),
        }
    }

    /// A voter that is not where it should be.
    fn slow(&self, status: &Status) -> Option<Finding> {
        let lag = self.leader().map_or(0, |leader| leader.commit.saturating_sub(status.applied));
        match status.kv {
            KvState::Absent | KvState::Proving | KvState::Rebuilding | KvState::Installing => {
                let what = format!("{} is bringing its store up to date", status.name);
                Some(degraded(what, "wait; it votes meanwhile"))
            }
            KvState::Ready if lag > CAUGHT_UP_ENTRIES => {
                Some(degraded(format!("{} is {lag} entries behind", status.name), "wait, or look at its disk"))
            }
            KvState::Ready => None,
        }
    }

    /// Who leads how many voters, and how many of them may fail.
    fn praise(&self) -> Option<String> {
        let newest = self.newest()?;
        let leader = newest.leader.as_ref().map_or("a member", |leader| leader.name.as_str());
        let answer = self.in_cluster().filter(|status| status.state == NodeState::Voter).count();
        let voters = self.members.map_or(answer, |members| {
            members.members.iter().filter(|member| member.role != MemberRole::Learner).count()
        });
        let spare = answer.saturating_sub(voters / 2 + 1);
        let s = if voters == 1 { "" } else { "s" };
        Some(format!("{leader} leads {voters} voter{s} in term {}; {spare} more may fail", newest.term))
    }
}

fn down(what: String, next: impl Into<String>) -> Finding {
    Finding { level: Level::Down, what, next: next.into() }
}

fn degraded(what: String, next: impl Into<String>) -> Finding {
    Finding { level: Level::Degraded, what, next: next.into() }
}

/// All hashes that a node shows, by applied index.
fn hashes(status: &Status) -> BTreeMap<u64, Hex128> {
    status.state_hashes.iter().chain(&status.state_hash).map(|hash| (hash.applied, hash.log_hash)).collect()
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Opening => "opening",
        NodeState::Blank => "blank",
        NodeState::Learner => "learner",
        NodeState::Voter => "voter",
        NodeState::Removed => "removed",
        NodeState::Quarantined => "quarantined",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_api::StateHash;
    use raftkv_client::{Cause, Error};
    use serde_json::json;

    fn node(id: u64, change: impl FnOnce(&mut Status)) -> NodeStatus {
        let mut status = raftkv_client::testing::status(id);
        change(&mut status);
        NodeStatus { url: format!("http://n{id}:2381"), status: Ok(status) }
    }

    fn unreachable(id: u64) -> NodeStatus {
        let url = format!("http://n{id}:2379");
        let error = Error::new(&url, false, Cause::NotSent("refused".to_string()));
        NodeStatus { url, status: Err(error) }
    }

    fn three_members() -> Members {
        let member = |id: u64| {
            json!({"id": id.to_string(), "name": format!("n{id}"), "peer_url": "", "role": "voter",
                "incarnation": Hex128([1; 16]), "client_url": format!("http://n{id}:2379"), "admin_url": null})
        };
        serde_json::from_value(json!({"cluster_id": Hex128([7; 16]), "conf_index": 5, "joint": false,
            "leader": "1", "members": [member(1), member(2), member(3)], "removed": []}))
        .unwrap()
    }

    #[test]
    fn three_equal_nodes_are_healthy() {
        let report = report(&[node(2, |_| {}), node(1, |_| {}), node(3, |s| s.applied = 90)], Some(&three_members()));
        assert_eq!(report.verdict.level, Level::Healthy);
        assert_eq!(report.verdict.summary, "n1 leads 3 voters in term 4; 1 more may fail");
        let roles: Vec<_> = report.rows.iter().map(|row| (row.name.as_str(), row.role, row.lag)).collect();
        assert_eq!(roles, [("n1", "leader", Some(0)), ("n2", "follower", Some(0)), ("n3", "follower", Some(10))]);
        assert_eq!((report.hash_index, report.rows[0].hash.as_deref()), (Some(100), Some("090909090909")));
    }

    #[test]
    fn an_unreachable_node_is_a_row_with_its_name() {
        let report = report(&[node(1, |_| {}), unreachable(2), node(3, |_| {})], Some(&three_members()));
        assert_eq!((report.rows[1].name.as_str(), report.rows[1].state), ("n2", "unreachable"));
        assert_eq!(report.verdict.level, Level::Degraded);
        assert_eq!(report.verdict.summary, "n1 leads 3 voters in term 4; 0 more may fail; n2 is unreachable");
    }

    #[test]
    fn a_member_that_nobody_could_ask_is_not_called_unreachable() {
        let mut members = three_members();
        members.members[1].peer_url = "http://n2:2380".to_string();
        let error = Error::new("http://n2:2380", false, Cause::NotSent("unknown".to_string()));
        let silent = NodeStatus { url: "http://n2:2380".to_string(), status: Err(error) };
        let report = report(&[node(1, |_| {}), silent, node(3, |_| {})], Some(&members));
        assert_eq!((report.rows[1].name.as_str(), report.rows[1].state), ("n2", "not asked"));
        assert!(report.verdict.next[0].starts_with("wait; "), "{:?}", report.verdict);
    }

    #[test]
    fn hashes_are_compared_at_equal_indexes_only() {
        let at = |applied: u64, byte: u8| StateHash { applied, log_hash: Hex128([byte; 16]) };
        let ahead = |s: &mut Status| {
            s.state_hash = Some(at(200, 1));
            s.state_hashes = vec![at(64, 5)];
        };
        let behind = |byte: u8| move |s: &mut Status| s.state_hashes = vec![at(64, byte)];
        let same = report(&[node(1, ahead), node(2, behind(5))], Some(&three_members()));
        assert_eq!((same.hash_index, same.verdict.level), (Some(64), Level::Healthy));
        let differs = report(&[node(1, ahead), node(2, behind(6))], Some(&three_members()));
        assert_eq!(differs.verdict.level, Level::Down);
        assert_eq!(differs.verdict.summary, "DATA DIFFERS between n1 and n2 at index 64");
    }

    #[test]
    fn what_is_missing_is_said_with_the_next_step() {
        let blank = |s: &mut Status| {
            (s.state, s.member_id, s.cluster_id, s.leader, s.leader_id) = (NodeState::Blank, None, None, None, None);
        };
        let verdict = |nodes: &[NodeStatus]| report(nodes, Some(&three_members())).verdict;
        let cut_off = report(&[node(1, |_| {})], None).verdict;
        assert_eq!(cut_off.level, Level::Down);
        assert_eq!(cut_off.summary, "n1 leads, as far as it knows, but no majority answers a read");
        let none = report(&[unreachable(1)], None).verdict;
        assert_eq!(
            (none.level, none.summary.as_str()),
            (Level::Down, "no node answers; http://n1:2379 is unreachable")
        );
        assert_eq!(verdict(&[node(1, blank)]).next, ["raftkvctl init --admin-url http://n1:2381"]);
        assert_eq!(verdict(&[node(1, |_| {}), node(2, blank)]).next, ["raftkvctl add --admin-url http://n2:2381"]);
        let learner = verdict(&[node(1, |_| {}), node(2, |s| s.state = NodeState::Learner)]);
        assert_eq!(learner.next, ["when its lag is below 1000: raftkvctl promote 2"]);
        let leaderless = verdict(&[node(2, |s| s.leader_id = None), unreachable(1)]);
        assert!(leaderless.summary.starts_with("there is no leader; 1 voter answers"), "{}", leaderless.summary);
        assert_eq!(verdict(&[node(1, |s| s.formed = false)]).level, Level::Down);
    }
}
