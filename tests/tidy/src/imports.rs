//! The paths that a file reaches: `use` trees written out, and qualified paths in the code.
//!
//! `use std::{fs, time::{Duration, Instant}};` gives `std::fs`, `std::time::Duration`, `std::time::Instant`, so that a
//! rule names a path once however it is imported.

use crate::source::{Source, word_places};

/// Lines outside test regions on which `path` (a module, an item or a crate) is imported or named in full.
pub fn lines_that_reach(source: &Source, path: &str) -> Vec<usize> {
    let imported = uses(source).into_iter().filter(|(_, used)| reaches(used, path)).map(|(line, _)| line);
    let named = source.code_lines().filter(|(_, code)| names(code, path)).map(|(line, _)| line);
    let mut lines: Vec<usize> = imported.chain(named).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

/// Whether the import is the path itself, something in it, or a module above it through which the code could name it.
fn reaches(used: &str, path: &str) -> bool {
    let is_in = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    is_in(used, path) || is_in(path, used.trim_end_matches("::*"))
}

/// Whether the code has `path::` or `path` in full, not as the tail of another path. A crate's name alone is a plain
/// word, so it needs `::`.
fn names(code: &str, path: &str) -> bool {
    word_places(code, path).any(|at| {
        let is_root = !code[..at].trim_end().ends_with("::") || code[..at].trim_end().ends_with(" ::");
        is_root && (path.contains("::") || code[at + path.len()..].starts_with("::"))
    })
}

/// Every imported path, with the line of its `use`.
fn uses(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, code) in source.code_lines() {
        let Some(at) = word_places(code, "use").next() else { continue };
        let (end, _) = statement_end(source, number - 1);
        let first = &code[at + "use".len()..];
        let rest = source.lines[number..=end.max(number - 1)].iter().map(|line| line.code.as_str());
        let statement: String = std::iter::once(first).chain(rest).collect::<Vec<_>>().join(" ");
        let tree = statement.split(';').next().unwrap_or_default();
        expand(tree.trim(), "", &mut |path| found.push((number, path)));
    }
    found
}

/// The line that ends the statement which starts on line `from`: the first with a `;`. The flag says whether there is
/// one.
fn statement_end(source: &Source, from: usize) -> (usize, bool) {
    let end = source.lines[from..].iter().position(|line| line.code.contains(';'));
    end.map_or((from, false), |lines| (from + lines, true))
}

/// Writes out one use tree below `prefix`.
fn expand(tree: &str, prefix: &str, found: &mut impl FnMut(String)) {
    let join = |tail: &str| if prefix.is_empty() { tail.to_string() } else { format!("{prefix}::{tail}") };
    match tree.split_once('{') {
        None => {
            let path = tree.split(" as ").next().unwrap_or_default().trim().trim_start_matches("::");
            found(if path == "self" { prefix.to_string() } else { join(path) });
        }
        Some((head, body)) => {
            let head = head.trim().trim_start_matches("::").trim_end_matches("::");
            let inner = if head.is_empty() { prefix.to_string() } else { join(head) };
            let body = body.trim_end().strip_suffix('}').unwrap_or(body);
            split_outside_braces(body).filter(|part| !part.is_empty()).for_each(|part| expand(part, &inner, found));
        }
    }
}

fn split_outside_braces(body: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    let comma = move |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    };
    body.split(comma).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, path: &str) -> Vec<usize> {
        lines_that_reach(&Source::parse("x.rs", text), path)
    }

    #[test]
    fn use_trees_are_written_out() {
        let source = Source::parse("x.rs", "use a::{self, b as c,\n  d::{e, f::*}};\npub use ::g::h;\n");
        let paths: Vec<String> = uses(&source).into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["a", "a::b", "a::d::e", "a::d::f::*", "g::h"]);
    }

    #[test]
    fn a_path_is_found_however_it_is_reached() {
        for text in [
            "use std::time::Instant;",
            "use std::time::{Duration, Instant as I};",
            "use std::{fs, time};",
            "use std::time::*;",
            "let t = std::time::Instant::now();",
        ] {
            assert_eq!(lines(text, "std::time::Instant"), [1], "{text}");
        }
    }

    #[test]
    fn other_paths_are_not_found() {
        for text in
            ["use std::time::Duration;", "use my::std::time::Instant;", "// use std::time::Instant;", "fn used() {}"]
        {
            assert_eq!(lines(text, "std::time::Instant"), Vec::<usize>::new(), "{text}");
        }
        assert_eq!(lines("use crate::raft_node; let raft = 1; a::raft::b();", "raft"), Vec::<usize>::new());
        assert_eq!(lines("fn f(e: raft::Error) {}", "raft"), [1]);
    }
}
