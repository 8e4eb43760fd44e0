//! The operator itself: upgraded, uninstalled, installed twice, killed at every step.

use crate::harness::load_pod::PLANNED;
use crate::harness::operator::{Operator, next_chart, older_chart};
use crate::harness::wait::holds;
use crate::harness::{Ending, Kind, LoadPod, Scene};
use crate::scenarios::loss::{everything, replace_after_loss};
use crate::scenarios::{LEFT_ALONE, ready};
use anyhow::{Result, anyhow, ensure};
use std::time::{Duration, Instant};

/// Each action costs two to three seconds, until the kubelet has started the next process.
const KILLED_MAX: Duration = Duration::from_secs(120);

/// This many lines of the operators' logs are searched.
const LOG_LINES: u32 = 50;
/// What an operator logs about a CRD that lacks a field.
const OLDER: &str = "is older than this operator: it lacks";

/// Puts the shared operator back as it was when this is dropped, however the scenario ended.
pub struct PutBack<'a>(pub &'a Scene<'a>);

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        let operator = Operator::of(self.0.site);
        if let Err(error) = operator.install() {
            self.0.say(format!("the operator could not be put back: {error:#}"));
        }
    }
}

pub fn upgrade(scene: &Scene<'_>) -> Result<()> {
    let operator = Operator::of(scene.site);
    let (demo, load) = ready(scene, 3)?;
    let before = everything(&demo)?;
    let old_pods = operator.pods()?;
    let _put_back = PutBack(scene);
    load.mark()?;
    let description = "How many members the cluster has, as a later release describes it.";
    scene.say("helm upgrade to a chart with another CRD");
    operator
        .helm_install(&next_chart(scene.site, description)?, &["--set", "podLabels.release=next"])?
        .expect_success()?;
    scene.wait("the CRD's change to arrive", || {
        let explained = scene.kubectl(&["explain", "rkv.spec.replicas"])?;
        let text = explained.split_whitespace().collect::<Vec<_>>().join(" ");
        holds(text.contains(description), || text.clone())
    })?;
    scene.wait("the operator to be replaced", || {
        let pods = operator.pods()?;
        holds(pods.iter().all(|pod| !old_pods.contains(pod)), || format!("pods are {pods:?}"))
    })?;
    demo.wait_ready(3)?;
    load.check_gap("the operator's upgrade", PLANNED)?;
    ensure!(everything(&demo)? == before, "the upgrade of the operator touched pods or volumes");
    scene.say("helm test raftkv-operator");
    let tested = operator.helm_test()?;
    ensure!(tested.contains("Succeeded"), "`helm test` does not say that it succeeded: {tested}");
    demo.scale(1)?;
    demo.wait_ready(1)?;
    Ending::with(1).check(&demo, &load)
}

pub fn older_crd(scene: &Scene<'_>) -> Result<()> {
    let operator = Operator::of(scene.site);
    let (demo, load) = ready(scene, 3)?;
    let (before, old_pods) = (everything(&demo)?, operator.pods()?);
    let put_back = PutBack(scene);
    scene.say("helm upgrade to a chart whose CRD lacks status.image");
    operator.helm_begin(&older_chart(scene.site, "image")?, &[])?.expect_success()?;
    let told = scene.wait("the new operator to say what the CRD lacks", || {
        let log = operator.log(LOG_LINES)?;
        let line = log.lines().find(|line| line.contains(OLDER));
        line.map(String::from).ok_or_else(|| anyhow!("its log does not say '{OLDER}'"))
    })?;
    scene.say(format!("it says: {told}"));
    ensure!(told.contains("status.image") && told.contains("crds.enabled=true"), "field or way out is missing: {told}");
    scene.stays(LEFT_ALONE, "the one that works stays, and the new one is not ready", || {
        let now = operator.readiness()?;
        let works = now.iter().any(|(pod, ready)| *ready && old_pods.contains(&format!("pod/{pod}")));
        let waits = now.iter().any(|(pod, ready)| !*ready && !old_pods.contains(&format!("pod/{pod}")));
        holds(works && waits, || format!("pods and whether they are ready: {now:?}"))
    })?;
    load.wait_for_some_more()?;
    ensure!(everything(&demo)? == before, "an older CRD touched pods or volumes");
    scene.say("helm upgrade to the chart with its own CRD");
    drop(put_back);
    demo.scale(1)?;
    demo.wait_ready(1)?;
    scene.wait("the field to be told", || holds(demo.status()?.image.is_some(), || "it is not there".to_string()))?;
    Ending::with(1).check(&demo, &load)
}

pub fn uninstalled(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let before = everything(&demo)?;
    let _put_back = PutBack(scene);
    scene.say("helm uninstall raftkv-operator");
    Operator::of(scene.site).uninstall()?;
    Operator::of(scene.site).forget_lease()?;
    load.wait_for_some_more()?;
    ensure!(everything(&demo)? == before, "pods or volumes went with the operator");
    // Without an operator, Kubernetes and Raft still do their parts.
    let leader = demo.leader()?;
    demo.delete_pod(&leader)?;
    load.wait_for_some_more()?;
    let other = Operator::named(scene.site, "another", &scene.namespace);
    let chart = other.chart()?;
    let refused = other.helm_install(&chart, &[])?.expect_failure()?;
    ensure!(refused.contains("raftkvclusters.raftkv.dev"), "the refusal does not name the CRD: {refused}");
    scene.say("helm install of another release, with --take-ownership");
    other.helm_install(&chart, &["--take-ownership"])?.expect_success()?;
    demo.scale(1)?;
    demo.wait_ready(1)?;
    other.uninstall()?;
    Ending::with(1).check(&demo, &load)
}

pub fn two_namespaced(scene: &Scene<'_>) -> Result<()> {
    let beside = scene.beside()?;
    let _put_back = PutBack(scene);
    Operator::of(scene.site).uninstall()?;
    for (place, crds) in [(scene, "true"), (&beside, "false")] {
        let operator = Operator::named(scene.site, "namespaced", &place.namespace);
        let watch = format!("watchNamespaces={{{}}},crds.enabled={crds},rbac.clusterReads=false", place.namespace);
        scene.say(format!("helm install --set {watch}"));
        operator.helm_install(&operator.chart()?, &["--take-ownership", "--set", &watch])?.expect_success()?;
    }
    let (demo, load) = ready(scene, 3)?;
    let (second, second_load) = ready(&beside, 1)?;
    demo.scale(1)?;
    demo.wait_ready(1)?;
    Ending::with(1).check(&second, &second_load)?;
    Ending::with(1).check(&demo, &load)?;
    for place in [scene, &beside] {
        let leases = place.list(Kind::Lease, None)?;
        let names: Vec<&str> =
            leases["items"].as_array().into_iter().flatten().filter_map(|l| l["metadata"]["name"].as_str()).collect();
        ensure!(names.iter().any(|name| name.starts_with("raftkv-operator-")), "leases are {names:?}");
        Operator::named(scene.site, "namespaced", &place.namespace).uninstall()?;
    }
    Ok(())
}

/// While this exists, the operator exits after each action.
struct Killed<'a> {
    scene: &'a Scene<'a>,
    operator: Operator<'a>,
    before: u64,
}

impl<'a> Killed<'a> {
    fn after_each_action(scene: &'a Scene<'a>) -> Result<Killed<'a>> {
        let operator = Operator::of(scene.site);
        scene.say("the operator exits after each action from here on");
        operator.exit_after(Some(1))?;
        let before = operator.restarts()?;
        Ok(Killed { scene, operator, before })
    }

    /// How often the operator was killed.
    fn times(&self) -> Result<u64> {
        Ok(self.operator.restarts()?.saturating_sub(self.before))
    }

    /// Waits until this many kills are seen, and prints their number. The kubelet reports a restart some time after it.
    fn tell(&self, at_least: u64) -> Result<()> {
        self.scene.wait(&format!("{at_least} kills of the operator, one for each action"), || {
            let kills = self.times()?;
            holds(kills >= at_least, || format!("{kills} so far"))
        })?;
        self.scene.say(format!("the operator was killed {} times", self.times()?));
        Ok(())
    }
}

impl Drop for Killed<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.operator.exit_after(None) {
            self.scene.say(format!("the operator could not be put back: {error:#}"));
        }
    }
}

pub fn killed_forming(scene: &Scene<'_>) -> Result<()> {
    let killed = Killed::after_each_action(scene)?;
    let demo = scene.cluster("demo");
    let load = LoadPod::start(&demo)?;
    let begun = Instant::now();
    demo.apply(1)?;
    demo.wait_ready_for(KILLED_MAX, 1)?;
    scene.say(format!("formed under kills in {} s", begun.elapsed().as_secs()));
    // Secret, two Services, StatefulSet, two notes about which disk may form it, one about whose data is on it, init,
    // and that init was done.
    killed.tell(9)?;
    drop(killed);
    Ending::with(1).check(&demo, &load)
}

pub fn killed_scaling(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let killed = Killed::after_each_action(scene)?;
    // Each new member needs its claim, a learner and a voter, twice, and the StatefulSet changes once; each member that
    // goes needs its removal, a change of the StatefulSet, and the claim's deletion.
    for (to, actions) in [(5, 7), (3, 6)] {
        let (begun, before) = (Instant::now(), killed.times()?);
        demo.scale(to)?;
        demo.wait_ready_for(KILLED_MAX, to)?;
        scene.say(format!("scaled to {to} under kills in {} s", begun.elapsed().as_secs()));
        killed.tell(before + actions)?;
    }
    drop(killed);
    Ending::with(3).check(&demo, &load)
}

pub fn killed_replacing(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let killed = Killed::after_each_action(scene)?;
    replace_after_loss(&demo, 1)?;
    // The new claim's label, a learner, a note at the claim, and the joint change.
    killed.tell(3)?;
    drop(killed);
    Ending::with(3).check(&demo, &load)
}
