//! What a pass must never do to the children: rules O12, O14, O31 and O32, over an API server with webhooks, and with an
//! operator that dies at any request.

use super::*;
use crate::edge::fake_api::Death;

const SET: &str = "/apis/apps/v1/namespaces/team/statefulsets/demo";
const BUDGET: &str = "/apis/policy/v1/namespaces/team/poddisruptionbudgets/demo";
/// So many passes are enough for every scenario here to come to rest.
const PASSES: usize = 8;

impl World {
    /// Passes until nothing happens any more; the watches follow each.
    async fn settle(&mut self) {
        for _ in 0..PASSES {
            let before = self.api.requests();
            if let Err(error) = self.pass().await {
                assert!(
                    self.api.is_dead() || matches!(error, PassError::Execute(ExecuteError::Conflict { .. })),
                    "{error}"
                );
            }
            self.push();
            if self.api.requests() == before || self.api.is_dead() {
                return;
            }
        }
    }

    /// A person changes the spec, by a merge patch. An older definition takes everything.
    fn edit(&mut self, change: Value) {
        let mut object = self.live();
        crate::resources::testing::merge(&mut object["spec"], &change);
        self.api.put(&format!("{CLUSTERS}/demo"), object);
        self.push();
    }

    /// Somebody changes an object, by a merge patch.
    fn meddle(&mut self, path: &str, change: Value) {
        let mut object = self.api.object(path).unwrap();
        crate::resources::testing::merge(&mut object, &change);
        self.api.put(path, object);
        self.push();
    }

    fn set(&self) -> Value {
        self.api.object(SET).unwrap()
    }

    fn in_force(&self) -> Value {
        let set = self.set();
        let text = set["metadata"]["annotations"]["raftkv.dev/in-force"].as_str().unwrap();
        serde_json::from_str(text).unwrap()
    }

    /// The writes to this path since calls were last taken, without dry runs.
    fn writes(&self, path: &str) -> usize {
        self.api.calls().iter().filter(|call| *call == &format!("PATCH {path}")).count()
    }

    fn generations(&self) -> (i64, i64) {
        let status = &self.live()["status"];
        (status["observedGeneration"].as_i64().unwrap(), status["generationInForce"].as_i64().unwrap())
    }
}

/// A cluster that has all its children, with a budget.
async fn standing() -> World {
    let mut world = World::new().await;
    world.settle().await;
    let budget = crate::resources::disruption_budget(&world.pushed, 2);
    world.api.put(BUDGET, serde_json::to_value(budget).unwrap());
    world.settle().await;
    world.api.calls();
    world
}

/// A bad edit, which also asks for more members. Returns what changed by it.
async fn bad_edit(world: &mut World) -> Option<String> {
    let before = world.set();
    world.edit(json!({"replicas": 5, "image": "another", "config": {"compactRetention": "0s"}}));
    world.settle().await;
    let after = world.set();
    (before != after).then(|| format!("{before} became {after}"))
}

#[tokio::test]
async fn rule_o31_a_bad_edit_changes_nothing() {
    let mut world = standing().await;
    assert_eq!(world.in_force()["generation"], 3);
    assert_eq!(bad_edit(&mut world).await, None);
    assert_eq!(world.generations(), (4, 3));
    let degraded = world.condition("Degraded");
    assert_eq!((&degraded["status"], &degraded["reason"]), (&json!("True"), &json!("InvalidSpec")));
    assert!(degraded["message"].as_str().unwrap().contains("compactRetention '0s'"), "{degraded}");
    assert_eq!(world.condition("Ready")["status"], "False");

    // What asks for less than a change is read all the same.
    let template = world.set()["spec"]["template"].clone();
    world.edit(json!({"suspend": true}));
    world.settle().await;
    assert_eq!((&world.set()["spec"]["replicas"], &world.set()["spec"]["template"]), (&json!(0), &template));
    world.edit(json!({"suspend": false}));
    world.settle().await;
    assert_eq!((&world.set()["spec"]["replicas"], &world.set()["spec"]["template"]), (&json!(3), &template));
    world.restart();
    world.settle().await;
    assert_eq!(world.set()["spec"]["template"], template, "another operator reads it from the StatefulSet");

    world.edit(json!({"config": {"compactRetention": "1h", "quota": "1.5Gi"}}));
    world.settle().await;
    let set = world.set();
    let args = set["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    assert!(args.contains(&json!("--quota=1610612736")), "{args:?}");
    assert_eq!((&set["spec"]["replicas"], world.generations()), (&json!(5), (7, 7)));
    assert_eq!(world.condition("Degraded")["status"], "False");
}

#[tokio::test]
async fn control_an_operator_that_ignores_the_last_good_spec_is_caught() {
    let mut world = standing().await;
    world.state.observer.ignores_last_good = true;
    assert!(bad_edit(&mut world).await.is_some());
}

#[tokio::test]
async fn a_bad_spec_of_a_new_cluster_makes_nothing() {
    let mut world = World::new().await;
    world.edit(json!({"config": {"quota": "500m"}}));
    world.settle().await;
    assert_eq!(world.api.object(SET), None);
    assert!(world.api.calls().iter().all(|call| call.starts_with("GET") || call.starts_with("PUT")));
    assert_eq!(world.condition("Degraded")["reason"], "InvalidSpec");
}

#[tokio::test]
async fn rule_o31_a_spec_that_the_api_server_refuses_changes_nothing_and_is_not_sent_again() {
    let mut world = standing().await;
    let before = world.set();
    for code in [422, 403] {
        world.api.fail(&format!("PATCH {SET}"), code);
        world.edit(json!({"replicas": 5, "image": format!("image-{code}")}));
        world.settle().await;
        assert_eq!((world.set(), world.writes(SET)), (before.clone(), 1), "{code}");
        let (looked, in_force) = world.generations();
        assert!(looked > in_force && in_force == 3, "{looked} {in_force}");
        assert_eq!(world.condition("Degraded")["reason"], "InvalidSpec");
        assert_eq!(world.condition("Ready")["status"], "False");
        world.api.heal();
    }
    world.settle().await;
    assert_eq!(world.writes(SET), 0, "it is not tried again so soon");
    world.edit(json!({"image": "good"}));
    world.settle().await;
    assert_eq!((world.writes(SET), &world.set()["spec"]["replicas"]), (1, &json!(5)));
    assert_eq!(world.generations(), (6, 6));
    assert_eq!(world.condition("Degraded")["status"], "False");
}

#[tokio::test]
async fn a_spec_is_taken_back_without_a_write() {
    let mut world = standing().await;
    world.api.fail(&format!("PATCH {SET}"), 422);
    world.edit(json!({"image": "bad"}));
    world.settle().await;
    world.api.heal();
    world.edit(json!({"image": null}));
    world.api.calls();
    world.settle().await;
    assert_eq!((world.writes(SET), world.generations()), (0, (5, 5)));
    assert_eq!(world.condition("Degraded")["status"], "False");
}

#[tokio::test]
async fn a_set_of_an_older_operator_gets_the_spec_in_force_and_keeps_its_template_with_a_bad_one() {
    let mut world = standing().await;
    world.meddle(SET, json!({"metadata": {"annotations": {"raftkv.dev/in-force": null}}}));
    assert_eq!(bad_edit(&mut world).await, None);
    world.edit(json!({"replicas": 3, "image": null, "config": {"compactRetention": null}}));
    world.settle().await;
    assert_eq!((&world.in_force()["generation"], world.generations()), (&json!(5), (5, 5)));
}

#[tokio::test]
async fn a_pause_is_no_new_spec() {
    let mut world = standing().await;
    world.edit(json!({"paused": true}));
    world.settle().await;
    assert_eq!((world.writes(SET), world.generations()), (0, (4, 4)));
}

/// A webhook that changes one of our fields and adds one.
fn another_registry(object: &mut Value) {
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("mirror.example/raftkv");
    object["spec"]["template"]["metadata"]["annotations"]["injected"] = json!("yes");
}

/// How often the StatefulSet is written while nobody asks for anything, and the operator starts anew once.
async fn storm(world: &mut World) -> usize {
    world.settle().await;
    world.restart();
    world.settle().await;
    world.writes(SET)
}

#[tokio::test]
async fn rule_o32_webhook_storm() {
    // It is there when the cluster is made.
    let mut world = World::new().await;
    world.api.mutate(SET, another_registry);
    world.settle().await;
    assert_eq!(storm(&mut world).await, 0);
    assert_eq!(world.condition("Degraded")["status"], "False");
    // It comes later: nothing happens until there is something to write.
    let mut world = standing().await;
    world.api.mutate(SET, another_registry);
    assert_eq!(storm(&mut world).await, 0);
    world.edit(json!({"config": {"quota": "2Gi"}}));
    assert_eq!(storm(&mut world).await, 1);
    assert_eq!(world.generations(), (4, 4));
    // It takes no dry runs: the answer to one write tells, once for each start.
    world.api.take_no_dry_runs();
    assert_eq!(storm(&mut world).await, 1);
}

#[tokio::test]
async fn control_an_operator_without_dry_runs_is_caught() {
    let mut world = World::new().await;
    world.api.mutate(SET, another_registry);
    world.settle().await;
    world.settle().await;
    world.api.calls();
    world.restart();
    world.state.writes.asks_nothing = true;
    world.settle().await;
    assert_eq!(world.writes(SET), 1);
}

#[tokio::test]
async fn rule_o32_a_webhook_on_each_kind_of_child_costs_no_second_write() {
    let mut world = standing().await;
    let services = [format!("{SERVICES}/demo"), format!("{SERVICES}/demo-peers")];
    for path in [BUDGET, SECRET].into_iter().chain(services.iter().map(String::as_str)) {
        world
            .api
            .mutate(path, |object| object["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("platform"));
        world.meddle(path, json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "platform"}}}));
    }
    world.restart();
    world.settle().await;
    let calls = world.api.calls();
    let written: Vec<_> = calls.iter().filter(|call| call.starts_with("PATCH") && !call.ends_with("?dryRun")).collect();
    assert!(written.is_empty(), "{written:?}");
    assert_eq!(calls.iter().filter(|call| call.ends_with("?dryRun")).count(), 4, "{calls:?}");
}

#[tokio::test]
async fn what_somebody_changes_is_put_right_once_and_then_less_and_less_often() {
    let mut world = standing().await;
    let change = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 5}}}});
    world.meddle(SET, change.clone());
    world.settle().await;
    assert_eq!(world.set()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 30);
    assert_eq!(world.writes(SET), 1);
    world.meddle(SET, change);
    world.pass().await.unwrap();
    world.push();
    world.pass().await.unwrap();
    assert_eq!(world.writes(SET), 0);
    let degraded = world.condition("Degraded");
    let words = degraded["message"].as_str().unwrap();
    assert_eq!(degraded["reason"], "StepFailed");
    assert!(
        words.contains("spec.template.spec.terminationGracePeriodSeconds was put right and is changed again"),
        "{words}"
    );
}

#[tokio::test]
async fn a_webhook_that_is_down_keeps_nothing_else_from_being_done() {
    let mut world = standing().await;
    world.api.fail(&format!("PATCH {SET}"), 500);
    world.edit(json!({"config": {"quota": "2Gi"}}));
    world.settle().await;
    // A claim of the first pod comes up, which is to be labelled.
    let labels = json!({"raftkv.dev/cluster": "demo"});
    let claim = json!({
        "metadata": {"name": "raftkv-demo-0", "namespace": "team", "uid": "c", "labels": labels, "creationTimestamp": "2026-02-01T00:00:00Z"},
        "spec": {"volumeName": "pv"},
    });
    let path = "/api/v1/namespaces/team/persistentvolumeclaims/raftkv-demo-0";
    world.api.put(path, claim);
    world.push();
    world.settle().await;
    assert!(world.api.object(path).unwrap()["metadata"]["labels"]["raftkv.dev/cluster-uid"].is_string());
    assert_eq!(world.condition("Degraded")["reason"], "StepFailed");
    assert_eq!(world.generations(), (4, 3));
}

#[tokio::test]
async fn rule_o12_a_budget_that_somebody_changed_is_mended_as_a_whole() {
    let mut world = standing().await;
    for change in [
        json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"}),
        json!({"maxUnavailable": 3}),
        json!({"selector": {"matchLabels": {"a": "b"}}}),
    ] {
        let before = world.api.object(BUDGET).unwrap()["spec"].clone();
        world.meddle(BUDGET, json!({"spec": change}));
        world.settle().await;
        assert_eq!(world.api.object(BUDGET).unwrap()["spec"], before, "{change}");
    }
}

#[tokio::test]
async fn rule_o14_a_secret_that_lost_its_owner_is_taken_back_and_keeps_its_token() {
    let mut world = standing().await;
    let before = world.api.object(SECRET).unwrap();
    world.meddle(SECRET, json!({"metadata": {"ownerReferences": null}}));
    world.restart();
    world.settle().await;
    let after = world.api.object(SECRET).unwrap();
    assert_eq!(
        (&after["metadata"]["ownerReferences"], &after["data"]),
        (&before["metadata"]["ownerReferences"], &before["data"])
    );
    assert_eq!(world.condition("Degraded")["status"], "False");
    world.meddle(
        SECRET,
        json!({"metadata": {"ownerReferences": null, "labels": {"raftkv.dev/cluster-uid": "another"}}}),
    );
    let stranger = world.api.object(SECRET).unwrap();
    world.restart();
    world.settle().await;
    assert_eq!(world.api.object(SECRET).unwrap(), stranger);
    assert_eq!(world.condition("Degraded")["reason"], "NameTaken");
}

/// What is left of a world for comparison: no versions, and no random token.
fn remains(world: &World) -> Vec<Value> {
    let mut objects = world.api.objects("/");
    for object in &mut objects {
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.retain(|field, _| ["name", "labels", "annotations", "ownerReferences"].contains(&field.as_str()));
        object["data"] = json!(object["data"]["token"].is_string());
        object.as_object_mut().unwrap().remove("status");
    }
    objects
}

/// What a scenario begins with, and what happens in it.
type Happen = fn(&mut World);

/// Everything that this operator writes to the children, in four stories.
const SCENARIOS: [(&str, Happen); 4] = [
    ("made", |_| {}),
    ("edited", |world| world.edit(json!({"replicas": 5, "config": {"quota": "2Gi"}}))),
    ("mended", |world| {
        world.meddle(BUDGET, json!({"spec": {"maxUnavailable": 3}}));
        world.meddle(SECRET, json!({"metadata": {"ownerReferences": null}}));
        world.meddle(&format!("{SERVICES}/demo"), json!({"spec": {"type": "NodePort"}}));
        world.restart();
    }),
    ("badly edited, then well", |world| {
        world.edit(json!({"replicas": 5, "config": {"compactRetention": "0s"}}));
        world.edit(json!({"suspend": true}));
    }),
];

async fn begin(scenario: &str) -> World {
    if scenario == "made" { World::new().await } else { standing().await }
}

/// A request that only reads leaves the world as it was: to die at it is to die after the write before it.
#[tokio::test]
async fn rule_o9_the_operator_may_die_before_and_after_each_write() {
    for (name, happen) in SCENARIOS {
        let mut whole = begin(name).await;
        happen(&mut whole);
        whole.api.calls();
        whole.settle().await;
        let (calls, expected) = (whole.api.calls(), remains(&whole));
        let writes =
            calls.iter().enumerate().filter(|(_, call)| !call.starts_with("GET") && !call.ends_with("?dryRun"));
        let writes: Vec<usize> = writes.map(|(at, _)| at + 1).collect();
        assert!(writes.len() > 1, "{name}: {calls:?}");
        for request in writes {
            for when in [Death::Before, Death::After] {
                let mut world = begin(name).await;
                happen(&mut world);
                world.api.die_at(request, when);
                world.settle().await;
                assert!(world.api.is_dead(), "{name}: there is no request {request}");
                world.api.heal();
                world.restart();
                world.settle().await;
                assert_eq!(remains(&world), expected, "{name}: dead {when:?} request {request}");
            }
        }
    }
}
