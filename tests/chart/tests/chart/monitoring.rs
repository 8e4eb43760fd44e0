//! Monitors, alerts and the dashboard: they ask only for metrics that exist, and each alert leads to a runbook.

use crate::matrix::MONITORED;
use raftkv_chart_tests::helm::render;
use raftkv_chart_tests::{chart, root};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

/// The label of the PodMonitor, which looks like a metric.
const LABEL: &str = "raftkv_cluster";

/// The place of the documents that alerts lead to.
const DOCUMENTS: &str = "https://github.com/raftkv/raftkv/blob/main/docs/";

/// The metrics of a node, from the table in its source.
fn of_the_node() -> BTreeSet<String> {
    let source = fs::read_to_string(root().join("node/src/metrics.rs")).unwrap();
    let (_, table) = source.split_once("\nmetrics! {\n").expect("the table begins so");
    let (table, _) = table.split_once("\n}\n").expect("and ends so");
    let names = table.lines().filter_map(|line| line.trim().split_once(':'));
    names.map(|(name, _)| format!("raftkv_{name}")).collect()
}

/// The metrics of the operator: the names that stand as literals in its source.
fn of_the_operator() -> BTreeSet<String> {
    let source = fs::read_to_string(root().join("operator/src/edge/metrics.rs")).unwrap();
    let literals = source.split('"').filter(|text| text.starts_with("raftkv_operator_"));
    let names = literals.filter(|text| text.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    names.map(str::to_string).collect()
}

/// The metrics that an expression asks for; those of histograms without their suffix.
fn asked_for(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics = words.filter(|word| word.starts_with("raftkv_") && *word != LABEL);
    metrics.map(|metric| metric.strip_suffix("_bucket").unwrap_or(metric).to_string()).collect()
}

fn known() -> BTreeSet<String> {
    of_the_node().into_iter().chain(of_the_operator()).collect()
}

fn alerts() -> Vec<Value> {
    let rendered = render(MONITORED);
    let groups = rendered.only("PrometheusRule").list("/spec/groups").to_vec();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn alerts_ask_for_metrics_that_exist() {
    let known = known();
    for metric in ["raftkv_has_leader", "raftkv_state", "raftkv_operator_leader", "raftkv_operator_cluster_condition"] {
        assert!(known.contains(metric), "{metric} is not in {known:?}");
    }
    for alert in alerts() {
        for metric in asked_for(text(&alert, "/expr")) {
            assert!(known.contains(&metric), "{}: nobody counts {metric}", text(&alert, "/alert"));
        }
    }
}

#[test]
fn control_a_metric_that_nobody_counts_is_found() {
    let expression = r#"sum by (raftkv_cluster, le) (rate(raftkv_no_such_thing_bucket{a="b"}[5m]))"#;
    assert_eq!(asked_for(expression), BTreeSet::from(["raftkv_no_such_thing".to_string()]));
    assert!(!known().contains("raftkv_no_such_thing"));
}

#[test]
fn every_alert_says_how_bad_and_what() {
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = text(&alert, "/alert");
        assert!(names.insert(name.to_string()), "{name} twice");
        assert!(["warning", "critical"].contains(&text(&alert, "/labels/severity")), "{name}");
        for annotation in ["summary", "description"] {
            assert!(text(&alert, &format!("/annotations/{annotation}")).ends_with('.'), "{name}: {annotation}");
        }
    }
    assert!(names.len() >= 15, "{names:?}");
}

/// The document and the heading that an alert leads to; if these depend on the reason of a condition, those for no
/// reason.
fn runbook(alert: &Value) -> (&str, &str) {
    let url = text(alert, "/annotations/runbook_url").strip_prefix(DOCUMENTS).unwrap_or_default();
    let (file, anchor) = url.split_once('#').unwrap_or_default();
    let fallback = anchor.split_once("{{ else }}").and_then(|(_, rest)| rest.strip_suffix("{{ end }}"));
    (file, fallback.unwrap_or(anchor))
}

/// The headings of a document below docs/, as anchors.
fn anchors(file: &str) -> BTreeSet<String> {
    let document = fs::read_to_string(root().join("docs").join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let headings = document.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
    headings.map(|heading| heading.to_lowercase().replace(' ', "-")).collect()
}

#[test]
fn every_alert_leads_to_a_heading_that_is_there() {
    for alert in alerts() {
        let (name, (file, anchor)) = (text(&alert, "/alert"), runbook(&alert));
        assert!(["operations.md", "alerts.md"].contains(&file), "{name} leads to '{file}'");
        assert!(anchors(file).contains(anchor), "{name}: docs/{file} has no heading '{anchor}'");
    }
}

#[test]
fn an_alert_about_a_condition_leads_to_its_reason() {
    let reasons = anchors("operations.md");
    assert!(reasons.contains("quorumlost"), "{reasons:?}");
    let about = |alert: &&Value| text(alert, "/expr").contains("raftkv_operator_cluster_condition");
    let alerts = alerts();
    assert!(alerts.iter().filter(about).count() >= 4);
    for alert in alerts.iter().filter(about) {
        let url = text(alert, "/annotations/runbook_url");
        assert!(url.contains("operations.md#{{ with $labels.reason }}{{ toLower . }}{{ else }}"), "{url}");
    }
}

#[test]
fn the_readme_lists_every_alert_with_its_severity() {
    let readme = fs::read_to_string(chart().join("README.md")).unwrap();
    let alerts = alerts();
    for alert in &alerts {
        let row = format!("| `{}` | {} |", text(alert, "/alert"), text(alert, "/labels/severity"));
        assert!(readme.contains(&row), "README.md lacks {row}");
    }
    assert_eq!(readme.matches("| `RaftKv").count(), alerts.len(), "README.md lists an alert that there is not");
}

#[test]
fn alerts_of_the_operator_name_their_own_release() {
    let alerts = alerts();
    let down = alerts.iter().find(|alert| text(alert, "/alert") == "RaftKvOperatorDown").unwrap();
    let expected = r#"absent(raftkv_operator_leader{namespace="raftkv-system", service="ops-raftkv-operator"} == 1)"#;
    assert_eq!(text(down, "/expr"), expected);
    assert!(alerts.iter().all(|alert| !alert.to_string().contains("RELEASE_")));
}

#[test]
fn alerts_can_be_labelled_and_left_out() {
    let values = [r#"metrics.prometheusRule={"enabled":true,"alertLabels":{"team":"a","severity":"none"},
        "disabled":["RaftKvSlowDisk"]}"#];
    let rule = render(&values).only("PrometheusRule").clone();
    let rules: Vec<_> = rule.list("/spec/groups").iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.iter().all(|alert| text(alert, "/labels/team") == "a"));
    assert!(rules.iter().all(|alert| text(alert, "/labels/severity") != "none"), "severity is the alert's own");
    assert!(rules.iter().all(|alert| text(alert, "/alert") != "RaftKvSlowDisk"));
}

#[test]
fn the_service_monitor_finds_the_service_and_keeps_the_clusters_namespace() {
    let rendered = render(MONITORED);
    let (monitor, service) = (rendered.only("ServiceMonitor"), rendered.only("Service"));
    for (label, value) in monitor.at("/spec/selector/matchLabels").as_object().unwrap() {
        assert_eq!(&service.at("/metadata/labels")[label], value);
    }
    assert_eq!(monitor.at("/spec/endpoints/0/port"), service.at("/spec/ports/0/name"));
    assert_eq!(monitor.at("/spec/endpoints/0/honorLabels"), &json!(true));
}

#[test]
fn the_pod_monitor_looks_where_the_operator_does() {
    let namespaces = |values: &[&str]| {
        let rendered = render(&[&["metrics.podMonitor.enabled=true"], values].concat());
        rendered.only("PodMonitor").at("/spec/namespaceSelector").clone()
    };
    assert_eq!(namespaces(&[]), json!({"any": true}));
    assert_eq!(namespaces(&[r#"watchNamespaces=["a","b"]"#]), json!({"matchNames": ["a", "b"]}));
    let rendered = render(MONITORED);
    let relabelling = rendered.only("PodMonitor").at("/spec/podMetricsEndpoints/0/relabelings/0");
    assert_eq!(relabelling["targetLabel"], LABEL);
}

#[test]
fn the_dashboard_is_what_grafana_reads_and_asks_for_metrics_that_exist() {
    let rendered = render(MONITORED);
    let map = rendered.only("ConfigMap");
    assert_eq!(map.text("/metadata/labels/grafana_dashboard"), "1");
    let dashboard: Value = serde_json::from_str(map.text("/data/raftkv.json")).unwrap();
    let (known, mut ids) = (known(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = text(panel, "/title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another panel's");
        assert!(panel["type"] == "row" || !text(panel, "/description").is_empty(), "{title} is not described");
        for target in panel["targets"].as_array().into_iter().flatten() {
            for metric in asked_for(text(target, "/expr")) {
                assert!(known.contains(&metric), "{title}: nobody counts {metric}");
            }
        }
    }
    let asked: BTreeSet<String> = asked_for(&dashboard.to_string());
    let unseen: Vec<_> = known.difference(&asked).collect();
    assert!(unseen.is_empty(), "no panel shows {unseen:?}");
}
