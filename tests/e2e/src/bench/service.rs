//! How long writers are without service: during a planned move of the leader, a rolling update, and a kill -9 of the
//! leader.

use crate::bench::Bench;
use crate::bench::contender::{Contender, Raftkv};
use crate::bench::figures::{Figures, KILL, MOVE, ROLLING};
use crate::harness::wait::holds;
use crate::harness::{Cluster, Ending, LoadPod};
use anyhow::{Context, Result};
use serde_json::json;

const MOVES: u32 = 20;
const ROLLINGS: u32 = 4;
const KILLS: u32 = 10;

/// Measures our operator alone: etcd-operator's users have no rolling update, and their writers use another client.
pub fn measure(bench: &Bench, figures: &mut Figures) -> Result<()> {
    let scene = bench.open("bench-service")?;
    bench.renew_volumes()?;
    let demo = scene.cluster("demo");
    let load = LoadPod::start(&demo)?;
    Raftkv.apply(&scene, &demo.name, 3)?;
    demo.wait_ready(3)?;
    load.wait_writing()?;
    let mut timed = |what, times: u32, act: &dyn Fn(u32) -> Result<()>| -> Result<()> {
        for nth in 0..times {
            load.mark()?;
            act(nth)?;
            load.wait_for_some_more()?;
            demo.wait_ready(3)?;
            let gap = load.report()?.longest_write_gap_ms;
            scene.say(format!("{what}: {gap} ms"));
            figures.add(what, Raftkv.title(), Some(gap as f64));
        }
        Ok(())
    };
    timed(MOVE, MOVES, &|_| demo.ctl(&demo.leader()?, &["transfer"]).map(drop))?;
    timed(ROLLING, ROLLINGS, &|nth| roll(&demo, nth))?;
    timed(KILL, KILLS, &|_| kill_leader(&demo))?;
    Ending::with(3).check(&demo, &load)?;
    bench.close(&scene)
}

fn roll(demo: &Cluster<'_>, nth: u32) -> Result<()> {
    let image = demo.scene.site.image("raftkv", if nth.is_multiple_of(2) { "dev2" } else { "dev" });
    demo.edit(json!({"image": image}))?;
    demo.scene.wait("every pod to run the image", || {
        let updated = demo.pods()?.values().filter(|pod| pod.image == image).count();
        holds(updated == 3, || format!("{updated}/3 do"))?;
        demo.is_ready(3)
    })
}

/// Kills from outside of the pod: inside, the process with the id 1 cannot be killed.
fn kill_leader(demo: &Cluster<'_>) -> Result<()> {
    let leader = demo.leader()?;
    let machine = demo.pod(&leader)?.node.context("the leader's pod is on no machine")?;
    demo.scene.say(format!("kill -9 of {leader} on {machine}"));
    let pattern = format!("raftkv serve --name={leader} .*{}.svc", demo.scene.namespace);
    demo.scene.site.docker(&["exec", &machine, "pkill", "-KILL", "-f", &pattern])?;
    // Another node must lead; the caller then waits for the killed one.
    demo.scene.wait("another leader", || {
        let now = demo.leader()?;
        holds(now != leader, || format!("it is {now}"))
    })
}
