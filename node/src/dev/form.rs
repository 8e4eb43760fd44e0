//! What a dev cluster still lacks: the next call to make, decided from what the nodes say. PURE.
//!
//! Each pass looks at the whole world and makes at most one call, so a call whose answer was lost, a node that was
//! killed in between and a directory that was deleted between two runs are all the same case: the next pass sees what
//! is missing. A second cluster is never formed beside data that belong to one: `init` needs three nodes that say
//! Blank, or have said nothing of themselves but that.

use raftkv_api::{AddMember, DecimalId, Hex128, MemberRole, Members, NodeState, Status};

/// What is known of one node in this pass.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) name: &'static str,
    pub(super) peer_url: String,
    /// `None`: it did not answer.
    pub(super) status: Option<Status>,
}

/// The next call, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nobody belongs to a cluster: make this node the first member of one.
    Init { node: usize, incarnation: Hex128 },
    /// Ask this node, which leads, for the members, and call [`next_change`].
    AskMembers { leader: usize },
    /// Ask again soon.
    Wait(String),
    /// All nodes that can be members are voters.
    Done,
}

/// A membership change to ask the leader for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add(AddMember),
    Promote { id: DecimalId, replaces: Option<DecimalId> },
}

/// The next step.
pub(super) fn next_step(world: &[Seen]) -> Step {
    let mut statuses = Vec::new();
    for seen in world {
        match &seen.status {
            None => return Step::Wait(format!("{} does not answer yet", seen.name)),
            Some(status) if status.state == NodeState::Opening => {
                let reason = status.reason.as_deref().unwrap_or("its data are being read");
                return Step::Wait(format!("{} is opening: {reason}", seen.name));
            }
            Some(status) => statuses.push(status),
        }
    }
    if statuses.iter().all(|status| status.state == NodeState::Blank) {
        let Some(incarnation) = statuses.first().and_then(|first| first.incarnation) else {
            return Step::Wait("the first node has no incarnation yet".into());
        };
        return Step::Init { node: 0, incarnation };
    }
    if statuses.iter().all(|status| settled(status)) {
        return Step::Done;
    }
    let leads = |status: &&Status| status.member_id.is_some() && status.member_id == status.leader_id;
    // A deposed leader may not know it yet: the highest term is the newest claim.
    let leader = statuses.iter().enumerate().filter(|(_, status)| leads(status)).max_by_key(|(_, status)| status.term);
    match leader {
        Some((leader, _)) => Step::AskMembers { leader },
        None => Step::Wait("no node leads yet".into()),
    }
}

/// The next change that the membership lacks; `None` when the nodes have yet to notice that they are complete.
pub(super) fn next_change(world: &[Seen], members: &Members) -> Option<Change> {
    world.iter().find_map(|seen| {
        let status = seen.status.as_ref()?;
        if settled(status) {
            return None;
        }
        let incarnation = status.incarnation?;
        let Some(member) = members.members.iter().find(|member| member.incarnation == incarnation) else {
            let add = AddMember { name: seen.name.into(), peer_url: seen.peer_url.clone(), incarnation };
            return (status.state == NodeState::Blank).then_some(Change::Add(add));
        };
        // A voter of the same name has lost its disk: this node takes its place.
        let lost = |other: &&raftkv_api::Member| other.name == seen.name && other.id != member.id;
        let replaces =
            members.members.iter().filter(lost).find(|other| other.role == MemberRole::Voter).map(|other| other.id);
        (member.role == MemberRole::Learner).then_some(Change::Promote { id: member.id, replaces })
    })
}

/// Whether nothing is to be done for this node, or nothing can be.
fn settled(status: &Status) -> bool {
    match status.state {
        NodeState::Voter | NodeState::Removed | NodeState::Quarantined => true,
        NodeState::Opening | NodeState::Blank | NodeState::Learner => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_api::{KvState, Member};

    fn status(nth: u8, state: NodeState) -> Status {
        let member = matches!(state, NodeState::Voter | NodeState::Learner);
        Status {
            state,
            incarnation: Some(Hex128([nth; 16])),
            member_id: member.then_some(DecimalId(nth.into())),
            leader_id: member.then_some(DecimalId(1)),
            term: 1,
            can_lead: true,
            kv: KvState::Ready,
            revision: 1,
            ..Status::opening(format!("n{nth}"), "0")
        }
    }

    fn world(states: [Option<NodeState>; 3]) -> Vec<Seen> {
        let seen = |(nth, (name, state)): (usize, (&'static str, Option<NodeState>))| Seen {
            name,
            peer_url: format!("http://{name}"),
            status: state.map(|state| status(nth as u8 + 1, state)),
        };
        ["n1", "n2", "n3"].into_iter().zip(states).enumerate().map(seen).collect()
    }

    fn members(list: &[(u64, &str, u8, MemberRole)]) -> Members {
        let member = |(id, name, nth, role): &(u64, &str, u8, MemberRole)| Member {
            id: DecimalId(*id),
            name: name.to_string(),
            peer_url: format!("http://{name}"),
            incarnation: Hex128([*nth; 16]),
            role: *role,
            client_url: None,
            admin_url: None,
        };
        Members {
            cluster_id: Hex128::default(),
            conf_index: 1,
            joint: false,
            leader: Some(DecimalId(1)),
            members: list.iter().map(member).collect(),
            removed: vec![],
        }
    }

    use MemberRole::{Learner as L, Voter as V};
    use NodeState::{Blank, Learner, Opening, Quarantined, Voter};

    #[test]
    fn a_new_cluster_grows_one_call_at_a_time() {
        let blank = world([Some(Blank), Some(Blank), Some(Blank)]);
        assert_eq!(next_step(&blank), Step::Init { node: 0, incarnation: Hex128([1; 16]) });

        let one = world([Some(Voter), Some(Blank), Some(Blank)]);
        assert_eq!(next_step(&one), Step::AskMembers { leader: 0 });
        let add = |name: &str, nth| {
            let peer_url = format!("http://{name}");
            Some(Change::Add(AddMember { name: name.into(), peer_url, incarnation: Hex128([nth; 16]) }))
        };
        assert_eq!(next_change(&one, &members(&[(1, "n1", 1, V)])), add("n2", 2));

        let promote = Some(Change::Promote { id: DecimalId(2), replaces: None });
        assert_eq!(next_change(&one, &members(&[(1, "n1", 1, V), (2, "n2", 2, L)])), promote);

        let two = world([Some(Voter), Some(Voter), Some(Blank)]);
        assert_eq!(next_change(&two, &members(&[(1, "n1", 1, V), (2, "n2", 2, V)])), add("n3", 3));
        assert_eq!(next_step(&world([Some(Voter); 3])), Step::Done);
    }

    #[test]
    fn an_answer_that_was_lost_is_not_asked_for_again() {
        let behind = world([Some(Voter), Some(Learner), Some(Voter)]);
        let all = members(&[(1, "n1", 1, V), (2, "n2", 2, V), (3, "n3", 3, V)]);
        assert_eq!(next_change(&behind, &all), None);
    }

    #[test]
    fn nobody_gets_init_while_a_node_is_silent_or_opening() {
        assert!(matches!(next_step(&world([Some(Blank), None, Some(Blank)])), Step::Wait(why) if why.contains("n2")));
        let opening = world([Some(Blank), Some(Blank), Some(Opening)]);
        assert!(matches!(next_step(&opening), Step::Wait(why) if why.contains("n3 is opening")));
    }

    #[test]
    fn a_first_node_without_its_disk_joins_its_old_cluster_in_its_old_place() {
        let mut lost = world([Some(Blank), Some(Voter), Some(Voter)]);
        lost[0].status.as_mut().unwrap().incarnation = Some(Hex128([9; 16]));
        for seen in &mut lost[1..] {
            seen.status.as_mut().unwrap().leader_id = Some(DecimalId(2));
        }
        assert_eq!(next_step(&lost), Step::AskMembers { leader: 1 });
        let old = [(1, "n1", 1, V), (2, "n2", 2, V), (3, "n3", 3, V)];
        assert!(matches!(next_change(&lost, &members(&old)), Some(Change::Add(add)) if add.name == "n1"));
        let mut joined = old.to_vec();
        joined.push((4, "n1", 9, L));
        let replace = Change::Promote { id: DecimalId(4), replaces: Some(DecimalId(1)) };
        assert_eq!(next_change(&lost, &members(&joined)), Some(replace));
    }

    #[test]
    fn what_cannot_be_helped_does_not_hold_up_the_others() {
        assert_eq!(next_step(&world([Some(Quarantined), Some(Voter), Some(Voter)])), Step::Done);
    }

    #[test]
    fn the_leader_of_the_highest_term_is_asked() {
        let mut split = world([Some(Voter), Some(Voter), Some(Learner)]);
        let second = split[1].status.as_mut().unwrap();
        second.leader_id = Some(DecimalId(2));
        second.term = 2;
        assert_eq!(next_step(&split), Step::AskMembers { leader: 1 });
        split[0].status.as_mut().unwrap().leader_id = None;
        split[1].status.as_mut().unwrap().leader_id = None;
        assert!(matches!(next_step(&split), Step::Wait(_)));
    }
}
