//! What a user sees: the notes after an install, `helm test`, and the page on Artifact Hub.

use raftkv_chart_tests::helm::{notes, render};
use raftkv_chart_tests::{chart, root};
use serde_json::{Value, json};
use std::fs;

#[test]
fn the_notes_say_what_to_do_next() {
    let notes = notes(&[]);
    for words in [
        "all namespaces",
        "helm test ops -n raftkv-system",
        "kind: RaftKvCluster",
        "kubectl wait --for=condition=Ready rkv/demo",
        "--set crds.enabled=false",
        "--take-ownership",
        "docs/operations.md",
    ] {
        assert!(notes.contains(words), "'{words}' is not in\n{notes}");
    }
}

#[test]
fn the_notes_tell_what_this_install_is_without() {
    let cases: &[(&[&str], &str)] = &[
        (&["crds.keep=false"], "EVERY raftkv cluster"),
        (&["crds.enabled=false"], "is not part of this release"),
        (&["rbac.clusterReads=false"], "does not see Nodes"),
        (&["rbac.create=false"], "until somebody binds the rights"),
        (&[r#"watchNamespaces=["team-a"]"#], "kubectl apply -n team-a"),
        (&["metrics.prometheusRule.enabled=true"], "not all metrics that they look at are collected"),
    ];
    for (values, words) in cases {
        let notes = notes(values);
        assert!(notes.contains(words), "{values:?}: '{words}' is not in\n{notes}");
    }
}

#[test]
fn helm_test_asks_the_operator_through_its_service() {
    let rendered = render(&["metrics.service.port=9000", r#"clusterDomain="k8s.example""#]);
    let (pod, deployment) = (rendered.only("Pod"), rendered.only("Deployment"));
    assert_eq!(pod.text("/metadata/annotations/helm.sh~1hook"), "test");
    assert_eq!(pod.text("/spec/restartPolicy"), "Never");
    assert_eq!(pod.at("/spec/containers/0/command"), &json!(["/usr/local/bin/raftkv-operator"]));
    let url = "http://ops-raftkv-operator.raftkv-system.svc.k8s.example:9000/readyz";
    assert_eq!(pod.at("/spec/containers/0/args"), &json!(["--probe", url]));
    let image = deployment.at("/spec/template/spec/containers/0/image");
    assert_eq!(pod.at("/spec/containers/0/image"), image, "there may be no other image to be had");
    let service = rendered.only("Service");
    assert_eq!(service.name(), "ops-raftkv-operator");
    assert_eq!(service.at("/spec/ports/0/port"), &json!(9000));
}

#[test]
fn the_versions_are_those_of_the_workspace() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = ")).unwrap().trim_matches('"');
    let chart = meta();
    assert_eq!(chart["appVersion"], version);
    let images = annotation(&chart, "images");
    for image in images.as_array().unwrap() {
        assert!(image["image"].as_str().unwrap().ends_with(&format!(":{version}")), "{image}");
    }
}

#[test]
fn artifact_hub_gets_what_it_shows() {
    let chart = meta();
    assert_eq!(chart["annotations"]["artifacthub.io/operator"], "true");
    for list in ["crds", "crdsExamples", "images", "links", "changes"] {
        assert!(annotation(&chart, list).as_array().is_some_and(|list| !list.is_empty()), "{list}");
    }
    let [crd, example] = ["crds", "crdsExamples"].map(|list| annotation(&chart, list)[0].clone());
    let definition = fs::read_to_string(chart_file("files/raftkvcluster.yaml")).unwrap();
    let definition: Value = serde_yaml::from_str(&definition).unwrap();
    assert_eq!(crd["name"], definition["metadata"]["name"]);
    assert_eq!(crd["kind"], definition["spec"]["names"]["kind"]);
    assert_eq!(crd["version"], definition["spec"]["versions"][0]["name"]);
    assert_eq!(example["kind"], crd["kind"]);
}

#[test]
fn the_example_has_only_fields_that_the_definition_knows() {
    let definition = fs::read_to_string(chart_file("files/raftkvcluster.yaml")).unwrap();
    let definition: Value = serde_yaml::from_str(&definition).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let example = &annotation(&meta(), "crdsExamples")[0];
    assert_eq!(unknown(&example["spec"], schema, "spec"), [""; 0]);
    assert_eq!(unknown(&json!({"replicas": 3, "size": 1}), schema, "spec"), ["spec.size"], "control");
}

fn unknown(value: &Value, schema: &Value, path: &str) -> Vec<String> {
    let fields = value.as_object().into_iter().flatten();
    let below = fields.flat_map(|(key, value)| {
        let path = format!("{path}.{key}");
        match schema["properties"].get(key) {
            Some(property) => unknown(value, property, &path),
            None => vec![path],
        }
    });
    below.collect()
}

fn chart_file(name: &str) -> std::path::PathBuf {
    chart().join(name)
}

fn meta() -> Value {
    serde_yaml::from_str(&fs::read_to_string(chart_file("Chart.yaml")).unwrap()).unwrap()
}

fn annotation(chart: &Value, name: &str) -> Value {
    serde_yaml::from_str(chart["annotations"][format!("artifacthub.io/{name}")].as_str().unwrap()).unwrap()
}
