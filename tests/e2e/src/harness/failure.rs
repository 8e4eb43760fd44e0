//! What is kept of a scenario that failed, and the few lines of it that are printed.

use crate::harness::load_pod;
use crate::harness::operator::Operator;
use crate::harness::scene::Scene;
use crate::harness::site::Site;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a log that are kept.
const LOG_LINES: u32 = 400;
/// Lines of a file that are printed, and characters that are printed of each.
const PRINTED_LINES: usize = 15;
const PRINTED_CHARS: usize = 300;

/// Deletes what an earlier run of the scenario left.
pub fn clear(site: &Site, scenario: &str) -> Result<()> {
    let directory = directory(site, scenario);
    if directory.exists() { Ok(fs::remove_dir_all(directory)?) } else { Ok(()) }
}

/// Writes down what can be seen, at the first call only: that is when a wait ends in vain, before the guards of the
/// scenario undo what it disturbed.
pub fn keep(site: &Site, scenario: &str, error: &anyhow::Error) -> Result<()> {
    let directory = directory(site, scenario);
    if directory.exists() { Ok(()) } else { write_all(site, scenario, &directory, error) }
}

/// The text to print about the failure.
pub fn tell(site: &Site, scenario: &str, error: &anyhow::Error) -> String {
    let directory = directory(site, scenario);
    let mut text = format!("FAILED {scenario}: {error:#}\n");
    for (title, file) in [("status", "clusters.txt"), ("last events", "events.txt"), ("operator", "operator.log")] {
        let content = fs::read_to_string(directory.join(file)).unwrap_or_default();
        text.push_str(&format!("  {title}:\n{}", excerpt(&content, scenario, file == "operator.log")));
    }
    text.push_str(&format!("  all that was kept: {}\n", directory.display()));
    text.push_str(&format!("  the cluster:        {}\n", site.shell_prefix()));
    text.push_str(&format!("  again:              cargo test -p raftkv-e2e --test e2e -- {scenario}\n"));
    text
}

fn directory(site: &Site, scenario: &str) -> PathBuf {
    site.repo().join("target/e2e/failures").join(scenario)
}

/// The last lines; from a log that all scenarios share, only those about this one.
fn excerpt(content: &str, scenario: &str, is_shared: bool) -> String {
    let ours = |line: &&str| !is_shared || line.contains(&format!("e2e-{scenario}"));
    let lines: Vec<&str> = content.lines().filter(ours).collect();
    let shown = &lines[lines.len().saturating_sub(PRINTED_LINES)..];
    let line = |line: &&str| format!("    {}\n", line.chars().take(PRINTED_CHARS).collect::<String>());
    shown.iter().map(line).collect()
}

fn write_all(site: &Site, scenario: &str, directory: &Path, error: &anyhow::Error) -> Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("why.txt"), format!("{error:#}\n"))?;
    fs::write(directory.join("operator.log"), or_why(Operator::of(site).log(LOG_LINES)))?;
    fs::write(directory.join("operator.before-restart.log"), or_why(Operator::of(site).log_before_restart(LOG_LINES)))?;
    fs::write(directory.join("machines.txt"), or_why(site.kubectl(&["describe", "nodes"])))?;
    let namespaces = Scene::namespaces(site, scenario)?;
    for namespace in &namespaces {
        let file = |name: &str| file(directory, namespace, namespaces.len(), name);
        let get = |args: &[&str]| or_why(site.kubectl(&[&["-n", namespace], args].concat()));
        fs::write(file("clusters.txt"), get(&["get", "rkv", "-o", "wide"]))?;
        fs::write(file("clusters.yaml"), get(&["get", "rkv", "-o", "yaml"]))?;
        fs::write(file("describe.txt"), get(&["describe", "rkv,sts,pods,pvc,pdb,svc"]))?;
        fs::write(file("events.txt"), get(&["get", "events", "--sort-by=.metadata.creationTimestamp"]))?;
        fs::write(file("objects.yaml"), get(&["get", "sts,pods,pvc,pdb,svc", "-o", "yaml"]))?;
        for pod in get(&["get", "pods", "-o", "name"]).lines().filter_map(|line| line.strip_prefix("pod/")) {
            let tail = format!("--tail={LOG_LINES}");
            fs::write(file(&format!("{pod}.log")), get(&["logs", pod, "--timestamps", &tail]))?;
            if pod.starts_with(load_pod::PREFIX) {
                fs::write(file(&format!("{pod}.json")), or_why(load_pod::raw_report(site, namespace, pod)))?;
            }
            let before =
                site.try_kubectl(&["-n", namespace, "logs", pod, "--previous", "--timestamps", &tail], None)?;
            if before.success {
                fs::write(file(&format!("{pod}.before-restart.log")), before.stdout)?;
            }
        }
    }
    Ok(())
}

/// The files of a second namespace get a prefix, so that they are told apart.
fn file(directory: &Path, namespace: &str, namespaces: usize, name: &str) -> PathBuf {
    let second = namespaces > 1 && namespace.ends_with("-2");
    directory.join(if second { format!("second-{name}") } else { name.to_string() })
}

fn or_why(result: Result<String>) -> String {
    result.unwrap_or_else(|error| format!("{error:#}\n"))
}
