//! Runs helm on the chart. Enters: values, as `path=json`. Leaves: what helm rendered, or its complaint.
//!
//! helm is looked for on the PATH, then where `make e2e-tools` puts it. No cluster is contacted.

use crate::{Rendered, chart};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Name of the release in all tests.
pub const RELEASE: &str = "ops";
/// Namespace of the release in all tests.
pub const NAMESPACE: &str = "raftkv-system";

static HELM: OnceLock<PathBuf> = OnceLock::new();

/// The objects of the chart with these values.
///
/// # Panics
/// When helm refuses the values.
pub fn render(values: &[&str]) -> Rendered {
    try_render(values).unwrap_or_else(|error| panic!("helm template refuses {values:?}:\n{error}"))
}

/// The objects of the chart with these values, or helm's complaint.
pub fn try_render(values: &[&str]) -> Result<Rendered, String> {
    template(&chart(), RELEASE, NAMESPACE, values).map(|text| Rendered::parse(&text))
}

/// What helm makes of the chart in `chart`, as YAML.
pub fn template(chart: &Path, release: &str, namespace: &str, values: &[&str]) -> Result<String, String> {
    run(&["template", release, &path(chart), "--namespace", namespace], values)
}

/// The notes that `helm install` would print for the user.
pub fn notes(values: &[&str]) -> String {
    let said = run(&["install", RELEASE, &path(&chart()), "--namespace", NAMESPACE, "--dry-run=client"], values);
    let said = said.unwrap_or_else(|error| panic!("helm install refuses {values:?}:\n{error}"));
    said.split_once("\nNOTES:\n").expect("helm prints the notes last").1.to_string()
}

/// The complaints of `helm lint --strict`.
pub fn lint(values: &[&str]) -> Result<String, String> {
    run(&["lint", "--strict", &path(&chart())], values)
}

fn path(path: &Path) -> String {
    path.to_str().expect("the repository lies in a directory with a UTF-8 name").to_string()
}

fn run(arguments: &[&str], values: &[&str]) -> Result<String, String> {
    let mut command = Command::new(helm());
    command.args(arguments);
    for value in values {
        command.args(["--set-json", value]);
    }
    // helm must not find a cluster of the person who runs the tests.
    command.env("KUBECONFIG", "/dev/null");
    let Output { status, stdout, stderr } = command.output().expect("helm was found and can be run");
    let said = String::from_utf8_lossy(&stdout).into_owned();
    match status.success() {
        true => Ok(said),
        // lint complains on standard output, everything else on standard error.
        false => Err(format!("{said}{}", String::from_utf8_lossy(&stderr))),
    }
}

/// # Panics
/// Without helm, since then no test here means anything.
fn helm() -> &'static Path {
    HELM.get_or_init(|| {
        let candidates = candidates();
        candidates.iter().find(|path| path.is_file()).cloned().unwrap_or_else(|| {
            let last = candidates.last().map(|path| path.display().to_string()).unwrap_or_default();
            panic!("helm is neither on the PATH nor at {last}: install helm 4, or run `make e2e-tools`, which builds it there")
        })
    })
}

/// The places where helm may be, the best one first.
fn candidates() -> Vec<PathBuf> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let cache = std::env::var_os("RAFTKV_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".cache/raftkv-e2e"))
    });
    let directories = std::env::split_paths(&on_path).chain(cache.map(|cache| cache.join("bin")));
    directories.map(|directory| directory.join("helm")).collect()
}
