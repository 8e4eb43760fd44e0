//! The limits on the operator's pods: the disruption budget and the NetworkPolicy. The policy is checked only as text:
//! whether it is enforced depends on the network of a Kubernetes cluster (rule O25).

use crate::matrix::SETS;
use raftkv_chart_tests::helm::render;
use serde_json::json;

#[test]
fn there_is_a_budget_of_one_with_two_replicas_and_none_with_one() {
    for (replicas, budgets) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        let rendered = render(&[&format!("replicaCount={replicas}")]);
        assert_eq!(rendered.of("PodDisruptionBudget").len(), budgets, "{replicas} replicas");
        for budget in rendered.of("PodDisruptionBudget") {
            assert_eq!(budget.at("/spec/maxUnavailable"), &json!(1));
            assert_eq!(budget.at("/spec/minAvailable"), &json!(null));
            let selector = rendered.only("Deployment").at("/spec/selector").clone();
            assert_eq!(budget.at("/spec/selector"), &selector);
        }
    }
}

#[test]
fn the_policy_selects_the_operators_pods_and_says_both_directions() {
    let rendered = render(&["networkPolicy.enabled=true"]);
    let policy = rendered.only("NetworkPolicy");
    let selector = rendered.only("Deployment").at("/spec/selector").clone();
    assert_eq!(policy.at("/spec/podSelector"), &selector);
    assert_eq!(policy.at("/spec/policyTypes"), &json!(["Ingress", "Egress"]));
    assert_eq!(policy.at("/spec/ingress"), &json!([{"ports": [{"protocol": "TCP", "port": "http"}]}]));
}

#[test]
fn the_policy_lets_out_to_the_api_server_dns_and_the_admin_port_of_members() {
    let rendered = render(&["networkPolicy.enabled=true", r#"networkPolicy.apiServerCIDRs=["10.0.0.1/32"]"#]);
    let tcp = |port: u16| json!({"protocol": "TCP", "port": port});
    let members = json!({"app.kubernetes.io/name": "raftkv", "app.kubernetes.io/managed-by": "raftkv-operator"});
    let expected = json!([
        {"ports": [tcp(443), tcp(6443)], "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]},
        {"ports": [{"protocol": "UDP", "port": 53}, tcp(53)]},
        {"ports": [tcp(2381)], "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": members}}]},
    ]);
    assert_eq!(rendered.only("NetworkPolicy").at("/spec/egress"), &expected);
}

#[test]
fn a_namespaced_operator_is_let_out_to_its_namespaces_only() {
    let rendered = render(&["networkPolicy.enabled=true", r#"watchNamespaces=["team-a","team-b"]"#]);
    let peers = rendered.only("NetworkPolicy").list("/spec/egress/2/to");
    let namespaces: Vec<_> = peers.iter().map(|peer| peer["namespaceSelector"]["matchLabels"].clone()).collect();
    let named = |name: &str| json!({"kubernetes.io/metadata.name": name});
    assert_eq!(namespaces, [named("team-a"), named("team-b")]);
}

#[test]
fn helm_test_may_always_ask() {
    let from = r#"networkPolicy.ingressFrom=[{"namespaceSelector":{"matchLabels":{"a":"b"}}}]"#;
    let rendered = render(&["networkPolicy.enabled=true", from]);
    let peers = rendered.only("NetworkPolicy").list("/spec/ingress/0/from");
    let allowed = peers.last().unwrap()["podSelector"]["matchLabels"].as_object().unwrap();
    let labels = rendered.only("Pod").at("/metadata/labels");
    assert!(allowed.iter().all(|(label, value)| &labels[label] == value), "{allowed:?} is not in {labels}");
}

#[test]
fn the_service_selects_the_operators_pods_and_not_that_of_helm_test() {
    for (set, values) in SETS {
        let rendered = render(values);
        for (service, test) in rendered.of("Service").into_iter().zip(rendered.of("Pod")) {
            let selector = service.at("/spec/selector").as_object().unwrap();
            let selects = |labels: &serde_json::Value| selector.iter().all(|(label, value)| &labels[label] == value);
            assert!(selects(rendered.only("Deployment").at("/spec/template/metadata/labels")), "{set}");
            assert!(!selects(test.at("/metadata/labels")), "{set}");
        }
    }
}
