//! What every command about a cluster in Kubernetes runs with: kubectl, the flags that it is called with, and how a
//! command is written that reaches the same cluster again.

use crate::kube::args::Global;
use crate::kube::kubectl::Kubectl;
use raftkv_client::bytes_text::shell_word;

/// What every command needs.
pub(crate) struct Kube {
    pub kubectl: Kubectl,
    pub global: Global,
    /// How the user calls this program: what advice begins with.
    pub called: &'static str,
}

impl Kube {
    /// What makes a command that is shown reach the same cluster.
    pub(crate) fn flags(&self, namespace: &str) -> Flags {
        Flags::new(self.called, &self.global, namespace)
    }
}

/// What makes a command reach the same cluster again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    called: &'static str,
    context: String,
    namespace: String,
}

impl Flags {
    /// `called` is how this program was called; the namespace is written out unless it is empty.
    pub(crate) fn new(called: &'static str, global: &Global, namespace: &str) -> Self {
        let mut context = String::new();
        if let Some(name) = &global.context {
            context.push_str(&format!(" --context {}", shell_word(name)));
        }
        if let Some(file) = &global.kubeconfig {
            context.push_str(&format!(" --kubeconfig {}", shell_word(&file.to_string_lossy())));
        }
        let namespace = if namespace.is_empty() { String::new() } else { format!(" -n {}", shell_word(namespace)) };
        Flags { called, context, namespace }
    }

    /// A command of kubectl.
    pub(crate) fn kubectl(&self, rest: &str) -> String {
        format!("kubectl{}{} {rest}", self.context, self.namespace)
    }

    /// A command of kubectl in another namespace.
    pub(crate) fn kubectl_in(&self, namespace: &str, rest: &str) -> String {
        format!("kubectl{} -n {namespace} {rest}", self.context)
    }

    /// A command of this program.
    pub(crate) fn ours(&self, rest: &str) -> String {
        format!("{} {rest}{}{}", self.called, self.namespace, self.context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_reach_the_same_cluster_again() {
        let global = Global { context: Some("kind".into()), kubeconfig: Some("k".into()), ..Global::default() };
        let flags = Flags::new("kubectl raftkv", &global, "prod");
        assert_eq!(flags.kubectl("get pods"), "kubectl --context kind --kubeconfig k -n prod get pods");
        assert_eq!(flags.ours("status demo"), "kubectl raftkv status demo -n prod --context kind --kubeconfig k");
        let global = Global { context: Some("a b".into()), kubeconfig: Some("it's".into()), ..Global::default() };
        let flags = Flags::new("kubectl raftkv", &global, "");
        assert_eq!(flags.kubectl("get pods"), r"kubectl --context 'a b' --kubeconfig 'it'\''s' get pods");
    }
}
