//! Names of the kind, of child objects, labels and annotations. They never change, since programs of several versions use
//! them.

/// The kind's full name, as kubectl takes it: another group may have a kind with the same short name.
pub const CLUSTERS: &str = "raftkvclusters.raftkv.dev";

/// Labels.
pub mod label {
    /// The cluster's name. The only label that selectors use.
    pub const CLUSTER: &str = "raftkv.dev/cluster";
    /// On a volume claim: the uid of the `RaftKvCluster` that it serves. A claim without it, or with another one, is foreign.
    pub const CLUSTER_UID: &str = "raftkv.dev/cluster-uid";
    /// Kubernetes' own recommended labels.
    pub const NAME: &str = "app.kubernetes.io/name";
    /// Kubernetes' own recommended labels.
    pub const INSTANCE: &str = "app.kubernetes.io/instance";
    /// Kubernetes' own recommended labels.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// Value of [`NAME`].
    pub const NAME_VALUE: &str = "raftkv";
    /// Value of [`MANAGED_BY`], and the field manager of the operator's writes.
    pub const MANAGED_BY_VALUE: &str = "raftkv-operator";
}

/// Annotations.
pub mod annotation {
    /// On a volume claim: the cluster whose data it holds, 32 hex digits.
    pub const CLUSTER_ID: &str = "raftkv.dev/cluster-id";
    /// On a volume claim: the member whose data it holds, a decimal number.
    pub const MEMBER_ID: &str = "raftkv.dev/member-id";
    /// On a volume claim: the data directory, 32 hex digits.
    pub const INCARNATION: &str = "raftkv.dev/incarnation";
    /// On the StatefulSet: `<cluster id>/<incarnation>` of the one node that may be told to form the cluster.
    pub const BOOTSTRAP: &str = "raftkv.dev/bootstrap";
    /// On the StatefulSet: the spec that it was made from, with its generation, as JSON.
    pub const IN_FORCE: &str = "raftkv.dev/in-force";
    /// On a `RaftKvCluster`, by a person: `<pod>/<member id>`, the member whose node is gone for good.
    pub const REPLACE: &str = "raftkv.dev/replace";
}

/// Child objects of the cluster `name`.
pub mod child {
    /// The volume claim template.
    pub const CLAIM_TEMPLATE: &str = "raftkv";
    /// Key of the token in the Secret.
    pub const TOKEN_KEY: &str = "token";

    /// The headless Service by which members find each other.
    pub fn peers(name: &str) -> String {
        format!("{name}-peers")
    }

    /// The Secret with the cluster's bearer token.
    pub fn auth(name: &str) -> String {
        format!("{name}-auth")
    }

    /// The pod, and so the member, with this ordinal.
    pub fn pod(name: &str, ordinal: u32) -> String {
        format!("{name}-{ordinal}")
    }

    /// The volume claim of the pod with this ordinal.
    pub fn claim(name: &str, ordinal: u32) -> String {
        format!("{CLAIM_TEMPLATE}-{name}-{ordinal}")
    }

    /// The ordinal in a name that [`pod`] or [`claim`] made.
    pub fn ordinal(name: &str, of: &str) -> Option<u32> {
        let pod = name.strip_prefix(CLAIM_TEMPLATE).and_then(|rest| rest.strip_prefix('-'));
        let tail = |text: &str| text.strip_prefix(of)?.strip_prefix('-')?.parse::<u32>().ok();
        let ordinal = tail(name).or_else(|| tail(pod?))?;
        // `demo-01` and `demo-+1` would parse as well, but no child has such a name.
        (name.ends_with(&format!("-{ordinal}"))).then_some(ordinal)
    }
}

#[cfg(test)]
mod tests {
    use super::{CLUSTERS, child};

    #[test]
    fn the_kind_is_called_as_the_resource_says() {
        let crd = crate::crd().spec;
        assert_eq!(CLUSTERS, format!("{}.{}", crd.names.plural, crd.group));
    }

    #[test]
    fn ordinals_are_read_from_the_names_that_are_made() {
        for ordinal in [0, 7, 10] {
            assert_eq!(child::ordinal(&child::pod("demo", ordinal), "demo"), Some(ordinal));
            assert_eq!(child::ordinal(&child::claim("demo", ordinal), "demo"), Some(ordinal));
        }
        for stranger in ["demo-peers", "demo-01", "demo-+1", "demo", "other-1", "demo-x-1", "raftkv-other-1"] {
            assert_eq!(child::ordinal(stranger, "demo"), None, "{stranger}");
        }
        // A cluster may have the same name as the claim template.
        assert_eq!(child::ordinal("raftkv-1", "raftkv"), Some(1));
        assert_eq!(child::ordinal("raftkv-raftkv-1", "raftkv"), Some(1));
    }
}
