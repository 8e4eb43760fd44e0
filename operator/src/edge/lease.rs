//! The Lease: at most one operator acts on what it watches (rule O9).
//!
//! The Lease object is read live. From it comes [`Held`], which is checked before every action. All times are taken
//! from this machine's monotonic clock; the times in the Lease are for people. The holder is named by the pod's uid, so
//! that a restarted container of the same pod goes on at once, and cannot run twice.
//!
//! # Caveats
//! A Lease fences nothing by itself: a request that was sent before the Lease was lost may arrive later. Such a request
//! is fenced by the resourceVersion, uid or membership index that it carries.

use crate::observe::said;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// A Lease that did not change for this long has lost its holder.
const DURATION_S: i32 = 15;
/// A holder that could not renew for this long stops acting, well before anybody else may begin.
const RENEW_DEADLINE_MS: u64 = 10_000;
/// The pause between renewals, and between the looks of a waiting pod.
const RETRY_MS: u64 = 2_000;
/// Spreads the looks of several waiting pods.
const RETRY_JITTER_MS: u64 = 400;
/// Time for one read and one write of the Lease.
const ATTEMPT_TIMEOUT_MS: u64 = 4_000;
/// The duration in a Lease that was given back.
const RELEASED_S: i32 = 1;

/// The Lease is lost.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// It was not renewed in time.
    #[error("lease '{name}' could not be renewed for {} s: {why}", RENEW_DEADLINE_MS / 1000)]
    NotRenewed {
        /// Which.
        name: String,
        /// The last failure.
        why: String,
    },
    /// Another pod took it.
    #[error("lease '{name}' was taken by the pod with uid '{holder}'")]
    Taken {
        /// Which.
        name: String,
        /// The pod's uid.
        holder: String,
    },
}

/// The Lease is not held, so no action may begin.
#[derive(Debug, thiserror::Error)]
#[error("the lease is not held")]
pub struct NotHeld;

/// Whether the Lease is held.
#[derive(Clone, Debug)]
pub struct Held(Arc<watch::Sender<Instant>>);

impl Held {
    fn until(end: Instant) -> Held {
        Held(Arc::new(watch::Sender::new(end)))
    }

    /// Called before each action.
    pub fn check(&self) -> Result<(), NotHeld> {
        if Instant::now() < self.end() { Ok(()) } else { Err(NotHeld) }
    }

    fn end(&self) -> Instant {
        *self.0.borrow()
    }
}

#[cfg(test)]
impl Held {
    /// Held for a minute.
    pub(crate) fn for_test() -> Held {
        Held::until(Instant::now() + Duration::from_secs(60))
    }

    /// Not held.
    pub(crate) fn lost_for_test() -> Held {
        Held::until(Instant::now())
    }
}

/// A pod that wants a Lease.
#[derive(Clone)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    uid: String,
}

impl Candidate {
    /// `uid` is the pod's.
    pub fn new(api: Api<Lease>, name: &str, uid: &str) -> Self {
        Candidate { api, name: name.to_string(), uid: uid.to_string() }
    }

    /// Waits until this pod holds the Lease. `looked` is called after each look that was answered.
    pub async fn acquire(self, looked: impl Fn()) -> Keeper {
        let mut seen = None;
        loop {
            let asked = Instant::now();
            match timeout_at(asked + ms(ATTEMPT_TIMEOUT_MS), self.look(&mut seen)).await {
                Ok(Ok(taken)) => {
                    looked();
                    if taken {
                        tracing::info!(lease = self.name, "took the lease");
                        return Keeper { candidate: self, held: Held::until(asked + ms(RENEW_DEADLINE_MS)) };
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.name, error = said(&error), "cannot read or take the lease");
                }
                Err(_elapsed) => {
                    tracing::warn!(lease = self.name, "the lease was not read within {ATTEMPT_TIMEOUT_MS} ms")
                }
            }
            sleep(ms(RETRY_MS + rand::rng().random_range(0..RETRY_JITTER_MS))).await;
        }
    }

    /// Reads the Lease and takes it if that is allowed. Returns whether it was taken.
    async fn look(&self, seen: &mut Option<LeaseSeen>) -> kube::Result<bool> {
        let live = self.api.get_opt(&self.name).await?;
        let now = Instant::now();
        let next = LeaseSeen::after(seen.take(), Record::of(live.as_ref()), &self.uid, now);
        let may_take = next.may_take(now);
        *seen = Some(next);
        if !may_take {
            return Ok(false);
        }
        match self.write(live, &self.uid, DURATION_S).await {
            Ok(()) => Ok(true),
            // Somebody was faster.
            Err(error) if is_conflict(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes the Lease, but only over the version that was read.
    async fn write(&self, live: Option<Lease>, holder: &str, duration_s: i32) -> kube::Result<()> {
        let spec =
            Some(written(live.as_ref().and_then(|lease| lease.spec.as_ref()), holder, duration_s, Timestamp::now()));
        match live {
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.api.create(&PostParams::default(), &Lease { metadata, spec }).await.map(|_| ())
            }
            // Its metadata carries the resourceVersion.
            Some(live) => {
                self.api.replace(&self.name, &PostParams::default(), &Lease { spec, ..live }).await.map(|_| ())
            }
        }
    }
}

/// The holder of a Lease.
pub struct Keeper {
    candidate: Candidate,
    held: Held,
}

enum Renewal {
    Done,
    Taken(String),
}

impl Keeper {
    /// What is checked before each action.
    pub fn held(&self) -> Held {
        self.held.clone()
    }

    /// Renews the Lease until it is lost; `turned` is called after each renewal.
    pub async fn keep(&self, turned: impl Fn()) -> Lost {
        let name = || self.candidate.name.clone();
        let mut why = "the process stood still".to_string();
        loop {
            let end = self.held.end();
            let next = Instant::now() + ms(RETRY_MS);
            if next >= end {
                sleep_until(end).await;
                return Lost::NotRenewed { name: name(), why };
            }
            sleep_until(next).await;
            let asked = Instant::now();
            why = match timeout_at(end.min(asked + ms(ATTEMPT_TIMEOUT_MS)), self.renew()).await {
                Ok(Ok(Renewal::Done)) => {
                    self.held.0.send_replace(asked + ms(RENEW_DEADLINE_MS));
                    turned();
                    continue;
                }
                Ok(Ok(Renewal::Taken(holder))) => {
                    self.held.0.send_replace(asked);
                    return Lost::Taken { name: name(), holder };
                }
                Ok(Err(error)) => said(&error),
                Err(_elapsed) => "no answer from the API server".to_string(),
            };
            tracing::warn!(lease = name(), why, "cannot renew the lease");
        }
    }

    async fn renew(&self) -> kube::Result<Renewal> {
        let live = self.candidate.api.get_opt(&self.candidate.name).await?;
        match Record::of(live.as_ref()) {
            Record::Held { by, .. } if by != self.candidate.uid => return Ok(Renewal::Taken(by)),
            // A person deleted or emptied it. Pods that wait for it leave us time to write it again.
            Record::Held { .. } | Record::Absent | Record::Free => {}
        }
        self.candidate.write(live, &self.candidate.uid, DURATION_S).await.map(|()| Renewal::Done)
    }

    /// Gives the Lease back, so that another operator can begin at once. May be called only when no action is under
    /// way.
    pub async fn release(self) {
        self.held.0.send_replace(Instant::now());
        let give_back = async {
            let live = self.candidate.api.get_opt(&self.candidate.name).await?;
            match Record::of(live.as_ref()) {
                Record::Held { by, .. } if by == self.candidate.uid => self.candidate.write(live, "", RELEASED_S).await,
                Record::Held { .. } | Record::Absent | Record::Free => Ok(()),
            }
        };
        match timeout_at(Instant::now() + ms(ATTEMPT_TIMEOUT_MS), give_back).await {
            Ok(Ok(())) => tracing::info!(lease = self.candidate.name, "gave the lease back"),
            Ok(Err(error)) => {
                tracing::warn!(lease = self.candidate.name, error = said(&error), "cannot give the lease back");
            }
            Err(_elapsed) => tracing::warn!(lease = self.candidate.name, "cannot give the lease back in time"),
        }
    }
}

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Record {
    /// There is none.
    Absent,
    /// It was given back.
    Free,
    /// Somebody holds it.
    Held {
        by: String,
        /// Every renewal changes it.
        resource_version: Option<String>,
        duration_s: i32,
    },
}

impl Record {
    fn of(lease: Option<&Lease>) -> Record {
        let Some(lease) = lease else { return Record::Absent };
        let spec = lease.spec.as_ref();
        match spec.and_then(|spec| spec.holder_identity.as_deref()) {
            None | Some("") => Record::Free,
            Some(holder) => Record::Held {
                by: holder.to_string(),
                resource_version: lease.metadata.resource_version.clone(),
                duration_s: spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(DURATION_S),
            },
        }
    }
}

/// The Lease as a waiting pod sees it. Pure: the time is passed in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LeaseSeen {
    record: Record,
    since: Instant,
    /// How long it must stay like this before it may be taken.
    patience: Duration,
}

impl LeaseSeen {
    /// What is known after one more look.
    fn after(before: Option<LeaseSeen>, record: Record, uid: &str, now: Instant) -> LeaseSeen {
        match before {
            Some(before) if before.record == record => before,
            before => {
                let patience = patience(before.as_ref().map(|before| &before.record), &record, uid);
                LeaseSeen { record, since: now, patience }
            }
        }
    }

    fn may_take(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.patience
    }
}

fn patience(before: Option<&Record>, record: &Record, uid: &str) -> Duration {
    let seconds = |seconds: i32| Duration::from_secs(u64::try_from(seconds.max(DURATION_S)).unwrap_or_default());
    match (before, record) {
        (_, Record::Held { by, .. }) if by == uid => Duration::ZERO,
        (_, Record::Held { duration_s, .. }) => seconds(*duration_s),
        // A person deleted it, and its holder may not know yet.
        (Some(Record::Held { by, .. }), Record::Absent) if by != uid => seconds(DURATION_S),
        (_, Record::Absent | Record::Free) => Duration::ZERO,
    }
}

/// The spec to write over `live`.
fn written(live: Option<&LeaseSpec>, holder: &str, duration_s: i32, now: Timestamp) -> LeaseSpec {
    let live = live.cloned().unwrap_or_default();
    let is_same = live.holder_identity.as_deref() == Some(holder);
    let transitions = live.lease_transitions.unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(holder.to_string()),
        lease_duration_seconds: Some(duration_s),
        acquire_time: live.acquire_time.filter(|_| is_same).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if is_same || holder.is_empty() { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_conflict() || status.is_already_exists())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::testing::{Script, failure};
    use serde_json::{Value, json};

    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";

    fn held(by: &str, version: &str) -> Record {
        Record::Held { by: by.to_string(), resource_version: Some(version.to_string()), duration_s: DURATION_S }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Whether `me` may take the Lease after these looks, each with its seconds after the first.
    fn may_take(looks: &[(u64, Record)]) -> bool {
        let start = Instant::now();
        let mut seen = None;
        let mut last = start;
        for (at, record) in looks {
            last = start + seconds(*at);
            seen = Some(LeaseSeen::after(seen, record.clone(), "me", last));
        }
        seen.is_some_and(|seen| seen.may_take(last))
    }

    #[test]
    fn what_nobody_has_or_what_is_ours_is_taken_at_once() {
        assert!(may_take(&[(0, Record::Absent)]));
        assert!(may_take(&[(0, Record::Free)]));
        assert!(may_take(&[(0, held("me", "7"))]));
        assert!(may_take(&[(0, held("other", "7")), (2, Record::Free)]));
    }

    #[test]
    fn what_another_has_is_taken_when_it_stood_still_on_our_own_clock() {
        assert!(!may_take(&[(0, held("other", "7"))]));
        assert!(!may_take(&[(0, held("other", "7")), (14, held("other", "7"))]));
        assert!(may_take(&[(0, held("other", "7")), (15, held("other", "7"))]));
        assert!(!may_take(&[(0, held("other", "7")), (14, held("other", "8")), (28, held("other", "8"))]));
        assert!(!may_take(&[(0, held("other", "7")), (14, held("third", "8")), (28, held("third", "8"))]));
    }

    #[test]
    fn a_longer_duration_is_waited_for_and_a_shorter_one_is_not_believed() {
        let with = |duration_s| Record::Held { by: "other".to_string(), resource_version: None, duration_s };
        assert!(!may_take(&[(0, with(60)), (59, with(60))]) && may_take(&[(0, with(60)), (60, with(60))]));
        assert!(!may_take(&[(0, with(-1)), (14, with(-1))]) && may_take(&[(0, with(-1)), (15, with(-1))]));
    }

    #[test]
    fn a_lease_that_a_person_deleted_is_not_taken_from_under_its_holder() {
        assert!(!may_take(&[(0, held("other", "7")), (2, Record::Absent), (16, Record::Absent)]));
        assert!(may_take(&[(0, held("other", "7")), (2, Record::Absent), (17, Record::Absent)]));
    }

    #[test]
    fn taking_is_a_transition_and_renewing_is_none() {
        let (first, later) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + seconds(2));
        let taken = written(None, "a", DURATION_S, first);
        assert_eq!((taken.lease_transitions, taken.lease_duration_seconds), (Some(1), Some(15)));
        let renewed = written(Some(&taken), "a", DURATION_S, later);
        assert_eq!(
            (renewed.acquire_time.clone(), renewed.renew_time.clone()),
            (Some(MicroTime(first)), Some(MicroTime(later)))
        );
        assert_eq!(renewed.lease_transitions, Some(1));
        let released = written(Some(&renewed), "", RELEASED_S, later);
        assert_eq!((released.holder_identity.as_deref(), released.lease_transitions), (Some(""), Some(1)));
        assert_eq!(written(Some(&released), "b", DURATION_S, later).lease_transitions, Some(2));
    }

    fn lease(holder: &str, version: &str) -> Value {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "raftkv-operator", "namespace": "ns", "resourceVersion": version},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 4}})
    }

    fn candidate(script: &Script) -> Candidate {
        Candidate::new(Api::namespaced(script.client(), "ns"), "raftkv-operator", "me")
    }

    #[tokio::test]
    async fn it_is_made_renewed_and_given_back() {
        let made = failure(404, "NotFound", "no such lease");
        let answers = [made, (201, lease("me", "1")), (200, lease("me", "1")), (200, lease("me", "2"))];
        let given_back = [(200, lease("me", "2")), (200, lease("", "3"))];
        let script = Script::start(answers.into_iter().chain(given_back)).await;
        let keeper = candidate(&script).acquire(|| ()).await;
        let held = keeper.held();
        assert!(held.check().is_ok());
        assert!(matches!(keeper.renew().await, Ok(Renewal::Done)));
        keeper.release().await;
        assert!(held.check().is_err());
        let one = format!("{LEASES}/raftkv-operator");
        let calls = [format!("GET {one}"), format!("POST {LEASES}?"), format!("GET {one}"), format!("PUT {one}?")];
        let last = [format!("GET {one}"), format!("PUT {one}?")];
        assert_eq!(script.calls(), calls.into_iter().chain(last).collect::<Vec<_>>());
        let seen = script.seen();
        assert_eq!(seen[1].body["spec"]["holderIdentity"], "me");
        assert_eq!(
            (&seen[3].body["metadata"]["resourceVersion"], &seen[3].body["spec"]["leaseTransitions"]),
            (&json!("1"), &json!(4))
        );
        assert_eq!(
            (&seen[5].body["metadata"]["resourceVersion"], &seen[5].body["spec"]["holderIdentity"]),
            (&json!("2"), &json!(""))
        );
    }

    #[tokio::test]
    async fn whoever_is_slower_looks_again() {
        let conflict = failure(409, "Conflict", "the object has been modified");
        let script =
            Script::start([(200, lease("", "1")), conflict, (200, lease("me", "2")), (200, lease("me", "3"))]).await;
        let candidate = candidate(&script);
        let mut seen = None;
        assert!(!candidate.look(&mut seen).await.unwrap());
        assert!(candidate.look(&mut seen).await.unwrap());
    }

    #[tokio::test]
    async fn a_lease_that_another_took_ends_it() {
        let script = Script::start([(200, lease("other", "9"))]).await;
        let keeper = Keeper { candidate: candidate(&script), held: Held::for_test() };
        let held = keeper.held();
        let lost = keeper.keep(|| ()).await;
        assert!(matches!(&lost, Lost::Taken { holder, .. } if holder == "other"), "{lost}");
        assert!(held.check().is_err());
    }
}
