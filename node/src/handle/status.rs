//! Puts the published state into the types of the API.
//!
//! Enters: what the node's threads publish. Leaves: the status, the members, the leader. Changes nothing.

use crate::raft_node::shared::{Phase, Shared};
use raftkv_api::{self as api, DecimalId, KvState, NodeState, StalledOn, Writes};
use raftkv_core::driver::{Advertised, DriverStatus, describe_members, describe_peer, members_answer};
use raftkv_core::limits;
use raftkv_core::types::MemberId;
use raftkv_judge::{Answer, Judgement, Report};

/// The whole status of a node that serves, or not, as `serves` says.
pub fn status(shared: &Shared, serves: api::Serves) -> api::Status {
    let published = shared.published();
    let driver = published.driver.as_ref();
    let view = shared.view();
    let config = &shared.config;
    let space = shared.space.seen();
    let (state, reason) = state(&published.phase, driver, shared);
    // What waits for space is no write that has not returned.
    let store_ms = if shared.space.who_waits().is_some() { 0 } else { shared.apply_stuck_ms() };
    let (stalled_ms, stalled_on) = stalled(shared.log_sync_ms(), store_ms);
    let number = |get: fn(&DriverStatus) -> u64| driver.map_or(0, get);
    api::Status {
        name: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        state,
        reason,
        diverged: matches!(&published.phase, Phase::Quarantined(finding) if finding.diverged),
        incarnation: published.incarnation,
        cluster_id: published.identity.map(|identity| identity.cluster_id),
        genesis: published.identity.map(|identity| identity.genesis),
        generation: published.identity.map_or(0, |identity| identity.generation),
        member_id: published.identity.map(|identity| DecimalId(identity.member_id)),
        leader: driver.and_then(|driver| leader(shared, driver)),
        leader_id: driver.filter(|driver| driver.leader != 0).map(|driver| DecimalId(driver.leader)),
        term: number(|driver| driver.term),
        commit: number(|driver| driver.commit),
        applied: view.as_ref().map_or(0, |view| view.applied()),
        last_index: number(|driver| driver.last_index),
        first_index: number(|driver| driver.first_index),
        snapshot_index: number(|driver| driver.snapshot_index),
        conf_index: number(|driver| driver.membership.conf_index),
        durable_conf_index: number(|driver| driver.durable_conf_index),
        can_lead: driver.is_some_and(|driver| driver.can_lead),
        formed: driver.is_some_and(|driver| driver.membership.formed),
        kv: shared.kv().0,
        revision: view.as_ref().map_or(0, |view| view.revision()),
        compacted_revision: view.as_ref().map_or(0, |view| view.compacted()),
        db_bytes: view.as_ref().map_or(0, |view| view.disk_bytes() + view.index_bytes()),
        free_bytes: space.free_bytes,
        headroom_bytes: space.room.headroom_bytes,
        reserve_bytes: space.room.reserve_bytes,
        volume_bytes: space.volume_bytes,
        stalled_ms,
        stalled_on,
        writes: driver.and_then(|driver| driver.writes).map(|writes| writes_with_store(writes, store_ms)),
        quorum_contact_ms: driver.and_then(|driver| driver.quorum_contact_ticks).map(|ticks| ticks * limits::TICK_MS),
        serves: Some(serves),
        boot: Some(DecimalId(shared.nonce)),
        last_log_term: number(|driver| driver.last_log_term),
        streams: shared.streams(),
        twins: shared.twins(),
        no_space: no_space(shared, driver),
        state_hash: view.as_ref().map(|view| view.state_hash()),
        state_hashes: view.as_ref().map_or_else(Vec::new, |view| view.state_hashes()),
        peers: driver.map_or_else(Vec::new, |driver| {
            driver.peers.iter().map(|peer| describe_peer(&driver.membership, peer)).collect()
        }),
        members: driver
            .map_or_else(Vec::new, |driver| describe_members(&driver.membership, |id| advertised(shared, driver, id))),
        joint: driver.is_some_and(|driver| driver.membership.is_joint()),
        leader_contact_ms: driver.and_then(|driver| driver.leader_contact_ticks).map(|ticks| ticks * limits::TICK_MS),
        peer_url: config.peer.url(),
        client_url: config.client_url.clone(),
        admin_url: config.admin_url.clone(),
    }
}

fn state(phase: &Phase, driver: Option<&DriverStatus>, shared: &Shared) -> (NodeState, Option<String>) {
    let (kv, words) = shared.kv();
    let kv_words = (kv != KvState::Ready && !words.is_empty()).then_some(words);
    let words =
        |driver| kv_words.clone().or_else(|| Some(shared.twins().pop()?.detail)).or_else(|| misplaced(shared, driver));
    match (phase, driver) {
        (Phase::Opening(words), _) => (NodeState::Opening, Some(words.clone())),
        (Phase::Blank, _) => (NodeState::Blank, None),
        (Phase::Removed(why), _) => (NodeState::Removed, Some(why.clone())),
        (Phase::Quarantined(finding), _) => (NodeState::Quarantined, Some(finding.why.clone())),
        (Phase::Member, None) => (NodeState::Opening, kv_words),
        (Phase::Member, Some(driver)) if driver.removed => {
            (NodeState::Removed, Some("removed; answering votes until the others know".to_string()))
        }
        (Phase::Member, Some(driver)) if driver.membership.votes(driver.id) => (NodeState::Voter, words(driver)),
        (Phase::Member, Some(driver)) => (NodeState::Learner, words(driver)),
    }
}

/// The older of two things that have not returned, in milliseconds: a sync of the log, and a write to the store.
fn stalled(log_ms: u64, store_ms: u64) -> (u64, Option<StalledOn>) {
    match (log_ms, store_ms) {
        (0, 0) => (0, None),
        (log_ms, store_ms) if log_ms >= store_ms => (log_ms, Some(StalledOn::Log)),
        (_, store_ms) => (store_ms, Some(StalledOn::Store)),
    }
}

/// What a put would get, which is answered once it is applied: the driver does not see that a store does not answer.
fn writes_with_store(writes: Writes, store_ms: u64) -> Writes {
    if writes == Writes::Ok && store_ms >= limits::WRITE_TIMEOUT_MS { Writes::Stalled } else { writes }
}

/// What waits for space here, or else why the driver refuses puts for lack of it.
fn no_space(shared: &Shared, driver: Option<&DriverStatus>) -> Option<String> {
    shared.space.why_full().or_else(|| driver?.no_space.clone())
}

/// How the cluster is, as far as this node knows from its own status.
pub fn judged(status: &api::Status) -> Judgement {
    raftkv_judge::judge(&[Report { at: &status.admin_url, answer: Answer::Status(status) }])
}

/// A member's name and peer URL are fixed for its life; if it is started with others, its peers can't find it under
/// those that they know.
pub fn misplaced(shared: &Shared, driver: &DriverStatus) -> Option<String> {
    let known = driver.membership.members.get(&driver.id)?;
    let config = &shared.config;
    let name = ("--name", config.name.clone(), known.name.clone());
    let what = [name, ("--peer-url", config.peer.url(), known.peer.url())];
    let differs = what.into_iter().find(|(_, given, known)| given != known);
    differs.map(|(flag, given, known)| {
        let id = driver.id;
        let alone = if shared.is_elsewhere(id, &driver.membership) { "; it talks to none of them meanwhile" } else { "" };
        format!(
            "{flag} is '{given}', but the members know member {id} by '{known}': start it with that, or replace it{alone}"
        )
    })
}

/// The leader, when it is known.
pub fn leader(shared: &Shared, driver: &DriverStatus) -> Option<api::LeaderRef> {
    let member = driver.membership.members.get(&driver.leader)?;
    let urls = advertised(shared, driver, driver.leader);
    Some(api::LeaderRef {
        name: member.name.clone(),
        client_url: urls.as_ref().map(|urls| urls.client_url.clone()),
        admin_url: urls.map(|urls| urls.admin_url),
    })
}

fn advertised(shared: &Shared, driver: &DriverStatus, id: MemberId) -> Option<Advertised> {
    if id == driver.id {
        let config = &shared.config;
        return Some(Advertised {
            peer_url: config.peer.url(),
            client_url: config.client_url.clone(),
            admin_url: config.admin_url.clone(),
        });
    }
    shared.advertised(id)
}

/// The members, as the driver announced them last.
pub fn members(shared: &Shared) -> Option<api::Members> {
    let published = shared.published();
    let (driver, identity) = (published.driver.as_ref()?, published.identity?);
    Some(members_answer(identity.cluster_id, driver, |id| advertised(shared, driver, id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_returned_for_longest_is_shown() {
        assert_eq!(stalled(0, 0), (0, None));
        assert_eq!(stalled(900, 0), (900, Some(StalledOn::Log)));
        assert_eq!(stalled(900, 901), (901, Some(StalledOn::Store)));
    }

    #[test]
    fn a_put_that_nobody_will_apply_in_time_stalls() {
        assert_eq!(writes_with_store(Writes::Ok, limits::WRITE_TIMEOUT_MS - 1), Writes::Ok);
        assert_eq!(writes_with_store(Writes::Ok, limits::WRITE_TIMEOUT_MS), Writes::Stalled);
        assert_eq!(writes_with_store(Writes::Quota, u64::MAX), Writes::Quota, "the first reason counts");
    }
}
