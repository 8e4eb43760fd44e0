//! Compares a text with its golden file; with `UPDATE_GOLDENFILES=1` (as `make fix` sets it) writes the file instead.

use std::fs;
use std::path::Path;

/// # Panics
/// When they differ, with the first line that differs and what to do about it.
pub fn compare(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE_GOLDENFILES").is_some_and(|value| value == "1") {
        fs::write(path, actual).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if let Some((number, expected, actual)) = first_difference(&expected, actual) {
        panic!(
            "{}:{number} is not what it should be\n  it is:     {expected}\n  should be: {actual}\n\
             run `make fix` (or this test with UPDATE_GOLDENFILES=1) and review the diff",
            path.display()
        );
    }
}

/// Number, expected text and actual text of the first line in which the two differ.
fn first_difference<'a>(expected: &'a str, actual: &'a str) -> Option<(usize, &'a str, &'a str)> {
    if expected == actual {
        return None;
    }
    let end = "(end)";
    let lines = |text: &'a str| text.lines().map(str::trim_end).chain(std::iter::repeat(end));
    let longest = expected.lines().count().max(actual.lines().count());
    let pairs = lines(expected).zip(lines(actual)).take(longest + 1).enumerate();
    let differs = pairs.map(|(index, (expected, actual))| (index + 1, expected, actual)).find(|(_, a, b)| a != b);
    Some(differs.unwrap_or((longest, "(white space)", "(white space)")))
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn control_the_first_line_that_differs_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some((2, "b", "c")));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some((2, "(end)", "b")));
        assert_eq!(first_difference("a\n", "a"), Some((1, "(white space)", "(white space)")));
    }
}
