//! How long files and functions may be. A file is one box or one step, a function is one screen; longer code has a part
//! that needs a name of its own.

use crate::Finding;
use crate::source::{Source, word_places};

/// A file with more lines than this outside tests is reported, not refused.
pub const FILE_LINES_SOFT: usize = 300;
/// Most lines outside tests of a file.
pub const FILE_LINES_MAX: usize = 500;
/// Most lines of a file that is all test code.
pub const TEST_FILE_LINES_MAX: usize = 700;
/// Most lines of a function that is not a test, from `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |line, rule, advice| findings.push(Finding { path: source.path.clone(), line, rule, advice });
    let (lines, max) = (file_lines(source), file_lines_max(source));
    if lines > max {
        let advice = format!("{lines} lines, at most {max}: look for the missing noun and give it a file");
        report(source.lines.len(), "file-length", advice);
    }
    for function in functions(source).filter(|function| function.lines > FUNCTION_LINES_MAX) {
        let Function { name, lines, line } = function;
        let advice = format!("fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX}: name its steps");
        report(line, "function-length", advice);
    }
    findings
}

/// Files above the soft limit, longest first, with their lines outside tests.
pub fn long_files(sources: &[Source]) -> Vec<(&str, usize)> {
    let mut long: Vec<_> = sources
        .iter()
        .filter(|source| !source.is_test_file())
        .map(|source| (source.path.as_str(), file_lines(source)))
        .filter(|(_, lines)| *lines > FILE_LINES_SOFT)
        .collect();
    long.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
    long
}

fn file_lines(source: &Source) -> usize {
    source.code_lines().count()
}

fn file_lines_max(source: &Source) -> usize {
    if source.is_test_file() { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX }
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// Functions with a body that are neither tests nor inside `#[cfg(test)]`.
fn functions(source: &Source) -> impl Iterator<Item = Function> {
    source.code_lines().flat_map(move |(line, code)| {
        word_places(code, "fn").filter_map(move |at| {
            let tail = code[at + "fn".len()..].trim_start();
            let name: String = tail.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let (end, has_body) = source.item_end((line - 1, at));
            let is_one = !name.is_empty() && has_body && !is_test_function(source, line - 1);
            is_one.then(|| Function { name, line, lines: end + 2 - line })
        })
    })
}

/// Whether an attribute right above line `at` (from 0) makes the function a test.
fn is_test_function(source: &Source, at: usize) -> bool {
    let above = source.lines[..at].iter().rev();
    above
        .take_while(|line| line.code.trim().is_empty() != line.code.trim().starts_with("#["))
        .take_while(|line| line.code.trim().starts_with("#[") || !line.comment.is_empty())
        .any(|line| line.code.contains("test]") || line.code.contains("test("))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, &'static str)> {
        check(&Source::parse(path, text)).into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}(x: [u8; 4]) -> u8 {{\n{}}}\n", "    call(\"}\"); // }\n".repeat(lines - 2))
    }

    #[test]
    fn control_a_file_above_its_limit_is_flagged() {
        assert_eq!(found("node/src/a.rs", &"//! x\n".repeat(FILE_LINES_MAX)), []);
        assert_eq!(found("node/src/a.rs", &"//! x\n".repeat(FILE_LINES_MAX + 1)), [(501, "file-length")]);
        assert_eq!(found("tests/sim/src/a.rs", &"//! x\n".repeat(TEST_FILE_LINES_MAX)), []);
        assert_eq!(found("tests/sim/src/a.rs", &"//! x\n".repeat(TEST_FILE_LINES_MAX + 1)), [(701, "file-length")]);
    }

    #[test]
    fn lines_of_tests_do_not_count() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    // x\n".repeat(FILE_LINES_MAX));
        assert_eq!(found("node/src/a.rs", &tests), []);
        let soft = Source::parse("node/src/a.rs", &"//! x\n".repeat(FILE_LINES_SOFT + 1));
        assert_eq!(long_files(&[soft]), [("node/src/a.rs", FILE_LINES_SOFT + 1)]);
    }

    #[test]
    fn control_a_function_above_its_limit_is_flagged() {
        let text = function("fits", FUNCTION_LINES_MAX) + &function("grew", FUNCTION_LINES_MAX + 1);
        assert_eq!(found("node/src/a.rs", &text), [(71, "function-length")]);
    }

    #[test]
    fn tests_may_be_long_and_declarations_have_no_length() {
        let long = function("story", 2 * FUNCTION_LINES_MAX);
        assert_eq!(found("tests/a.rs", &format!("#[test]\n{long}")), []);
        assert_eq!(found("tests/a.rs", &format!("#[tokio::test(flavor)]\n/// Why.\n{long}")), []);
        assert_eq!(found("a.rs", &format!("trait T {{\n    fn f(&self);\n{}}}\n", "    // x\n".repeat(80))), []);
    }
}
