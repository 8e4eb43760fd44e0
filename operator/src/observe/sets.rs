//! The StatefulSet as it was seen. PURE.

use super::error::ObserveError;
use super::owned::{Standing, standing};
use super::recall::hex;
use super::writes::{Moment, Writes, size_of, what};
use crate::plan::{Seed, Set, SetSeen};
use crate::resources::{Asked, Settings, name, set_wanted};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use raftkv_crds::annotation;

/// `budget` is the number in this cluster's disruption budget.
pub(super) fn seen(
    asked: &Asked,
    settings: &Settings,
    live: Option<&StatefulSet>,
    budget: Option<u32>,
    writes: &mut Writes,
    now: Moment,
) -> Result<SetSeen, ObserveError> {
    let Some(live) = live else { return Ok(SetSeen::Absent) };
    Ok(match standing(&asked.cluster, live) {
        Standing::Ours => SetSeen::Ours(ours(asked, settings, live, budget, writes, now)?),
        Standing::Leaving => SetSeen::Leaving,
        Standing::Taken(whose) => SetSeen::Taken(whose),
    })
}

fn ours(
    asked: &Asked,
    settings: &Settings,
    live: &StatefulSet,
    budget: Option<u32>,
    writes: &mut Writes,
    now: Moment,
) -> Result<Set, ObserveError> {
    let (wanted, name) = (set_wanted(&asked.cluster, settings), name(&asked.cluster));
    let what = what::<StatefulSet>(name);
    if !asked.keeps && wanted.is_met(live) {
        writes.rest(&what, &wanted.hash);
    }
    let differs = !asked.keeps && writes.is_due(&what, &wanted, live, now);
    let fits = wanted.is_met(live) || writes.is_settled(&what, &wanted.hash, &wanted.fingerprint(live), now);
    let observed = live.status.as_ref().and_then(|status| status.observed_generation);
    Ok(Set {
        resource_version: live.resource_version().unwrap_or_default(),
        created: live.creation_timestamp().map(|time| time.0).unwrap_or_default(),
        // 1 is the API server's default.
        replicas: live.spec.replicas.map_or(1, |replicas| u32::try_from(replicas).unwrap_or_default()),
        differs,
        held: asked.keeps && writes.is_held(&size_of(name), now),
        settled: fits && observed.is_some() && observed == live.metadata.generation && update_revision(live).is_some(),
        bootstrap: bootstrap(live)?,
        budget,
    })
}

/// The hash of the newest template. Pods that are made from it carry the hash as a label.
pub(super) fn update_revision(set: &StatefulSet) -> Option<&str> {
    set.status.as_ref()?.update_revision.as_deref().filter(|revision| !revision.is_empty())
}

/// The second place where the latch is written. A value that somebody broke is an error, not an absence (rule O1).
fn bootstrap(set: &StatefulSet) -> Result<Option<Seed>, ObserveError> {
    const FIELD: &str = "annotation raftkv.dev/bootstrap of the StatefulSet";
    let Some(mark) = set.annotations().get(annotation::BOOTSTRAP) else { return Ok(None) };
    let (cluster_id, incarnation) = mark.split_once('/').unwrap_or((mark, ""));
    Ok(Some(Seed { cluster_id: hex(FIELD, cluster_id)?, incarnation: hex(FIELD, incarnation)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::stateful_set;
    use crate::resources::testing::{cluster, settings};
    use raftkv_api::Hex128;
    use serde_json::{Value, json};

    fn live(more: Value) -> StatefulSet {
        let mut set = serde_json::to_value(stateful_set(&cluster(json!({})), &settings(), 3)).unwrap();
        set["metadata"]["resourceVersion"] = json!("17");
        set["metadata"]["generation"] = json!(2);
        set["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        set["status"] = json!({"replicas": 3, "observedGeneration": 2, "updateRevision": "demo-abc"});
        for (pointer, value) in more.as_object().unwrap() {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            set.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        serde_json::from_value(set).unwrap()
    }

    fn asked() -> Asked {
        Asked::of(&cluster(json!({})), &settings(), None, |_| false)
    }

    fn look(live: &StatefulSet, budget: Option<u32>) -> Result<SetSeen, ObserveError> {
        seen(&asked(), &settings(), Some(live), budget, &mut Writes::default(), Moment::now())
    }

    fn ours(more: Value) -> Set {
        match look(&live(more), Some(2)).unwrap() {
            SetSeen::Ours(set) => set,
            other @ (SetSeen::Absent | SetSeen::Leaving | SetSeen::Taken(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_set_as_it_was_made_is_settled() {
        let set = ours(json!({}));
        assert_eq!((set.resource_version.as_str(), set.replicas, set.budget), ("17", 3, Some(2)));
        assert_eq!(set.created, "2026-01-01T00:00:00Z".parse().unwrap());
        assert!(set.settled && !set.differs);
    }

    #[test]
    fn rule_o32_what_admission_wants_or_what_failed_lately_is_not_written() {
        let changed = live(json!({"/spec/template/spec/terminationGracePeriodSeconds": 5}));
        let wanted = set_wanted(&asked().cluster, &settings());
        let (mut writes, now) = (Writes::default(), Moment::now());
        let look = |asked: &Asked, writes: &mut Writes| {
            let seen = seen(asked, &settings(), Some(&changed), None, writes, now);
            let Ok(SetSeen::Ours(set)) = seen else { panic!("it is ours") };
            (set.differs, set.held, set.settled)
        };
        assert_eq!(look(&asked(), &mut writes), (true, false, false));
        writes.settle("StatefulSet demo", &wanted.hash, &wanted.fingerprint(&changed), now);
        assert_eq!(look(&asked(), &mut writes), (false, false, true));
        let (mut writes, keeps) = (Writes::default(), Asked { keeps: true, ..asked() });
        assert_eq!(look(&keeps, &mut writes), (false, false, false));
        writes.fail("size of StatefulSet demo", "2", crate::observe::Trouble::Failed, "no answer", now);
        assert_eq!(look(&keeps, &mut writes), (false, true, false));
    }

    #[test]
    fn rule_o8_outdated_cannot_be_told_before_the_controller_has_seen_the_template() {
        assert!(!ours(json!({"/status/observedGeneration": 1})).settled);
        assert!(!ours(json!({"/status/updateRevision": ""})).settled);
        let differs = ours(json!({"/spec/template/spec/terminationGracePeriodSeconds": 5}));
        assert!(differs.differs && !differs.settled);
    }

    #[test]
    fn the_bootstrap_mark_is_read_and_a_broken_one_is_an_error() {
        let (id, incarnation) = (Hex128([7; 16]), Hex128([1; 16]));
        let marked = |mark: String| {
            let mut set = live(json!({}));
            set.metadata.annotations.get_or_insert_default().insert(annotation::BOOTSTRAP.to_string(), mark);
            look(&set, None)
        };
        let Ok(SetSeen::Ours(set)) = marked(format!("{id}/{incarnation}")) else { panic!("it is ours") };
        assert_eq!(set.bootstrap, Some(Seed { cluster_id: id, incarnation }));
        for broken in ["", "x/y", &format!("{id}")] {
            assert!(marked(broken.to_string()).is_err(), "{broken}");
        }
    }

    #[test]
    fn rule_o14_a_set_of_somebody_else_is_not_looked_into() {
        let seen = |set: &StatefulSet| look(set, None).unwrap();
        assert_eq!(
            seen(&live(json!({"/metadata/ownerReferences": []}))),
            SetSeen::Taken("nothing owns it".to_string())
        );
        assert_eq!(seen(&live(json!({"/metadata/deletionTimestamp": "2026-01-01T00:00:00Z"}))), SetSeen::Leaving);
    }
}
