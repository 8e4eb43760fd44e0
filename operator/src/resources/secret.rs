//! The Secret with the cluster's bearer token (rule O5). PURE: the caller draws the token.

use super::shared::{metadata, name};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use raftkv_client::Token;
use raftkv_crds::{RaftKvCluster, child};

/// `token` is 64 hex digits.
pub fn auth_secret(cluster: &RaftKvCluster, token: &str) -> Secret {
    Secret {
        metadata: metadata(cluster, &child::auth(name(cluster))),
        type_: Some("Opaque".to_string()),
        data: Some([(child::TOKEN_KEY.to_string(), ByteString(format!("{token}\n").into_bytes()))].into()),
        ..Secret::default()
    }
}

/// The token to send: the first one in the Secret, which the nodes also send to each other.
pub fn token_of(secret: &Secret) -> Option<Token> {
    let ByteString(bytes) = secret.data.as_ref()?.get(child::TOKEN_KEY)?;
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::cluster;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_token_is_read_back_and_nothing_else_is_one() {
        let token = "ab".repeat(32);
        let mut secret = auth_secret(&cluster(json!({})), &token);
        assert_eq!(secret.metadata.name.as_deref(), Some("demo-auth"));
        assert_eq!(token_of(&secret), token.parse().ok());
        let next = "cd".repeat(32);
        for (text, read) in
            [(format!("\n{next}\n{token}\n"), next.parse().ok()), ("short\n".into(), None), ("".into(), None)]
        {
            secret.data = Some([("token".to_string(), ByteString(text.into_bytes()))].into());
            assert_eq!(token_of(&secret), read);
        }
        secret.data = None;
        assert_eq!(token_of(&secret), None);
    }
}
