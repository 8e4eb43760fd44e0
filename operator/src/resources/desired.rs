//! What the user asks for, as far as it matters to the plan. PURE.

use super::asked::Asked;
use super::shared::{Settings, image, name, peer_domain};
use crate::plan::{Desired, Replace};
use raftkv_crds::{DisruptionBudget, RaftKvCluster, annotation, child};

/// Reads the spec in force, and the annotation by which a person gives up a member.
pub fn desired(asked: &Asked, settings: &Settings) -> Desired {
    let cluster = &asked.cluster;
    let (metadata, spec) = (&cluster.metadata, &cluster.spec);
    let replace = replace(cluster);
    Desired {
        name: name(cluster).to_string(),
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        generation_in_force: asked.generation_in_force,
        replicas: u32::try_from(spec.replicas).unwrap_or_default(),
        suspend: spec.suspend,
        paused: spec.paused,
        strict_budget: match spec.pod_disruption_budget {
            DisruptionBudget::Strict => true,
            DisruptionBudget::Quorum => false,
        },
        replace: replace.as_ref().ok().copied().flatten(),
        progress_deadline_s: i64::from(spec.progress_deadline_seconds),
        lost_node_s: i64::from(spec.lost_node_seconds),
        image: image(cluster, settings).to_string(),
        peer_domain: peer_domain(cluster, settings),
        invalid: asked.invalid.clone().or(replace.err()),
    }
}

fn replace(cluster: &RaftKvCluster) -> Result<Option<Replace>, String> {
    let annotations = cluster.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.get(annotation::REPLACE)) else { return Ok(None) };
    let parsed = text.split_once('/').and_then(|(pod, member)| {
        // A volume claim's name would parse as well, and is refused here.
        let ordinal =
            child::ordinal(pod, name(cluster)).filter(|ordinal| child::pod(name(cluster), *ordinal) == pod)?;
        Some(Replace { ordinal, member_id: member.parse().ok()? })
    });
    let wrong = || {
        let (key, name) = (annotation::REPLACE, name(cluster));
        format!("annotation {key} '{text}' is not <pod>/<member id>, as in {name}-2/7; status.members has both")
    };
    parsed.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cluster, settings};
    use super::*;
    use serde_json::{Value, json};

    /// Before there is a StatefulSet.
    fn desired(cluster: &RaftKvCluster, settings: &Settings) -> Desired {
        super::desired(&Asked::of(cluster, settings, None, |_| false), settings)
    }

    fn invalid(spec: Value) -> Option<String> {
        desired(&cluster(spec), &settings()).invalid
    }

    fn replacing(text: &str) -> Desired {
        let mut cluster = cluster(json!({}));
        cluster.metadata.annotations = Some([(annotation::REPLACE.to_string(), text.to_string())].into());
        desired(&cluster, &settings())
    }

    #[test]
    fn the_defaults_of_the_schema_are_valid() {
        let desired = desired(&cluster(json!({})), &settings());
        assert_eq!((desired.name.as_str(), desired.replicas, desired.generation), ("demo", 3, 3));
        assert_eq!((desired.invalid.as_ref(), desired.replace), (None, None));
        assert_eq!(desired.peer_url(1), "http://demo-1.demo-peers.team.svc.cluster.local:2380");
        assert_eq!(desired.image, "raftkv.local/raftkv:dev");
    }

    #[test]
    fn what_an_older_schema_lets_pass_is_named() {
        for (spec, field) in [
            (json!({"config": {"quota": "500m"}}), "spec.config.quota"),
            (json!({"config": {"quota": "1.0625Gi"}}), "spec.config.quota"),
            (json!({"config": {"quota": "1Mi"}}), "spec.config.quota '1Mi'"),
            (json!({"config": {"compactRetention": "00h"}}), "spec.config.compactRetention '00h'"),
            (json!({"config": {"compactRetention": "0s"}}), "spec.config.compactRetention '0s'"),
        ] {
            assert!(invalid(spec.clone()).is_some_and(|why| why.starts_with(field)), "{spec}");
        }
        for spec in [
            json!({"config": {"quota": "4Mi"}}),
            json!({"config": {"quota": "1.5Gi"}}),
            json!({"config": {"compactRetention": "10s"}}),
            json!({"config": {"compactRetention": "off"}}),
        ] {
            assert_eq!(invalid(spec.clone()), None, "{spec}");
        }
    }

    #[test]
    fn a_member_is_given_up_by_pod_and_id() {
        let good = replacing("demo-2/7");
        assert_eq!((good.replace, good.invalid), (Some(Replace { ordinal: 2, member_id: 7 }), None));
        for bad in ["", "demo-2", "demo-2/", "demo-2/x", "other-2/7", "raftkv-demo-2/7", "demo-2/7/8", "demo-02/7"] {
            let wrong = replacing(bad);
            assert!(
                wrong.replace.is_none() && wrong.invalid.is_some_and(|why| why.contains(&format!("'{bad}'"))),
                "{bad}"
            );
        }
    }
}
