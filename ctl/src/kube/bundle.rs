//! `report`: what others need to look into a problem, in one archive, without Secrets, keys and values.
//!
//! What cannot be read is named in the archive and does not end the report: it is made when something is wrong. Sizes
//! are bounded, and every file comes through [`redact`]. Nothing is sent anywhere.

use crate::kube::args::Report;
use crate::kube::context::Kube;
use crate::kube::failed::KubeFailed;
use crate::kube::find;
use crate::kube::judge::judge;
use crate::kube::kubectl::{Kubectl, KubectlError};
use crate::kube::objects::{OPERATOR_SELECTOR, is_claim_of, is_pod_of, selector_of};
use crate::kube::seen::{Nodes, Seen};
use crate::kube::status::Lookout;
use crate::kube::tar::Archive;
use crate::kube::{redact, screen};
use crate::report::Failed;
use crate::streams::print;
use crate::table::bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use raftkv_client::admin::NodeStatus;
use raftkv_client::http::{Call, Endpoint};
use raftkv_crds::CLUSTERS;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most bytes of one log; of a longer one the end is kept.
const LOG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a node may take to list its metrics.
const METRICS_TIMEOUT_MS: u64 = 5_000;
/// The container with the node.
const CONTAINER: &str = "raftkv";
/// Kinds of children, each of which gets a file; volume claims are read by name, since foreign ones need not be labelled.
const CHILDREN: &[&str] =
    &["statefulsets.apps", "pods", "services", "endpointslices.discovery.k8s.io", "poddisruptionbudgets.policy"];

pub(crate) async fn report(kube: &Kube, args: Report) -> Result<(), KubeFailed> {
    let mut lookout = Lookout::new(kube, args.cluster.name.clone());
    let seen = lookout.look().await?;
    let kubectl = kube.kubectl.in_namespace(&seen.cluster.metadata.namespace);
    let folder = folder(&seen);
    let mut bundle = Bundle::new(secrets(&kubectl, &seen.cluster.metadata.name).await?);
    bundle.seen(&seen);
    bundle.objects(&kubectl, &seen.cluster.metadata.name).await;
    bundle.machines(&kubectl, &seen).await;
    bundle.operator(&kubectl, args.log_lines).await;
    bundle.nodes(&kubectl, &lookout, &seen, args.log_lines).await;
    bundle.versions(&kubectl).await;
    let read_me = bundle.read_me(&seen);
    bundle.text("README.txt", &read_me);
    let packed = pack(&bundle.files, &folder, seen.now)?;
    let file = args.output.unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    if file == Path::new("-") {
        return Ok(print(&packed)?);
    }
    save(&file, &packed)?;
    let size = bytes(packed.len() as u64);
    let told = format!("{read_me}\n{} is written, {size}. Look through it before you hand it on.\n", file.display());
    Ok(print(told.as_bytes())?)
}

/// `raftkv-report-demo-20260101T000000Z`.
fn folder(seen: &Seen) -> String {
    format!("raftkv-report-{}-{}", seen.cluster.metadata.name, seen.now.strftime("%Y%m%dT%H%M%SZ"))
}

/// The tokens that must not be in the report, as text and as the Secret has them. A user who may not read the Secret has
/// no token, and whatever looks like one is taken out anyway.
async fn secrets(kubectl: &Kubectl, cluster: &str) -> Result<Vec<String>, KubeFailed> {
    use base64::Engine;
    let text = match find::token_text(kubectl, cluster).await {
        Ok(text) => text,
        Err(KubeFailed::Kubectl(_) | KubeFailed::Token { .. }) => return Ok(Vec::new()),
        Err(other) => return Err(other),
    };
    let coded = base64::engine::general_purpose::STANDARD.encode(&text);
    let lines = text.lines().map(|line| line.trim().to_string());
    Ok(lines.chain([coded]).filter(|secret| !secret.is_empty()).collect())
}

/// Files by name, and what could not be read.
struct Bundle {
    files: BTreeMap<String, Vec<u8>>,
    missing: Vec<String>,
    secrets: Vec<String>,
    /// Lines of logs that were left out because they may hold keys and values.
    fine_lines: usize,
}

impl Bundle {
    fn new(secrets: Vec<String>) -> Self {
        Bundle { files: BTreeMap::new(), missing: Vec::new(), secrets, fine_lines: 0 }
    }

    /// The only way in.
    fn text(&mut self, name: &str, text: &str) {
        self.files.insert(name.to_string(), redact::tokens(text, &self.secrets).into_bytes());
    }

    fn json(&mut self, name: &str, value: &impl Serialize) {
        let mut value = serde_json::to_value(value).expect("structs of strings and numbers always serialize");
        redact::object(&mut value);
        let text = serde_json::to_string_pretty(&value).expect("a JSON value always serializes");
        self.text(name, &(text + "\n"));
    }

    fn read(&mut self, name: &str, read: Result<Value, KubectlError>) {
        match read {
            Ok(value) => self.json(name, &value),
            Err(error) => self.missing.push(format!("{name}: {error}")),
        }
    }

    /// The screen of `status`, and what the nodes said for it.
    fn seen(&mut self, seen: &Seen) {
        let shown = judge(seen);
        self.text("status.txt", &screen::text(&shown));
        self.json("status.json", &shown);
        match &seen.nodes {
            Nodes::NotAsked(why) => self.missing.push(format!("nodes/: {why}")),
            Nodes::Asked(nodes, members) => {
                nodes.iter().for_each(|node| self.node(node));
                if let Some(members) = members {
                    self.json("members.json", members);
                }
            }
        }
    }

    fn node(&mut self, node: &NodeStatus) {
        let name = format!("nodes/{}.status.json", node.url);
        match &node.status {
            Ok(status) => self.json(&name, status),
            Err(error) => self.missing.push(format!("{name}: {error}")),
        }
    }

    async fn objects(&mut self, kubectl: &Kubectl, cluster: &str) {
        let object = kubectl.json(&["get", CLUSTERS, cluster]).await;
        self.read("objects/raftkvcluster.json", object);
        let selector = selector_of(cluster);
        for kind in CHILDREN {
            let list = kubectl.json(&["get", kind, "--selector", &selector]).await;
            let name = kind.split('.').next().unwrap_or(kind);
            self.read(&format!("objects/{name}.json"), list);
        }
        let claims = kubectl.json(&["get", "persistentvolumeclaims"]).await;
        let ours = |item: &Value| is_claim_of(item["metadata"]["name"].as_str().unwrap_or_default(), cluster);
        let claims = claims.map(|list| only(list, ours));
        let volumes = claims.as_ref().ok().map(|list| texts(list, "/spec/volumeName")).unwrap_or_default();
        self.read("objects/persistentvolumeclaims.json", claims);
        if !volumes.is_empty() {
            let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
            let read = kubectl.json(&[&["get", "persistentvolumes"], &volumes[..]].concat()).await;
            self.read("objects/persistentvolumes.json", read);
        }
        let events = kubectl.json(&["get", "events"]).await;
        let concerns = |item: &Value| {
            let name = item["involvedObject"]["name"].as_str().unwrap_or_default();
            name == cluster
                || is_pod_of(name, cluster)
                || is_claim_of(name, cluster)
                || name.starts_with(&format!("{cluster}-"))
        };
        self.read("objects/events.json", events.map(|list| only(list, concerns)));
    }

    /// The machines that the pods are on; their lists of images say nothing here and are long.
    async fn machines(&mut self, kubectl: &Kubectl, seen: &Seen) {
        let pods = seen.pods.as_deref().unwrap_or_default();
        let mut names: Vec<&str> = pods.iter().filter_map(|pod| pod.spec.node_name.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return;
        }
        let mut read = kubectl.json::<Value>(&[&["get", "nodes"], &names[..]].concat()).await;
        if let Ok(value) = &mut read {
            without_images(value);
        }
        self.read("objects/machines.json", read);
    }

    async fn operator(&mut self, kubectl: &Kubectl, lines: u32) {
        let everywhere = ["--all-namespaces", "--selector", OPERATOR_SELECTOR];
        let deployments = kubectl.json(&[&["get", "deployments.apps"], &everywhere[..]].concat()).await;
        self.read("operator/deployments.json", deployments);
        let pods = kubectl.json::<Value>(&[&["get", "pods"], &everywhere[..]].concat()).await;
        let find = |pointer: &str| pods.as_ref().ok().map(|list| texts(list, pointer)).unwrap_or_default();
        let (namespaces, names) = (find("/metadata/namespace"), find("/metadata/name"));
        self.read("operator/pods.json", pods);
        if let Some(namespace) = namespaces.first() {
            let leases = kubectl.in_namespace(namespace).json(&["get", "leases.coordination.k8s.io"]).await;
            self.read("operator/leases.json", leases);
        }
        for (namespace, pod) in namespaces.into_iter().zip(names) {
            let there = kubectl.in_namespace(&namespace);
            self.log(&there, &pod, &[], &format!("operator/{namespace}.{pod}"), lines).await;
        }
    }

    /// What the node in each pod says, and its log.
    async fn nodes(&mut self, kubectl: &Kubectl, lookout: &Lookout<'_>, seen: &Seen, lines: u32) {
        for pod in seen.pods.as_deref().unwrap_or_default() {
            let name = &pod.metadata.name;
            self.log(kubectl, name, &["--container", CONTAINER], &format!("nodes/{name}"), lines).await;
            let Some(url) = lookout.admin_url(&pod.metadata.uid) else { continue };
            let file = format!("nodes/{name}.metrics.txt");
            match metrics(&url).await {
                Ok(text) => self.text(&file, &text),
                Err(why) => self.missing.push(format!("{file}: {why}")),
            }
        }
    }

    /// The log of a container, and that of the one before it if it was restarted.
    async fn log(&mut self, kubectl: &Kubectl, pod: &str, container: &[&str], name: &str, lines: u32) {
        let tail = lines.to_string();
        for (previous, file) in
            [(&[][..], format!("{name}.log")), (&["--previous"][..], format!("{name}.previous.log"))]
        {
            let args = [&["logs", pod, "--tail", &tail], container, previous].concat();
            match kubectl.run(&args).await {
                Ok(bytes) => {
                    let (kept, dropped) = redact::log(&String::from_utf8_lossy(end(&bytes)));
                    self.fine_lines += dropped;
                    self.text(&file, &kept);
                }
                // Most containers have none before them.
                Err(_) if !previous.is_empty() => {}
                Err(error) => self.missing.push(format!("{file}: {error}")),
            }
        }
    }

    async fn versions(&mut self, kubectl: &Kubectl) {
        let kubernetes = kubectl.json::<Value>(&["version"]).await;
        let told = kubernetes.unwrap_or_else(|error| json!({"error": error.to_string()}));
        self.json("versions.json", &json!({"raftkvctl": env!("CARGO_PKG_VERSION"), "kubernetes": told}));
    }

    /// What is in it, what is not, and what could not be read.
    fn read_me(&self, seen: &Seen) -> String {
        let meta = &seen.cluster.metadata;
        let mut text = format!("Report on RaftKvCluster {}/{} at ", meta.namespace, meta.name);
        text.push_str(&format!("{}\n\nFiles:\n", seen.now.strftime("%Y-%m-%dT%H:%M:%SZ")));
        for (name, contents) in &self.files {
            text.push_str(&format!("  {name}, {}\n", bytes(contents.len() as u64)));
        }
        text.push_str(
            "\nLeft out: Secrets; tokens; keys and values; variables of containers that are not raftkv's own",
        );
        if self.fine_lines > 0 {
            text.push_str(&format!("; {} log lines at debug or trace, which may hold values", self.fine_lines));
        }
        text.push_str(".\nIn it: names of objects, machines and images, their addresses, and what logs say.\n");
        if !self.missing.is_empty() {
            text.push_str("\nCould not be read:\n");
            text.extend(self.missing.iter().map(|missing| format!("  {missing}\n")));
        }
        text
    }
}

/// Takes the images out of the status of one machine, or of a list of them.
fn without_images(machines: &mut Value) {
    if let Some(items) = machines["items"].as_array_mut() {
        return items.iter_mut().for_each(without_images);
    }
    if let Some(status) = machines["status"].as_object_mut() {
        status.remove("images");
    }
}

/// A list without the items that do not concern the cluster.
fn only(mut list: Value, concerns: impl Fn(&Value) -> bool) -> Value {
    if let Some(items) = list["items"].as_array_mut() {
        items.retain(|item| concerns(item));
    }
    list
}

/// This field of each item that has it.
fn texts(list: &Value, pointer: &str) -> Vec<String> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| Some(item.pointer(pointer)?.as_str()?.to_string())).collect()
}

/// The end of a log that is too long, from the beginning of a line on.
fn end(log: &[u8]) -> &[u8] {
    let Some(excess) = log.len().checked_sub(LOG_BYTES_MAX) else { return log };
    let tail = &log[excess..];
    tail.iter().position(|byte| *byte == b'\n').map_or(tail, |newline| &tail[newline + 1..])
}

async fn metrics(url: &str) -> Result<String, String> {
    let endpoint = Endpoint::new(url).map_err(|error| error.to_string())?;
    let call = endpoint.call(&Call::get("/metrics"), Duration::from_millis(METRICS_TIMEOUT_MS)).await;
    call.map(|answer| String::from_utf8_lossy(&answer.body).into_owned()).map_err(|error| error.to_string())
}

fn pack(files: &BTreeMap<String, Vec<u8>>, folder: &str, now: Timestamp) -> Result<Vec<u8>, Failed> {
    let mut archive = Archive::new(now.as_second());
    for (name, contents) in files {
        archive.add(&format!("{folder}/{name}"), contents);
    }
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(&archive.finish()).and_then(|()| packer.finish()).map_err(Failed::io("the archive"))
}

/// The file gets its name when it is complete, and its owner alone may read it.
fn save(file: &Path, packed: &[u8]) -> Result<(), Failed> {
    let mut partial = file.as_os_str().to_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let told = |path: &Path| Failed::io(path.display().to_string());
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .map_err(told(&partial))?;
    out.write_all(packed).and_then(|()| out.sync_all()).map_err(told(&partial))?;
    std::fs::rename(&partial, file).map_err(told(file))
}
