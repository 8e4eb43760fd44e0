//! What to do about an error code: one row each, with a text for whoever runs the nodes, and one for Kubernetes.
//!
//! The texts name the commands that the reader has: `raftkvctl` by hand, `kubectl raftkv` on Kubernetes, where the
//! operator does by itself what a person would do with `raftkvctl`.

use crate::Code;

/// What to do about an error, if there is something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// For somebody who runs the nodes himself.
    pub by_hand: Option<&'static str>,
    /// For somebody who runs the cluster in Kubernetes.
    pub on_kubernetes: Option<&'static str>,
}

const LOOK: &str = "`kubectl raftkv status` shows which member is missing, and what to do";
const FORMING: &str = "wait: the operator is forming the cluster; `kubectl raftkv status --watch`";
const CATCHING_UP: &str = "wait until all members have caught up: `kubectl raftkv status --watch`";
const JUST_CHANGED: &str = "the cluster just changed: try again";
const READ_AGAIN: &str = "read the key again and decide anew";
const HISTORY_GONE: &str = "that history is gone: read without --revision";
const SEND_LESS: &str = "send less at the same time";

macro_rules! advice {
    ($($($code:ident)|+ => $by_hand:expr, $on_kubernetes:expr;)*) => {
        impl Code {
            /// What to do about it, where the call had no effect. After one whose outcome is unknown, reading comes first.
            pub fn advice(self) -> Advice {
                match self { $($(Code::$code)|+ => Advice { by_hand: $by_hand, on_kubernetes: $on_kubernetes },)* }
            }
        }
    };
}

advice! {
    Unauthorized =>
        Some("use the cluster's own token file: --token-file or RAFTKV_TOKEN_FILE"),
        Some("the node has another token than the Secret: was the Secret made anew? Restart the pods");
    ForbiddenHost =>
        Some("use a host name that the node advertises, or start it with --allowed-host"),
        Some("a proxy in between changes the Host header: use kubectl's own port-forward");
    NoLeader | NotLeader | Timeout | Dropped | NotAVoter | Opening =>
        Some("try again; if it stays so, `raftkvctl status` shows which node is missing"),
        Some(LOOK);
    NotAMember =>
        Some("run `raftkvctl init --admin-url URL` on one node, then `raftkvctl add` the others"),
        Some(FORMING);
    Forming =>
        Some("add and promote members until the cluster has the voters that init asked for"),
        Some(FORMING);
    ConditionFailed => Some(READ_AGAIN), Some(READ_AGAIN);
    MembersMoved =>
        Some("look at `raftkvctl members` and decide anew"),
        Some(JUST_CHANGED);
    ChangePending =>
        Some("wait for the change in flight: `raftkvctl members` shows it"),
        Some("wait for the change in flight: `kubectl raftkv status --watch`");
    WouldLoseQuorum =>
        Some("wait until `raftkvctl status` shows every member caught up, or repair it first"),
        Some(CATCHING_UP);
    LeaderRemoval =>
        Some("run `raftkvctl transfer --to ID`, then try again"),
        Some(JUST_CHANGED);
    TransferFailed =>
        Some("wait until `raftkvctl status` shows another voter caught up, then try again"),
        Some(CATCHING_UP);
    ChangeRefused =>
        Some("look at `raftkvctl members`; a node that was removed joins anew after `raftkvctl reset`"),
        Some(JUST_CHANGED);
    Compacted => Some(HISTORY_GONE), Some(HISTORY_GONE);
    Overloaded => Some(SEND_LESS), Some(SEND_LESS);
    NoSpace =>
        Some("free space on the nodes' data volumes; deleting keys still works"),
        Some("free space: delete keys, or raise spec.config.quota");
    Removed | Quarantined =>
        Some("use another endpoint; `raftkvctl status` says what to do here"),
        Some("leave --pod out, or name another pod; `kubectl raftkv status` shows them");
    WrongNode =>
        Some("the address leads to another node than before: look at `raftkvctl status`"),
        Some(JUST_CHANGED);
    WrongState | AlreadyInitialized =>
        Some("`raftkvctl status` shows the node's state"),
        Some(JUST_CHANGED);
    Internal =>
        Some("look at that node's log"),
        Some("look at that node's log: `kubectl logs POD`");
    MemberNotFound =>
        Some("`raftkvctl members` lists the ids"),
        Some("`kubectl raftkv members` lists them");
    ShuttingDown => None, Some(JUST_CHANGED);
    BadRequest | EmptyKey | KeyTooLarge | UnknownParameter | BadParameter | BadCondition | FutureRevision | MissingHeader
        | NotFound | KeyNotFound | MethodNotAllowed | RequestTimeout | LengthRequired | BodyTooLarge | UriTooLong | ExpectationFailed
        | PreconditionRequired | HeadersTooLarge => None, None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_commands_that_its_reader_has() {
        for code in Code::ALL {
            let Advice { by_hand, on_kubernetes } = code.advice();
            assert!(!by_hand.unwrap_or_default().contains("kubectl"), "{code:?}: {by_hand:?}");
            for foreign in ["raftkvctl", "--endpoints", "--token-file"] {
                assert!(!on_kubernetes.unwrap_or_default().contains(foreign), "{code:?}: {on_kubernetes:?}");
            }
        }
    }
}
