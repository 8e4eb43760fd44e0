//! The operator around a plan: it observes, plans, carries out and writes the status, and may end at any point.

use super::World;
use raftkv_operator::plan::{Action, Desired, Memory, Observed, Plan, plan};

/// What a pass read.
#[derive(Clone, Debug)]
pub struct Look {
    pub desired: Desired,
    pub observed: Observed,
    /// The resourceVersion of the custom resource.
    pub version: u64,
    uid: u32,
}

impl World {
    /// Reads everything.
    pub fn look(&self) -> Look {
        Look { desired: self.desired(), observed: self.observe(), version: self.version, uid: self.uid }
    }

    /// One whole pass.
    pub fn pass(&mut self) -> Plan {
        let look = self.look();
        let made = plan(&look.desired, &look.observed);
        if made != plan(&look.desired, &look.observed) {
            self.fails("two plans from one observation differ");
        }
        self.carry_out(&look, &made);
        made
    }

    /// Carries out a plan and writes its status, if every step succeeded.
    pub fn carry_out(&mut self, look: &Look, made: &Plan) {
        if self.deleted || self.uid != look.uid {
            return;
        }
        if self.execute(look, made, usize::MAX) {
            self.write_status(made);
        }
    }

    /// An operator that was stopped after it had planned goes on: only fences protect the world from it.
    pub fn sleepwalk(&mut self, look: &Look, made: &Plan) {
        if self.deleted || self.uid != look.uid {
            return;
        }
        for action in made.actions() {
            if self.apply_stale(look, action).is_err() {
                return;
            }
        }
    }

    /// Carries out the first steps. Then the operator ends, and forgets what was not written.
    pub fn pass_until(&mut self, steps: usize) {
        let look = self.look();
        let made = plan(&look.desired, &look.observed);
        self.execute(&look, &made, steps);
        self.crash();
    }

    /// Passes of an operator that is killed after each of its actions.
    pub fn pass_one_action(&mut self) {
        let look = self.look();
        let made = plan(&look.desired, &look.observed);
        match made.actions().all(|action| self.is_failed(action)) {
            true => self.carry_out(&look, &made),
            false => {
                self.execute(&look, &made, 1);
                self.crash();
            }
        }
    }

    /// The operator starts anew: it knows what the status says.
    pub fn crash(&mut self) {
        self.memory = Memory {
            operation: self.memory.operation.clone(),
            waits: self.memory.waits.clone(),
            conditions: self.memory.conditions.clone(),
            members: self.memory.members.clone(),
            ..Memory::default()
        };
    }

    /// Whether a webhook fails this write.
    fn is_failed(&self, action: &Action) -> bool {
        self.faults.fails && matches!(action, Action::CreateSet { .. } | Action::ApplySet { .. })
    }

    fn execute(&mut self, look: &Look, made: &Plan, steps: usize) -> bool {
        self.check_plan(look, made);
        if !self.faults.fails {
            self.memory.failed = None;
        }
        let mut left = steps;
        for action in made.actions() {
            if self.is_failed(action) {
                // The steps after it are taken all the same, and it is not tried again for a while.
                self.memory.failed = Some("StatefulSet demo: the webhook does not answer".to_string());
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            if self.apply_checked(look, action).is_err() {
                return false;
            }
        }
        true
    }

    /// Writes the status except for its latches. A changed status is a new version of the custom resource.
    fn write_status(&mut self, made: &Plan) {
        self.memory = Memory { failed: self.memory.failed.take(), ..made.memory.clone() };
        if self.status != made.status {
            self.status = made.status.clone();
            self.version = self.fresh();
        }
    }
}
