//! What an operator costs while nothing is asked of it: resident memory, CPU, and requests in the API server's audit log.

use crate::bench::Bench;
use crate::bench::contender::Contender;
use crate::bench::figures::{CPU, CPU_LOADED, Figures, MEMORY, REQUESTS, WRITES, WRITES_LOADED};
use crate::harness::api::Kind;
use crate::harness::{LoadPod, Scene, Site};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

const CLUSTERS: u32 = 10;
/// All of them, from apply to ready.
const READY_MAX: Duration = Duration::from_secs(240);
/// What was asked for is over, its last events are written.
const SETTLE: Duration = Duration::from_secs(20);
/// How long is measured: many passes of an operator that looks every few seconds.
const WINDOW: Duration = Duration::from_secs(120);
const AUDIT_LOG: &str = "/var/log/kubernetes/audit.log";
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Ten idle clusters of each operator, then one of ours under load.
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

/// What was seen in a window of time.
struct Cost {
    resident_mb: f64,
    cpu_percent: f64,
    writes_a_minute: f64,
    requests_a_minute: f64,
}

fn window(scene: &Scene<'_>, contender: &dyn Contender, what: &str) -> Result<Cost> {
    scene.stays(SETTLE, "what was asked for settles", || Ok(()))?;
    scene.say(format!("measuring {} for {} s: {what}", contender.title(), WINDOW.as_secs()));
    let control_plane = control_plane(scene.site)?;
    let (log_from, before, begun) =
        (log_bytes(scene.site, &control_plane)?, process(scene.site, contender)?, Instant::now());
    scene.stays(WINDOW, "nothing is asked for", || Ok(()))?;
    let (after, seconds) = (process(scene.site, contender)?, begun.elapsed().as_secs_f64());
    let log = scene.site.docker(&["exec", &control_plane, "tail", "-c", &format!("+{}", log_from + 1), AUDIT_LOG])?;
    let requests = requests(&log, contender.account());
    let writes = requests.iter().filter(|request| request.is_write()).count();
    for request in requests.iter().filter(|request| request.is_write()) {
        scene.say(format!("a write: {request:?}"));
    }
    Ok(Cost {
        resident_mb: after.resident_kb / 1024.0,
        cpu_percent: (after.cpu_s - before.cpu_s) / seconds * 100.0,
        writes_a_minute: writes as f64 / seconds * 60.0,
        requests_a_minute: requests.len() as f64 / seconds * 60.0,
    })
}

/// A request of the operator, without those for its Lease.
#[derive(Debug, PartialEq)]
struct Request {
    verb: String,
    resource: String,
    name: String,
}

impl Request {
    fn is_write(&self) -> bool {
        !["get", "list", "watch"].contains(&self.verb.as_str())
    }
}

/// The requests of this user in lines of the audit log.
fn requests(log: &str, account: &str) -> Vec<Request> {
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = events.filter(|event| event["user"]["username"] == account);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let request = |event: Value| Request {
        verb: text(&event["verb"]),
        resource: text(&event["objectRef"]["resource"]),
        name: text(&event["objectRef"]["name"]),
    };
    ours.map(request).filter(|request| request.resource != "leases").collect()
}

/// What the kernel says of the operator's process.
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
    for machine in machines(site)? {
        found.push_str(&site.docker(&["exec", &machine, "sh", "-c", &look])?);
    }
    let numbers: Vec<f64> = found.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    ensure!(numbers.len() == 4, "not one process {} on the machines: '{found}'", contender.process());
    Ok(Process { cpu_s: (numbers[1] + numbers[2]) / numbers[0], resident_kb: numbers[3] })
}

fn machines(site: &Site) -> Result<Vec<String>> {
    let nodes = site.api().list(Kind::Node, "", None)?;
    let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
    Ok(nodes.iter().filter_map(|node| node["metadata"]["name"].as_str()).map(String::from).collect())
}

fn control_plane(site: &Site) -> Result<String> {
    let name =
        site.kubectl(&["get", "nodes", "--selector", CONTROL_PLANE, "-o", "jsonpath={.items[0].metadata.name}"])?;
    Ok(name.trim().to_string())
}

fn log_bytes(site: &Site, control_plane: &str) -> Result<u64> {
    let bytes = site.docker(&["exec", control_plane, "stat", "-c", "%s", AUDIT_LOG])?;
    bytes.trim().parse().with_context(|| format!("the size of {AUDIT_LOG}: '{bytes}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_without_the_lease() {
        let line = |who: &str, verb: &str, resource: &str| {
            format!(
                r#"{{"user":{{"username":"{who}"}},"verb":"{verb}","objectRef":{{"resource":"{resource}","name":"x"}}}}"#
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
        assert_eq!(found.iter().filter(|request| request.is_write()).count(), 1);
    }
}
