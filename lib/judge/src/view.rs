//! What the reports say together: who is a member, who leads, and which voters work. PURE.
//!
//! Enters: the reports. Leaves: one [`Node`] for each member and each other node that was asked, and the answers that
//! follow from all of them. The newest membership that a node shows counts: the leader's, else that of the highest
//! index.

use crate::{APPLY_STALL_MS, Answer, CAUGHT_UP_ENTRIES, Can, HANG_MS, LEADER_CONTACT_MS, Report};
use raftkv_api::{Hex128, KvState, Member, MemberRole, NodeState, Peer, Serves, StalledOn, Status, Writes};

/// A cluster: its id, and the number that was drawn when it was formed.
type Cluster = (Option<Hex128>, Option<Hex128>);

/// Why it is not known whether writes are taken.
const ASK_THE_LEADER: &str = "only the leader knows, and it did not say";

/// What is known of one node at first hand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heard<'a> {
    Status(&'a Status),
    Unreachable(&'a str),
    Unauthorized,
    Overloaded(&'a str),
    /// Nobody asked it.
    NotAsked,
    /// Where this member was, there is another node.
    Replaced(&'a Status),
}

/// One member, or another node that was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    /// Its own name, else the membership's, else where it was asked.
    pub name: &'a str,
    pub at: &'a str,
    pub member: Option<&'a Member>,
    pub heard: Heard<'a>,
    /// What the leader knows of it.
    pub peer: Option<&'a Peer>,
}

impl<'a> Node<'a> {
    pub fn status(&self) -> Option<&'a Status> {
        match self.heard {
            Heard::Status(status) => Some(status),
            Heard::Unreachable(_)
            | Heard::Unauthorized
            | Heard::Overloaded(_)
            | Heard::NotAsked
            | Heard::Replaced(_) => None,
        }
    }

    fn is_voter(&self) -> bool {
        self.member.is_some_and(|member| member.role != MemberRole::Learner)
    }

    /// For how long a disk of the node has not answered, if that is too long; what it says itself, else what its leader
    /// heard of it last.
    pub fn stalled(&self) -> Option<(u64, StalledOn)> {
        let (ms, on) = match (self.status(), self.peer) {
            (Some(status), _) => (status.stalled_ms, status.stalled_on.unwrap_or(StalledOn::Log)),
            (None, Some(peer)) => (peer.stalled_ms, StalledOn::Log),
            (None, None) => return None,
        };
        let least = match on {
            StalledOn::Log => HANG_MS,
            StalledOn::Store => APPLY_STALL_MS,
        };
        (ms >= least).then_some((ms, on))
    }
}

/// Everything that is known.
pub(crate) struct View<'a> {
    pub nodes: Vec<Node<'a>>,
    /// The status of the leader, if it answers.
    pub leader: Option<&'a Status>,
    /// The status that knows the newest leader and has heard of it lately.
    pub newest: Option<&'a Status>,
    /// Statuses of nodes that belong to another cluster than most, and where they were asked.
    pub foreign: Vec<(&'a str, &'a Status)>,
    /// A member that answers twice, as two processes: where the second was asked.
    pub doubled: Vec<(&'a str, &'a Status)>,
    /// Members that answer elsewhere and not here: their name, where, and why.
    pub deaf: Vec<(&'a str, &'a str, &'a str)>,
    /// The cluster that is judged; `None` when no node belongs to one.
    pub cluster: Option<Cluster>,
}

impl<'a> View<'a> {
    pub fn new(reports: &'a [Report<'a>]) -> View<'a> {
        let cluster = most_common(statuses(reports).filter_map(|(_, status)| cluster_of(status)));
        let is_foreign = |status: &Status| cluster_of(status).is_some_and(|other| cluster != Some(other));
        let (foreign, ours): (Vec<_>, Vec<_>) = statuses(reports).partition(|(_, status)| is_foreign(status));
        let in_raft = || ours.iter().map(|(_, status)| *status).filter(|status| is_in_raft(status));
        let newest =
            in_raft().filter(|status| knows_a_leader(status)).max_by_key(|status| (status.term, leads(status)));
        let leader = newest.and_then(|newest| {
            in_raft().find(|status| status.member_id == newest.leader_id && leads(status) && status.term == newest.term)
        });
        let membership = leader.or_else(|| in_raft().max_by_key(|status| status.conf_index));
        let mut view =
            View { nodes: Vec::new(), leader, newest, foreign, doubled: Vec::new(), deaf: Vec::new(), cluster };
        let members = membership.map_or(&[][..], |status| &status.members[..]);
        let mut left: Vec<&Report<'_>> = reports.iter().filter(|report| !is_foreign_report(report, cluster)).collect();
        for member in members {
            let node = view.take_member(member, &mut left);
            view.nodes.push(node);
        }
        for report in left {
            if let Some(node) = view.other_node(report) {
                view.nodes.push(node);
            }
        }
        view
    }

    /// The node of this member, whose reports are taken out of `left`.
    fn take_member(&mut self, member: &'a Member, left: &mut Vec<&'a Report<'a>>) -> Node<'a> {
        let peer = self.peer(member);
        let (own, others): (Vec<_>, Vec<_>) = left.drain(..).partition(|report| is_of(report, member));
        *left = others;
        let mut own = own.into_iter();
        let Some((first, status)) = own.by_ref().find_map(|report| Some((report, status_of(report)?))) else {
            return self.silent_member(member, peer, left);
        };
        // The same process may have been asked twice, by two of its URLs.
        let twins = own.filter_map(|report| Some((report.at, status_of(report)?)));
        self.doubled.extend(twins.filter(|(_, twin)| twin.boot != status.boot));
        Node { name: &status.name, at: first.at, member: Some(member), heard: Heard::Status(status), peer }
    }

    /// A member of which there is no status.
    fn silent_member(&self, member: &'a Member, peer: Option<&'a Peer>, left: &mut Vec<&'a Report<'a>>) -> Node<'a> {
        let node = |at, heard| Node { name: &member.name, at, member: Some(member), heard, peer };
        let Some(found) = left.iter().position(|report| is_at(report, member)) else {
            return node(member.admin_url.as_deref().unwrap_or(&member.peer_url), Heard::NotAsked);
        };
        match left[found].answer {
            // That node has a row of its own.
            Answer::Status(status) => node(left[found].at, Heard::Replaced(status)),
            Answer::Unreachable(why) => node(left.remove(found).at, Heard::Unreachable(why)),
            Answer::Unauthorized => node(left.remove(found).at, Heard::Unauthorized),
            Answer::Overloaded(why) => node(left.remove(found).at, Heard::Overloaded(why)),
        }
    }

    /// A node that is no member, or of which nothing is known; `None` for one whose member has been judged already.
    fn other_node(&mut self, report: &'a Report<'a>) -> Option<Node<'a>> {
        let (name, heard): (&str, _) = match report.answer {
            Answer::Status(status) => (&status.name, Heard::Status(status)),
            Answer::Unreachable(why) => (report.at, Heard::Unreachable(why)),
            Answer::Unauthorized => (report.at, Heard::Unauthorized),
            Answer::Overloaded(why) => (report.at, Heard::Overloaded(why)),
        };
        let other = Node { name, at: report.at, member: None, heard, peer: None };
        let (Heard::Unreachable(why) | Heard::Overloaded(why)) = heard else { return Some(other) };
        // A member that was asked at two places, and did not answer at one of them.
        let is_here = |node: &&Node<'_>| node.member.is_some_and(|member| is_at(report, member));
        let Some(known) = self.nodes.iter().find(is_here) else { return Some(other) };
        if known.status().is_some() {
            self.deaf.push((known.name, report.at, why));
        }
        None
    }

    fn peer(&self, member: &Member) -> Option<&'a Peer> {
        self.leader?.peers.iter().find(|peer| peer.id == member.id)
    }

    pub fn stalled(&self) -> Vec<(String, u64)> {
        self.nodes.iter().filter_map(|node| Some((node.name.to_string(), node.stalled()?.0))).collect()
    }

    pub fn leads(&self) -> Option<String> {
        let newest = self.newest?;
        let leader = newest.leader.as_ref().map_or("a member", |leader| leader.name.as_str());
        let voters = self.nodes.iter().filter(|node| node.is_voter()).count();
        let s = if voters == 1 { "" } else { "s" };
        Some(format!("{leader} leads {voters} voter{s} in term {}", newest.term))
    }

    /// Statuses of members that run raft.
    pub fn running(&self) -> impl Iterator<Item = &'a Status> {
        self.nodes.iter().filter_map(Node::status).filter(|status| is_in_raft(status))
    }

    pub fn can_write(&self) -> Can {
        let no = |why: &str| Can::No(why.to_string());
        let Some(leader) = self.leader else {
            return match self.newest {
                Some(_) => Can::Unknown(ASK_THE_LEADER.to_string()),
                None => no("there is no leader"),
            };
        };
        match leader.writes {
            Some(Writes::Ok) => Can::Yes,
            Some(Writes::Forming) => no("the cluster is forming"),
            Some(Writes::NoLeader) => no("the leader hears no quorum"),
            Some(Writes::NoSpace) => no("there is too little room"),
            Some(Writes::Quota) => no("the database is over its quota"),
            Some(Writes::Stalled) => no("disks do not answer"),
            None => Can::Unknown(ASK_THE_LEADER.to_string()),
        }
    }

    pub fn can_read(&self) -> Can {
        let serves = |status: &Status| status.serves == Some(Serves::Yes);
        let is_cut_off = self.leader.is_some_and(|leader| leader.writes == Some(Writes::NoLeader));
        match self.newest {
            None => Can::No("there is no leader".to_string()),
            Some(_) if is_cut_off => Can::No("the leader hears no quorum".to_string()),
            Some(newest) if !newest.formed => Can::No("the cluster is forming".to_string()),
            Some(_) if self.running().any(serves) => Can::Yes,
            Some(_) => Can::Unknown("no member that answers has read lately".to_string()),
        }
    }

    pub fn may_fail(&self) -> usize {
        let halves = [&[MemberRole::Voter][..], &[MemberRole::Voter, MemberRole::Outgoing]];
        halves.into_iter().map(|roles| self.spare(roles)).min().unwrap_or_default()
    }

    /// Of the voters with these roles, how many work besides a quorum. A joint change needs a quorum of both halves. The
    /// outgoing half has all that are outgoing, and all voters but the new one: counted with the new one it needs no
    /// fewer.
    fn spare(&self, roles: &[MemberRole]) -> usize {
        let half = || self.nodes.iter().filter(|node| node.member.is_some_and(|member| roles.contains(&member.role)));
        let working = half().filter(|node| self.works(node)).count();
        working.saturating_sub(half().count() / 2 + 1)
    }

    /// How many voters there are, and how many of them answer as voters whose disks work.
    pub fn voters(&self) -> (usize, usize) {
        let voters = || self.nodes.iter().filter(|node| node.is_voter());
        (voters().count(), voters().filter(|node| self.works(node)).count())
    }

    /// Whether this voter does its part: what it says itself, else what the leader last heard.
    pub fn works(&self, node: &Node<'_>) -> bool {
        if node.stalled().is_some() || self.lag(node) > CAUGHT_UP_ENTRIES {
            return false;
        }
        let is_heard = node.peer.is_none_or(|peer| peer.active && peer.caught_up);
        match (node.status(), node.peer) {
            (Some(status), _) => status.state == NodeState::Voter && status.kv == KvState::Ready && is_heard,
            (None, Some(_)) => is_heard && !matches!(node.heard, Heard::Replaced(_)),
            (None, None) => false,
        }
    }

    /// Entries between the leader's commit index and what the member says that it has applied. What the leader heard of
    /// it a moment ago says nothing: thousands may have been applied since.
    pub fn lag(&self, node: &Node<'_>) -> u64 {
        let applied = node.status().filter(|status| is_in_raft(status)).map(|status| status.applied);
        match (self.leader, applied) {
            (Some(leader), Some(applied)) => leader.commit.saturating_sub(applied),
            (Some(_) | None, _) => 0,
        }
    }
}

/// Whether it takes part in a cluster.
pub(crate) fn is_in_raft(status: &Status) -> bool {
    status.member_id.is_some() && matches!(status.state, NodeState::Voter | NodeState::Learner)
}

fn statuses<'a>(reports: &'a [Report<'a>]) -> impl Iterator<Item = (&'a str, &'a Status)> {
    reports.iter().filter_map(|report| Some((report.at, status_of(report)?)))
}

fn status_of<'a>(report: &Report<'a>) -> Option<&'a Status> {
    match report.answer {
        Answer::Status(status) => Some(status),
        Answer::Unreachable(_) | Answer::Unauthorized | Answer::Overloaded(_) => None,
    }
}

fn cluster_of(status: &Status) -> Option<Cluster> {
    status.cluster_id.map(|id| (Some(id), status.genesis))
}

fn is_foreign_report(report: &Report<'_>, cluster: Option<Cluster>) -> bool {
    status_of(report).and_then(cluster_of).is_some_and(|other| cluster != Some(other))
}

/// The one that most are of, and of equals the first.
fn most_common(clusters: impl Iterator<Item = Cluster>) -> Option<Cluster> {
    let mut counts: Vec<(Cluster, usize)> = Vec::new();
    for cluster in clusters {
        match counts.iter_mut().find(|(other, _)| *other == cluster) {
            Some((_, count)) => *count += 1,
            None => counts.push((cluster, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(cluster, _)| cluster)
}

fn leads(status: &Status) -> bool {
    status.leader_id.is_some() && status.leader_id == status.member_id
}

fn knows_a_leader(status: &Status) -> bool {
    status.leader_id.is_some() && status.leader_contact_ms.is_none_or(|ms| ms <= LEADER_CONTACT_MS)
}

/// Whether the status in this report is that of this member.
fn is_of(report: &Report<'_>, member: &Member) -> bool {
    status_of(report).is_some_and(|status| status.member_id == Some(member.id))
}

/// Whether this is where the member should be.
fn is_at(report: &Report<'_>, member: &Member) -> bool {
    let urls =
        [member.client_url.as_deref(), member.admin_url.as_deref(), Some(&*member.peer_url), Some(&*member.name)];
    urls.into_iter().flatten().any(|url| url == report.at)
}
