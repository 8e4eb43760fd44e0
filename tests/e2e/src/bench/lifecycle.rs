//! Measures apply, scale up, scale down, and a lost volume, in turns: A B B A.

use crate::bench::Bench;
use crate::bench::contender::Contender;
use crate::bench::figures::{APPLY, DOWN, Figures, LOST, UP};
use crate::harness::Scene;
use crate::harness::wait::holds;
use anyhow::Result;
use std::time::{Duration, Instant};

const NAME: &str = "demo";
/// A step that takes longer counts as one that did not come to an end.
const STEP_MAX: Duration = Duration::from_secs(60);
/// Time for which a lost volume is watched.
const LOST_MAX: Duration = Duration::from_secs(45);
/// The member that loses its volume.
const ORDINAL: u32 = 1;

/// Runs this many rounds, each with every operator.
pub fn measure(bench: &Bench, rounds: u32, figures: &mut Figures) -> Result<()> {
    for round in 0..rounds {
        let turns: Vec<&dyn Contender> = match round % 2 {
            0 => bench.contenders.iter().map(AsRef::as_ref).collect(),
            _ => bench.contenders.iter().rev().map(AsRef::as_ref).collect(),
        };
        for contender in turns {
            one_round(bench, contender, figures)?;
        }
    }
    Ok(())
}

fn one_round(bench: &Bench, contender: &dyn Contender, figures: &mut Figures) -> Result<()> {
    let scene = bench.open(&format!("bench-{}", contender.slug()))?;
    bench.renew_volumes()?;
    let mut timed = |what, limit, act: &dyn Fn() -> Result<()>, is: &dyn Fn() -> Result<()>| -> Result<()> {
        let begun = Instant::now();
        act()?;
        let ended = scene.wait_for(limit, what, is).map(|()| begun.elapsed().as_secs_f64());
        match &ended {
            Ok(seconds) => scene.say(format!("{what}: {seconds:.1} s")),
            Err(error) => scene.say(format!("{what}: never, {error:#}")),
        }
        figures.add(what, contender.title(), ended.ok());
        Ok(())
    };
    let ready = |replicas| contender.is_ready(&scene, NAME, replicas);
    timed(APPLY, STEP_MAX, &|| contender.apply(&scene, NAME, 3), &|| ready(3))?;
    timed(UP, STEP_MAX, &|| contender.scale(&scene, NAME, 5), &|| ready(5))?;
    timed(DOWN, STEP_MAX, &|| contender.scale(&scene, NAME, 3), &|| ready(3))?;
    let before = contender.member(&scene, NAME, ORDINAL)?;
    let another = || {
        let now = contender.member(&scene, NAME, ORDINAL)?;
        holds(now != before, || format!("{now} is still the one with the volume"))?;
        ready(3)
    };
    timed(LOST, LOST_MAX, &|| lose(&scene, contender), &another)?;
    bench.close(&scene)
}

fn lose(scene: &Scene<'_>, contender: &dyn Contender) -> Result<()> {
    let (pod, claim) = (format!("{NAME}-{ORDINAL}"), contender.claim(NAME, ORDINAL));
    scene.say(format!("kubectl delete pvc/{claim} pod/{pod}"));
    scene.kubectl(&["delete", "pvc", &claim, "--wait=false"])?;
    scene.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
    Ok(())
}
