//! values.schema.json: a typing error is refused, and the message names the field.

use raftkv_chart_tests::documents::{leaves, open_objects};
use raftkv_chart_tests::helm::try_render;
use raftkv_chart_tests::{chart, values};
use serde_json::Value;

/// Objects whose fields are Kubernetes' own: its API server checks them.
const OF_KUBERNETES: &[&str] = &[
    ".affinity",
    ".extraEnv[].valueFrom",
    ".global",
    ".networkPolicy.ingressFrom[]",
    ".podSecurityContext",
    ".resources.claims[]",
    ".securityContext",
    ".tolerations[]",
    ".topologySpreadConstraints[]",
];

/// Values that the schema knows and values.yaml does not: they are helm's own, for charts that depend on this one.
const OF_HELM: &[&str] = &["enabled", "global"];

fn schema() -> Value {
    serde_json::from_str(&std::fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap()
}

#[test]
fn a_bad_value_is_refused_with_its_name() {
    let cases: &[(&str, &[&str])] = &[
        ("replicacount=2", &["replicacount", "not allowed"]),
        ("image.taag=\"1\"", &["/image", "taag"]),
        ("metrics.serviceMonitor.intervall=\"1s\"", &["/metrics/serviceMonitor", "intervall"]),
        ("replicaCount=\"2\"", &["/replicaCount", "want integer"]),
        ("replicaCount=-1", &["/replicaCount", "minimum"]),
        ("watchNamespaces=\"team-a\"", &["/watchNamespaces", "want array"]),
        ("watchNamespaces=[\"Team_A\"]", &["/watchNamespaces/0", "pattern"]),
        ("watchNamespaces=[\"a\",\"a\"]", &["/watchNamespaces", "equal"]),
        ("crds.enabled=\"false\"", &["/crds/enabled", "want boolean"]),
        ("rbac.clusterReads=\"no\"", &["/rbac/clusterReads", "want boolean"]),
        ("rbac.aggregate=1", &["/rbac/aggregate", "want null or boolean"]),
        ("logging.format=\"xml\"", &["/logging/format", "'text', 'json'"]),
        ("logging.level=\"\"", &["/logging/level", "minLength"]),
        ("image.pullPolicy=\"always\"", &["/image/pullPolicy", "'Always'"]),
        ("image.digest=\"abc\"", &["/image/digest", "pattern"]),
        ("image.repository=\"\"", &["/image/repository"]),
        ("nodeImage.tag=\"a b\"", &["/nodeImage/tag", "pattern"]),
        ("extraArgs=\"--a\"", &["/extraArgs", "want array"]),
        ("extraEnv=[{\"value\":\"x\"}]", &["/extraEnv/0", "name"]),
        ("extraEnv=[{\"name\":\"A\",\"value\":1}]", &["/extraEnv/0/value", "want string"]),
        ("podAnnotations={\"a\":true}", &["/podAnnotations/a", "want string"]),
        ("resources.limit={}", &["/resources", "limit"]),
        ("podDisruptionBudget.maxUnavailable=0", &["/podDisruptionBudget/maxUnavailable"]),
        ("strategy.type=\"OnDelete\"", &["/strategy/type", "'Recreate'"]),
        ("metrics.service.port=0", &["/metrics/service/port", "minimum"]),
        ("metrics.podMonitor.interval=\"15\"", &["/metrics/podMonitor/interval", "pattern"]),
        ("networkPolicy.apiServerCIDRs=[\"10.0.0.1\"]", &["/networkPolicy/apiServerCIDRs/0", "pattern"]),
        ("clusterDomain=\"\"", &["/clusterDomain"]),
        ("fullnameOverride=\"Upper\"", &["/fullnameOverride", "pattern"]),
    ];
    for (value, words) in cases {
        let complaint = try_render(&[value]).expect_err(value);
        for word in *words {
            assert!(complaint.contains(word), "{value}: '{word}' is not in\n{complaint}");
        }
    }
}

#[test]
fn what_the_schema_cannot_see_is_refused_by_the_template() {
    let contradiction = ["metrics.serviceMonitor.enabled=true", "metrics.service.enabled=false"];
    let complaint = try_render(&contradiction).unwrap_err();
    assert!(complaint.contains("metrics.serviceMonitor.enabled needs metrics.service.enabled"), "{complaint}");
    let unknown = ["metrics.prometheusRule.enabled=true", r#"metrics.prometheusRule.disabled=["RaftKvSlowdisk"]"#];
    let complaint = try_render(&unknown).unwrap_err();
    assert!(complaint.contains("there is no alert \"RaftKvSlowdisk\""), "{complaint}");
}

#[test]
fn every_object_of_ours_is_closed() {
    let open = open_objects(&schema(), "");
    let ours: Vec<_> = open.iter().filter(|path| !OF_KUBERNETES.contains(&path.as_str())).collect();
    assert!(ours.is_empty(), "these take any field: {ours:?}");
}

#[test]
fn the_schema_and_values_yaml_know_the_same_values() {
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let documented: Vec<String> = values::documented(&text).unwrap().into_iter().map(|value| value.path).collect();
    for leaf in leaves(&schema(), "") {
        let known = documented.iter().any(|path| leaf == *path || leaf.starts_with(&format!("{path}.")));
        assert!(known || OF_HELM.contains(&leaf.as_str()), "{leaf} is in the schema and not in values.yaml");
    }
}
