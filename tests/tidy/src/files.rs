//! Rules about files as such: a Rust file begins with a header that says what it is, manifests share versions and
//! lints, and nothing depends on a path of somebody's machine.

use crate::{Finding, Source};

/// A text file of the tree.
#[derive(Clone, Debug)]
pub struct File {
    /// Path from the repository's root, with `/`.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// Each is written in two halves, since this file is checked too.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// A first line that is shorter than this says nothing.
const HEADER_CHARS_MIN: usize = 20;

impl File {
    /// Whether the rules for Rust apply.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The file, scanned.
    pub fn source(&self) -> Source {
        Source::parse(&self.path, &self.text)
    }
}

pub(crate) fn check(file: &File) -> Vec<Finding> {
    let mut findings = machine_paths(file);
    if file.is_rust() {
        findings.extend(header(file));
    }
    if file.path.ends_with("/Cargo.toml") {
        findings.extend(manifest(file));
    }
    findings
}

fn finding(file: &File, line: usize, rule: &'static str, advice: String) -> Finding {
    Finding { path: file.path.clone(), line, rule, advice }
}

fn header(file: &File) -> Option<Finding> {
    let first = file.text.lines().next().unwrap_or_default();
    let says_something = first.starts_with("//! ") && first.len() >= HEADER_CHARS_MIN;
    let advice = "starts with no `//!` header: say what enters, what leaves and what the file must never do";
    (!says_something).then(|| finding(file, 1, "header", advice.to_string()))
}

fn machine_paths(file: &File) -> Vec<Finding> {
    let lines = file.text.lines().enumerate();
    let found = lines.flat_map(|(number, line)| {
        MACHINE_PATHS.iter().filter(|path| line.contains(**path)).map(move |path| (number + 1, *path))
    });
    found
        .map(|(line, path)| finding(file, line, "machine-path", format!("'{path}' exists on somebody's machine only")))
        .collect()
}

/// Versions stand only in the root manifest, and every crate is under the workspace's lints.
fn manifest(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut section = "";
    let mut has_lints = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            section = line.trim();
            has_lints |= section == "[lints]";
        } else if section.ends_with("dependencies]") && line.contains('=') && !line.contains("workspace = true") {
            let advice = "a version outside the root Cargo.toml: put it there and write `.workspace = true` here";
            findings.push(finding(file, number + 1, "manifest", advice.to_string()));
        }
    }
    if !has_lints {
        findings.push(finding(file, 1, "manifest", "no `[lints] workspace = true`".to_string()));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        let file = File { path: path.to_string(), text: text.to_string() };
        check(&file).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn control_a_file_without_a_header_is_flagged() {
        assert_eq!(rules("a.rs", "//! Frames of a peer stream.\n"), Vec::<&str>::new());
        for text in ["", "use a;\n", "// Frames of a peer stream.\n", "//! x\n"] {
            assert_eq!(rules("a.rs", text), ["header"], "{text}");
        }
    }

    #[test]
    fn control_each_machine_path_is_flagged_in_every_kind_of_file() {
        for path in MACHINE_PATHS {
            assert_eq!(rules("README.md", &format!("see {path}x\n")), ["machine-path"], "{path}");
        }
        assert_eq!(rules("README.md", "see the homework/ and the root/\n"), Vec::<&str>::new());
    }

    #[test]
    fn control_a_version_or_missing_lints_in_a_members_manifest_is_flagged() {
        let good = "[lints]\nworkspace = true\n\n[dependencies]\nserde.workspace = true\n";
        assert_eq!(rules("lib/api/Cargo.toml", good), Vec::<&str>::new());
        assert_eq!(rules("lib/api/Cargo.toml", &format!("{good}bytes = \"1\"\n")), ["manifest"]);
        assert_eq!(rules("lib/api/Cargo.toml", "[dependencies]\n"), ["manifest"]);
    }
}
