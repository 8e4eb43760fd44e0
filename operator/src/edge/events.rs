//! Events (events.k8s.io/v1) about a `RaftKvCluster`, which `kubectl describe` shows.
//!
//! Passes queue notes, and one task writes them in order, so that no pass waits for a write. Events are a courtesy,
//! since the status says all that matters: an Event that cannot be written is logged and given up, a warning that was
//! written lately is not repeated, and when the queue is full the newest Event is dropped.

use crate::edge::write::is_namespace_going;
use crate::observe::said;
use crate::plan::Note;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Resource};
use raftkv_crds::label;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Most Events that wait to be written.
const QUEUE_EVENTS_MAX: usize = 256;
/// The API server's own limit is 1024.
const NOTE_BYTES_MAX: usize = 1_000;
/// The same warning about the same cluster is not written again for this long.
const REPEAT_AFTER_S: u64 = 600;
/// Time for one write.
const WRITE_TIMEOUT_MS: u64 = 5_000;

/// Where Events go. The task behind it ends with the last clone.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<Event>,
    pod_name: String,
}

impl Events {
    /// `pod_name` is the operator's pod; `wrote` is called after each Event that was written.
    pub fn start(client: Client, pod_name: &str, wrote: impl Fn() + Send + Sync + 'static) -> Events {
        let (queue, waiting) = mpsc::channel(QUEUE_EVENTS_MAX);
        tokio::spawn(write_all(client, waiting, wrote));
        Events { queue, pod_name: pod_name.to_string() }
    }

    /// Queues an Event with this note about a cluster. `action` is the word for what was done or tried.
    pub fn tell(&self, cluster: &impl Resource<DynamicType = ()>, action: &str, note: &Note) {
        let event = event(cluster.object_ref(&()), action, note, &self.pod_name, Timestamp::now());
        if self.queue.try_send(event).is_err() {
            tracing::warn!(
                reason = note.reason,
                note = note.text,
                "too many events are waiting, this one is not written"
            );
        }
    }
}

async fn write_all(client: Client, mut waiting: mpsc::Receiver<Event>, wrote: impl Fn()) {
    let mut recent = Recent::default();
    while let Some(event) = waiting.recv().await {
        if recent.has(&event, Instant::now()) {
            continue;
        }
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let params = PostParams::default();
        match timeout(Duration::from_millis(WRITE_TIMEOUT_MS), events.create(&params, &event)).await {
            Ok(Ok(_)) => wrote(),
            Ok(Err(error)) if is_namespace_going(&error) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = said(&error), namespace, reason = event.reason, "cannot write an event");
            }
            Err(_elapsed) => tracing::warn!(namespace, reason = event.reason, "cannot write an event in time"),
        }
    }
}

fn event(about: ObjectReference, action: &str, note: &Note, pod_name: &str, now: Timestamp) -> Event {
    let name = about.name.clone().unwrap_or_default();
    let unique = (now.as_nanosecond(), rand::random::<u16>());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}{:04x}", unique.0, unique.1)),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some(action.to_string()),
        reason: Some(note.reason.to_string()),
        note: Some(cut(&note.text).to_string()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_string()),
        event_time: Some(MicroTime(now)),
        regarding: Some(about),
        reporting_controller: Some(format!("raftkv.dev/{}", label::MANAGED_BY_VALUE)),
        reporting_instance: Some(pod_name.to_string()),
        ..Event::default()
    }
}

/// At most [`NOTE_BYTES_MAX`] bytes, and whole characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(NOTE_BYTES_MAX)]
}

/// The warnings that were written lately.
#[derive(Default)]
struct Recent(BTreeMap<Told, Instant>);

/// The uid of the cluster, the reason and the note.
type Told = [Option<String>; 3];

impl Recent {
    /// Whether this warning was written lately. If not, it counts as written from here on.
    fn has(&mut self, event: &Event, now: Instant) -> bool {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < Duration::from_secs(REPEAT_AFTER_S));
        let uid = event.regarding.as_ref().and_then(|about| about.uid.clone());
        let is_normal = event.type_.as_deref() == Some("Normal");
        // A Normal Event tells of a step. Each step happens once, even if the same words describe another one.
        !is_normal && self.0.insert([uid, event.reason.clone(), event.note.clone()], now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(uid: &str) -> ObjectReference {
        let text = |text: &str| Some(text.to_string());
        ObjectReference { name: text("demo"), namespace: text("team"), uid: text(uid), ..ObjectReference::default() }
    }

    fn warning(uid: &str, text: &str) -> Event {
        let note = Note { warning: true, reason: "Failed", text: text.to_string() };
        event(about(uid), "Promote", &note, "operator-1", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn an_event_has_what_the_api_server_asks_for() {
        let event = warning("u", &"é".repeat(600));
        assert!(event.note.as_ref().is_some_and(|note| note.len() == 1_000 && note.chars().all(|c| c == 'é')));
        assert!(event.metadata.name.is_some_and(|name| name.starts_with("demo.")));
        assert_eq!((event.type_.as_deref(), event.action.as_deref()), (Some("Warning"), Some("Promote")));
        assert_eq!(event.reporting_controller.as_deref(), Some("raftkv.dev/raftkv-operator"));
        assert_eq!(event.reporting_instance.as_deref(), Some("operator-1"));
    }

    #[test]
    fn a_warning_is_not_repeated_at_once_and_a_step_always_told() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        assert!(!recent.has(&warning("u", "a"), start));
        assert!(recent.has(&warning("u", "a"), start));
        assert!(!recent.has(&warning("u", "b"), start) && !recent.has(&warning("v", "a"), start));
        assert!(!recent.has(&warning("u", "a"), start + Duration::from_secs(REPEAT_AFTER_S)));
        let normal = Event { type_: Some("Normal".to_string()), ..warning("u", "a") };
        assert!(!recent.has(&normal, start) && !recent.has(&normal, start));
    }
}
