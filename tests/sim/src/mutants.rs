//! What finds each deliberate bug: `mutants.txt` has a line for each, with seeds of the simulation, with seeds of the store
//! alone, or with one story.

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

/// The seeds of the store alone that found the bug once; `None` when something else finds it.
pub fn store_seeds_of(bug: Mutant) -> Option<Vec<u64>> {
    line_of(bug).strip_prefix("store").map(seeds_in)
}

/// The seeds that found it once; empty when a story finds it, or seeds of the store alone.
pub fn seeds_of(bug: Mutant) -> Vec<u64> {
    if story_of(bug).is_some() || store_seeds_of(bug).is_some() {
        return Vec::new();
    }
    seeds_in(line_of(bug))
}

fn seeds_in(line: &str) -> Vec<u64> {
    line.split_whitespace().filter_map(|seed| seed.parse().ok()).collect()
}
