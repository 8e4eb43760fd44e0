//! Our hello, from what is published.

use super::shared::Shared;
use raftkv_api::Hex128;
use raftkv_core::types::MemberIdentity;
use raftkv_core::wire::HELLO_FORMAT;
use raftkv_core::wire::Hello;

/// Our hello to (`to`, `to_incarnation`).
pub fn own_hello(
    shared: &Shared,
    identity: &MemberIdentity,
    durable: (u64, u64),
    to: u64,
    to_incarnation: Hex128,
) -> Hello {
    let config = &shared.config;
    Hello {
        format: HELLO_FORMAT,
        cluster_id: identity.cluster_id,
        genesis: identity.genesis,
        generation: identity.generation,
        from: identity.member_id,
        from_name: config.name.clone(),
        from_incarnation: identity.incarnation,
        to,
        to_incarnation,
        boot: shared.nonce,
        term: durable.0,
        last_index: durable.1,
        peer_url: config.peer_url.clone(),
        client_url: config.client_url.clone(),
        admin_url: config.admin_url.clone(),
    }
}
