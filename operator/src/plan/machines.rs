//! Whether a member is lost together with its machine, by the machine's end or by a person's word. PURE.
//!
//! It is half of the evidence on which a volume is given up; the other half, that the others hold, is in `evidence`.

use crate::plan::facts::{Facts, Seat};
use crate::plan::world::{Machine, Ordinal, PodSeen};
use raftkv_crds::annotation;

/// The evidence that a member is lost together with its machine: (a) it is silent to us and, by the leader's word, to the
/// leader, in more than one pass and for `lostNodeSeconds`, and (b) the machine of its volume or of its pod is gone. Or a
/// person's word, instead of both, for a voter that does not lead.
pub(crate) fn machine_lost(facts: &Facts<'_>, seat: &Seat, ordinal: Ordinal) -> Option<String> {
    if is_given_up(facts, seat, ordinal) {
        return Some(named_words());
    }
    if facts.mute_s(seat)? < facts.desired.lost_node_s || facts.pod(ordinal).is_some_and(|pod| pod.ready) {
        return None;
    }
    match lost_machine(facts, ordinal)? {
        (name, Machine::OutOfService) => Some(format!("its Kubernetes node {name} is marked as out of service")),
        (name, Machine::Gone | Machine::Present | Machine::Unknown) => {
            Some(format!("its Kubernetes node {name} does not exist any more"))
        }
    }
}

/// Whether a person gives up this very member, which does not lead, and its data is still on the claim.
pub(crate) fn is_given_up(facts: &Facts<'_>, seat: &Seat, ordinal: Ordinal) -> bool {
    let owner = facts.claim(ordinal).and_then(|claim| claim.owner);
    let holds_it = owner.is_some_and(|owner| owner.member_id == seat.id);
    is_named(facts, seat) && holds_it && !facts.leads(seat.id) && !facts.is_left_alone(seat)
}

/// The machine of the volume, or else of the pod, if it is gone for good.
fn lost_machine<'a>(facts: &'a Facts<'_>, ordinal: Ordinal) -> Option<(&'a str, Machine)> {
    let of_claim = facts.claim(ordinal).and_then(|claim| claim.machine.as_deref());
    let of_pod = facts.pod(ordinal).and_then(|pod| pod.machine.as_deref());
    let state = |name| (name, facts.seen.machines.get(name).copied().unwrap_or(Machine::Unknown));
    [of_claim, of_pod].into_iter().flatten().map(state).find(|(_, machine)| machine.is_gone_for_good())
}

/// Whether the pod is on a machine that is gone, so that no kubelet will ever end it.
pub(crate) fn is_stranded(facts: &Facts<'_>, pod: &PodSeen) -> bool {
    let machine = pod.machine.as_ref().and_then(|name| facts.seen.machines.get(name));
    machine.is_some_and(|machine| machine.is_gone_for_good())
}

/// Whether a person has named this member as lost.
fn is_named(facts: &Facts<'_>, seat: &Seat) -> bool {
    facts.desired.replace.is_some_and(|it| Some(it.ordinal) == seat.ordinal && it.member_id == seat.id)
}

/// The words for the evidence that a person gave.
fn named_words() -> String {
    format!("the annotation {} names it", annotation::REPLACE)
}

/// The command by which a person gives a member up.
pub(crate) fn replace_command(facts: &Facts<'_>, seat: &Seat) -> String {
    format!("kubectl annotate rkv {} {}={}/{}", facts.desired.name, annotation::REPLACE, seat.name, seat.id)
}
