//! Objects of Kubernetes, as far as the scenarios need them, read from kubectl's JSON.

use raftkv_crds::annotation;
use serde_json::Value;
use std::collections::BTreeMap;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid: another pod of this name has another uid.
    pub uid: String,
    /// The Kubernetes node on which it was scheduled.
    pub node: Option<String>,
    /// The image that its container must run.
    pub image: String,
    /// Whether the kubelet calls it ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Pending, Running, ...
    pub phase: String,
    /// Why its container waits, if it does.
    pub waiting: Option<String>,
    /// How often its container was started again.
    pub restarts: u64,
}

impl Pod {
    /// The pod in this JSON.
    pub fn read(json: &Value) -> Pod {
        let conditions = json["status"]["conditions"].as_array();
        let is_ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
        let container = &json["status"]["containerStatuses"][0];
        Pod {
            name: text(&json["metadata"]["name"]),
            uid: text(&json["metadata"]["uid"]),
            node: json["spec"]["nodeName"].as_str().map(String::from),
            image: text(&json["spec"]["containers"][0]["image"]),
            ready: conditions.is_some_and(|conditions| conditions.iter().any(is_ready)),
            terminating: json["metadata"]["deletionTimestamp"].is_string(),
            phase: text(&json["status"]["phase"]),
            waiting: container["state"]["waiting"]["reason"].as_str().map(String::from),
            restarts: container["restartCount"].as_u64().unwrap_or(0),
        }
    }
}

/// A volume claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Its uid: another claim of this name, and so another volume, has another uid.
    pub uid: String,
    /// Whether it has a volume.
    pub bound: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// The id of the member whose data it holds, as the operator annotated it.
    pub member_id: Option<String>,
    /// The incarnation of its data directory, as the operator annotated it.
    pub incarnation: Option<String>,
}

impl Claim {
    /// The claim in this JSON.
    pub fn read(json: &Value) -> Claim {
        let noted = |name: &str| json["metadata"]["annotations"][name].as_str().map(String::from);
        Claim {
            name: text(&json["metadata"]["name"]),
            uid: text(&json["metadata"]["uid"]),
            bound: json["status"]["phase"] == "Bound",
            terminating: json["metadata"]["deletionTimestamp"].is_string(),
            member_id: noted(annotation::MEMBER_ID),
            incarnation: noted(annotation::INCARNATION),
        }
    }
}

/// Reads each item of a list.
pub fn items<T>(list: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    list["items"].as_array().into_iter().flatten().map(read).collect()
}

/// uids by name, to see what was replaced.
pub fn uids<'a>(named: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    named.into_iter().map(|(name, uid)| (name.to_string(), uid.to_string())).collect()
}

/// The text of a JSON string; empty if it is none.
pub fn text(json: &Value) -> String {
    json.as_str().unwrap_or_default().to_string()
}
