//! Why a command about a cluster in Kubernetes fails, and what to do about it.

use crate::kube::kubectl::{KubectlError, Obstacle};
use crate::report::{Account, Audience, Effect, Failed};
use raftkv_api::Outcome;
use raftkv_client::Error;

/// What stands in the way of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeFailed {
    /// The command itself, which `raftkvctl` has as well.
    #[error(transparent)]
    Command(#[from] Failed),
    /// A run of kubectl.
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    /// The namespace has no such cluster, and these are elsewhere or have other names.
    #[error("there is no RaftKvCluster{} in namespace {namespace}{}", named(.name), elsewhere(.others))]
    NoCluster { name: Option<String>, namespace: String, others: Vec<String> },
    /// The namespace has more than one.
    #[error("namespace {namespace} has {} clusters: {}", .names.len(), .names.join(", "))]
    Several { namespace: String, names: Vec<String> },
    /// No pod can take the call.
    #[error("no pod of {cluster} {needed}{}", in_brackets(.pods))]
    NoPod { cluster: String, needed: &'static str, pods: Vec<String> },
    /// The token cannot be used.
    #[error("Secret {secret}: {why}")]
    Token { secret: String, why: String },
    /// There is no member in that pod that could lead.
    #[error("no voter is called '{name}'; the voters are {}", .voters.join(", "))]
    NoVoter { name: String, voters: Vec<String> },
}

fn named(name: &Option<String>) -> String {
    name.as_ref().map(|name| format!(" '{name}'")).unwrap_or_default()
}

fn elsewhere(others: &[String]) -> String {
    if others.is_empty() { String::new() } else { format!("; there are {}", others.join(", ")) }
}

fn in_brackets(pods: &[String]) -> String {
    if pods.is_empty() { String::new() } else { format!(" ({})", pods.join(", ")) }
}

/// A call to a node that was made here.
impl From<Error> for KubeFailed {
    fn from(error: Error) -> Self {
        KubeFailed::Command(Failed::Call(error))
    }
}

impl KubeFailed {
    /// The failure as it is told to somebody who runs the cluster in Kubernetes.
    pub(crate) fn account(&self) -> Account<'_> {
        let next = self.advice();
        let exit_code = match self {
            KubeFailed::Command(failed) => return Account { next, ..failed.account() },
            KubeFailed::NoCluster { .. } => 4,
            KubeFailed::Kubectl(_)
            | KubeFailed::Several { .. }
            | KubeFailed::NoPod { .. }
            | KubeFailed::Token { .. }
            | KubeFailed::NoVoter { .. } => 1,
        };
        let (error, audience) = (self.to_string(), Audience::Everybody);
        Account { error, outcome: Effect::None, exit_code, call: None, next, audience }
    }

    /// What to do about it.
    pub(crate) fn advice(&self) -> Option<String> {
        let text = match self {
            KubeFailed::Command(Failed::Call(error)) => return call(error),
            KubeFailed::Command(failed) => return failed.advice().map(str::to_string),
            KubeFailed::Kubectl(error) => return kubectl(error.obstacle).map(str::to_string),
            KubeFailed::NoCluster { others, .. } if !others.is_empty() => {
                "name one of them, and its namespace with -n".to_string()
            }
            KubeFailed::NoCluster { .. } => {
                "make one with `kubectl apply`, or name its namespace with -n: `kubectl get rkv -A` lists all"
                    .to_string()
            }
            KubeFailed::Several { .. } => "name one of them".to_string(),
            KubeFailed::NoPod { cluster, .. } => {
                format!(
                    "`kubectl raftkv status {cluster}` says what stands in the way; `get --stale` reads from any running pod"
                )
            }
            KubeFailed::Token { .. } => "the operator makes this Secret; do not make one by hand".to_string(),
            KubeFailed::NoVoter { .. } => "name the pod of a voter, or leave --to out".to_string(),
        };
        Some(text)
    }
}

fn kubectl(obstacle: Obstacle) -> Option<&'static str> {
    match obstacle {
        Obstacle::NoKubectl => Some("install kubectl, or name it with the environment variable RAFTKV_KUBECTL"),
        Obstacle::NoKind => Some(
            "this Kubernetes cluster has no raftkv operator: install the chart raftkv-operator, or choose another --context",
        ),
        Obstacle::NotFound => Some("it may just have gone: look again, or at `kubectl raftkv status`"),
        Obstacle::Forbidden => {
            Some("ask for the right that is named; `kubectl auth can-i --list` shows what you have in this namespace")
        }
        Obstacle::Login => Some("log in again: `kubectl auth whoami` must succeed first"),
        Obstacle::Config => {
            Some("choose a context with --context, or a file with --kubeconfig: `kubectl config get-contexts`")
        }
        Obstacle::Unreachable => Some("see whether the API server is reached at all: `kubectl cluster-info`"),
        Obstacle::Other => None,
    }
}

/// What to do about a call that failed.
fn call(error: &Error) -> Option<String> {
    if error.outcome() == Outcome::Unknown {
        return Some("read before you write again: `kubectl raftkv get KEY`, or `kubectl raftkv status`".to_string());
    }
    let Some(code) = error.code() else {
        let text = "try again: the port-forward may have broken; `kubectl raftkv status` shows which member is missing, and \
                    what to do";
        return Some(text.to_string());
    };
    code.advice().on_kubernetes.map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_cluster_names_those_that_there_are() {
        let none = |name: Option<&str>, others: &[&str]| KubeFailed::NoCluster {
            name: name.map(str::to_string),
            namespace: "default".to_string(),
            others: others.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(none(None, &[]).to_string(), "there is no RaftKvCluster in namespace default");
        assert_eq!(
            none(Some("x"), &["prod/demo"]).to_string(),
            "there is no RaftKvCluster 'x' in namespace default; there are prod/demo"
        );
    }
}
