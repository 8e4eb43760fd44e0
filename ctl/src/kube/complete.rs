//! What could come next on a command line, for `kubectl raftkv <TAB>`.
//!
//! kubectl runs `kubectl_complete-raftkv` with the words so far, the last one being the one that is completed. What leaves
//! is a line for each candidate, a tab before its description, and at the end a colon and a number that says whether the
//! shell may complete files instead. Names of clusters, pods, namespaces and contexts come from kubectl. Nothing here ever
//! fails: a shell that completes shows no errors.

use crate::context::runtime;
use crate::kube::args::{Cli, Global};
use crate::kube::kubectl::Kubectl;
use crate::streams::print;
use clap::{Arg, Command, CommandFactory};
use raftkv_crds::{CLUSTERS, label};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::timeout;

/// A name that takes more time than this is not offered.
const TIMEOUT_MS: u64 = 3_000;
/// After the colon: files are completed.
const FILES: u8 = 0;
/// After the colon: files are not completed.
const NO_FILES: u8 = 4;

/// Prints the candidates for the last of these words.
pub(crate) fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let offer = runtime().map(|runtime| {
        let offer = runtime.block_on(offer(&words, Kubectl::new));
        runtime.shutdown_background();
        offer
    });
    match offer.and_then(|offer| print(offer.text().as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Candidates with descriptions, and whether files are candidates too.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offer {
    candidates: Vec<(String, String)>,
    files: bool,
}

impl Offer {
    fn text(&self) -> String {
        let line = |(word, about): &(String, String)| {
            if about.is_empty() { format!("{word}\n") } else { format!("{word}\t{about}\n") }
        };
        let lines: String = self.candidates.iter().map(line).collect();
        format!("{lines}:{}\n", if self.files { FILES } else { NO_FILES })
    }
}

/// What the words before the last one have led to.
struct Place {
    command: Command,
    global: Global,
    /// Words that are no flags, commands or values.
    positionals: usize,
    /// The flag whose value is being completed.
    open: Option<Arg>,
}

async fn offer(words: &[String], kubectl: impl Fn(&Global) -> Kubectl) -> Offer {
    let Some((word, before)) = words.split_last() else { return Offer::default() };
    let place = walk(before);
    let subject = match (&place.open, word.starts_with('-')) {
        (Some(flag), _) => Some(flag.clone()),
        (None, true) => return Offer { candidates: flags(&place.command, word), files: false },
        (None, false) => place.command.get_positionals().nth(place.positionals).cloned(),
    };
    let commands = place.command.get_subcommands().map(|command| described(command.get_name(), command.get_about()));
    let mut offer = match &subject {
        Some(arg) => values(arg, &kubectl(&place.global)).await,
        None => Offer { candidates: commands.collect(), files: false },
    };
    offer.candidates.retain(|(candidate, _)| candidate.starts_with(word.as_str()));
    offer
}

fn walk(words: &[String]) -> Place {
    let mut root = Cli::command();
    // Global flags are known below their command only after this.
    root.build();
    let mut place = Place { command: root, global: Global::default(), positionals: 0, open: None };
    for word in words {
        if let Some(flag) = place.open.take() {
            note(&mut place.global, &flag, word);
        } else if word.starts_with('-') {
            let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            match (flag_of(&place.command, name), value) {
                (Some(flag), Some(value)) => note(&mut place.global, &flag, value),
                (Some(flag), None) if flag.get_action().takes_values() => place.open = Some(flag),
                (Some(_) | None, _) => {}
            }
        } else if let Some(command) = place.command.find_subcommand(word) {
            place.command = command.clone();
        } else {
            place.positionals += 1;
        }
    }
    place
}

/// Flags that choose the cluster of Kubernetes count for what is asked of it.
fn note(global: &mut Global, flag: &Arg, value: &str) {
    match flag.get_id().as_str() {
        "namespace" => global.namespace = Some(value.to_string()),
        "context" => global.context = Some(value.to_string()),
        "kubeconfig" => global.kubeconfig = Some(value.into()),
        _ => {}
    }
}

fn flag_of(command: &Command, word: &str) -> Option<Arg> {
    let is = |arg: &&Arg| match word.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg.get_short().is_some_and(|short| word == format!("-{short}")),
    };
    command.get_arguments().find(is).cloned()
}

fn flags(command: &Command, word: &str) -> Vec<(String, String)> {
    let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let named = flags.filter_map(|arg| Some(described(&format!("--{}", arg.get_long()?), arg.get_help())));
    named.filter(|(flag, _)| flag.starts_with(word)).collect()
}

fn described(word: &str, about: Option<&clap::builder::StyledStr>) -> (String, String) {
    (word.to_string(), about.map(ToString::to_string).unwrap_or_default())
}

async fn values(arg: &Arg, kubectl: &Kubectl) -> Offer {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        let candidates = possible.iter().map(|value| described(value.get_name(), value.get_help())).collect();
        return Offer { candidates, files: false };
    }
    let candidates = match arg.get_id().as_str() {
        "name" | "cluster" => listed(kubectl, &["get", CLUSTERS, "--output", "name"]).await,
        "to" | "pod" => listed(kubectl, &["get", "pods", "--selector", label::CLUSTER, "--output", "name"]).await,
        "namespace" => listed(kubectl, &["get", "namespaces", "--output", "name"]).await,
        "context" => listed(kubectl, &["config", "get-contexts", "--output", "name"]).await,
        "kubeconfig" | "file" | "output" => return Offer { candidates: Vec::new(), files: true },
        _ => Vec::new(),
    };
    Offer { candidates, files: false }
}

/// `kind/name` lines without the kind.
async fn listed(kubectl: &Kubectl, args: &[&str]) -> Vec<(String, String)> {
    let Ok(Ok(bytes)) = timeout(Duration::from_millis(TIMEOUT_MS), kubectl.run(args)).await else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.lines().map(|line| (line.rsplit('/').next().unwrap_or(line).to_string(), String::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::testing::FakeKubectl;

    async fn offered(fake: &FakeKubectl, words: &[&str]) -> (Vec<String>, bool) {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let offer = offer(&words, |global| Kubectl::with_program(fake.program(), global)).await;
        (offer.candidates.into_iter().map(|(word, _)| word).collect(), offer.files)
    }

    #[tokio::test]
    async fn commands_and_flags_are_offered() {
        let fake = FakeKubectl::new();
        assert_eq!(offered(&fake, &["le"]).await, (vec!["leader".to_string()], false));
        assert_eq!(offered(&fake, &["-n", "prod", "leader", ""]).await.0, ["move", "help"]);
        assert_eq!(offered(&fake, &["status", "--w"]).await.0, ["--watch"]);
        assert!(offered(&fake, &["status", "--name"]).await.0.contains(&"--namespace".to_string()));
        assert_eq!(offered(&fake, &["status", "-o", "j"]).await.0, ["json"]);
        assert!(fake.calls().is_empty());
    }

    #[tokio::test]
    async fn names_come_from_kubectl_with_the_flags_so_far() {
        let fake = FakeKubectl::new();
        fake.answer("get raftkvclusters.raftkv.dev", "raftkvcluster.raftkv.dev/demo\nraftkvcluster.raftkv.dev/other\n");
        fake.answer("get pods", "pod/demo-0\npod/demo-1\n");
        fake.answer("get namespaces", "namespace/prod\n");
        assert_eq!(offered(&fake, &["status", "-n", "prod", "d"]).await.0, ["demo"]);
        assert!(fake.calls()[0].starts_with("--namespace prod get raftkvclusters"), "{:?}", fake.calls());
        assert_eq!(offered(&fake, &["leader", "move", "demo", "--to", ""]).await.0, ["demo-0", "demo-1"]);
        assert_eq!(offered(&fake, &["get", "key", "-c", "o"]).await.0, ["other"]);
        assert_eq!(offered(&fake, &["status", "--namespace", ""]).await.0, ["prod"]);
    }

    #[tokio::test]
    async fn files_are_left_to_the_shell_and_errors_are_silent() {
        let fake = FakeKubectl::new();
        assert_eq!(offered(&fake, &["report", "--output", ""]).await, (vec![], true));
        assert_eq!(offered(&fake, &["status", ""]).await, (vec![], false));
        assert_eq!(offered(&fake, &[]).await, (vec![], false));
    }

    #[test]
    fn kubectl_reads_words_tabs_and_a_directive() {
        let candidates = vec![("move".to_string(), "Move leadership".to_string()), ("demo".to_string(), String::new())];
        assert_eq!(Offer { candidates, files: false }.text(), "move\tMove leadership\ndemo\n:4\n");
        assert_eq!(Offer { candidates: vec![], files: true }.text(), ":0\n");
    }
}
