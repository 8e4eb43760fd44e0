//! Each fault that a cluster was seen with is a row: what is judged, and what a person is told to do.

use super::Illness::*;
use super::Level::{Degraded, Down};
use super::*;
use raftkv_api::{
    DecimalId, Hex128, KvState, LeaderRef, Member, MemberRole, NodeState, Peer, Serves, StalledOn, StateHash, Twin,
    Writes,
};

/// Why a node gives no status.
#[derive(Clone, Copy)]
enum Silent {
    Unreachable,
    Unauthorized,
    Overloaded,
    /// Nobody asks it.
    NotAsked,
}

/// What is asked, and what it answers.
#[derive(Default)]
struct World {
    nodes: Vec<(String, Result<Status, Silent>)>,
}

impl World {
    /// Three voters, of which n1 leads.
    fn healthy() -> World {
        let mut world = World { nodes: (1..=3).map(|id| (at(id), Ok(voter(id)))).collect() };
        world.has_members((1..=3).map(|id| member(id, MemberRole::Voter)).collect());
        world
    }

    fn node(&mut self, id: u64) -> &mut Status {
        let (_, status) = self.nodes.iter_mut().find(|(url, _)| *url == at(id)).expect("it is in the world");
        status.as_mut().ok().expect("it answers")
    }

    /// What the leader n1 knows of it.
    fn peer(&mut self, id: u64) -> &mut Peer {
        self.node(1).peers.iter_mut().find(|peer| peer.id == DecimalId(id)).expect("it is a peer")
    }

    fn is(&mut self, id: u64, silent: Silent) {
        let (_, status) = self.nodes.iter_mut().find(|(url, _)| *url == at(id)).expect("it is in the world");
        *status = Err(silent);
    }

    /// It is gone for everybody.
    fn dies(&mut self, id: u64) {
        self.is(id, Silent::Unreachable);
        if let (_, Ok(leader)) = &mut self.nodes[0]
            && let Some(peer) = leader.peers.iter_mut().find(|peer| peer.id == DecimalId(id))
        {
            (peer.active, peer.caught_up) = (false, false);
        }
    }

    fn joins(&mut self, url: &str, status: Status) {
        self.nodes.push((url.to_string(), Ok(status)));
    }

    fn has_members(&mut self, members: Vec<Member>) {
        let peers: Vec<Peer> =
            members.iter().filter(|member| member.id.0 != 1).map(|member| peer(member.id.0)).collect();
        for (_, status) in &mut self.nodes {
            let Ok(status) = status else { continue };
            status.members = members.clone();
            if status.member_id == Some(DecimalId(1)) {
                status.peers = peers.clone();
            }
        }
    }

    /// Nobody leads.
    fn loses_its_leader(&mut self) {
        for (_, status) in &mut self.nodes {
            let Ok(status) = status else { continue };
            (status.leader, status.leader_id, status.leader_contact_ms) = (None, None, Some(9_000));
            (status.writes, status.quorum_contact_ms, status.peers) = (Some(Writes::NoLeader), None, vec![]);
            status.serves = Some(Serves::NoRead);
        }
    }

    /// n1 refuses puts, for this reason and in these words.
    fn refuses(&mut self, writes: Writes, words: Option<&str>) {
        let leader = self.node(1);
        (leader.writes, leader.no_space) = (Some(writes), words.map(str::to_string));
    }

    fn judge(&self) -> Judgement {
        let mut reports = Vec::new();
        for (at, status) in &self.nodes {
            let answer = match status {
                Ok(status) => Answer::Status(status),
                Err(Silent::Unreachable) => Answer::Unreachable("Connection refused"),
                Err(Silent::Unauthorized) => Answer::Unauthorized,
                Err(Silent::Overloaded) => Answer::Overloaded("429"),
                Err(Silent::NotAsked) => continue,
            };
            reports.push(Report { at, answer });
        }
        judge(&reports)
    }
}

fn at(id: u64) -> String {
    format!("http://n{id}:2381")
}

fn member(id: u64, role: MemberRole) -> Member {
    Member {
        id: DecimalId(id),
        name: format!("n{id}"),
        peer_url: format!("http://n{id}:2380"),
        incarnation: Hex128([id as u8; 16]),
        role,
        client_url: Some(format!("http://n{id}:2379")),
        admin_url: Some(at(id)),
    }
}

fn peer(id: u64) -> Peer {
    Peer {
        id: DecimalId(id),
        name: format!("n{id}"),
        active: true,
        caught_up: true,
        matched: 5_000,
        applied: 5_000,
        durable_conf_index: 5,
        free_bytes: 0,
        headroom_bytes: 0,
        reserve_bytes: 0,
        stalled_ms: 0,
        volume_bytes: 0,
    }
}

fn voter(id: u64) -> Status {
    let mut status = Status::opening(format!("n{id}"), "0");
    (status.state, status.kv, status.serves) = (NodeState::Voter, KvState::Ready, Some(Serves::Yes));
    (status.incarnation, status.cluster_id) = (Some(Hex128([id as u8; 16])), Some(Hex128([7; 16])));
    (status.genesis, status.member_id, status.boot) = (Some(Hex128([8; 16])), Some(DecimalId(id)), Some(DecimalId(id)));
    let leader = LeaderRef { name: "n1".to_string(), client_url: None, admin_url: Some(at(1)) };
    (status.leader, status.leader_id, status.leader_contact_ms) = (Some(leader), Some(DecimalId(1)), Some(50));
    (status.term, status.commit, status.applied, status.last_index) = (4, 5_000, 5_000, 5_000);
    (status.conf_index, status.formed, status.can_lead) = (5, true, true);
    (status.headroom_bytes, status.reserve_bytes) = (512 << 20, 256 << 20);
    status.state_hash = Some(StateHash { applied: 5_000, log_hash: Hex128([9; 16]) });
    if id == 1 {
        (status.writes, status.quorum_contact_ms, status.leader_contact_ms) = (Some(Writes::Ok), Some(50), Some(0));
    }
    status
}

/// A node that runs no raft.
fn bare(id: u64, state: NodeState, reason: Option<&str>) -> Status {
    let mut status = Status::opening(format!("n{id}"), "0");
    (status.state, status.reason, status.serves) = (state, reason.map(str::to_string), Some(Serves::Quarantined));
    (status.incarnation, status.cluster_id) = (Some(Hex128([id as u8; 16])), Some(Hex128([7; 16])));
    (status.genesis, status.member_id) = (Some(Hex128([8; 16])), Some(DecimalId(id)));
    status
}

fn blank(id: u64) -> Status {
    let mut status = bare(id, NodeState::Blank, None);
    (status.cluster_id, status.genesis, status.member_id) = (None, None, None);
    status
}

const ROLLED_BACK: &str = "rolled back: n1 remembers more of it";

/// What a world is judged to be.
struct Row {
    fault: &'static str,
    world: fn(&mut World),
    level: Level,
    /// Whether it writes, and whether it reads.
    can: (&'static str, &'static str),
    may_fail: usize,
    /// Who has what, the worst first; nobody is the cluster.
    ills: &'static [(&'static str, Illness)],
    /// What the worst of them asks for begins with this.
    next: &'static str,
}

const fn row(fault: &'static str, world: fn(&mut World)) -> Row {
    Row { fault, world, level: Level::Healthy, can: ("yes", "yes"), may_fail: 1, ills: &[], next: "" }
}

const TABLE: &[Row] = &[
    row("nothing", |_| {}),
    row("a follower a little behind", |world| world.node(3).applied = 4_100),
    Row {
        level: Down,
        can: ("no", "yes"),
        may_fail: 0,
        ills: &[("", WritesStall), ("n1", DiskStalled), ("n3", Unreachable)],
        next: "look at these disks",
        ..row("the leader's disk hangs, and the others cannot do without it", |world| {
            world.dies(3);
            world.refuses(Writes::Stalled, None);
            (world.node(1).stalled_ms, world.node(1).stalled_on) = (60_000, Some(StalledOn::Log));
        })
    },
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n2", DiskStalled)],
        next: "look at the disk of n2; the others do without it",
        ..row("a follower's disk hangs", |world| {
            (world.node(2).stalled_ms, world.node(2).stalled_on) = (900, Some(StalledOn::Log));
        })
    },
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n2", DiskStalled), ("n2", Unreachable)],
        next: "look at the disk of n2",
        ..row("a silent follower's disk hung when its leader last heard of it", |world| {
            world.is(2, Silent::Unreachable);
            world.peer(2).stalled_ms = 4_000;
        })
    },
    Row {
        level: Down,
        can: ("no", "yes"),
        may_fail: 0,
        ills: &[("", WritesStall), ("n2", DiskStalled), ("n3", DiskStalled)],
        next: "look at these disks",
        ..row("the disks of a quorum hang", |world| {
            world.refuses(Writes::Stalled, None);
            for id in [2, 3] {
                (world.node(id).stalled_ms, world.node(id).stalled_on) = (3_000, Some(StalledOn::Log));
            }
        })
    },
    row("a sync that is merely running", |world| {
        (world.node(1).stalled_ms, world.node(1).stalled_on) = (300, Some(StalledOn::Log));
    }),
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n2", DiskStalled)],
        next: "look at the disk of n2",
        ..row("a follower applies nothing, though it acknowledges", |world| {
            (world.node(2).stalled_ms, world.node(2).stalled_on) = (8_000, Some(StalledOn::Store));
        })
    },
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n3", Quarantined)],
        next: "raftkvctl reset --admin-url http://n3:2381, then add",
        ..row("a member was put back and is quarantined", |world| {
            *world.node(3) = bare(3, NodeState::Quarantined, Some(ROLLED_BACK));
            (world.peer(3).active, world.peer(3).caught_up) = (false, false);
        })
    },
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n3", Quarantined)],
        next: "keep its data directory",
        ..row("a member knows of writes that its leader lacks", |world| {
            *world.node(3) = bare(3, NodeState::Quarantined, Some("member 1 leads term 3, but its log ends at 7"));
            world.node(3).diverged = true;
            (world.peer(3).active, world.peer(3).caught_up) = (false, false);
        })
    },
    Row {
        level: Down,
        can: ("no", "no"),
        may_fail: 0,
        ills: &[("", NoQuorum), ("n2", Quarantined), ("n3", Quarantined)],
        next: "start the nodes that do not answer, with their data directories as they are",
        ..row("two members were put back", |world| {
            for id in [2, 3] {
                *world.node(id) = bare(id, NodeState::Quarantined, Some(ROLLED_BACK));
            }
            world.loses_its_leader();
        })
    },
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n3", Behind)],
        next: "wait; if it stays so, look at the log and the disk of n3",
        ..row("a member is stuck a few entries behind", |world| {
            (world.node(3).applied, world.peer(3).caught_up) = (4_990, false);
        })
    },
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n3", Behind)],
        next: "wait; ",
        ..row("a member has applied far too little", |world| world.node(3).applied = 3_999)
    },
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n3", CutOff)],
        next: "look at the network between n3 and its leader",
        ..row("a member answers, and its leader does not hear it", |world| world.peer(3).active = false)
    },
    Row {
        level: Down,
        can: ("no", "yes"),
        ills: &[("", NoSpace), ("n1", ShortOfSpace)],
        next: "make room on the volumes that are named",
        ..row("the leader is short of space", |world| {
            world.refuses(Writes::NoSpace, Some("n1 (member 1) is short of space"));
            world.node(1).headroom_bytes = 1 << 20;
        })
    },
    Row {
        level: Degraded,
        ills: &[("n2", ShortOfSpace)],
        next: "enlarge the volume of n2",
        ..row("a follower is short of space", |world| world.node(2).headroom_bytes = 1 << 20)
    },
    Row {
        level: Degraded,
        ills: &[("n2", ShortOfSpace)],
        next: "enlarge the volume of n2",
        ..row("a follower's disk is full", |world| world.node(2).no_space = Some("the disk is full".to_string()))
    },
    Row {
        level: Down,
        can: ("no", "yes"),
        ills: &[("", OverQuota)],
        next: "delete keys",
        ..row("the database is over its quota", |world| {
            world.refuses(Writes::Quota, Some("the database has 9 bytes, over --quota 8"));
            world.node(2).no_space = Some("the database has 9 bytes, over --quota 8".to_string());
        })
    },
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n3", Opening)],
        next: "wait: reading the log",
        ..row("a member opens its data", |world| {
            *world.node(3) = bare(3, NodeState::Opening, Some("reading the log"));
            (world.peer(3).active, world.peer(3).caught_up) = (false, false);
        })
    },
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n3", StoreOpening)],
        next: "wait; it votes meanwhile",
        ..row("a member proves its store", |world| {
            (world.node(3).kv, world.node(3).serves) = (KvState::Proving, Some(Serves::Opening));
        })
    },
    Row {
        level: Degraded,
        ills: &[("n4", Learner)],
        next: "when its lag is below 1000: raftkvctl promote 4",
        ..row("a learner catches up", |world| {
            let mut learner = voter(4);
            (learner.state, learner.serves) = (NodeState::Learner, Some(Serves::NotAVoter));
            world.joins("http://n4:2381", learner);
            let voters = (1..=3).map(|id| member(id, MemberRole::Voter));
            world.has_members(voters.chain([member(4, MemberRole::Learner)]).collect());
        })
    },
    Row {
        level: Degraded,
        ills: &[("n4", Removed)],
        next: "stop it, or let it join anew: raftkvctl reset",
        ..row("a removed node still runs", |world| {
            world.joins("http://n4:2381", bare(4, NodeState::Removed, Some("removed")));
        })
    },
    Row {
        level: Down,
        can: ("no", "no"),
        may_fail: 0,
        ills: &[("", NoQuorum), ("n1", Unreachable), ("n3", Removed)],
        next: "start the nodes that do not answer, with their data directories as they are, and delete nothing",
        ..row("a voter was told that it is removed, and the survivors still count it", |world| {
            *world.node(3) = bare(3, NodeState::Removed, Some("removed"));
            world.loses_its_leader();
            world.is(1, Silent::Unreachable);
        })
    },
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n3", Unreachable)],
        next: "start n3, or look at its log (Connection refused); keep its data",
        ..row("a member is gone", |world| world.dies(3))
    },
    Row {
        level: Degraded,
        ills: &[("n3", Unreachable)],
        next: "look at the way from here to n3",
        ..row("a member is unreachable from here alone", |world| world.is(3, Silent::Unreachable))
    },
    Row {
        level: Degraded,
        ills: &[("n3", Unauthorized)],
        next: "compare the token file of n3",
        ..row("a member refuses the token", |world| world.is(3, Silent::Unauthorized))
    },
    Row {
        level: Degraded,
        ills: &[("n3", Overloaded)],
        next: "ask again",
        ..row("a member's port is full", |world| world.is(3, Silent::Overloaded))
    },
    Row {
        level: Degraded,
        ills: &[("n2", Deaf)],
        next: "see who holds the connections of n2's client port",
        ..row("a member's client port is full, and its admin port answers", |world| {
            world.nodes.push(("http://n2:2379".to_string(), Err(Silent::Unreachable)));
        })
    },
    row("a member that nobody asks is as well as its leader says", |world| world.is(3, Silent::NotAsked)),
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n3", Behind)],
        next: "wait; ",
        ..row("a member that nobody asks is behind, its leader says", |world| {
            world.is(3, Silent::NotAsked);
            world.peer(3).caught_up = false;
        })
    },
    Row {
        level: Degraded,
        can: ("unknown", "yes"),
        may_fail: 0,
        ills: &[("n1", Unreachable)],
        next: "start n1",
        ..row("the leader answers its followers and not us", |world| world.is(1, Silent::Unreachable))
    },
    Row {
        level: Down,
        ills: &[("n4", OtherCluster)],
        next: "name one cluster's endpoints",
        ..row("a node of another cluster is asked", |world| {
            let mut stranger = voter(4);
            (stranger.cluster_id, stranger.member_id) = (Some(Hex128([1; 16])), Some(DecimalId(1)));
            world.joins("http://n4:2381", stranger);
        })
    },
    Row {
        level: Down,
        ills: &[("n4", OtherCluster)],
        next: "name one cluster's endpoints",
        ..row("a node of a cluster with the same id that was formed anew", |world| {
            let mut stranger = voter(4);
            stranger.genesis = Some(Hex128([1; 16]));
            world.joins("http://n4:2381", stranger);
        })
    },
    Row {
        level: Down,
        can: ("no", "no"),
        ills: &[("", NoLeader)],
        next: "wait for an election",
        ..row("nobody leads", World::loses_its_leader)
    },
    Row {
        level: Down,
        can: ("no", "no"),
        may_fail: 0,
        ills: &[("", NoQuorum), ("n1", Unreachable), ("n3", Unreachable)],
        next: "start the nodes that do not answer, with their data directories as they are, and delete nothing",
        ..row("a quorum is gone", |world| {
            world.loses_its_leader();
            world.is(1, Silent::Unreachable);
            world.is(3, Silent::Unreachable);
        })
    },
    Row {
        level: Down,
        can: ("no", "no"),
        may_fail: 0,
        ills: &[("", NoQuorum), ("n2", Unreachable), ("n3", Unreachable)],
        next: "start the members that do not answer, with their data directories as they are",
        ..row("a leader that no majority answers", |world| {
            world.dies(2);
            world.dies(3);
            world.refuses(Writes::NoLeader, None);
            (world.node(1).quorum_contact_ms, world.node(1).serves) = (Some(900), Some(Serves::NoRead));
        })
    },
    Row {
        level: Down,
        can: ("no", "no"),
        ills: &[("", Forming)],
        next: "`raftkvctl add` and `raftkvctl promote` more members",
        ..row("the cluster is forming", |world| {
            for id in 1..=3 {
                (world.node(id).formed, world.node(id).writes) = (false, Some(Writes::Forming));
            }
        })
    },
    Row {
        level: Down,
        can: ("no", "no"),
        may_fail: 0,
        ills: &[("", NoCluster)],
        next: "raftkvctl init --admin-url http://n1:2381",
        ..row("there is no cluster", |world| {
            for id in 1..=3 {
                *world.node(id) = blank(id);
            }
        })
    },
    Row {
        level: Degraded,
        ills: &[("n4", Blank)],
        next: "raftkvctl add --admin-url http://n4:2381",
        ..row("a blank node waits", |world| world.joins("http://n4:2381", blank(4)))
    },
    Row {
        level: Degraded,
        may_fail: 0,
        ills: &[("n3", DiskLost), ("n3", Blank)],
        next: "raftkvctl add --admin-url http://n3:2381, then raftkvctl promote the new id --replaces 3",
        ..row("a member came back with an empty disk", |world| {
            *world.node(3) = blank(3);
            (world.peer(3).active, world.peer(3).caught_up) = (false, false);
        })
    },
    Row {
        level: Down,
        can: ("no", "no"),
        may_fail: 0,
        ills: &[("", NobodyAnswers)],
        next: "start the nodes",
        ..row("nobody answers", |world| {
            for id in 1..=3 {
                world.is(id, Silent::NotAsked);
            }
        })
    },
    Row {
        level: Down,
        ills: &[("", DataDiffers)],
        next: "stop writing",
        ..row("the data of two members differ", |world| {
            world.node(3).state_hash = Some(StateHash { applied: 5_000, log_hash: Hex128([1; 16]) });
        })
    },
    Row {
        level: Degraded,
        ills: &[("n3", Doubled)],
        next: "stop the one that is not meant to run, and delete neither",
        ..row("a copied directory runs beside its original", |world| {
            world.joins("http://elsewhere:2381", Status { boot: Some(DecimalId(99)), ..voter(3) });
        })
    },
    Row {
        level: Degraded,
        ills: &[("n3", Doubled)],
        next: "as n2 says: member 3 (n3) runs twice",
        ..row("two members hear a third from two processes, and one of these was not asked", |world| {
            let detail = "member 3 (n3) runs twice, at a and at b";
            for id in [1, 2] {
                world.node(id).twins = vec![Twin { id: DecimalId(3), detail: detail.to_string() }];
                world.node(id).reason = Some(detail.to_string());
            }
        })
    },
    row("one process is asked at two of its URLs", |world| world.joins("http://127.0.0.1:2381", voter(3))),
    Row {
        level: Degraded,
        ills: &[("n2", Misplaced)],
        next: "as it says: --name is 'b'",
        ..row("a member was started under another name", |world| {
            world.node(2).reason = Some("--name is 'b', but the members know it by 'n2'".to_string());
        })
    },
    Row {
        may_fail: 0,
        ..row("a joint change needs a quorum of both halves, and a voter of each is gone", |world| {
            let mut members: Vec<Member> = (1..=4).map(|id| member(id, MemberRole::Voter)).collect();
            members[2].role = MemberRole::Outgoing;
            world.joins("http://n4:2381", voter(4));
            world.has_members(members);
            world.is(3, Silent::NotAsked);
            world.is(4, Silent::NotAsked);
            world.node(1).peers.retain(|peer| peer.id.0 == 2);
        })
    },
];

#[test]
fn each_fault_is_judged_and_says_what_to_do() {
    for Row { fault, world, level, can, may_fail, ills, next } in TABLE {
        let mut seen = World::healthy();
        world(&mut seen);
        let judgement = seen.judge();
        let found: Vec<(&str, Illness)> =
            judgement.ills.iter().map(|ill| (ill.who.as_deref().unwrap_or_default(), ill.illness)).collect();
        assert_eq!(found, *ills, "{fault}: {}", judgement.summary());
        assert_eq!((judgement.can_write.as_str(), judgement.can_read.as_str()), *can, "{fault}");
        assert_eq!((judgement.level, judgement.may_fail), (*level, *may_fail), "{fault}: {}", judgement.summary());
        let advice = judgement.ills.first().map(|ill| ill.next.by_hand(str::to_string)).unwrap_or_default();
        assert!(advice.starts_with(next), "{fault}: {advice}");
        assert_eq!(next.is_empty(), ills.is_empty(), "{fault}: each illness has an advice");
    }
}

#[test]
fn no_advice_of_a_cluster_without_quorum_costs_data() {
    for Row { fault, world, can, .. } in TABLE {
        let mut seen = World::healthy();
        world(&mut seen);
        for ill in seen.judge().ills.iter().filter(|ill| can.0 == "no" && ill.illness != Illness::Removed) {
            let advice = ill.next.by_hand(str::to_string);
            assert!(!advice.contains("reset") && !advice.contains("remove "), "{fault}: {advice}");
        }
    }
}

#[test]
fn three_equal_nodes_are_healthy() {
    let mut world = World::healthy();
    world.node(3).applied = 4_990;
    let judgement = world.judge();
    assert_eq!(judgement.summary(), "n1 leads 3 voters in term 4; 1 more may fail");
    let roles: Vec<_> = judgement.rows.iter().map(|row| (row.name.as_str(), row.role, row.lag)).collect();
    assert_eq!(roles, [("n1", "leader", Some(0)), ("n2", "follower", Some(0)), ("n3", "follower", Some(10))]);
    assert_eq!((judgement.hash_index, judgement.rows[0].hash.as_deref()), (Some(5_000), Some("090909090909")));
}

#[test]
fn what_is_worst_is_said_first() {
    let mut world = World::healthy();
    world.dies(3);
    assert_eq!(world.judge().summary(), "n1 leads 3 voters in term 4; 0 more may fail; n3 is unreachable");
    world.refuses(Writes::NoSpace, Some("n1 (member 1) is short of space"));
    let summary = world.judge().summary();
    assert!(summary.starts_with("writes are refused by n1: n1 (member 1) is short of space; "), "{summary}");
    assert!(summary.ends_with("0 more may fail"), "{summary}");
    world.loses_its_leader();
    let summary = world.judge().summary();
    assert!(summary.starts_with("there is no leader; 2 of 3 voters answer"), "{summary}");
}

#[test]
fn every_node_has_a_row_whatever_it_answers() {
    let mut world = World::healthy();
    world.is(2, Silent::Unauthorized);
    world.is(3, Silent::Overloaded);
    world.joins("http://n4:2381", Status { cluster_id: Some(Hex128([1; 16])), ..voter(4) });
    let rows: Vec<_> = world.judge().rows.into_iter().map(|row| (row.name, row.state)).collect();
    let expected = [("n1", "voter"), ("n2", "unauthorized"), ("n3", "overloaded"), ("n4", "voter")];
    assert_eq!(rows, expected.map(|(name, state)| (name.to_string(), state)));
}

#[test]
fn hashes_are_compared_at_equal_indexes_only() {
    let hash = |applied: u64, byte: u8| StateHash { applied, log_hash: Hex128([byte; 16]) };
    let mut world = World::healthy();
    world.is(3, Silent::NotAsked);
    (world.node(1).state_hash, world.node(1).state_hashes) = (Some(hash(5_200, 1)), vec![hash(64, 5)]);
    (world.node(2).state_hash, world.node(2).state_hashes) = (Some(hash(5_000, 2)), vec![hash(64, 5)]);
    assert_eq!((world.judge().hash_index, world.judge().level), (Some(64), Level::Healthy));
    world.node(2).state_hashes = vec![hash(64, 6)];
    assert_eq!(world.judge().summary().split("; ").next(), Some("DATA DIFFERS between n1 and n2 at index 64"));
}
