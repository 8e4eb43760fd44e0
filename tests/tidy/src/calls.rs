//! Flags calls and macros that must not appear anywhere in the tree, although they compile.
//!
//! Enters: one scanned file, or all of them. Leaves: findings. raft's synchronous `advance` family claims that entries
//! are durable and applied when they are not: the node drives raft only by `advance_append_async`, `on_persist_ready`
//! and `advance_apply_to`. The other rules keep stubs, debug prints, skipped tests and waits by the clock out of the
//! tree.

use crate::Finding;
use crate::source::{Source, word_places};

/// (text in the code, rule, advice); these hold in every file.
const EVERYWHERE: &[(&str, &str, &str)] = &[
    ("todo!", "stub", "write it, or leave the item out until it is written"),
    ("unimplemented!", "stub", "write it, or leave the item out until it is written"),
    ("dbg!", "debug-print", "use tracing, or delete it"),
    ("#[ignore", "ignored-test", "a test runs or does not exist; what is slow gets its own make target"),
    (".advance_append(", "raft-advance", "it waits for no disk; use advance_append_async and on_persist_ready"),
    (".advance_apply(", "raft-advance", "it claims that all is applied; use advance_apply_to(index)"),
    ("LeaseBased", "lease-read", "raft's lease checks no clock; use ReadOnlyOption::Safe"),
];

/// Waiting by the clock makes a test slow when it passes and wrong when the machine is busy.
const SLEEPS: &[&str] = &["thread::sleep", "time::sleep", "sleep_ms"];

/// Where raft's RawNode is driven.
const DRIVER: &str = "lib/core/src/driver";

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.lines.iter().enumerate() {
        let mut report = |rule, advice: &str| {
            findings.push(Finding { path: source.path.clone(), line: number + 1, rule, advice: advice.to_string() });
        };
        for (_, rule, advice) in EVERYWHERE.iter().filter(|(text, _, _)| has(&line.code, text)) {
            report(rule, advice);
        }
        if drives_raft(source) && has(&line.code, ".advance(") {
            report("raft-advance", "it waits for no disk; use advance_append_async and on_persist_ready");
        }
        if (line.test || source.is_test_file()) && SLEEPS.iter().any(|sleep| has(&line.code, sleep)) {
            report("sleep", "tests wait on a condition with a deadline, by the harness's poll helper");
        }
    }
    findings
}

/// Checks what only the whole tree can show: proposals are given to raft in one place.
pub(crate) fn check_tree(sources: &[Source]) -> Vec<Finding> {
    [".propose(", ".propose_conf_change("].iter().flat_map(|call| second_proposals(sources, call)).collect()
}

/// Whether `text` stands in the code; where it begins or ends with a word, that word must be whole.
fn has(code: &str, text: &str) -> bool {
    if text.starts_with(['.', '#']) { code.contains(text) } else { word_places(code, text).next().is_some() }
}

fn drives_raft(source: &Source) -> bool {
    source.is_in(DRIVER) || source.lines.iter().any(|line| has(&line.code, "RawNode"))
}

/// Finds every proposal in the driver after the first. The one allowed place checks that this node leads: MsgPropose
/// carries no term, so a follower's late frame would append twice. A call on `self` is a method of our own with that
/// name.
fn second_proposals(sources: &[Source], call: &str) -> Vec<Finding> {
    let is_raft = |code: &str| code.match_indices(call).any(|(at, _)| !code[..at].ends_with("self"));
    let driver = sources.iter().filter(|source| source.is_in(DRIVER) && !source.is_test_file());
    let lines = driver.flat_map(|source| source.code_lines().map(move |(line, code)| (source, line, code)));
    let advice = format!("a second {call}..) in the driver: propose in the one place that checks for leadership");
    lines
        .filter(|(_, _, code)| is_raft(code))
        .skip(1)
        .map(|(source, line, _)| Finding { path: source.path.clone(), line, rule: "propose", advice: advice.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(&Source::parse(path, text)).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn control_each_forbidden_text_is_flagged_in_code_and_nowhere_else() {
        for (text, rule, _) in EVERYWHERE {
            assert_eq!(rules("ctl/src/a.rs", &format!("fn f() {{ x{text}) }}").replace('x', "x ")), [*rule], "{text}");
            assert_eq!(rules("ctl/src/a.rs", &format!("// {text}\n\"{text}\"")), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn control_advance_is_flagged_where_raft_is_driven() {
        assert_eq!(rules("lib/core/src/driver/ready.rs", "raw.advance(ready);"), ["raft-advance"]);
        assert_eq!(rules("tests/sim/src/a.rs", "fn f(raw: RawNode) {\n raw.advance(ready);\n}"), ["raft-advance"]);
        assert_eq!(rules("lib/core/src/wire/frame.rs", "buf.advance(4);"), Vec::<&str>::new());
        let allowed = "raw.advance_append_async(r); raw.advance_apply_to(i);";
        assert_eq!(rules("lib/core/src/driver/ready.rs", allowed), Vec::<&str>::new());
    }

    #[test]
    fn control_a_sleep_is_flagged_in_tests() {
        for sleep in ["std::thread::sleep(d)", "tokio::time::sleep(d).await", "thread::sleep(d)"] {
            assert_eq!(rules("tests/cluster/tests/a.rs", sleep), ["sleep"], "{sleep}");
            assert_eq!(
                rules("node/src/a.rs", &format!("#[cfg(test)]\nmod tests {{ fn f() {{ {sleep} }} }}")),
                ["sleep"]
            );
            assert_eq!(rules("node/src/dev/mod.rs", sleep), Vec::<&str>::new(), "{sleep}");
        }
    }

    #[test]
    fn control_a_second_place_that_proposes_is_flagged() {
        let count = |files: &[(&str, &str)]| {
            let sources: Vec<Source> = files.iter().map(|(path, text)| Source::parse(path, text)).collect();
            check_tree(&sources).len()
        };
        let one = "self.raw.propose(context, data)\nself.propose(x)\nself.raw.propose_conf_change(c, cc)\n";
        assert_eq!(count(&[("lib/core/src/driver/mod.rs", one), ("node/src/handle/mod.rs", one)]), 0);
        assert_eq!(
            count(&[("lib/core/src/driver/mod.rs", one), ("lib/core/src/driver/ready.rs", "raw.propose(c, d)")]),
            1
        );
        assert_eq!(count(&[("lib/core/src/driver/mod.rs", &one.repeat(2))]), 2);
    }
}
