//! Which crate may depend on which: what decides knows nothing that acts, and each program links what it needs.
//!
//! Enters: the manifests of the workspace's crates. Leaves: a finding for each dependency that the table here does not
//! have, and for each entry that no manifest has. The picture of it is in ARCHITECTURE.md. Dependencies of tests
//! (`dev-dependencies`) are not looked at: tests may reach anything.

use crate::{File, Finding};

/// What a crate may depend on.
struct Allowed {
    /// Folder of the crate.
    folder: &'static str,
    /// Crates of this workspace.
    ours: &'static [&'static str],
    /// Crates of others: all of them, or those that it must not have.
    others: Others,
}

enum Others {
    /// These and no more.
    Only(&'static [&'static str]),
    /// Anything but these, each with the reason.
    AllBut(&'static [(&'static str, &'static str)]),
}

const NO_IO: &[(&str, &str)] = &[];

const CRATES: &[Allowed] = &[
    Allowed { folder: "lib/api", ours: &[], others: Others::Only(&["serde", "serde_json"]) },
    Allowed { folder: "lib/judge", ours: &["raftkv-api"], others: Others::Only(&[]) },
    Allowed {
        folder: "lib/core",
        ours: &["raftkv-api"],
        others: Others::Only(&[
            "raft",
            "protobuf",
            "crc32c",
            "sha2",
            "twox-hash",
            "bytes",
            "serde",
            "serde_json",
            "thiserror",
            "slog",
            "tracing",
        ]),
    },
    Allowed {
        folder: "lib/client",
        ours: &["raftkv-api"],
        others: Others::AllBut(&[
            ("clap", "a client has no command line"),
            ("indicatif", "a client shows nothing"),
            ("kube", "a client speaks to nodes"),
        ]),
    },
    Allowed { folder: "crds", ours: &[], others: Others::AllBut(NO_IO) },
    Allowed {
        folder: "node",
        ours: &["raftkv-api", "raftkv-client", "raftkv-core", "raftkv-judge"],
        others: Others::AllBut(&[("kube", "a node knows nothing of Kubernetes")]),
    },
    Allowed {
        folder: "operator",
        ours: &["raftkv-api", "raftkv-client", "raftkv-crds", "raftkv-judge"],
        others: Others::AllBut(&[
            ("clap", "its flags are few, and every byte of it is resident in each cluster"),
            ("indicatif", "nobody watches its terminal"),
            ("sled", "data belong to nodes"),
            ("raft", "the operator asks nodes; it is no member"),
        ]),
    },
    Allowed {
        folder: "ctl",
        ours: &["raftkv-api", "raftkv-client", "raftkv-crds", "raftkv-judge"],
        others: Others::AllBut(&[("sled", "data belong to nodes"), ("raft", "a command line is no member")]),
    },
    Allowed {
        folder: "tests/sim",
        ours: &["raftkv-api", "raftkv-core"],
        others: Others::AllBut(&[
            ("tokio", "a simulated run has one thread and no clock"),
            ("sled", "the simulator has disks of its own"),
        ]),
    },
    Allowed { folder: "tests/cluster", ours: &["raftkv-api"], others: Others::AllBut(NO_IO) },
    Allowed {
        folder: "tests/fuzz",
        ours: &["raftkv-api", "raftkv-core", "raftkv-node", "raftkv-sim"],
        others: Others::AllBut(NO_IO),
    },
    Allowed { folder: "tests/chart", ours: &[], others: Others::AllBut(NO_IO) },
    Allowed {
        folder: "tests/e2e",
        ours: &["raftkv-api", "raftkv-client", "raftkv-crds"],
        others: Others::AllBut(NO_IO),
    },
    Allowed { folder: "tests/bench", ours: &["raftkv-api", "raftkv-cluster-tests"], others: Others::AllBut(NO_IO) },
    Allowed { folder: "tests/tidy", ours: &[], others: Others::Only(&[]) },
];

/// Every dependency that is not allowed, and every crate that is missing on either side.
pub(crate) fn check_tree(tree: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let manifests: Vec<&File> = tree.iter().filter(|file| file.path.ends_with("/Cargo.toml")).collect();
    for file in &manifests {
        let folder = file.path.trim_end_matches("/Cargo.toml");
        match CRATES.iter().find(|allowed| allowed.folder == folder) {
            Some(allowed) => findings.extend(check_manifest(file, allowed)),
            None => findings.push(finding(&file.path, 1, "say in tests/tidy/src/crates.rs what this crate may know")),
        }
    }
    let gone = CRATES.iter().filter(|allowed| !manifests.iter().any(|file| is_manifest_of(file, allowed.folder)));
    findings
        .extend(gone.map(|allowed| finding("tests/tidy/src/crates.rs", 1, &format!("no crate {}", allowed.folder))));
    findings
}

fn is_manifest_of(file: &File, folder: &str) -> bool {
    file.path.strip_suffix("/Cargo.toml") == Some(folder)
}

fn check_manifest(file: &File, allowed: &Allowed) -> Vec<Finding> {
    let dependencies = dependencies(&file.text);
    let mut findings = Vec::new();
    for (line, name) in &dependencies {
        if let Some(why) = why_not(allowed, name) {
            findings.push(finding(&file.path, *line, &why));
        }
    }
    let unused = allowed.ours.iter().filter(|ours| !dependencies.iter().any(|(_, name)| name == *ours));
    findings.extend(unused.map(|ours| {
        let advice = format!("{} does not depend on {ours}: take it out of the table", allowed.folder);
        finding("tests/tidy/src/crates.rs", 1, &advice)
    }));
    findings
}

fn why_not(allowed: &Allowed, name: &str) -> Option<String> {
    if name.starts_with("raftkv") {
        return (!allowed.ours.contains(&name)).then(|| format!("{} must not depend on {name}", allowed.folder));
    }
    match &allowed.others {
        Others::Only(names) => {
            (!names.contains(&name)).then(|| format!("{} depends on {names:?} alone, not on {name}", allowed.folder))
        }
        Others::AllBut(names) => {
            let why = names.iter().find(|(other, _)| *other == name)?.1;
            Some(format!("{} must not depend on {name}: {why}", allowed.folder))
        }
    }
}

/// The names under `[dependencies]`, with their lines.
fn dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut section = "";
    let mut found = Vec::new();
    for (number, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            section = line.trim();
        } else if section == "[dependencies]" && !line.trim_start().starts_with('#') {
            let name: String = line.chars().take_while(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect();
            if !name.is_empty() {
                found.push((number + 1, name));
            }
        }
    }
    found
}

fn finding(path: &str, line: usize, advice: &str) -> Finding {
    Finding { path: path.to_string(), line, rule: "crates", advice: advice.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree in which every crate has what the table says, and `text` more in that of `folder`.
    fn found(folder: &str, text: &str) -> Vec<String> {
        let manifest = |allowed: &Allowed| {
            let ours: String = allowed.ours.iter().map(|name| format!("{name}.workspace = true\n")).collect();
            let more = if allowed.folder == folder { text } else { "" };
            let text = format!("[package]\n[dependencies]\n{ours}{more}");
            File { path: format!("{}/Cargo.toml", allowed.folder), text }
        };
        let tree: Vec<File> = CRATES.iter().map(manifest).collect();
        check_tree(&tree).into_iter().map(|finding| format!("{}: {}", finding.path, finding.advice)).collect()
    }

    #[test]
    fn control_what_acts_is_flagged_in_what_decides() {
        assert_eq!(found("", ""), Vec::<String>::new());
        for name in ["tokio", "sled", "hyper", "axum", "prometheus", "raftkv-node"] {
            assert_eq!(found("lib/core", &format!("{name}.workspace = true\n")).len(), 1, "{name}");
        }
        assert_eq!(found("operator", "clap.workspace = true\n").len(), 1);
        assert_eq!(found("tests/sim", "raftkv-node.workspace = true\n").len(), 1);
        assert_eq!(found("ctl", "tokio = { workspace = true, features = [\"net\"] }\n"), Vec::<String>::new());
        assert_eq!(found("lib/core", "[dev-dependencies]\ntokio.workspace = true\n"), Vec::<String>::new());
    }

    #[test]
    fn control_an_unknown_crate_and_a_missing_one_are_flagged() {
        let new = File { path: "lib/new/Cargo.toml".to_string(), text: String::new() };
        let advice = check_tree(&[new]).into_iter().filter(|finding| finding.path == "lib/new/Cargo.toml");
        assert_eq!(advice.count(), 1);
        assert_eq!(check_tree(&[]).len(), CRATES.len());
    }
}
