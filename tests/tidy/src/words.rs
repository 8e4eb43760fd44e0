//! What comments may not say. A comment describes the code that stands there; what the code was before belongs to the
//! history, and what it should become belongs to the issue tracker.

use crate::Finding;
use crate::source::{Line, Source};

/// Words that tell of a change instead of the code, in lower case.
const HISTORY: &[&str] = &[
    "no longer",
    "previously",
    "formerly",
    "used to be",
    "was renamed",
    "was changed",
    "has been changed",
    "now uses",
    "refactored",
    "in the old version",
];

/// Notes of work to be done.
const NOTES: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.lines.iter().enumerate() {
        let mut report =
            |rule, advice| findings.push(Finding { path: source.path.clone(), line: number + 1, rule, advice });
        for word in HISTORY.iter().filter(|word| starts_here(line, source.lines.get(number + 1), word)) {
            report("history", format!("'{word}' tells of a change: describe what stands here"));
        }
        for note in NOTES.iter().filter(|note| line.comment.contains(**note)) {
            report("note", format!("'{note}': do it, or name the limit under '# Caveats' of the module"));
        }
    }
    findings
}

/// Whether `phrase` starts in the comment of `line`; it may end in that of the `next` one.
fn starts_here(line: &Line, next: Option<&Line>, phrase: &str) -> bool {
    let words = |line: &Line| line.comment.trim_start_matches(['/', '!', '*', ' ']).trim_end().to_lowercase();
    let here = words(line);
    let both = format!("{here} {}", next.map(words).unwrap_or_default());
    both.find(phrase).is_some_and(|at| at < here.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, &'static str)> {
        check(&Source::parse("a.rs", text)).into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn control_each_history_word_is_flagged_in_comments_and_nowhere_else() {
        for word in HISTORY {
            assert_eq!(found(&format!("/// This {word} done.\nfn f() {{}}")), [(1, "history")], "{word}");
            assert_eq!(found(&format!("f(\"{word}\")")), [], "{word}");
        }
        assert_eq!(found("// It is no\n// longer so."), [(1, "history")]);
        assert_eq!(found("// It is\n// no longer so."), [(2, "history")]);
    }

    #[test]
    fn control_each_note_is_flagged() {
        for note in NOTES {
            assert_eq!(found(&format!("f(); // {note}: later")), [(1, "note")], "{note}");
        }
    }
}
