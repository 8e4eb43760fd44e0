//! One value of each type of the API, with every optional property present. For tests.

use raftkv_api::*;
use serde_json::{Value, json};

/// A healthy voter that leads.
pub fn status() -> Status {
    let hash = StateHash { applied: 9, log_hash: Hex128([4; 16]) };
    Status {
        name: "n1".into(),
        version: "0.1.0".into(),
        state: NodeState::Voter,
        reason: None,
        diverged: false,
        incarnation: Some(Hex128([1; 16])),
        cluster_id: Some(Hex128([2; 16])),
        genesis: Some(Hex128([3; 16])),
        generation: 0,
        member_id: Some(DecimalId(1)),
        leader: Some(leader()),
        leader_id: Some(DecimalId(1)),
        term: 2,
        commit: 9,
        applied: 9,
        last_index: 9,
        first_index: 2,
        snapshot_index: 1,
        conf_index: 5,
        durable_conf_index: 5,
        can_lead: true,
        formed: true,
        kv: KvState::Ready,
        revision: 4,
        compacted_revision: 0,
        db_bytes: 1000,
        free_bytes: 1_000_000,
        headroom_bytes: 1_500_000,
        reserve_bytes: 1_000_000,
        volume_bytes: 2_000_000,
        stalled_ms: 0,
        stalled_on: None,
        writes: Some(Writes::Ok),
        quorum_contact_ms: Some(50),
        serves: Some(Serves::Yes),
        boot: Some(DecimalId(7)),
        last_log_term: 2,
        streams: vec![stream()],
        twins: vec![twin()],
        no_space: None,
        state_hash: Some(hash),
        state_hashes: vec![hash],
        peers: vec![peer()],
        members: vec![member()],
        joint: false,
        leader_contact_ms: Some(0),
        peer_url: "http://n1:2380".into(),
        client_url: "http://n1:2379".into(),
        admin_url: "http://n1:2381".into(),
    }
}

fn leader() -> LeaderRef {
    LeaderRef { name: "n1".into(), client_url: Some("http://n1:2379".into()), admin_url: None }
}

fn peer() -> Peer {
    Peer {
        id: DecimalId(2),
        name: "n2".into(),
        active: true,
        caught_up: true,
        matched: 9,
        applied: 9,
        durable_conf_index: 5,
        free_bytes: 0,
        headroom_bytes: 0,
        reserve_bytes: 0,
        stalled_ms: 0,
        volume_bytes: 0,
    }
}

fn twin() -> Twin {
    Twin { id: DecimalId(3), detail: "member 3 (n3) runs twice, at http://n3:2380 and at http://n9:2380".into() }
}

fn stream() -> Stream {
    Stream { id: DecimalId(2), sent: 10, total: 100 }
}

fn member() -> Member {
    Member {
        id: DecimalId(1),
        name: "n1".into(),
        peer_url: "http://n1:2380".into(),
        incarnation: Hex128([1; 16]),
        role: MemberRole::Voter,
        client_url: None,
        admin_url: None,
    }
}

fn key_value() -> KeyValue {
    let some = || Some("x".to_string());
    KeyValue {
        key: some(),
        key_b64: some(),
        value: some(),
        value_b64: some(),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
    }
}

/// Every type by its name.
pub fn every_type() -> Vec<(&'static str, Value)> {
    let (one, two, id) = (Hex128([1; 16]), Hex128([2; 16]), DecimalId(1));
    let removed = RemovedMember { id, name: "n0".into(), incarnation: one, index: 7 };
    let members = Members {
        cluster_id: two,
        conf_index: 5,
        joint: false,
        leader: Some(id),
        members: vec![member()],
        removed: vec![removed.clone()],
    };
    let problem = Problem {
        leader: Some(leader()),
        current_revision: Some(Some(1)),
        compacted_revision: Some(1),
        ..Problem::new(Code::ConditionFailed, "why")
    };
    vec![
        ("Put", json!(Put { revision: 2, version: 1 })),
        ("Deleted", json!(Deleted { revision: 2, deleted: true })),
        ("KeyValue", json!(key_value())),
        ("Range", json!(Range { revision: 2, kvs: vec![key_value()], count: 1, next: Some("YQ".into()) })),
        ("Version", json!(Version { version: "0.1.0".into(), admin_url: "http://n1:2381".into() })),
        ("LeaderRef", json!(leader())),
        ("Problem", json!(problem)),
        ("StateHash", json!(StateHash { applied: 9, log_hash: two })),
        ("Peer", json!(peer())),
        ("Stream", json!(stream())),
        ("Twin", json!(twin())),
        ("Status", json!(status())),
        ("Member", json!(member())),
        ("RemovedMember", json!(removed)),
        ("Members", json!(members)),
        ("Init", json!(Init { cluster_id: two, name: "n1".into(), incarnation: one, min_voters: 1 })),
        ("InitDone", json!(InitDone { cluster_id: two, genesis: one, member_id: id })),
        ("AddMember", json!(AddMember { name: "n2".into(), peer_url: "http://n2:2380".into(), incarnation: one })),
        ("MemberAdded", json!(MemberAdded { id, conf_index: 6 })),
        ("Promote", json!(Promote { replaces: Some(id) })),
        ("Transfer", json!(Transfer { to: Some(id) })),
        ("Transferred", json!(Transferred { leader: id })),
        ("Reset", json!(Reset { incarnation: one, diverged: true, ask: vec!["http://n2:2381".into()] })),
    ]
}
