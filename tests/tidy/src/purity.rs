//! Which module may name what: PURE modules reach no clock, no disk, no network, no thread and no randomness; sled
//! stays in one file; the HTTP API knows neither raft nor storage engines.
//!
//! The simulator runs the PURE modules bit for bit from a seed. With one stray `Instant::now()` in them, a seed would
//! not mean one run.

use crate::Finding;
use crate::imports::lines_that_reach;
use crate::source::{Source, word_places};

/// Modules that decide and never act; a file can also declare itself PURE. Every entry must match a file, so that a
/// renamed module does not escape its rule.
pub const PURE: &[&str] =
    &["lib/api/src", "lib/core/src", "lib/judge/src", "operator/src/plan", "operator/src/resources"];

const IMPURE_PATHS: &[(&str, &str)] = &[
    ("std::time::Instant", "time is a Tick event"),
    ("std::time::SystemTime", "time is a Tick event"),
    ("std::thread", "raft_node owns the threads"),
    ("std::fs", "files are reached through LogDisk"),
    ("std::net::TcpListener", "the transport owns the sockets"),
    ("std::net::TcpStream", "the transport owns the sockets"),
    ("std::net::UdpSocket", "the transport owns the sockets"),
    ("std::net::ToSocketAddrs", "it asks DNS; names are looked up by the transport"),
    ("std::process", "the edge decides when the process ends"),
    ("std::env", "configuration is passed in"),
    ("std::collections::HashMap", "its order differs from run to run; use BTreeMap"),
    ("std::collections::HashSet", "its order differs from run to run; use BTreeSet"),
    ("rand", "random numbers and ids are passed in"),
    ("tokio", "PURE code is called by threads and tasks, it is none"),
    ("rustix", "the operating system is reached through LogDisk"),
];

const IMPURE_WORDS: &[&str] = &["async", "await"];

/// (module, path it must not reach, advice).
const WALLS: &[(&str, &str, &str)] = &[
    ("lib/core/src", "std::net", "an address is text to what decides"),
    ("node/src/httpapi", "raft", "raft types end at the node handle; use the words of types.rs or raftkv-api"),
    ("node/src/httpapi", "sled", "handlers read through kvstore::View"),
    ("node/src/httpapi", "protobuf", "nothing on the client's side is protobuf"),
    ("operator/src/plan", "kube", "a plan is made from Observed alone, which observe makes"),
    ("lib/core/src/kvstore", "raft", "apply gets Committed, which the driver makes from raft's entries"),
];

/// The one module that may name sled.
const SLED_MODULE: &str = "node/src/disk/sled_home";

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    if source.is_test_file() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut report = |line, rule, advice| findings.push(Finding { path: source.path.clone(), line, rule, advice });
    let is_sled_module = source.is_in(SLED_MODULE);
    let is_pure = PURE.iter().any(|module| source.is_in(module)) || says_pure(source);
    if is_pure && !is_sled_module {
        for (path, instead) in IMPURE_PATHS {
            lines_that_reach(source, path)
                .into_iter()
                .for_each(|line| report(line, "pure", format!("this file is PURE and reaches {path}: {instead}")));
        }
        for word in IMPURE_WORDS {
            let lines = source.code_lines().filter(|(_, code)| word_places(code, word).next().is_some());
            lines.for_each(|(line, _)| report(line, "pure", format!("this file is PURE and is {word}: make it sync")));
        }
    }
    for (_, path, instead) in WALLS.iter().filter(|(module, _, _)| source.is_in(module)) {
        lines_that_reach(source, path)
            .into_iter()
            .for_each(|line| report(line, "wall", format!("this module must not name {path}: {instead}")));
    }
    if !is_sled_module {
        lines_that_reach(source, "sled").into_iter().for_each(|line| {
            report(line, "wall", format!("sled is named in {SLED_MODULE} alone; use KvDisk or KvHome"))
        });
    }
    findings
}

/// Whether the file binds itself to the rule by `PURE.` in its `//!` header.
fn says_pure(source: &Source) -> bool {
    let header = source.lines.iter().take_while(|line| line.comment.starts_with("//!"));
    header.into_iter().any(|line| line.comment.contains("PURE."))
}

/// Every module in the lists must exist.
pub(crate) fn check_lists(sources: &[Source]) -> Vec<Finding> {
    let listed = PURE.iter().chain(WALLS.iter().map(|(module, _, _)| module));
    let missing = listed.filter(|module| !sources.iter().any(|source| source.is_in(module)));
    let mut findings: Vec<Finding> = missing
        .map(|module| Finding {
            path: "tests/tidy/src/purity.rs".to_string(),
            line: 1,
            rule: "stale-list",
            advice: format!("no file is the module {module}: name the module that took its place"),
        })
        .collect();
    findings.dedup();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(&Source::parse(path, text)).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn control_each_impure_path_is_flagged_in_a_pure_file_and_only_there() {
        for (path, _) in IMPURE_PATHS {
            let text = format!("fn f() {{ {path}::x() }}\n");
            assert_eq!(rules("operator/src/plan/mod.rs", &text), ["pure"], "{path}");
            assert!(rules("lib/core/src/membership.rs", &text).contains(&"pure"), "{path}");
            assert_eq!(rules("node/src/raft_node/mod.rs", &text), Vec::<&str>::new(), "{path}");
        }
        assert_eq!(rules("lib/core/src/kvstore/apply.rs", "async fn f() {}"), ["pure"]);
        assert_eq!(rules("lib/core/src/driver/mod.rs", "use std::collections::{BTreeMap, HashMap};"), ["pure"]);
    }

    #[test]
    fn control_a_file_that_calls_itself_pure_is_held_to_it() {
        let text = "//! What is lacking. PURE.\nuse std::fs;\n";
        assert_eq!(rules("node/src/dev/form.rs", text), ["pure"]);
        assert_eq!(rules("node/src/dev/form.rs", &text.replace("PURE.", "")), Vec::<&str>::new());
    }

    #[test]
    fn tests_of_a_pure_file_may_reach_anything() {
        let text = "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(rules("lib/core/src/driver/mod.rs", text), Vec::<&str>::new());
        assert_eq!(rules("lib/core/src/driver/tests.rs", "use std::fs;"), Vec::<&str>::new());
    }

    #[test]
    fn control_each_wall_stands() {
        for (module, path, _) in WALLS {
            let found = rules(&format!("{module}/mod.rs"), &format!("use {path}::Thing;"));
            assert!(found.contains(&"wall"), "{module} names {path}");
        }
        assert_eq!(rules("node/src/process/open.rs", "fn f(db: sled::Db) {}"), ["wall"]);
        assert_eq!(rules("node/src/disk/sled_home.rs", "fn f(db: sled::Db) {}"), Vec::<&str>::new());
    }

    #[test]
    fn control_a_listed_module_that_is_gone_is_flagged() {
        let modules: Vec<Source> = PURE
            .iter()
            .chain(WALLS.iter().map(|(module, _, _)| module))
            .map(|m| Source::parse(&format!("{m}.rs"), ""))
            .collect();
        assert_eq!(check_lists(&modules), []);
        assert_eq!(check_lists(&modules[1..]).len(), 1);
    }
}
