//! Brings a child to what is wanted of it, with one write for each hash (rule O32).
//!
//! A child that carries the hash of what is wanted, and still has another value in a field of ours, has it from somebody,
//! or from admission: webhooks and policies of this Kubernetes. The API server is asked by a dry run what it would
//! make of the write. If that is what there is, admission wants it so and nothing is written. Webhooks that take no dry
//! runs show it by the answer to one write.

use crate::edge::operator::Pass;
use crate::edge::write::{Fault, Object};
use crate::observe::{Trouble, what};
use crate::plan::Note;
use crate::resources::Wanted;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use raftkv_crds::{Reason, label};
use serde_json::Value;
use tokio::time::Instant;

/// Makes a child that is absent.
pub(crate) async fn make<K: Object>(pass: &mut Pass<'_>, object: &K, hash: &str) -> Result<(), Fault> {
    let what = what::<K>(&object.name_any());
    held(pass, &what, hash)?;
    let made = pass.namespace().create(object).await;
    note(pass, &what, hash, Trouble::RefusedNew, &made);
    made
}

/// Changes a child by `patch` to what is `wanted`, if that is not what it is, and not what admission makes of it.
pub(crate) async fn bring<K: Object>(
    pass: &mut Pass<'_>,
    live: &K,
    wanted: &Wanted,
    patch: &Value,
) -> Result<(), Fault> {
    let what = what::<K>(&live.name_any());
    held(pass, &what, &wanted.hash)?;
    if pass.writes.is_settled(&what, &wanted.hash, &wanted.fingerprint(live), Instant::now()) {
        return Err(Fault::Left);
    }
    let is_first = wanted.is_new_to(live) && !pass.writes.is_written(&what, &wanted.hash);
    let drift = if is_first { None } else { Some(drift(pass, live, wanted, patch, &what).await?) };
    let made = write(pass, live, wanted, patch).await?;
    let now = Instant::now();
    match (wanted.difference(&made), drift) {
        (Some(field), _) => settle(pass, &what, wanted, &made, &field),
        (None, Some(field)) => pass.writes.mend(&what, &wanted.hash, &field, now),
        (None, None) => {}
    }
    Ok(())
}

/// Writes the patch, whatever is there.
pub(crate) async fn write<K: Object>(
    pass: &mut Pass<'_>,
    live: &K,
    wanted: &Wanted,
    patch: &Value,
) -> Result<K, Fault> {
    let what = what::<K>(&live.name_any());
    held(pass, &what, &wanted.hash)?;
    let made = pass.namespace().patch::<K>(&live.name_any(), patch).await;
    note(pass, &what, &wanted.hash, Trouble::Refused, &made);
    made
}

/// The field that somebody changed, if it is to be put right. Otherwise a [`Fault`] says why not.
async fn drift<K: Object>(
    pass: &mut Pass<'_>,
    live: &K,
    wanted: &Wanted,
    patch: &Value,
    what: &str,
) -> Result<String, Fault> {
    let Some(field) = wanted.difference(live) else { return Err(Fault::Left) };
    match asked(pass, live, patch).await {
        Ok(made) if wanted.fingerprint(&made) == wanted.fingerprint(live) => {
            settle(pass, what, wanted, live, &field);
            Err(Fault::Left)
        }
        Ok(_) => {
            let said = format!("{field} was put right and is changed again by {}", managers(live.meta(), &field));
            match pass.writes.is_fought_over(what, &wanted.hash, &field, &said, Instant::now()) {
                true => Err(Fault::Failed(said)),
                false => Ok(field),
            }
        }
        Err(fault @ Fault::Conflict(_)) => Err(fault),
        // It takes no dry run, or is down. The answer to the write tells.
        Err(Fault::Refused(_) | Fault::Held(_) | Fault::Failed(_) | Fault::Left) => Ok(field),
    }
}

async fn asked<K: Object>(pass: &Pass<'_>, live: &K, patch: &Value) -> Result<K, Fault> {
    #[cfg(test)]
    if pass.writes.asks_nothing {
        return Err(Fault::Failed("nothing is asked".to_string()));
    }
    pass.namespace().ask::<K>(&live.name_any(), patch).await
}

/// Admission wants a child as it is. That is told once.
fn settle<K: Object>(pass: &mut Pass<'_>, what: &str, wanted: &Wanted, live: &K, field: &str) {
    let fingerprint = wanted.fingerprint(live);
    if pass.writes.settle(what, &wanted.hash, &fingerprint, Instant::now()) {
        let text = format!(
            "{what}: admission makes something else of {field}. It is left so: change the webhook or the policy if that is not meant"
        );
        let note = Note { warning: true, reason: Reason::AdmissionDiffers.as_str(), text };
        pass.operator.events.tell(pass.cluster, "ApplyChild", &note);
    }
}

/// Fails while this is not to be tried.
pub(crate) fn held(pass: &Pass<'_>, what: &str, hash: &str) -> Result<(), Fault> {
    match pass.writes.held(what, hash, Instant::now()) {
        Some(said) => Err(Fault::Held(said.to_string())),
        None => Ok(()),
    }
}

/// Notes what became of a write.
pub(crate) fn note<T>(pass: &mut Pass<'_>, what: &str, hash: &str, refused: Trouble, result: &Result<T, Fault>) {
    match result {
        Ok(_) => pass.writes.wrote(what, hash),
        Err(Fault::Refused(said)) => {
            let said = format!("the API server refuses it: {said}");
            pass.writes.fail(what, hash, refused, &said, Instant::now());
        }
        Err(Fault::Failed(said)) => pass.writes.fail(what, hash, Trouble::Failed, said, Instant::now()),
        Err(Fault::Conflict(_) | Fault::Held(_) | Fault::Left) => {}
    }
}

/// Who set a field last, besides this operator: a webhook writes in the name of whom it serves.
fn managers(metadata: &ObjectMeta, field: &str) -> String {
    let owns = |fields: &Value| {
        let mut steps = field.split(['.', '[']).map(|step| step.trim_end_matches(']'));
        let below = |at: Value, step: &str| {
            let at = at.as_object()?;
            let element = || at.iter().find(|(key, _)| key.starts_with("k:") && key.contains(&format!("\"{step}\"")));
            at.get(&format!("f:{step}")).or_else(|| element().map(|(_, fields)| fields)).cloned()
        };
        steps.try_fold(fields.clone(), below).is_some()
    };
    let others = metadata.managed_fields.iter().flatten().filter(|entry| {
        let is_other = entry.manager.as_deref() != Some(label::MANAGED_BY_VALUE);
        is_other && entry.fields_v1.as_ref().is_some_and(|fields| owns(&fields.0))
    });
    let names: Vec<&str> = others.filter_map(|entry| entry.manager.as_deref()).collect();
    if names.is_empty() { "a webhook or somebody else".to_string() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_changed_a_field_is_named_if_that_is_known() {
        let entry = |manager: &str, fields: Value| json!({"manager": manager, "fieldsV1": fields});
        let container = json!({"f:spec": {"f:containers": {"k:{\"name\":\"raftkv\"}": {"f:image": {}}}}});
        let metadata =
            |entries: Value| serde_json::from_value::<ObjectMeta>(json!({"managedFields": entries})).unwrap();
        let by = metadata(json!([entry("raftkv-operator", container.clone()), entry("kubectl-edit", container)]));
        assert_eq!(managers(&by, "spec.containers[raftkv].image"), "kubectl-edit");
        assert_eq!(managers(&by, "spec.containers[other].image"), "a webhook or somebody else");
        assert_eq!(managers(&by, "spec.replicas"), "a webhook or somebody else");
        assert_eq!(managers(&ObjectMeta::default(), "spec"), "a webhook or somebody else");
    }
}
