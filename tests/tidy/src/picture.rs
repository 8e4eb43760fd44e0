//! ARCHITECTURE.md's picture of the house is what `ls` shows: every room that it names is there, and every room that is
//! there is named.
//!
//! Enters: the document and the paths of the tree. Leaves: a finding for each name without a folder or file, also of a
//! path in the text, and for each room without a name. A room is a folder of Rust below a crate's `src`, or a folder of the top level. The picture leaves
//! `src/` out.

use crate::{File, Finding};
use std::collections::BTreeSet;

/// The document.
const PAGE: &str = "ARCHITECTURE.md";
/// What stands above the picture.
const HEADING: &str = "## The house";

/// Compares the picture with the tree.
pub(crate) fn check_tree(tree: &[File]) -> Vec<Finding> {
    let Some(page) = tree.iter().find(|file| file.path == PAGE) else { return Vec::new() };
    let named = names(&page.text);
    let mut findings = Vec::new();
    if named.is_empty() {
        findings.push(finding(1, format!("there is no picture under '{HEADING}'")));
    }
    for (line, name) in named.iter().filter(|(_, name)| !exists(tree, name)) {
        findings.push(finding(*line, format!("the picture names {name}, which is not there")));
    }
    let gone = quoted_paths(&page.text).into_iter().filter(|(_, path)| !is_there(tree, path));
    findings.extend(gone.map(|(line, path)| finding(line, format!("{path} is not there"))));
    let shown: BTreeSet<&str> = named.iter().map(|(_, name)| name.as_str()).collect();
    let missing = rooms(tree).into_iter().filter(|room| !shown.contains(room.as_str()));
    findings.extend(missing.map(|room| finding(1, format!("the picture does not name {room}"))));
    findings
}

fn finding(line: usize, advice: String) -> Finding {
    Finding { path: PAGE.to_string(), line, rule: "picture", advice }
}

/// The names in the first code block under the heading, as paths without `src/`, with their lines. A line may name several
/// things of one folder; what stands behind two blanks is a caption.
fn names(text: &str) -> Vec<(usize, String)> {
    let lines = text.lines().enumerate().skip_while(|(_, line)| *line != HEADING);
    let block = lines.skip_while(|(_, line)| !line.starts_with("```")).skip(1).take_while(|(_, line)| *line != "```");
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut found = Vec::new();
    for (number, line) in block {
        let depth = line.len() - line.trim_start().len();
        above.retain(|(other, _)| *other < depth);
        let parent = above.last().map_or("", |(_, path)| path.as_str()).to_string();
        let words = line.trim_start().split("  ").next().unwrap_or_default();
        for word in words.split(' ').filter(|word| word.ends_with('/') || word.contains('.')) {
            found.push((number + 1, format!("{parent}{word}")));
        }
        if let Some(folder) = words.split(' ').next().filter(|word| word.ends_with('/')) {
            above.push((depth, format!("{parent}{folder}")));
        }
    }
    found
}

/// Whole paths of code in the text, as in `lib/core/src/log/`, with their lines.
fn quoted_paths(text: &str) -> Vec<(usize, &str)> {
    let lines = text.lines().enumerate();
    let quoted =
        lines.flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |path| (number + 1, path)));
    quoted.filter(|(_, path)| path.contains("/src/") && !path.contains(' ')).collect()
}

fn is_there(tree: &[File], path: &str) -> bool {
    tree.iter().any(|file| if path.ends_with('/') { file.path.starts_with(path) } else { file.path == path })
}

/// A path of the tree as the picture writes it.
fn without_src(path: &str) -> String {
    path.replacen("/src/", "/", 1)
}

fn exists(tree: &[File], name: &str) -> bool {
    tree.iter().any(|file| {
        let path = without_src(&file.path);
        if name.ends_with('/') { path.starts_with(name) } else { path == name }
    })
}

/// Folders of the top level and of `tests` and `lib`, and those of Rust right below a crate's `src`.
fn rooms(tree: &[File]) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for file in tree.iter().filter(|file| !file.path.starts_with('.')) {
        let parts: Vec<&str> = file.path.split('/').collect();
        let depth = if matches!(parts[0], "lib" | "tests") { 2 } else { 1 };
        if parts.len() > depth {
            rooms.insert(format!("{}/", parts[..depth].join("/")));
        }
        let is_room = parts.get(depth) == Some(&"src") && parts.len() > depth + 2 && file.is_rust();
        if is_room && parts[0] != "tests" {
            rooms.insert(format!("{}/{}/", parts[..depth].join("/"), parts[depth + 1]));
        }
    }
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(page: &str, paths: &[&str]) -> Vec<File> {
        let file = |path: &&str| File { path: path.to_string(), text: String::new() };
        let page = File { path: PAGE.to_string(), text: format!("# A\n{HEADING}\n\n```text\n{page}```\n") };
        std::iter::once(page).chain(paths.iter().map(file)).collect()
    }

    fn found(page: &str, paths: &[&str]) -> Vec<String> {
        check_tree(&tree(page, paths)).into_iter().map(|finding| finding.advice).collect()
    }

    const PATHS: &[&str] =
        &["lib/core/src/lib.rs", "lib/core/src/log/mod.rs", "node/src/main.rs", "docs/a.md", "tests/sim/src/a/b.rs"];
    const PAGE_OF_THEM: &str = "lib/\n  core/     what decides\n    log/    bytes\nnode/       acts\n  main.rs\ndocs/\n\
                                tests/\n  sim/\n";

    #[test]
    fn a_picture_of_what_is_there_is_right() {
        assert_eq!(found(PAGE_OF_THEM, PATHS), Vec::<String>::new());
    }

    #[test]
    fn control_a_name_that_is_not_there_and_a_room_without_a_name_are_flagged() {
        assert_eq!(
            found(&PAGE_OF_THEM.replace("main.rs", "mane.rs"), PATHS),
            ["the picture names node/mane.rs, which is not there"]
        );
        let more = [PATHS, &["lib/core/src/driver/mod.rs", "charts/x"]].concat();
        let expected = ["the picture does not name charts/", "the picture does not name lib/core/driver/"];
        assert_eq!(found(PAGE_OF_THEM, &more), expected);
        let walk = format!("{PAGE_OF_THEM}```\n`node/src/main.rs` and `node/src/mane.rs`\n```text\n");
        assert_eq!(found(&walk, PATHS), ["node/src/mane.rs is not there"]);
        assert_eq!(found("", PATHS)[0], format!("there is no picture under '{HEADING}'"));
    }
}
