//! The rules of the house as code: what clippy cannot check in this tree, with one finding per broken rule.
//!
//! Enters: every file below the repository's root. Leaves: findings, each with file, line, rule and what to do.
//! `tests/house.rs` runs the rules over the real tree. Here each rule stands beside its positive control, a snippet
//! that it must flag, since a rule that cannot fire proves nothing.
//!
//! ```text
//!   tree ──► Source (code, comments and test regions told apart) ──► rules ──► findings ──► exceptions
//! ```
//!
//! # Caveats
//! The scanner knows comments, literals and braces, but no types: a rule about a method sees its name, not its
//! receiver.

mod calls;
mod crates;
mod files;
mod imports;
mod picture;
mod purity;
mod size;
mod source;
mod tree;
mod words;

pub use files::File;
pub use size::long_files;
pub use source::Source;
pub use tree::read_tree;

use std::fmt;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path from the repository's root.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// The rule's short name, as exceptions use it.
    pub rule: &'static str,
    /// What is wrong, and what to do.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.advice)
    }
}

/// A file that is excused from one rule.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// The rule's short name.
    pub rule: &'static str,
    /// Path from the repository's root.
    pub path: &'static str,
    /// Why the rule's own reason does not hold there.
    pub reason: &'static str,
}

/// Applies every rule to every file. An exception that excuses nothing is a finding too, so that the list stays true.
pub fn check(tree: &[File], exceptions: &[Exception]) -> Vec<Finding> {
    let sources: Vec<Source> = tree.iter().filter(|file| file.is_rust()).map(File::source).collect();
    let mut findings: Vec<Finding> = sources.iter().flat_map(check_source).collect();
    findings.extend(tree.iter().flat_map(files::check));
    findings.extend(purity::check_lists(&sources));
    findings.extend(calls::check_tree(&sources));
    findings.extend(crates::check_tree(tree));
    findings.extend(picture::check_tree(tree));
    let excused = |finding: &Finding, e: &Exception| e.rule == finding.rule && e.path == finding.path;
    let stale = exceptions.iter().filter(|e| !findings.iter().any(|finding| excused(finding, e)));
    let stale: Vec<Finding> = stale.map(stale_exception).collect();
    findings.retain(|finding| !exceptions.iter().any(|e| excused(finding, e)));
    findings.extend(stale);
    findings.sort();
    findings
}

fn stale_exception(exception: &Exception) -> Finding {
    Finding {
        path: exception.path.to_string(),
        line: 1,
        rule: "stale-exception",
        advice: format!("the exception from '{}' excuses nothing: delete it", exception.rule),
    }
}

fn check_source(source: &Source) -> Vec<Finding> {
    let rules = [size::check, purity::check, calls::check, words::check];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree_with(text: &str) -> Vec<File> {
        vec![File { path: "node/src/edge.rs".to_string(), text: format!("//! An edge file of the node.\n{text}") }]
    }

    fn rules(findings: &[Finding]) -> Vec<&str> {
        findings.iter().filter(|f| !["stale-list", "crates"].contains(&f.rule)).map(|f| f.rule).collect()
    }

    #[test]
    fn a_finding_names_file_line_rule_and_what_to_do() {
        let findings = check(&tree_with("fn f() { todo!() }\n"), &[]);
        let shown = findings.iter().map(ToString::to_string).find(|text| text.contains("[stub]"));
        assert!(shown.is_some_and(|text| text.starts_with("node/src/edge.rs:2: [stub] ")), "{findings:?}");
    }

    #[test]
    fn an_exception_excuses_its_rule_in_its_file_and_nothing_else() {
        let excuse = |rule| [Exception { rule, path: "node/src/edge.rs", reason: "a control" }];
        let text = "fn f() { todo!() }\n";
        assert_eq!(rules(&check(&tree_with(text), &excuse("stub"))), Vec::<&str>::new());
        assert_eq!(rules(&check(&tree_with(text), &excuse("sleep"))), ["stale-exception", "stub"]);
    }
}
