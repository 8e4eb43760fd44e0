//! What finds each deliberate bug: `mutants.txt` has a line for each, with seeds of the simulation or with one story.

use raftkv_core::mutant::Mutant;

/// What stands behind the bug's name; empty when the file does not have it.
fn line_of(bug: Mutant) -> &'static str {
    let prefix = format!("{bug:?}: ");
    include_str!("../mutants.txt").lines().find_map(|line| line.strip_prefix(prefix.as_str())).unwrap_or_default()
}

/// The story that finds the bug, if one does and no seeds.
pub fn story_of(bug: Mutant) -> Option<&'static str> {
    line_of(bug).strip_prefix("story ")
}

/// The seeds that found it once; empty when a story finds it.
pub fn seeds_of(bug: Mutant) -> Vec<u64> {
    if story_of(bug).is_some() {
        return Vec::new();
    }
    line_of(bug).split_whitespace().filter_map(|seed| seed.parse().ok()).collect()
}
