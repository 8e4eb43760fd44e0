//! The Kubernetes cluster under the tests, and a user's tools to reach it: kubectl, helm, docker.

use crate::harness::api::Api;
use crate::harness::shell::{self, Output};
use anyhow::{Context, Result, bail};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Time limit of a kubectl command that is not told to wait longer.
const KUBECTL_MAX: Duration = Duration::from_secs(20);
/// kubectl's own limit for one request, so that kubectl says which request hangs.
const REQUEST_TIMEOUT: &str = "--request-timeout=15s";
/// Time limit of helm, which waits for what it installed.
const HELM_MAX: Duration = Duration::from_secs(120);
/// Time limit for stopping or starting a machine.
const DOCKER_MAX: Duration = Duration::from_secs(60);

/// The directory of the link to raftkvctl.
const PLUGIN_DIRECTORY: &str = "target/e2e/plugin";
/// The name by which kubectl finds the plugin.
const PLUGIN: &str = "kubectl-raftkv";

/// Beginnings of the names of variables that cargo sets for a test.
const OF_CARGO_TEST: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "LD_LIBRARY_PATH"];

/// The Kubernetes cluster that the tests run on.
#[derive(Debug)]
pub struct Site {
    kubeconfig: PathBuf,
    repo: PathBuf,
    path: OsString,
    /// Whether it is not the kind cluster of this repository: then its machines are not ours to stop.
    foreign: bool,
    /// The registry before the names of images.
    images: String,
    api: Api,
}

impl Site {
    /// Finds the cluster and checks that it answers.
    pub fn find() -> Result<Site> {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let named = std::env::var_os("E2E_KUBECONFIG").filter(|path| !path.is_empty());
        let foreign = named.is_some();
        let kubeconfig = repo.join(named.unwrap_or_else(|| "target/e2e/kubeconfig".into()));
        let images = std::env::var("E2E_IMAGES").unwrap_or_else(|_| "raftkv.local".to_string());
        if !kubeconfig.exists() {
            bail!(
                "there is no cluster: {} does not exist. `make e2e-up` makes one; E2E_KUBECONFIG names one of your own",
                kubeconfig.display()
            );
        }
        link_plugin(&repo)?;
        let path = tools_path(&repo)?;
        let api = Api::start(command("kubectl", &path, &kubeconfig, &repo))?;
        api.raw("/readyz", None).context("the cluster does not answer; `make e2e-up` repairs ours")?;
        Ok(Site { path, kubeconfig, repo, foreign, images, api })
    }

    /// The API server, for reading.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Whether its machines may be stopped, and its kubelets have our settings.
    pub fn is_ours(&self) -> bool {
        !self.foreign
    }

    /// The repository.
    pub fn repo(&self) -> &Path {
        &self.repo
    }

    /// The line that prepares a shell for the commands that errors quote.
    pub fn shell_prefix(&self) -> String {
        format!("export KUBECONFIG={}", self.kubeconfig.display())
    }

    /// The full name of an image: `raftkv` and `dev` give `raftkv.local/raftkv:dev`.
    pub fn image(&self, name: &str, tag: &str) -> String {
        format!("{}/{name}:{tag}", self.images)
    }

    /// The full name of an image without its tag.
    pub fn image_repository(&self, name: &str) -> String {
        format!("{}/{name}", self.images)
    }

    /// Runs kubectl, which must succeed.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.try_kubectl(args, None)?.expect_success()
    }

    /// Runs kubectl with text on its standard input.
    pub fn kubectl_with(&self, args: &[&str], stdin: &str) -> Result<String> {
        self.try_kubectl(args, Some(stdin))?.expect_success()
    }

    /// Runs kubectl, which may fail.
    pub fn try_kubectl(&self, args: &[&str], stdin: Option<&str>) -> Result<Output> {
        let mut command = self.command("kubectl");
        command.arg(REQUEST_TIMEOUT).args(args);
        shell::run(command, stdin, KUBECTL_MAX)
    }

    /// Runs kubectl without a limit for one request, and with another limit for the whole.
    pub fn slow_kubectl(&self, args: &[&str], limit: Duration) -> Result<Output> {
        self.slow_kubectl_with(args, None, limit)
    }

    /// The same with text on its standard input.
    pub fn slow_kubectl_with(&self, args: &[&str], stdin: Option<&str>, limit: Duration) -> Result<Output> {
        let mut command = self.command("kubectl");
        command.args(args);
        shell::run(command, stdin, limit)
    }

    /// Runs `kubectl raftkv`, which may fail. kubectl takes no flags before a plugin's name.
    pub fn plugin(&self, namespace: &str, args: &[&str]) -> Result<Output> {
        if !self.repo.join(PLUGIN_DIRECTORY).join(PLUGIN).exists() {
            bail!("raftkvctl is not built: `make image PROFILE=dev` builds it");
        }
        let mut command = self.command("kubectl");
        command.arg("raftkv").args(args).args(["-n", namespace]);
        shell::run(command, None, KUBECTL_MAX)
    }

    /// Runs helm.
    pub fn helm(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.command("helm");
        command.args(args);
        shell::run(command, None, HELM_MAX)
    }

    /// Runs docker, for the machines of our own cluster.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command("docker");
        command.args(args);
        shell::run(command, None, DOCKER_MAX)?.expect_success()
    }

    /// Runs a line as a reader of the manual types it, in the repository. At the limit everything that it started ends
    /// too.
    pub fn shell(&self, line: &str, limit: Duration) -> Result<Output> {
        let mut command = self.command("timeout");
        command.args(["--kill-after=5", &limit.as_secs().to_string(), "bash", "-ec", line]);
        // A reader's shell does not have what cargo tells its tests; with it, some build scripts would build everything
        // again.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text == "CARGO" || OF_CARGO_TEST.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        shell::run(command, None, limit + Duration::from_secs(10))
    }

    fn command(&self, program: &str) -> Command {
        command(program, &self.path, &self.kubeconfig, &self.repo)
    }
}

fn command(program: &str, path: &OsStr, kubeconfig: &Path, repo: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", path).env("KUBECONFIG", kubeconfig).current_dir(repo);
    command
}

/// Makes raftkvctl a plugin of kubectl: the link that the manual describes, to the binary that cargo built beside this
/// test.
fn link_plugin(repo: &Path) -> Result<()> {
    let test = std::env::current_exe().context("the path of this test")?;
    let built = test.ancestors().nth(2).context("this test lies in no target directory")?.join("raftkvctl");
    let directory = repo.join(PLUGIN_DIRECTORY);
    std::fs::create_dir_all(&directory).with_context(|| format!("{}", directory.display()))?;
    // The link gets another name first, since another run may be calling the plugin.
    let (link, new) = (directory.join(PLUGIN), directory.join(format!("new-{}", std::process::id())));
    std::os::unix::fs::symlink(&built, &new).with_context(|| format!("{}", new.display()))?;
    std::fs::rename(&new, &link).with_context(|| format!("{}", link.display()))
}

/// The search path: first the tools that `make e2e-up` chose, then the user's, then those that it built.
fn tools_path(repo: &Path) -> Result<OsString> {
    let cache = match std::env::var_os("RAFTKV_CACHE") {
        Some(cache) => Some(PathBuf::from(cache)),
        None => std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/raftkv-e2e")),
    };
    let users = std::env::var_os("PATH").unwrap_or_default();
    let chosen = [repo.join("target/e2e/bin"), repo.join(PLUGIN_DIRECTORY)].into_iter();
    let all = chosen.chain(std::env::split_paths(&users)).chain(cache.map(|cache| cache.join("bin")));
    std::env::join_paths(all).context("PATH")
}
