//! What the kubelet and the scheduler say about a pod's container, in words that stay the same while nothing changes.
//! The status repeats them, and a status that changes with every back-off would be written again and again (rule O21).
//! PURE.

use crate::plan::Container;
use crate::resources::CONTAINER;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

/// The longest text that is passed on.
const WORDS_CHARS_MAX: usize = 300;
/// The shortest run of hex digits and dashes that counts as an id: a uuid, or half of a digest.
const ID_CHARS_MIN: usize = 32;
/// After this word the scheduler tells which pods it would have to evict, which differs from try to try.
const PREEMPTION: &str = "preemption:";
/// How the kubelet quotes the failed pull while it waits to try again.
const PULL_QUOTED: &str = "ErrImagePull: ";

/// The state of the member's container.
pub(super) fn container(pod: &Pod) -> Container {
    let Some(status) = &pod.status else { return Container::Starting };
    if status.phase.as_deref() == Some("Failed") {
        return Container::Failing(told(status.reason.as_deref().unwrap_or("Failed"), status.message.as_deref()));
    }
    if let Some(why) = unscheduled(status) {
        return Container::Unscheduled(why);
    }
    let statuses = status.container_statuses.iter().flatten();
    statuses.into_iter().find(|status| status.name == CONTAINER).map_or(Container::Starting, of_status)
}

fn unscheduled(status: &PodStatus) -> Option<String> {
    let conditions = status.conditions.iter().flatten();
    let no =
        conditions.into_iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    let words = no.message.as_deref().or(no.reason.as_deref()).unwrap_or("the scheduler gives no reason");
    let words = words.split(PREEMPTION).next().unwrap_or(words);
    Some(steady(words.trim_end_matches(['.', ',', ' '])))
}

fn of_status(status: &ContainerStatus) -> Container {
    let Some(state) = &status.state else { return Container::Starting };
    let ContainerState { running, terminated, waiting } = state;
    if running.is_some() {
        return Container::Running;
    }
    if let Some(terminated) = terminated {
        return Container::Failing(ended(terminated));
    }
    let Some(waiting) = waiting else { return Container::Starting };
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    match (waiting.reason.as_deref(), last) {
        (None | Some("ContainerCreating" | "PodInitializing"), _) => Container::Starting,
        // The message of the back-off counts seconds; the reason why the container ended says more.
        (Some("CrashLoopBackOff"), Some(last)) => Container::Failing(ended(last)),
        (Some("CrashLoopBackOff"), None) => Container::Failing("CrashLoopBackOff".to_string()),
        // The kubelet reports both in turn, for the same failure.
        (Some("ErrImagePull" | "ImagePullBackOff"), _) => {
            Container::Failing(told("ErrImagePull", waiting.message.as_deref().map(pull_words)))
        }
        (Some(reason), _) => Container::Failing(told(reason, waiting.message.as_deref())),
    }
}

/// A container that ended is restarted, and later called a crash loop: both get the same word.
fn ended(last: &ContainerStateTerminated) -> String {
    let reason = last.reason.as_deref().filter(|reason| *reason != "Error");
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    match last.exit_code {
        0 => "Completed: it ended by itself".to_string(),
        code => format!("CrashLoopBackOff: it ended with exit code {code}{reason}; see kubectl logs --previous"),
    }
}

fn pull_words(message: &str) -> &str {
    message.split_once(PULL_QUOTED).map_or(message, |(_, quoted)| quoted)
}

fn told(reason: &str, message: Option<&str>) -> String {
    match message.filter(|message| !message.is_empty()) {
        Some(message) => steady(&format!("{reason}: {message}")),
        None => reason.to_string(),
    }
}

/// The words without ids that differ from try to try, and not too long.
fn steady(words: &str) -> String {
    let is_id = |c: char| c.is_ascii_hexdigit() || c == '-';
    let mut steady = String::new();
    let mut rest = words.trim();
    while let Some(c) = rest.chars().next() {
        let run = rest.find(|c| !is_id(c)).unwrap_or(rest.len());
        // A digest names an image, and is kept.
        let is_digest = steady.ends_with(':');
        let (part, shown) = match run {
            0 => (c.len_utf8(), &rest[..c.len_utf8()]),
            run if run >= ID_CHARS_MIN && !is_digest => (run, "..."),
            run => (run, &rest[..run]),
        };
        steady.push_str(shown);
        rest = &rest[part..];
    }
    match steady.char_indices().nth(WORDS_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &steady[..end]),
        None => steady,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn of(status: Value) -> Container {
        container(&serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap())
    }

    fn state(state: Value, last: Value) -> Container {
        of(json!({"phase": "Running", "containerStatuses": [
            {"name": "sidecar", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
            {"name": "raftkv", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": state, "lastState": last},
        ]}))
    }

    fn failing(words: &str) -> Container {
        Container::Failing(words.to_string())
    }

    #[test]
    fn a_container_starts_and_runs() {
        assert_eq!(of(json!({})), Container::Starting);
        assert_eq!(of(json!({"conditions": [{"type": "PodScheduled", "status": "True"}]})), Container::Starting);
        assert_eq!(state(json!({"waiting": {"reason": "ContainerCreating"}}), json!({})), Container::Starting);
        assert_eq!(state(json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}), json!({})), Container::Running);
    }

    #[test]
    fn the_scheduler_is_quoted_without_what_it_tries_next() {
        let message = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match PersistentVolume's node affinity. preemption: 0/3 nodes are available: 3 No preemption victims found.";
        let seen = of(
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}),
        );
        assert_eq!(
            seen,
            Container::Unscheduled(
                "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match PersistentVolume's node affinity"
                    .to_string()
            )
        );
    }

    #[test]
    fn a_pull_that_is_tried_again_is_told_in_the_same_words() {
        let why = "failed to pull and unpack image \"r/x:1\": not found";
        let failed = state(json!({"waiting": {"reason": "ErrImagePull", "message": why}}), json!({}));
        let waits = format!("Back-off pulling image \"r/x:1\": ErrImagePull: {why}");
        let waits = state(json!({"waiting": {"reason": "ImagePullBackOff", "message": waits}}), json!({}));
        assert_eq!(failed, failing(&format!("ErrImagePull: {why}")));
        assert_eq!(waits, failed);
    }

    #[test]
    fn a_crash_loop_is_told_by_its_cause_and_in_the_same_words() {
        let ended = |reason: &str| json!({"terminated": {"exitCode": 1, "reason": reason}});
        let waits = |seconds: u32| {
            let message = format!(
                "back-off {seconds}s restarting failed container=raftkv pod=demo-0_team(9c1c2b4c-0f6f-4f0b-9a3f-1f2f3f4f5f6f)"
            );
            state(json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}}), ended("Error"))
        };
        assert_eq!(waits(10), failing("CrashLoopBackOff: it ended with exit code 1; see kubectl logs --previous"));
        assert_eq!(waits(10), waits(20));
        assert_eq!(waits(10), state(ended("Error"), json!({})));
        assert_eq!(
            state(ended("OOMKilled"), json!({})),
            failing("CrashLoopBackOff: it ended with exit code 1 (OOMKilled); see kubectl logs --previous")
        );
    }

    #[test]
    fn other_failures_are_quoted_without_ids() {
        let config = state(
            json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"demo-auth\" not found"}}),
            json!({}),
        );
        assert_eq!(config, failing("CreateContainerConfigError: secret \"demo-auth\" not found"));
        let evicted =
            of(json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}));
        assert_eq!(evicted, failing("Evicted: The node was low on resource: memory."));
        let id = "9c1c2b4c-0f6f-4f0b-9a3f-1f2f3f4f5f6f";
        assert_eq!(steady(&format!("name raftkv_demo-0_{id}_0 is reserved")), "name raftkv_demo-0_..._0 is reserved");
        let digest = format!("image@sha256:{}", "ab".repeat(32));
        assert_eq!(steady(&digest), digest);
    }

    proptest! {
        #[test]
        fn any_words_are_made_steady(words in "\\PC{0,80}") {
            let once = steady(&words);
            prop_assert_eq!(steady(&once), once);
        }
    }
}
