//! What asking the nodes brought, as [`raftkv_judge`] judges it. PURE.

use raftkv_api::Code;
use raftkv_client::admin::NodeStatus;
pub(crate) use raftkv_judge::Level;
use raftkv_judge::{Answer, Judgement, Report};

/// Judges what the nodes answered.
pub(crate) fn judge<'a>(nodes: impl IntoIterator<Item = &'a NodeStatus>) -> Judgement {
    with_reports(nodes, raftkv_judge::judge)
}

/// Whether members hold different data, or are not of one cluster: the one finding that cannot wait.
pub(crate) fn data_differs(nodes: &[NodeStatus]) -> bool {
    with_reports(nodes, raftkv_judge::data_differs)
}

fn with_reports<'a, T>(nodes: impl IntoIterator<Item = &'a NodeStatus>, judged: impl FnOnce(&[Report<'_>]) -> T) -> T {
    let nodes: Vec<(&NodeStatus, String)> = nodes.into_iter().map(|node| (node, why(node))).collect();
    fn report<'r>((node, why): &'r (&NodeStatus, String)) -> Report<'r> {
        let answer = match &node.status {
            Ok(status) => Answer::Status(status),
            Err(error) if error.code() == Some(Code::Unauthorized) => Answer::Unauthorized,
            Err(error) if error.code() == Some(Code::Overloaded) => Answer::Overloaded(why),
            Err(_) => Answer::Unreachable(why),
        };
        Report { at: &node.url, answer }
    }
    let reports: Vec<Report<'_>> = nodes.iter().map(report).collect();
    judged(&reports)
}

/// Why there is no status; empty where there is one.
fn why(node: &NodeStatus) -> String {
    node.status.as_ref().err().map(ToString::to_string).unwrap_or_default()
}
