//! Disks that hang.

use crate::harness::load_pod::LEADER_LOST;
use crate::harness::own_disk::OwnDisk;
use crate::harness::wait::holds;
use crate::harness::{Ending, Scene};
use crate::scenarios::ready;
use anyhow::{Result, bail, ensure};
use raftkv_crds::{ConditionType, Reason};
use serde_json::json;
use std::collections::BTreeMap;

pub fn hung_disk(scene: &Scene<'_>) -> Result<()> {
    let (demo, load) = ready(scene, 3)?;
    let members = demo.member_ids()?;
    demo.edit(json!({"suspend": true}))?;
    scene.wait("its pods to stop", || {
        let pods = demo.pods()?;
        holds(pods.is_empty(), || format!("{} are left", pods.len()))
    })?;
    let disk = |ordinal| Ok((demo.pod_name(ordinal), OwnDisk::under(scene, &demo.claim_name(ordinal))?));
    let disks: BTreeMap<String, OwnDisk<'_>> = (0..3).map(disk).collect::<Result<_>>()?;
    demo.edit(json!({"suspend": false}))?;
    demo.wait_ready(3)?;
    load.wait_for_some_more()?;
    let ill = demo.leader()?;
    load.mark()?;
    disks[&ill].freeze()?;
    let message = demo.wait_condition(ConditionType::Degraded, "True", Reason::DiskStalled)?;
    scene.say(format!("it says: {message}"));
    ensure!(message.contains(&ill), "the message does not name {ill}: {message}");
    scene.wait("another leader", || {
        let leader = demo.leader()?;
        holds(leader != ill, || format!("{leader} leads"))
    })?;
    load.wait_for_some_more()?;
    // A read that is at the ill member waits there until its own time limit.
    load.check_write_gap("the leader's disk hangs", LEADER_LOST)?;
    demo.wait_condition(ConditionType::Available, "True", Reason::QuorumHealthy)?;
    let Err(degraded) = scene.plugin(&["status", "demo"]) else { bail!("kubectl raftkv status says that all is well") };
    let screen = format!("{degraded:#}");
    let told = format!("the disk of {ill} does not answer");
    ensure!(screen.contains(&told), "the screen does not say that {told}:\n{screen}");
    ensure!(demo.member_ids()? == members, "a member was replaced, though its disk may be good");
    disks[&ill].thaw()?;
    demo.wait_ready(3)?;
    ensure!(demo.member_ids()? == members, "a member was replaced, though its disk is good");
    Ending::with(3).check(&demo, &load)
}
