//! What this operator sets in a child, with a hash of it, and what a live child lacks of that (rule O32). PURE.
//!
//! The live object carries the hash of what was set last. While it is the same, nothing is to be written, unless a field
//! of ours has another value: then somebody changed it, or admission wants it so, which only the API server can tell.

use super::compare::{difference_at, view_at};
use super::in_force;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

/// An annotation with a hash of everything that we set, so that a field that we stopped setting is noticed.
pub const APPLIED: &str = "raftkv.dev/applied";

/// What a child shall have.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Changes with everything that is wanted.
    pub hash: String,
    fields: Value,
    /// Whether the child carries the hash.
    is_marked: bool,
    /// A field that must not be there.
    absent: Option<&'static [&'static str]>,
}

impl Wanted {
    /// All fields of an object that has [`APPLIED`].
    pub fn of<K: Serialize>(object: &K) -> Wanted {
        let mut fields = plain(object);
        let hash = applied(&fields).unwrap_or_default().to_string();
        in_force::without_generation(&mut fields);
        Wanted { hash, fields, is_marked: true, absent: None }
    }

    /// These fields, of an object that does not carry their hash.
    pub(super) fn unmarked(fields: Value) -> Wanted {
        Wanted { hash: hash(&fields), fields, is_marked: false, absent: None }
    }

    /// The same, without a field. It is named by its path.
    pub(super) fn but(self, absent: &'static [&'static str]) -> Wanted {
        Wanted { absent: Some(absent), ..self }
    }

    /// The first field of a live object that is not as it should be, by its path.
    pub fn difference<K: Serialize>(&self, live: &K) -> Option<String> {
        let live = comparable(live);
        let stray = self.absent.filter(|path| !at(&live, path).is_null()).map(|path| path.join("."));
        stray.or_else(|| difference_at("", "", &self.fields, &live))
    }

    /// Whether a live object is as it should be. The hash in it is one of the fields.
    pub fn is_met<K: Serialize>(&self, live: &K) -> bool {
        self.difference(live).is_none()
    }

    /// Changes when one of the fields that we set changes in the live object, and only then.
    pub fn fingerprint<K: Serialize>(&self, live: &K) -> String {
        let live = comparable(live);
        let stray = self.absent.map_or(&Value::Null, |path| at(&live, path));
        hash(&(view_at("", &self.fields, &live), stray))
    }

    /// Whether a live object does not carry the hash that it shall carry.
    pub fn is_new_to<K: Serialize>(&self, live: &K) -> bool {
        self.is_marked && applied(&plain(live)) != Some(self.hash.as_str())
    }
}

/// Marks an object with the hash of what is in it.
pub(super) fn mark(metadata: &mut ObjectMeta, hash: String) {
    metadata.annotations.get_or_insert_default().insert(APPLIED.to_string(), hash);
}

/// FNV-1a. It only tells a changed object from an unchanged one, and must be the same in every build.
pub(super) fn hash(value: &impl Serialize) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let bytes = serde_json::to_vec(value).expect("objects of the API are plain data");
    let hash = bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

pub(super) fn plain<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("objects of the API are plain data with text keys")
}

fn comparable<K: Serialize>(live: &K) -> Value {
    let mut live = plain(live);
    in_force::without_generation(&mut live);
    live
}

fn applied(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][APPLIED].as_str()
}

fn at<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(object, |value, field| &value[*field])
}

#[cfg(test)]
mod tests {
    use super::super::testing::cluster;
    use super::super::{client_service, disruption_budget};
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_as_it_was_made_is_met_and_a_change_is_named() {
        let service = client_service(&cluster(json!({})));
        let wanted = Wanted::of(&service);
        assert!(wanted.is_met(&service) && !wanted.is_new_to(&service));
        let mut changed = service.clone();
        changed.spec.as_mut().unwrap().type_ = Some("NodePort".to_string());
        assert_eq!(wanted.difference(&changed).as_deref(), Some("spec.type"));
        assert_ne!(wanted.fingerprint(&service), wanted.fingerprint(&changed));
        let mut theirs = service.clone();
        theirs.metadata.annotations.get_or_insert_default().insert("theirs".to_string(), "x".to_string());
        assert_eq!(wanted.fingerprint(&service), wanted.fingerprint(&theirs));
        theirs.metadata.annotations.get_or_insert_default().insert(APPLIED.to_string(), "0".to_string());
        assert!(wanted.is_new_to(&theirs));
    }

    #[test]
    fn another_number_is_another_hash() {
        let hash = |number| Wanted::of(&disruption_budget(&cluster(json!({})), number)).hash;
        assert_eq!(hash(2), hash(2));
        assert_ne!(hash(2), hash(3));
        assert_eq!(hash(2).len(), 16);
    }
}
