//! What is wrong with a spec that the schema let pass. PURE.
//!
//! The schema has refused the errors that it can see. Other errors, and those that a spec has which was stored under an
//! older schema, are found here, and then the spec does not come into force.

use raftkv_crds::RaftKvCluster;

/// Smallest quota that a node takes.
const QUOTA_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// What is wrong with a spec.
pub(super) fn invalid(cluster: &RaftKvCluster) -> Option<String> {
    quota(cluster).or_else(|| retention(cluster))
}

fn quota(cluster: &RaftKvCluster) -> Option<String> {
    let quota = cluster.spec.config.quota.as_ref()?;
    match quota.bytes() {
        Err(error) => Some(format!("spec.config.quota: {error}")),
        Ok(bytes) if bytes < QUOTA_BYTES_MIN => {
            Some(format!("spec.config.quota '{}' is too little: give at least 4Mi", quota.0))
        }
        Ok(_) => None,
    }
}

/// An older schema accepts `0s`, but no node starts with it.
fn retention(cluster: &RaftKvCluster) -> Option<String> {
    let kept = cluster.spec.config.compact_retention.as_deref()?;
    let nothing = kept.trim_end_matches(|c: char| c.is_ascii_alphabetic()).bytes().all(|digit| digit == b'0');
    (kept != "off" && nothing).then(|| {
        format!("spec.config.compactRetention '{kept}' keeps nothing: give at least 1s, or off to keep everything")
    })
}
