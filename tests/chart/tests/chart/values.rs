//! values.yaml, README.md and the schema agree, and every value has an effect.

use raftkv_chart_tests::helm::render;
use raftkv_chart_tests::values::{Documented, documented};
use raftkv_chart_tests::{Rendered, chart, documents, golden};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

fn read(file: &str) -> String {
    fs::read_to_string(chart().join(file)).unwrap()
}

fn values() -> Vec<Documented> {
    documented(&read("values.yaml")).unwrap_or_else(|error| panic!("values.yaml: {error}"))
}

#[test]
fn the_readme_has_every_value() {
    let readme = documents::with_table(&read("README.md"), &values()).unwrap_or_else(|error| panic!("{error}"));
    golden::compare(&chart().join("README.md"), &readme);
}

#[test]
fn the_schema_describes_every_value_as_values_yaml_does() {
    let schema = serde_json::from_str(&read("values.schema.json")).unwrap();
    let described = documents::with_descriptions(&schema, &values()).unwrap_or_else(|error| panic!("{error}"));
    if described != schema {
        let text = serde_json::to_string_pretty(&described).unwrap();
        golden::compare(&chart().join("values.schema.json"), &format!("{text}\n"));
    }
}

/// A value, another setting for it, and what must be set so that it matters.
const EFFECTS: &[(&str, &str, &[&str])] = &[
    ("image.repository", r#""r.example/op""#, &[]),
    ("image.tag", r#""9""#, &[]),
    ("image.digest", DIGEST, &[]),
    ("image.pullPolicy", r#""Always""#, &[]),
    ("nodeImage.repository", r#""r.example/node""#, &[]),
    ("nodeImage.tag", r#""9""#, &[]),
    ("nodeImage.digest", DIGEST, &[]),
    ("nodeImage.pullPolicy", r#""Always""#, &[]),
    ("imagePullSecrets", r#"[{"name":"a"}]"#, &[]),
    ("nameOverride", r#""other""#, &[]),
    ("fullnameOverride", r#""other""#, &[]),
    ("replicaCount", "2", &[]),
    ("watchNamespaces", r#"["a"]"#, &[]),
    ("clusterDomain", r#""k8s.example""#, &[]),
    ("crds.enabled", "false", &[]),
    ("crds.keep", "false", &[]),
    ("serviceAccount.create", "false", &[]),
    ("serviceAccount.name", r#""other""#, &[]),
    ("serviceAccount.annotations", r#"{"a":"b"}"#, &[]),
    ("rbac.create", "false", &[]),
    ("rbac.clusterReads", "false", &[]),
    ("rbac.aggregate", "false", &[]),
    ("logging.level", r#""debug""#, &[]),
    ("logging.format", r#""json""#, &[]),
    ("resources", r#"{"limits":{"cpu":"1"}}"#, &[]),
    ("podSecurityContext", r#"{"fsGroup":1}"#, &[]),
    ("securityContext", r#"{"runAsUser":1}"#, &[]),
    ("strategy", r#"{"type":"Recreate"}"#, &[]),
    ("podAnnotations", r#"{"a":"b"}"#, &[]),
    ("podLabels", r#"{"a":"b"}"#, &[]),
    ("priorityClassName", r#""high""#, &[]),
    ("nodeSelector", r#"{"a":"b"}"#, &[]),
    ("tolerations", r#"[{"operator":"Exists"}]"#, &[]),
    ("affinity", r#"{"podAffinity":{}}"#, &[]),
    ("topologySpreadConstraints", "[]", &[]),
    ("extraArgs", r#"["--a"]"#, &[]),
    ("extraEnv", r#"[{"name":"A","value":"b"}]"#, &[]),
    ("podDisruptionBudget.enabled", "false", &["replicaCount=2"]),
    ("podDisruptionBudget.maxUnavailable", "2", &["replicaCount=3"]),
    ("metrics.service.enabled", "false", &[]),
    ("metrics.service.port", "9090", &[]),
    ("metrics.service.annotations", r#"{"a":"b"}"#, &[]),
    ("metrics.serviceMonitor.enabled", "true", &[]),
    ("metrics.serviceMonitor.labels", r#"{"a":"b"}"#, SERVICE_MONITOR),
    ("metrics.serviceMonitor.interval", r#""15s""#, SERVICE_MONITOR),
    ("metrics.serviceMonitor.scrapeTimeout", r#""5s""#, SERVICE_MONITOR),
    ("metrics.podMonitor.enabled", "true", &[]),
    ("metrics.podMonitor.labels", r#"{"a":"b"}"#, POD_MONITOR),
    ("metrics.podMonitor.interval", r#""15s""#, POD_MONITOR),
    ("metrics.podMonitor.scrapeTimeout", r#""5s""#, POD_MONITOR),
    ("metrics.prometheusRule.enabled", "true", &[]),
    ("metrics.prometheusRule.labels", r#"{"a":"b"}"#, RULE),
    ("metrics.prometheusRule.alertLabels", r#"{"team":"b"}"#, RULE),
    ("metrics.prometheusRule.disabled", r#"["RaftKvSlowDisk"]"#, RULE),
    ("metrics.prometheusRule.runbookURL", r#""https://wiki.example/raftkv""#, RULE),
    ("metrics.dashboard.enabled", "true", &[]),
    ("metrics.dashboard.labels", r#"{"a":"b"}"#, DASHBOARD),
    ("metrics.dashboard.annotations", r#"{"a":"b"}"#, DASHBOARD),
    ("networkPolicy.enabled", "true", &[]),
    ("networkPolicy.ingressFrom", r#"[{"podSelector":{}}]"#, POLICY),
    ("networkPolicy.apiServerPorts", "[16443]", POLICY),
    ("networkPolicy.apiServerCIDRs", r#"["10.0.0.1/32"]"#, POLICY),
];

const DIGEST: &str = r#""sha256:0000000000000000000000000000000000000000000000000000000000000000""#;
const SERVICE_MONITOR: &[&str] = &["metrics.serviceMonitor.enabled=true"];
const POD_MONITOR: &[&str] = &["metrics.podMonitor.enabled=true"];
const RULE: &[&str] = &["metrics.prometheusRule.enabled=true"];
const DASHBOARD: &[&str] = &["metrics.dashboard.enabled=true"];
const POLICY: &[&str] = &["networkPolicy.enabled=true"];

#[test]
fn every_value_has_an_effect() {
    let mut unchanged: BTreeMap<&[&str], Rendered> = BTreeMap::new();
    for (path, other, given) in EFFECTS {
        let changed = format!("{path}={other}");
        let before = unchanged.entry(given).or_insert_with(|| render(given));
        let after = render(&[given, &[changed.as_str()][..]].concat());
        assert!(*before != after, "{changed} changes nothing (with {given:?})");
    }
}

#[test]
fn the_table_of_effects_knows_every_value() {
    let tried: BTreeSet<String> = EFFECTS.iter().map(|(path, ..)| path.to_string()).collect();
    let values: BTreeSet<String> = values().into_iter().map(|value| value.path).collect();
    assert_eq!(tried, values);
}
