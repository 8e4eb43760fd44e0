//! The operator's pod: what it may do on its machine, and that the values reach it.

use crate::matrix::SETS;
use raftkv_chart_tests::Object;
use raftkv_chart_tests::helm::render;
use serde_json::{Value, json};

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

fn deployment(values: &[&str]) -> Object {
    render(values).only("Deployment").clone()
}

fn env(values: &[&str], name: &str) -> Value {
    let deployment = deployment(values);
    let variables = deployment.list(&format!("{CONTAINER}/env"));
    variables.iter().find(|variable| variable["name"] == name).cloned().unwrap_or_default()
}

/// Checks the restricted Pod Security Standard field by field; returns the paths that break it.
fn breaks_restricted(pod: &Value) -> Vec<String> {
    let at = |pointer: &str| pod.pointer(pointer).cloned().unwrap_or_default();
    let mut broken = Vec::new();
    let mut require = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        require(pod.get(field).is_none_or(|value| value == &json!(false)), field.to_string());
    }
    require(at("/securityContext/runAsNonRoot") == json!(true), "runAsNonRoot".to_string());
    require(at("/securityContext/seccompProfile/type") == json!("RuntimeDefault"), "seccompProfile".to_string());
    require(pod.get("volumes").is_none(), "volumes".to_string());
    for key in ["containers", "initContainers"] {
        for (index, container) in at(&format!("/{key}")).as_array().into_iter().flatten().enumerate() {
            let context = &container["securityContext"];
            let name = |field: &str| format!("{key}[{index}].{field}");
            require(context["allowPrivilegeEscalation"] == json!(false), name("allowPrivilegeEscalation"));
            require(context["capabilities"] == json!({"drop": ["ALL"]}), name("capabilities"));
            require(context["readOnlyRootFilesystem"] == json!(true), name("readOnlyRootFilesystem"));
            require(context.get("privileged").is_none(), name("privileged"));
            for port in container["ports"].as_array().into_iter().flatten() {
                require(port.get("hostPort").is_none(), name("hostPort"));
            }
        }
    }
    broken
}

#[test]
fn every_pod_of_every_set_passes_the_restricted_standard_and_has_a_read_only_root() {
    for (set, values) in SETS {
        let rendered = render(values);
        let pods = rendered.all().iter().filter_map(|object| match object.kind() {
            "Deployment" => Some(object.at(POD).clone()),
            "Pod" => Some(object.at("/spec").clone()),
            _ => None,
        });
        for pod in pods {
            assert_eq!(breaks_restricted(&pod), [""; 0], "{set}");
            assert_eq!(pod["securityContext"]["runAsUser"], json!(65532), "{set}");
            assert_eq!(pod["securityContext"]["runAsGroup"], json!(65532), "{set}");
        }
    }
}

#[test]
fn control_a_pod_that_breaks_the_standard_is_noticed() {
    let broken = |value: &str| breaks_restricted(deployment(&[value]).at(POD));
    assert_eq!(broken("podSecurityContext.runAsNonRoot=false"), ["runAsNonRoot"]);
    assert_eq!(broken(r#"podSecurityContext.seccompProfile.type="Unconfined""#), ["seccompProfile"]);
    assert_eq!(broken(r#"securityContext.capabilities.add=["NET_ADMIN"]"#), ["containers[0].capabilities"]);
    assert_eq!(broken("securityContext.readOnlyRootFilesystem=false"), ["containers[0].readOnlyRootFilesystem"]);
    assert_eq!(broken("securityContext.allowPrivilegeEscalation=true"), ["containers[0].allowPrivilegeEscalation"]);
    assert_eq!(broken("securityContext.privileged=true"), ["containers[0].privileged"]);
}

#[test]
fn the_operator_knows_its_pod() {
    for (name, field) in
        [("POD_NAME", "metadata.name"), ("POD_NAMESPACE", "metadata.namespace"), ("POD_UID", "metadata.uid")]
    {
        let expected = json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}});
        assert_eq!(env(&[], name), expected);
    }
}

#[test]
fn settings_reach_the_operator_by_its_environment() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&[], "RAFTKV_WATCH_NAMESPACE", ""),
        (&[r#"watchNamespaces=["team-a","team-b"]"#], "RAFTKV_WATCH_NAMESPACE", "team-a,team-b"),
        (&[], "RAFTKV_NODE_IMAGE", "ghcr.io/raftkv/raftkv:0.1.0"),
        (&[r#"nodeImage={"repository":"r.io/n","tag":"9"}"#], "RAFTKV_NODE_IMAGE", "r.io/n:9"),
        (&[r#"nodeImage.pullPolicy="Never""#], "RAFTKV_NODE_IMAGE_PULL_POLICY", "Never"),
        (&[], "RAFTKV_CLUSTER_DOMAIN", "cluster.local"),
        (&[r#"clusterDomain="k8s.example""#], "RAFTKV_CLUSTER_DOMAIN", "k8s.example"),
        (&[], "RAFTKV_CLUSTER_READS", "true"),
        (&["rbac.clusterReads=false"], "RAFTKV_CLUSTER_READS", "false"),
        (&[], "RAFTKV_LISTEN", "0.0.0.0:8080"),
        (&[r#"logging.level="info,raftkv_operator=debug""#], "RAFTKV_LOG", "info,raftkv_operator=debug"),
        (&[r#"logging.format="json""#], "RAFTKV_LOG_FORMAT", "json"),
    ];
    for (values, name, expected) in cases {
        assert_eq!(env(values, name)["value"], json!(expected), "{name} of {values:?}");
    }
}

#[test]
fn further_environment_and_arguments_reach_the_operator() {
    let values = [r#"extraEnv=[{"name":"A","value":"b"}]"#, r#"extraArgs=["--verbose","--x=1"]"#];
    assert_eq!(env(&values, "A"), json!({"name": "A", "value": "b"}));
    assert_eq!(deployment(&values).at(&format!("{CONTAINER}/args")), &json!(["--verbose", "--x=1"]));
}

#[test]
fn a_digest_wins_over_a_tag_and_no_tag_is_the_version_of_the_chart() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let image = |values: &[&str]| deployment(values).text(&format!("{CONTAINER}/image")).to_string();
    let repository = "ghcr.io/raftkv/raftkv-operator";
    assert_eq!(image(&[]), format!("{repository}:0.1.0"));
    assert_eq!(image(&[r#"image.tag="x""#]), format!("{repository}:x"));
    let both = format!(r#"image={{"tag":"x","digest":"{digest}"}}"#);
    assert_eq!(image(&[&both]), format!("{repository}@{digest}"));
}

#[test]
fn probes_ask_the_port_that_the_operator_listens_on() {
    let deployment = deployment(&[]);
    assert_eq!(deployment.at(&format!("{CONTAINER}/ports/0/containerPort")), &json!(8080));
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let asked = json!({"path": path, "port": "http"});
        assert_eq!(deployment.at(&format!("{CONTAINER}/{probe}/httpGet")), &asked);
    }
}

#[test]
fn the_selector_is_a_part_of_the_pods_labels_and_carries_no_version() {
    for (set, values) in SETS {
        let deployment = deployment(values);
        let selector = deployment.at("/spec/selector/matchLabels").as_object().unwrap().clone();
        let selected: Vec<&str> = selector.keys().map(String::as_str).collect();
        assert_eq!(selected, ["app.kubernetes.io/instance", "app.kubernetes.io/name"], "{set}: it can never change");
        for (label, value) in &selector {
            assert_eq!(&deployment.at("/spec/template/metadata/labels")[label], value, "{set}");
        }
    }
}

#[test]
fn labels_of_the_user_never_replace_those_that_select() {
    let deployment = deployment(&[r#"podLabels={"app.kubernetes.io/name":"mine","team":"a"}"#]);
    let labels = deployment.at("/spec/template/metadata/labels");
    assert_eq!(labels["app.kubernetes.io/name"], "raftkv-operator");
    assert_eq!(labels["team"], "a");
}

#[test]
fn a_spread_without_a_selector_gets_the_operators() {
    let constraint = |values: &[&str]| deployment(values).at(&format!("{POD}/topologySpreadConstraints/0")).clone();
    let own =
        json!({"matchLabels": {"app.kubernetes.io/name": "raftkv-operator", "app.kubernetes.io/instance": "ops"}});
    assert_eq!(constraint(&[])["labelSelector"], own);
    let zone =
        r#"topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"zone","labelSelector":{"matchLabels":{"a":"b"}}}]"#;
    assert_eq!(constraint(&[zone])["labelSelector"], json!({"matchLabels": {"a": "b"}}));
}

#[test]
fn recreate_takes_no_rolling_update() {
    assert_eq!(deployment(&[r#"strategy.type="Recreate""#]).at("/spec/strategy"), &json!({"type": "Recreate"}));
    let rolling = deployment(&["strategy.rollingUpdate.maxUnavailable=1"]);
    assert_eq!(rolling.at("/spec/strategy/rollingUpdate"), &json!({"maxSurge": 1, "maxUnavailable": 1}));
}

#[test]
fn only_the_operators_pod_gets_a_token() {
    let rendered = render(&[]);
    assert_eq!(rendered.only("Deployment").at(&format!("{POD}/automountServiceAccountToken")), &json!(true));
    assert_eq!(rendered.only("ServiceAccount").at("/automountServiceAccountToken"), &json!(false));
    assert_eq!(rendered.only("Pod").at("/spec/automountServiceAccountToken"), &json!(false));
}
