//! Checks that hold for every object of every set of values.

use raftkv_chart_tests::helm::{self, NAMESPACE, render};
use raftkv_chart_tests::{Object, Rendered, chart};
use std::collections::BTreeSet;

/// Sets of values as users have them.
pub const SETS: &[(&str, &[&str])] = &[
    ("defaults", &[]),
    ("two replicas", &["replicaCount=2"]),
    ("no replica", &["replicaCount=0"]),
    ("namespaced", &[r#"watchNamespaces=["team-a","team-b"]"#]),
    ("namespaced, without cluster rights", NAMESPACED),
    ("its own namespace only", &[r#"watchNamespaces=["raftkv-system"]"#, "rbac.clusterReads=false"]),
    ("a second install", &["crds.enabled=false", r#"fullnameOverride="second""#]),
    ("a definition that goes with the release", &["crds.keep=false"]),
    ("rights and account of somebody else", &["rbac.create=false", r#"serviceAccount={"create":false,"name":"mine"}"#]),
    ("everything for Prometheus and Grafana", MONITORED),
    (
        "locked in",
        &[
            "networkPolicy.enabled=true",
            r#"networkPolicy.ingressFrom=[{"namespaceSelector":{"matchLabels":{"a":"b"}}}]"#,
            r#"networkPolicy.apiServerCIDRs=["10.0.0.1/32"]"#,
        ],
    ),
    ("locked in and namespaced", &["networkPolicy.enabled=true", r#"watchNamespaces=["team-a"]"#]),
    (
        "air-gapped",
        &[
            r#"image={"repository":"registry.example:5000/op","tag":"1.2.3"}"#,
            r#"nodeImage={"repository":"registry.example:5000/node","pullPolicy":"Never"}"#,
            r#"imagePullSecrets=[{"name":"registry"}]"#,
        ],
    ),
    (
        "placed",
        &[
            r#"nodeSelector={"kubernetes.io/os":"linux"}"#,
            r#"tolerations=[{"key":"a","operator":"Exists"}]"#,
            r#"affinity={"nodeAffinity":{}}"#,
            r#"topologySpreadConstraints=[]"#,
            r#"priorityClassName="system-cluster-critical""#,
        ],
    ),
    ("nothing but the operator", &["metrics.service.enabled=false", "crds.enabled=false", "rbac.create=false"]),
];

/// An install that needs no right outside its namespaces.
pub const NAMESPACED: &[&str] =
    &[r#"watchNamespaces=["team-a","team-b"]"#, "rbac.clusterReads=false", "crds.enabled=false"];

/// Everything that Prometheus and Grafana can have.
pub const MONITORED: &[&str] = &[
    "metrics.serviceMonitor.enabled=true",
    "metrics.podMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "metrics.dashboard.enabled=true",
];

/// Kinds that live outside namespaces.
const CLUSTER_SCOPED: &[&str] = &["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"];

#[test]
fn helm_lint_finds_nothing() {
    for (set, values) in SETS {
        helm::lint(values).unwrap_or_else(|error| panic!("{set}:\n{error}"));
    }
}

#[test]
fn every_object_has_its_labels_its_namespace_and_a_name_of_its_own() {
    for (set, values) in SETS {
        let rendered = render(values);
        let mut seen = BTreeSet::new();
        for object in rendered.all() {
            assert!(seen.insert(object.to_string()), "{set}: {object} twice");
            assert_eq!(object.text("/metadata/labels/app.kubernetes.io~1instance"), "ops", "{set}: {object}");
            assert_eq!(object.text("/metadata/labels/app.kubernetes.io~1managed-by"), "Helm", "{set}: {object}");
            let scoped = CLUSTER_SCOPED.contains(&object.kind());
            assert_eq!(object.namespace().is_empty(), scoped, "{set}: {object}");
        }
    }
}

#[test]
fn a_namespaced_object_is_in_the_releases_namespace_unless_it_grants_rights_in_another() {
    for (set, values) in SETS {
        let elsewhere = |object: &&Object| !object.namespace().is_empty() && object.namespace() != NAMESPACE;
        for object in render(values).all().iter().filter(elsewhere) {
            assert!(["Role", "RoleBinding"].contains(&object.kind()), "{set}: {object}");
        }
    }
}

#[test]
fn the_longest_release_name_still_makes_valid_names() {
    let release = "r".repeat(53);
    let values = [MONITORED, &["networkPolicy.enabled=true", "replicaCount=2"]].concat();
    let rendered = Rendered::parse(&helm::template(&chart(), &release, NAMESPACE, &values).unwrap());
    for object in rendered.all().iter().filter(|object| !object.kind().starts_with("ClusterRole")) {
        // A CustomResourceDefinition's name is a subdomain; every other name becomes a DNS label somewhere.
        let limit = if object.kind() == "CustomResourceDefinition" { 253 } else { 63 };
        assert!(object.name().len() <= limit, "{object}");
        for (label, value) in object.at("/metadata/labels").as_object().into_iter().flatten() {
            assert!(value.as_str().is_some_and(|value| value.len() <= 63), "{object}: {label}: {value}");
        }
    }
}

#[test]
fn two_releases_of_one_name_in_two_namespaces_share_no_object_outside_them() {
    let cluster_scoped = |namespace: &str| -> BTreeSet<String> {
        let text = helm::template(&chart(), "ops", namespace, &["crds.enabled=false"]).unwrap();
        let rendered = Rendered::parse(&text);
        let outside = rendered.all().iter().filter(|object| object.namespace().is_empty());
        outside.map(Object::to_string).collect()
    };
    let (one, other) = (cluster_scoped("one"), cluster_scoped("other"));
    assert!(!one.is_empty());
    assert!(one.is_disjoint(&other), "{one:?}");
}

#[test]
fn a_chart_may_depend_on_this_one_and_switch_it_by_a_condition() {
    let parent = tempfile::tempdir().unwrap();
    let dependency = "dependencies: [{name: raftkv-operator, version: 0.1.0, condition: raftkv-operator.enabled}]";
    let meta = format!("apiVersion: v2\nname: parent\nversion: 1.0.0\n{dependency}\n");
    std::fs::write(parent.path().join("Chart.yaml"), meta).unwrap();
    std::fs::create_dir(parent.path().join("charts")).unwrap();
    std::os::unix::fs::symlink(chart().canonicalize().unwrap(), parent.path().join("charts/raftkv-operator")).unwrap();
    for (enabled, deployments) in [(true, 1), (false, 0)] {
        let enabled = format!("raftkv-operator.enabled={enabled}");
        let values = ["raftkv-operator.replicaCount=2", "global={\"a\":1}", &enabled];
        let text = helm::template(parent.path(), "ops", NAMESPACE, &values)
            .unwrap_or_else(|error| panic!("{enabled}: {error}"));
        assert_eq!(text.matches("kind: Deployment").count(), deployments, "{enabled}");
    }
}
