//! The objects of one cluster that the API server refused, so that the same object is not sent again and again (rule
//! O21).
//!
//! An object is sent again when it has changed, or after some time: a quota or an admission policy may have changed.

use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// The same object is not sent again for this long.
const RETRY_AFTER_S: u64 = 60;

/// By the object's kind and name.
#[derive(Default)]
pub struct Refusals(BTreeMap<String, Refusal>);

struct Refusal {
    object: String,
    said: String,
    at: Instant,
}

impl Refusals {
    /// What the API server said when it lately refused exactly this object.
    pub fn of(&self, what: &str, object: &impl Serialize, now: Instant) -> Option<&str> {
        let refusal = self.0.get(what)?;
        let recent = now.saturating_duration_since(refusal.at) < Duration::from_secs(RETRY_AFTER_S);
        (recent && refusal.object == text(object)).then_some(refusal.said.as_str())
    }

    /// Notes that the object was refused.
    pub fn note(&mut self, what: &str, object: &impl Serialize, said: &str, now: Instant) {
        let refusal = Refusal { object: text(object), said: said.to_string(), at: now };
        self.0.insert(what.to_string(), refusal);
    }

    /// Notes that the object was accepted.
    pub fn clear(&mut self, what: &str) {
        self.0.remove(what);
    }
}

fn text(object: &impl Serialize) -> String {
    serde_json::to_string(object).expect("objects of the API are plain data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_same_object_is_held_back_and_not_for_ever() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let (bad, good) = (json!({"image": ""}), json!({"image": "a"}));
        assert_eq!(refusals.of("StatefulSet demo", &bad, now), None);
        refusals.note("StatefulSet demo", &bad, "image: required", now);
        assert_eq!(refusals.of("StatefulSet demo", &bad, now), Some("image: required"));
        assert_eq!(refusals.of("StatefulSet demo", &good, now), None);
        assert_eq!(refusals.of("Service demo", &bad, now), None);
        assert_eq!(refusals.of("StatefulSet demo", &bad, now + Duration::from_secs(RETRY_AFTER_S)), None);
        refusals.clear("StatefulSet demo");
        assert_eq!(refusals.of("StatefulSet demo", &bad, now), None);
    }
}
