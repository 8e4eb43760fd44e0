//! Applies the rules to the real tree. A finding is a failure; its text says where it is and what to do.

use raftkv_tidy::{Exception, File, check, long_files, read_tree};
use std::path::Path;

/// Files that a rule excuses because its reason does not hold there, each with that argument.
const EXCEPTIONS: &[Exception] = &[];

fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    read_tree(&root).expect("the repository can be read")
}

#[test]
fn the_house_is_tidy() {
    let findings = check(&tree(), EXCEPTIONS);
    let list: String = findings.iter().map(|finding| format!("  {finding}\n")).collect();
    assert!(findings.is_empty(), "{} findings\n{list}", findings.len());
}

#[test]
fn the_whole_tree_is_read() {
    let tree = tree();
    for path in ["Cargo.toml", ".ci/run", "lib/api/src/lib.rs", "node/src/lib.rs", "tests/tidy/tests/house.rs"] {
        assert!(tree.iter().any(|file| file.path == path), "{path} was not read");
    }
    assert!(tree.iter().all(|file| !file.path.starts_with("target/")), "build products were read");
}

#[test]
fn long_files_are_reported() {
    let sources: Vec<_> = tree().iter().filter(|file| file.is_rust()).map(File::source).collect();
    for (path, lines) in long_files(&sources) {
        println!("{path}: {lines} lines outside tests, on its way to the limit");
    }
}

/// docs/reliability.md says which test holds which rule: every test that it names exists, and it has a row for every
/// rule of the node.
#[test]
fn the_tests_that_hold_a_rule_exist() {
    let tree = tree();
    let text = |path: &str| tree.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str());
    let page = text("docs/reliability.md");
    let sources: Vec<&File> = tree.iter().filter(|file| file.is_rust()).collect();
    let exists = |name: &str| {
        let (function, module) = (format!("fn {name}("), format!("mod {name}"));
        sources.iter().any(|file| file.text.contains(&function) || file.text.contains(&module))
    };
    let named = page.split('`').skip(1).step_by(2).filter_map(|code| code.rsplit_once("::")).map(|(_, name)| name);
    let (known, unknown): (Vec<&str>, Vec<&str>) = named.partition(|name| exists(name));
    assert!(unknown.is_empty(), "docs/reliability.md names tests that do not exist: {unknown:?}");
    assert!(known.len() > 40, "docs/reliability.md names {} tests", known.len());
    let rows = |text: &str| -> Vec<String> {
        let rule = |line: &str| line.strip_prefix("| N")?.split(' ').next().map(|number| format!("N{number}"));
        text.lines().filter_map(rule).collect()
    };
    assert_eq!(rows(page), rows(text("ARCHITECTURE.md")), "rules of the node without a row, or the other way round");
}
