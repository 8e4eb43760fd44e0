//! Carries out the steps of a plan, in order (rule O9).
//!
//! It takes steps that were planned from live reads, and returns how far it got. The Lease is checked before each
//! action. The action carries the fence that the plan saw; afterwards it is counted, logged and told as an Event. The
//! first action that fails ends the pass, and the next pass looks at the world again. Nothing is decided here.

use crate::edge::lease::NotHeld;
use crate::edge::metrics::PassResult;
use crate::edge::operator::{Operator, Pass};
use crate::edge::words::doing;
use crate::edge::write::Fault;
use crate::edge::{children, members};
use crate::plan::{Action, Note, Step};

/// How far a plan was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Actions that succeeded.
    pub acted: u32,
    /// What the API server said when it refused a child object. The steps after it were taken all the same.
    pub refused: Option<String>,
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
    for Step { action, note } in steps {
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
            Err(Fault::Refused(said)) if action.kind().is_child() => {
                done.refused
                    .get_or_insert(format!("{}: the API server refuses it: {said}", doing(action, pass.desired)));
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
        Action::DeletePod { ordinal, uid, resource_version, now } => {
            children::delete_pod(pass, *ordinal, uid, resource_version, *now).await
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
        Ok(()) => PassResult::Ok,
        Err(Fault::Conflict(_)) => PassResult::Conflict,
        Err(Fault::Refused(_) | Fault::Failed(_)) => PassResult::Error,
    };
    if action.kind().changes_members() {
        operator.metrics.membership_change(action.kind().word(), result);
    }
}

fn failed(pass: &Pass<'_>, action: &Action, fault: Fault) -> ExecuteError {
    let doing = doing(action, pass.desired);
    match fault {
        Fault::Conflict(why) => ExecuteError::Conflict { doing, why },
        Fault::Refused(why) | Fault::Failed(why) => {
            let note = Note { warning: true, reason: "StepFailed", text: format!("{doing}: {why}") };
            pass.operator.events.tell(pass.cluster, action.kind().word(), &note);
            ExecuteError::Failed { doing, why }
        }
    }
}

#[cfg(test)]
#[path = "execute_tests.rs"]
mod tests;
