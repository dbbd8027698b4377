//! The snapshotter's effects: one for each action.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{
    content::{Content, has_intent},
    decide::{Action, Class, Progress, View},
    reason::{Reason, Task},
};
use crate::{
    context::Context,
    writes::{self, ApiError, Part, Written, finalizer_patch},
};

/// Does `action` and brings `view` up to date with what came of it. `Rest` and `Retry` do nothing.
pub(super) async fn apply<C: Content>(
    context: &Context,
    view: &mut View<C>,
    action: Action<C>,
) -> Result<(), ApiError> {
    let Some(content) = view.content.clone() else { return Ok(()) };
    let api: Api<C> = Api::all(context.client.clone());
    match action {
        Action::Rest(_) | Action::Retry(_) => {}
        Action::ReadContent(_) => {
            let now = writes::get(&api, &content.name_any()).await?;
            view.content = now.filter(|now| now.uid() == content.uid()).map(Arc::new);
            view.live = true;
        }
        Action::ReadClass { class, .. } => {
            let classes: Api<C::Class> = Api::all(context.client.clone());
            let found = writes::get(&classes, &class).await?;
            view.class = found.map_or(Class::Absent, |class| Class::There(Box::new(class)));
        }
        Action::RecordIntent(_) => {
            let mut patch = finalizer_patch(&*content, C::WORDS.bound, true);
            patch["metadata"]["annotations"] = json!({ C::WORDS.created: "yes" });
            let written = writes::patch_if_unchanged(&api, &*content, Part::Whole, patch).await?;
            // Over another version the intent may be somebody else's, and so may be calls.
            if matches!(written, Written::Yes(_)) && !has_intent(&*content) {
                view.clear = true;
            }
            take(view, written);
        }
        Action::Create { request, secret, .. } => {
            let secrets = writes::secret(&context.client, secret.as_ref()).await?;
            // Until there is an answer the call counts as begun, also if this task is cut off here.
            let was_clear = std::mem::take(&mut view.clear);
            view.progress = match C::take(context, *request, secrets).await {
                Ok(told) => Progress::Told(Box::new(told)),
                Err(error) => {
                    view.clear = was_clear && error.is_final();
                    Progress::Failed(Task::Create, error)
                }
            };
        }
        Action::Ask { handle, secret, .. } => {
            let secrets = writes::secret(&context.client, secret.as_ref()).await?;
            view.progress = match content.ask(context, handle.clone(), secrets).await {
                Ok(Some(told)) => Progress::Told(Box::new(told)),
                Ok(None) => Progress::Missing { handle },
                Err(error) => Progress::Failed(Task::Ask, error),
            };
        }
        Action::Save { told, .. } => {
            save(view, &api, &content, C::status_of(&told), C::is_told_ready(&told)).await?;
        }
        Action::Trust { handle, .. } => {
            let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
            if let Some(trust) = C::TRUST {
                save(view, &api, &content, trust(&handle, now), true).await?;
            }
        }
        Action::DropIntent(_) => {
            let patch = json!({"metadata": {"annotations": {C::WORDS.created: null}}});
            take(view, writes::patch_own_fields(&api, &*content, Part::Whole, patch).await?);
            view.clear = false;
        }
        Action::NoteFailure(reason) => {
            note(view, &api, &content, &reason).await?;
            view.progress = Progress::Noted(Box::new(reason));
        }
        Action::Delete { handle, secret, .. } => {
            let secrets = writes::secret_to_delete(&context.client, secret.as_ref()).await?;
            view.progress = match content.delete(context, handle, secrets).await {
                Ok(()) => Progress::Deleted,
                Err(error) => Progress::Failed(Task::Delete, error),
            };
        }
        Action::Unprotect(_) => {
            let mut patch = finalizer_patch(&*content, C::WORDS.bound, false);
            patch["metadata"]["annotations"] = json!({ C::WORDS.created: null });
            let written = writes::patch_if_unchanged(&api, &*content, Part::Whole, patch).await?;
            if matches!(written, Written::Yes(_)) {
                view.clear = false;
            }
            take(view, written);
        }
    }
    Ok(())
}

/// Takes over what a write on the content left: the live object, or that it is gone.
fn take<C: Content>(view: &mut View<C>, written: Written<C>) {
    view.content = written.current();
    view.live = true;
}

async fn save<C: Content>(
    view: &mut View<C>,
    api: &Api<C>,
    content: &Arc<C>,
    status: Value,
    ready: bool,
) -> Result<(), ApiError> {
    // Whatever else changed: what is outside is outside.
    let patch = json!({ "status": status });
    take(view, writes::patch_own_fields(api, &**content, Part::Status, patch).await?);
    view.progress = Progress::Saved { ready };
    Ok(())
}

/// Saves a failure, unless it is there: its time is that of its first.
async fn note<C: Content>(
    view: &mut View<C>,
    api: &Api<C>,
    content: &Arc<C>,
    reason: &Reason,
) -> Result<(), ApiError> {
    let message = reason.in_words(C::WORDS).to_string();
    if content.error() == Some(&message) {
        return Ok(());
    }
    let mut status = json!({"error": {"message": message, "time": Time(Timestamp::now())}});
    if !matches!(reason, Reason::Failed { task: Task::Delete, .. } | Reason::NotSupported) {
        status["readyToUse"] = json!(false);
    }
    let patch = json!({ "status": status });
    take(view, writes::patch_own_fields(api, &**content, Part::Status, patch).await?);
    Ok(())
}
