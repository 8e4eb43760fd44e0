//! What an operator costs while nothing is asked of it: resident memory, CPU, and requests in the API server's audit
//! log.

use crate::bench::Bench;
use crate::bench::contender::Contender;
use crate::bench::figures::{CPU, CPU_LOADED, Figures, MEMORY, REQUESTS, WRITES, WRITES_LOADED};
use crate::harness::audit::{self, Request};
use crate::harness::audit_log::AuditLog;
use crate::harness::{LoadPod, Scene, Site, machines};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

const CLUSTERS: u32 = 10;
/// Time for all of them, from apply to ready.
const READY_MAX: Duration = Duration::from_secs(240);
/// Time until what was asked for is done and its last events are written.
const SETTLE: Duration = Duration::from_secs(20);
/// Time of a measurement: many passes of an operator that looks every few seconds.
const WINDOW: Duration = Duration::from_secs(120);

/// Measures ten idle clusters of each operator, then one of ours under load.
pub fn measure(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for contender in &bench.contenders {
        let scene = bench.open(&format!("bench-cost-{}", contender.slug()))?;
        bench.renew_volumes()?;
        let names: Vec<String> = (0..CLUSTERS).map(|n| format!("idle-{n}")).collect();
        for name in &names {
            contender.apply(&scene, name, 3)?;
        }
        scene.wait_for(READY_MAX, "all clusters to be ready", || {
            names.iter().try_for_each(|name| contender.is_ready(&scene, name, 3).context(name.clone()))
        })?;
        let whose = contender.title();
        let idle = window(&scene, contender.as_ref(), "ten idle clusters")?;
        figures.add(MEMORY, whose, Some(idle.resident_mb));
        figures.add(CPU, whose, Some(idle.cpu_percent));
        figures.add(WRITES, whose, Some(idle.writes_a_minute));
        figures.add(REQUESTS, whose, Some(idle.requests_a_minute));
        if contender.slug() == "raftkv" {
            let load = LoadPod::start(&scene.cluster(&names[0]))?;
            load.wait_writing()?;
            let loaded = window(&scene, contender.as_ref(), "one of them loaded")?;
            figures.add(CPU_LOADED, whose, Some(loaded.cpu_percent));
            figures.add(WRITES_LOADED, whose, Some(loaded.writes_a_minute));
        }
        bench.close(&scene)?;
    }
    Ok(())
}

/// The measurements in a window of time.
struct Cost {
    resident_mb: f64,
    cpu_percent: f64,
    writes_a_minute: f64,
    requests_a_minute: f64,
}

fn window(scene: &Scene<'_>, contender: &dyn Contender, what: &str) -> Result<Cost> {
    scene.stays(SETTLE, "what was asked for settles", || Ok(()))?;
    scene.say(format!("measuring {} for {} s: {what}", contender.title(), WINDOW.as_secs()));
    let log = AuditLog::from_here(scene.site)?;
    let (before, begun) = (process(scene.site, contender)?, Instant::now());
    scene.stays(WINDOW, "nothing is asked for", || Ok(()))?;
    let (after, seconds) = (process(scene.site, contender)?, begun.elapsed().as_secs_f64());
    let requests = requests(&log.since(scene.site)?, &contender.account());
    let writes: Vec<&Request> = requests.iter().filter(|request| request.right.is_write()).collect();
    for request in &writes {
        scene.say(format!("a write: {} in '{}'", request.right, request.namespace));
    }
    Ok(Cost {
        resident_mb: after.resident_kb / 1024.0,
        cpu_percent: (after.cpu_s - before.cpu_s) / seconds * 100.0,
        writes_a_minute: writes.len() as f64 / seconds * 60.0,
        requests_a_minute: requests.len() as f64 / seconds * 60.0,
    })
}

/// The requests of this account in the audit log, without those for its Lease.
fn requests(log: &str, account: &str) -> Vec<Request> {
    let all = audit::requests(log, account).into_iter();
    all.filter(|request| request.account == account && request.right.resource != "leases").collect()
}

/// The kernel's figures for the operator's process.
struct Process {
    cpu_s: f64,
    resident_kb: f64,
}

fn process(site: &Site, contender: &dyn Contender) -> Result<Process> {
    let look = format!(
        "for p in $(pgrep -x {}); do echo $(getconf CLK_TCK) $(sed 's/.*) //' /proc/$p/stat | cut -d' ' -f12,13) \
         $(awk '/^VmRSS/{{print $2}}' /proc/$p/status); done",
        contender.process()
    );
    let mut found = String::new();
    for machine in machines::all(site)? {
        found.push_str(&site.docker(&["exec", &machine, "sh", "-c", &look])?);
    }
    let numbers: Vec<f64> = found.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    ensure!(numbers.len() == 4, "not one process {} on the machines: '{found}'", contender.process());
    Ok(Process { cpu_s: (numbers[1] + numbers[2]) / numbers[0], resident_kb: numbers[3] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_without_the_lease() {
        let line = |who: &str, verb: &str, resource: &str| {
            format!(
                r#"{{"user":{{"username":"system:serviceaccount:{who}"}},"verb":"{verb}","objectRef":{{"resource":"{resource}","name":"x"}}}}"#
            )
        };
        let log = [
            line("us", "get", "nodes"),
            line("us", "patch", "statefulsets"),
            line("us", "update", "leases"),
            line("them", "create", "pods"),
            "half a li".to_string(),
        ];
        let found = requests(&log.join("\n"), "us");
        assert_eq!(found.len(), 2);
        assert_eq!(found.iter().filter(|request| request.right.is_write()).count(), 1);
    }
}
