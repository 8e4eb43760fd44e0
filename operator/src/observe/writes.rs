//! What became of the writes to the children of one cluster (rule O32). PURE: the time is passed in.
//!
//! For each child it is known whether what is wanted was written, whether admission wants it otherwise, which fields were
//! put right lately, and until when nothing is tried again because the last write was refused or failed. All of it may be
//! lost at any time: then the API server is asked once more.

use crate::plan::Eviction;
use crate::resources::Wanted;
use kube::Resource;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// A moment, as the caller read it from its clock.
pub type Moment = Instant;

/// The pause after the first write that failed.
const PAUSE_MIN_S: u64 = 1;
/// The longest pause after many writes that failed.
const PAUSE_MAX_S: u64 = 300;
/// The pause after a new object was refused: a quota may have grown.
const PAUSE_REFUSED_NEW_S: u64 = 60;
/// The pause after a change was refused. Another change is tried at once.
const PAUSE_REFUSED_S: u64 = 600;
/// After this time the API server is asked again whether admission still wants a child as it is. A field that was put
/// right and is changed again within this time is fought over.
const SETTLED_S: u64 = 3_600;

/// The pause before an eviction is asked for again.
const EVICTION_PAUSE_S: u64 = 2;
/// Budgets have no say after they refused an eviction for so long. A refusal that is older is forgotten.
const EVICTION_S_MAX: u64 = 60;

/// A write that was not tried again for this long after its pause is not wanted any more.
const GIVEN_UP_S: u64 = 60;

/// A child, for people, and as what its writes are remembered.
pub fn what<K: Resource<DynamicType = ()>>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}

/// The number of pods of a StatefulSet, which is written alone while the rest is held back.
pub fn size_of(set: &str) -> String {
    format!("size of StatefulSet {set}")
}

/// Why a child was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The API server refused a new object.
    RefusedNew,
    /// The API server refused a change.
    Refused,
    /// The API server or a webhook failed, or somebody else keeps changing the child.
    Failed,
}

/// The writes to the children of one cluster, by the child's kind and name, and the evictions that were refused.
#[derive(Debug, Default)]
pub struct Writes {
    children: BTreeMap<String, Child>,
    /// By the pod's uid.
    evictions: BTreeMap<String, RefusedEviction>,
    /// A deliberate bug: the API server is never asked what admission makes of a write.
    #[cfg(test)]
    pub(crate) asks_nothing: bool,
}

#[derive(Debug)]
struct Child {
    /// The hash of what was wanted.
    hash: String,
    /// Whether that was written.
    written: bool,
    held: Option<Held>,
    /// The fingerprint with which admission wants it, and since when that is known.
    settled: Option<(String, Instant)>,
    /// The fields that were put right.
    mended: BTreeMap<String, Mend>,
}

#[derive(Debug)]
struct RefusedEviction {
    first: Instant,
    last: Instant,
    /// Whether there was a disruption budget without room, and nothing else in the way.
    by_budget: bool,
}

#[derive(Debug)]
struct Mend {
    at: Instant,
    /// How often, lately.
    times: u32,
    /// Whether the pause before the next time was made.
    has_paused: bool,
}

#[derive(Debug)]
struct Held {
    trouble: Trouble,
    said: String,
    pause_s: u64,
    until: Instant,
}

impl Writes {
    /// What was said when this was last tried, while it is not to be tried again.
    pub fn held(&self, what: &str, hash: &str, now: Instant) -> Option<&str> {
        let held = self.of(what, hash)?.held.as_ref()?;
        (now < held.until).then_some(held.said.as_str())
    }

    /// Whether a child is to be written now: it is not as wanted, admission does not want it as it is, and it was not
    /// refused lately.
    pub fn is_due<K: Serialize>(&self, what: &str, wanted: &Wanted, live: &K, now: Instant) -> bool {
        !wanted.is_met(live)
            && self.held(what, &wanted.hash, now).is_none()
            && !self.is_settled(what, &wanted.hash, &wanted.fingerprint(live), now)
    }

    /// Whether a write of anything is held back.
    pub fn is_held(&self, what: &str, now: Instant) -> bool {
        self.children.get(what).and_then(|child| child.held.as_ref()).is_some_and(|held| now < held.until)
    }

    /// Whether admission wants the child with this fingerprint.
    pub fn is_settled(&self, what: &str, hash: &str, fingerprint: &str, now: Instant) -> bool {
        let settled = self.of(what, hash).and_then(|child| child.settled.as_ref());
        settled.is_some_and(|(with, at)| with == fingerprint && is_recent(*at, now))
    }

    /// Whether exactly this was written.
    pub fn is_written(&self, what: &str, hash: &str) -> bool {
        self.of(what, hash).is_some_and(|child| child.written)
    }

    /// Notes a write.
    pub fn wrote(&mut self, what: &str, hash: &str) {
        let child = self.child(what, hash);
        (child.written, child.held, child.settled) = (true, None, None);
    }

    /// Notes that admission wants the child with this fingerprint. `false` if that was known.
    pub fn settle(&mut self, what: &str, hash: &str, fingerprint: &str, now: Instant) -> bool {
        let child = self.child(what, hash);
        let known = child.settled.as_ref().is_some_and(|(with, _)| with == fingerprint);
        (child.held, child.settled) = (None, Some((fingerprint.to_string(), now)));
        !known
    }

    /// Notes that a field was put right.
    pub fn mend(&mut self, what: &str, hash: &str, field: &str, now: Instant) {
        let child = self.child(what, hash);
        child.mended.retain(|_, mend| is_recent(mend.at, now));
        let times = child.mended.get(field).map_or(0, |mend| mend.times);
        child.mended.insert(field.to_string(), Mend { at: now, times: times + 1, has_paused: false });
    }

    /// Whether a field that is to be put right was put right lately, so that somebody keeps changing it. Then it is left for
    /// a while first, longer each time, as after a write that failed.
    pub fn is_fought_over(&mut self, what: &str, hash: &str, field: &str, said: &str, now: Instant) -> bool {
        let child = self.child(what, hash);
        let recent = child.mended.get_mut(field).filter(|mend| is_recent(mend.at, now) && !mend.has_paused);
        let Some(mend) = recent else { return false };
        mend.has_paused = true;
        let pause_s = PAUSE_MIN_S.checked_shl(mend.times - 1).map_or(PAUSE_MAX_S, |pause_s| pause_s.min(PAUSE_MAX_S));
        child.held = Some(Held::new(Trouble::Failed, said, pause_s, now));
        true
    }

    /// Notes that a write did not succeed.
    pub fn fail(&mut self, what: &str, hash: &str, trouble: Trouble, said: &str, now: Instant) {
        let child = self.child(what, hash);
        let before_s = child.held.as_ref().filter(|held| held.trouble == trouble).map(|held| held.pause_s);
        let pause_s = match trouble {
            Trouble::RefusedNew => PAUSE_REFUSED_NEW_S,
            Trouble::Refused => PAUSE_REFUSED_S,
            Trouble::Failed => before_s.map_or(PAUSE_MIN_S, |before_s| (before_s * 2).min(PAUSE_MAX_S)),
        };
        child.held = Some(Held::new(trouble, said, pause_s, now));
    }

    /// Notes that nothing is to be written, and so forgets what went wrong with that.
    pub fn rest(&mut self, what: &str, hash: &str) {
        let Some(child) = self.children.get_mut(what) else { return };
        child.held = None;
        if child.hash != hash {
            self.children.remove(what);
        }
    }

    /// Notes that a pod was not evicted.
    pub fn refuse_eviction(&mut self, uid: &str, by_budget: bool, now: Instant) {
        self.evictions.retain(|_, refused| refused.is_recent(now));
        let first = self.evictions.get(uid).map_or(now, |refused| refused.first);
        self.evictions.insert(uid.to_string(), RefusedEviction { first, last: now, by_budget });
    }

    /// What became of the requests to evict a pod.
    pub fn eviction(&self, uid: &str, now: Instant) -> Eviction {
        let Some(refused) = self.evictions.get(uid).filter(|refused| refused.is_recent(now)) else {
            return Eviction::Possible;
        };
        let since = |at: Instant| now.saturating_duration_since(at).as_secs();
        if !refused.by_budget || since(refused.first) >= EVICTION_S_MAX {
            Eviction::GivenUp
        } else if since(refused.last) < EVICTION_PAUSE_S {
            Eviction::Refused
        } else {
            Eviction::Possible
        }
    }

    /// What the API server refused, in words.
    pub fn refused(&self, now: Instant) -> Option<String> {
        self.words(now, |trouble| trouble != Trouble::Failed)
    }

    /// What failed, in words.
    pub fn failed(&self, now: Instant) -> Option<String> {
        self.words(now, |trouble| trouble == Trouble::Failed)
    }

    fn words(&self, now: Instant, which: impl Fn(Trouble) -> bool) -> Option<String> {
        let held = self.children.iter().filter_map(|(what, child)| Some((what, child.held.as_ref()?)));
        let is_wanted = |held: &Held| now < held.until + Duration::from_secs(GIVEN_UP_S);
        let held = held.filter(|(_, held)| which(held.trouble) && is_wanted(held));
        let words: Vec<String> = held.map(|(what, held)| format!("{what}: {}", held.said)).collect();
        (!words.is_empty()).then(|| words.join(" | "))
    }

    fn of(&self, what: &str, hash: &str) -> Option<&Child> {
        self.children.get(what).filter(|child| child.hash == hash)
    }

    /// Something else that is wanted begins anew.
    fn child(&mut self, what: &str, hash: &str) -> &mut Child {
        let new =
            || Child { hash: hash.to_string(), written: false, held: None, settled: None, mended: BTreeMap::new() };
        let child = self.children.entry(what.to_string()).or_insert_with(new);
        if child.hash != hash {
            *child = new();
        }
        child
    }
}

impl Held {
    fn new(trouble: Trouble, said: &str, pause_s: u64, now: Instant) -> Held {
        Held { trouble, said: said.to_string(), pause_s, until: now + Duration::from_secs(pause_s) }
    }
}

impl RefusedEviction {
    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < Duration::from_secs(EVICTION_S_MAX)
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < Duration::from_secs(SETTLED_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = "StatefulSet demo";

    fn pauses(trouble: Trouble) -> Vec<u64> {
        let (mut writes, mut now) = (Writes::default(), Instant::now());
        let pause = |_| {
            writes.fail(SET, "1", trouble, "no", now);
            let mut pause_s = 0;
            while writes.held(SET, "1", now).is_some() {
                now += Duration::from_secs(1);
                pause_s += 1;
            }
            pause_s
        };
        (0..11).map(pause).collect()
    }

    #[test]
    fn what_fails_is_tried_again_after_pauses_that_grow() {
        assert_eq!(pauses(Trouble::Failed), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pauses(Trouble::Refused), [600; 11]);
        assert_eq!(pauses(Trouble::RefusedNew), [60; 11]);
    }

    #[test]
    fn only_the_same_is_held_back() {
        let (mut writes, now) = (Writes::default(), Instant::now());
        writes.fail(SET, "1", Trouble::Refused, "image: required", now);
        assert_eq!(writes.held(SET, "1", now), Some("image: required"));
        assert!(writes.is_held(SET, now));
        assert_eq!((writes.held(SET, "2", now), writes.held("Service demo", "1", now)), (None, None));
        assert_eq!(writes.refused(now).as_deref(), Some("StatefulSet demo: image: required"));
        writes.fail("Service demo", "1", Trouble::Failed, "no answer", now);
        assert_eq!(writes.failed(now).as_deref(), Some("Service demo: no answer"));
        writes.wrote(SET, "1");
        assert_eq!((writes.held(SET, "1", now), writes.refused(now)), (None, None));
        writes.rest("Service demo", "1");
        assert_eq!(writes.failed(now), None);
    }

    #[test]
    fn an_eviction_is_asked_for_again_and_given_up_after_a_minute() {
        let (mut writes, start) = (Writes::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(writes.eviction("uid", start), Eviction::Possible);
        for s in (0..60).step_by(2) {
            assert_eq!(writes.eviction("uid", at(s)), Eviction::Possible);
            writes.refuse_eviction("uid", true, at(s));
            assert_eq!(writes.eviction("uid", at(s + 1)), Eviction::Refused);
            assert_eq!(writes.eviction("another", at(s + 1)), Eviction::Possible);
        }
        assert_eq!(writes.eviction("uid", at(60)), Eviction::GivenUp);
        assert_eq!(writes.eviction("uid", at(200)), Eviction::Possible, "the pod may have become needed meanwhile");
        writes.refuse_eviction("uid", true, at(200));
        assert_eq!(writes.eviction("uid", at(200)), Eviction::Refused);
        writes.refuse_eviction("two budgets", false, at(200));
        assert_eq!(writes.eviction("two budgets", at(200)), Eviction::GivenUp);
    }

    #[test]
    fn the_words_stay_while_it_is_tried_again() {
        let (mut writes, now) = (Writes::default(), Instant::now());
        writes.fail(SET, "1", Trouble::Failed, "no answer", now);
        let due = now + Duration::from_secs(PAUSE_MIN_S);
        assert!(!writes.is_held(SET, due));
        assert_eq!(writes.failed(due).as_deref(), Some("StatefulSet demo: no answer"));
        assert_eq!(writes.failed(due + Duration::from_secs(GIVEN_UP_S)), None);
    }

    #[test]
    fn what_admission_wants_is_asked_again_after_an_hour_or_when_it_changes() {
        let (mut writes, now) = (Writes::default(), Instant::now());
        let hour = Duration::from_secs(SETTLED_S);
        assert!(writes.settle(SET, "1", "as admitted", now));
        assert!(!writes.settle(SET, "1", "as admitted", now), "it is told once");
        assert!(writes.is_settled(SET, "1", "as admitted", now));
        assert!(!writes.is_settled(SET, "1", "otherwise", now));
        assert!(!writes.is_settled(SET, "2", "as admitted", now));
        assert!(!writes.is_settled(SET, "1", "as admitted", now + hour));
    }

    #[test]
    fn a_field_that_is_changed_again_within_an_hour_is_left_for_a_while_first() {
        let (mut writes, mut now) = (Writes::default(), Instant::now());
        let is_fought = |writes: &mut Writes, field: &str, now| writes.is_fought_over(SET, "1", field, "again", now);
        assert!(!is_fought(&mut writes, "spec.template", now));
        for pause_s in [1, 2, 4, 8] {
            writes.mend(SET, "1", "spec.template", now);
            writes.wrote(SET, "1");
            assert!(is_fought(&mut writes, "spec.template", now));
            assert!(!is_fought(&mut writes, "spec.other", now));
            now += Duration::from_secs(pause_s);
            assert_eq!((writes.held(SET, "1", now), writes.failed(now).is_some()), (None, true));
            assert!(!is_fought(&mut writes, "spec.template", now), "it is put right after the pause");
        }
        writes.mend(SET, "1", "spec.template", now);
        assert!(!is_fought(&mut writes, "spec.template", now + Duration::from_secs(SETTLED_S)));
    }
}
