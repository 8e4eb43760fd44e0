//! Other templates for the pods: one with a good image, one with a bad image.

use crate::harness::load_pod::PLANNED;
use crate::harness::wait::{Never, holds};
use crate::harness::{Cluster, Ending, Kind, Scene};
use crate::scenarios::size::NO_IMAGE;
use crate::scenarios::{LEFT_ALONE, ready};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A pod under the limit that is wrong has its whole grace period when it is restarted.
const CORRECTED_MAX: Duration = Duration::from_secs(120);

pub fn rolling_update(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let members = demo.member_ids()?;
    let image = scene.site.image("raftkv", "dev2");
    load.mark()?;
    let begun = Instant::now();
    demo.edit(json!({"image": image}))?;
    wait_rolled_out(&demo, &image)?;
    scene.measured("rolling update of 3", begun);
    load.check_gap("the whole rolling update", PLANNED)?;
    ensure!(demo.member_ids()? == members, "members were replaced, though only their image is another");
    Ending::with(3).check(&demo, &load)
}

/// Waits until all pods run an image; at no time may more than one of them be not ready.
fn wait_rolled_out(demo: &Cluster<'_>, image: &str) -> Result<()> {
    demo.scene.wait("every pod to run the image", || {
        let pods = demo.pods()?;
        let ready = pods.values().filter(|pod| pod.ready && !pod.terminating).count();
        if ready < 2 {
            return Err(Never(format!("only {ready} pods are ready: more than one was taken: {pods:?}")).into());
        }
        let updated = pods.values().filter(|pod| pod.image == image).count();
        holds(updated == 3, || format!("{updated}/3 do, {ready} are ready"))?;
        demo.is_ready(3)
    })
}

pub fn bad_image_then_fixed(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let members = demo.member_ids()?;
    demo.edit(json!({"image": NO_IMAGE}))?;
    let message = demo.wait_degraded(&["does not start"])?;
    scene.say(format!("it says: {message}"));
    scene.stays(LEFT_ALONE, "one pod is tried with the image, and no second one", || {
        let pods = demo.pods()?;
        let tried = pods.values().filter(|pod| pod.image == NO_IMAGE).count();
        let ready = pods.values().filter(|pod| pod.ready).count();
        holds(tried == 1 && ready == 2, || format!("{tried} were tried, {ready} are ready"))
    })?;
    load.wait_for_some_more()?;
    let image = scene.site.image("raftkv", "dev2");
    demo.edit(json!({"image": image}))?;
    wait_rolled_out(&demo, &image)?;
    ensure!(demo.member_ids()? == members, "members were replaced, though only their image is another");
    Ending::with(3).check(&demo, &load)
}

/// Finding E3: a template under which a pod never gets ready does not stand in the way of its own correction.
pub fn bad_cpu_limit_corrected(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let members = demo.member_ids()?;
    demo.edit(json!({"resources": {"requests": {"cpu": "1m"}, "limits": {"cpu": "1m"}}}))?;
    scene.wait("a pod to be tried with the limit", || {
        let ready = demo.pods()?.values().filter(|pod| pod.ready && !pod.terminating).count();
        holds(ready < 3, || "all pods are ready".to_string())
    })?;
    load.wait_for_some_more()?;
    let begun = Instant::now();
    demo.edit(json!({"resources": {"requests": {"cpu": "20m"}, "limits": {"cpu": "2"}}}))?;
    scene.wait_for(CORRECTED_MAX, "every pod to have the limit that was put right", || {
        demo.is_ready(3)?;
        let pods: Value = scene.list(Kind::Pod, None)?;
        let limits = pods["items"].as_array().into_iter().flatten().filter_map(|pod| {
            let container = pod["spec"]["containers"].as_array()?.first()?;
            container["resources"]["limits"]["cpu"].as_str().map(String::from)
        });
        let right = limits.filter(|limit| limit == "2").count();
        holds(right == 3, || format!("{right}/3 have it"))
    })?;
    scene.measured("limit put right -> 3 ready", begun);
    ensure!(demo.member_ids()? == members, "members were replaced, though only a limit is another");
    Ending::with(3).check(&demo, &load)
}
