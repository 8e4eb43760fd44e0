//! Carries out the steps of a plan, in order (rule O9).
//!
//! It takes steps that were planned from live reads, and returns how far it got. The Lease is checked before each
//! action. The action carries the fence that the plan saw; afterwards it is counted, logged and told as an Event. The
//! first action that fails ends the pass, and the next pass looks at the world again. A write to a child is the exception:
//! when it fails, the steps after it are taken all the same (rule O32). Nothing is decided here.

use crate::edge::lease::NotHeld;
use crate::edge::metrics::PassResult;
use crate::edge::operator::{Operator, Pass};
use crate::edge::words::doing;
use crate::edge::write::Fault;
use crate::edge::{children, members};
use crate::plan::{Action, Note, Step};
use raftkv_crds::Reason;

/// How far a plan was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Actions that succeeded.
    pub acted: u32,
    /// Whether a write to a child did not succeed. The steps after it were taken all the same.
    pub failed: bool,
}

/// Why a plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// Another operator may hold the Lease.
    #[error(transparent)]
    NotHeld(#[from] NotHeld),
    /// The process is stopping.
    #[error("the operator is stopping")]
    Stopping,
    /// The world changed during the pass, which is nobody's fault.
    #[error("{doing}: the world has moved: {why}")]
    Conflict {
        /// What was tried.
        doing: String,
        /// What was answered.
        why: String,
    },
    /// Something is wrong.
    #[error("{doing}: {why}")]
    Failed {
        /// What was tried.
        doing: String,
        /// What was answered.
        why: String,
    },
}

/// Takes the steps. Afterwards `pass.cluster` has what the steps wrote into the cluster's status.
pub async fn execute(pass: &mut Pass<'_>, steps: &[Step]) -> Result<Done, ExecuteError> {
    let mut done = Done::default();
    let mut lacks_budget = false;
    for Step { action, note } in steps {
        // No voter is made before the budget counts it (rule O12).
        if lacks_budget && action.kind().changes_members() {
            continue;
        }
        if *pass.operator.stopping.borrow() {
            return Err(ExecuteError::Stopping);
        }
        pass.operator.held.check()?;
        let result = act(pass, action).await;
        count(pass.operator, action, &result);
        match result {
            Ok(()) => {
                done.acted += 1;
                tracing::info!(?action, "{}", doing(action, pass.desired));
                if let Some(note) = note {
                    pass.operator.events.tell(pass.cluster, action.kind().word(), note);
                }
                pass.operator.exit_after.count_down(action);
            }
            Err(Fault::Left) => {}
            Err(fault @ (Fault::Held(_) | Fault::Refused(_) | Fault::Failed(_))) if action.kind().is_child() => {
                lacks_budget |= matches!(action, Action::SetBudget { .. });
                done.failed |= !matches!(fault, Fault::Held(_));
                if let Fault::Failed(why) = fault {
                    tell_failed(pass, action, &doing(action, pass.desired), &why);
                }
            }
            Err(fault) => return Err(failed(pass, action, fault)),
        }
    }
    Ok(done)
}

async fn act(pass: &mut Pass<'_>, action: &Action) -> Result<(), Fault> {
    match action {
        Action::CreateChild(child) => children::create_child(pass, *child).await,
        Action::ApplyChild(child) => children::apply_child(pass, *child).await,
        Action::CreateSet { replicas } => children::create_set(pass, *replicas).await,
        Action::ApplySet { replicas, resource_version } => children::apply_set(pass, *replicas, resource_version).await,
        Action::AnnotateSeed { seed, resource_version } => children::annotate_seed(pass, *seed, resource_version).await,
        Action::SetBudget { min_available } => children::set_budget(pass, *min_available).await,
        Action::LatchSeed(seed) => children::latch_seed(pass, *seed).await,
        Action::LatchFormed { cluster_id } => children::latch_formed(pass, *cluster_id).await,
        Action::LabelClaim { ordinal, uid, resource_version } => {
            children::label_claim(pass, *ordinal, uid, resource_version).await
        }
        Action::AnnotateClaim { ordinal, uid, resource_version, owner } => {
            children::annotate_claim(pass, *ordinal, uid, resource_version, *owner).await
        }
        Action::DeleteClaim { ordinal, uid, resource_version } => {
            children::delete_claim(pass, *ordinal, uid, resource_version).await
        }
        Action::DeletePod { ordinal, uid, resource_version, how } => {
            children::delete_pod(pass, *ordinal, uid, resource_version, *how).await
        }
        Action::Init { seed, ordinal, min_voters } => members::init(pass, *seed, *ordinal, *min_voters).await,
        Action::Reset { ordinal, incarnation } => members::reset(pass, *ordinal, *incarnation).await,
        Action::AddLearner { leader, ordinal, incarnation, conf_index } => {
            members::add_learner(pass, *leader, *ordinal, *incarnation, *conf_index).await
        }
        Action::Promote { leader, id, replaces, conf_index } => {
            members::promote(pass, *leader, *id, *replaces, *conf_index).await
        }
        Action::Remove { leader, id, conf_index } => members::remove(pass, *leader, *id, *conf_index).await,
        Action::Transfer { leader, to } => members::transfer(pass, *leader, *to).await,
    }
}

fn count(operator: &Operator, action: &Action, result: &Result<(), Fault>) {
    let result = match result {
        Ok(()) | Err(Fault::Left) => PassResult::Ok,
        Err(Fault::Conflict(_)) => PassResult::Conflict,
        Err(Fault::Refused(_) | Fault::Held(_) | Fault::Failed(_)) => PassResult::Error,
    };
    if action.kind().changes_members() {
        operator.metrics.membership_change(action.kind().word(), result);
    }
}

fn failed(pass: &Pass<'_>, action: &Action, fault: Fault) -> ExecuteError {
    let doing = doing(action, pass.desired);
    match fault {
        Fault::Conflict(why) => ExecuteError::Conflict { doing, why },
        Fault::Refused(why) | Fault::Held(why) | Fault::Failed(why) => {
            tell_failed(pass, action, &doing, &why);
            ExecuteError::Failed { doing, why }
        }
        Fault::Left => ExecuteError::Conflict { doing, why: "it is as it should be".to_string() },
    }
}

fn tell_failed(pass: &Pass<'_>, action: &Action, doing: &str, why: &str) {
    let note = Note { warning: true, reason: Reason::StepFailed.as_str(), text: format!("{doing}: {why}") };
    pass.operator.events.tell(pass.cluster, action.kind().word(), &note);
}

#[cfg(test)]
#[path = "execute_tests.rs"]
mod tests;
