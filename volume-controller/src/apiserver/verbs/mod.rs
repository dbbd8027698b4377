//! What can be done with objects, one file a verb.

mod apply;
mod binding;
pub(crate) mod create;
mod delete;
mod get;
mod list;
mod patch;
pub(crate) mod update;
pub(crate) mod watch;

#[cfg(test)]
pub(crate) use list::is_token as is_continue_token;

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;

use super::Api;
use super::accept::Accepted;
use super::metrics::RequestLabels;
use super::options::Options;
use super::rbac::escalation;
use super::route::{Part, Target};
use super::status::ApiError;
use super::tokens;
use super::user::User;

/// A request for objects, read but not yet done.
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) user: Arc<User>,
    pub(crate) target: Target,
    pub(crate) options: Options,
    pub(crate) accepted: Accepted,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) labels: RequestLabels,
}

impl Call {
    /// Refuses an object that would give somebody more than its writer has.
    fn check_grants(&self, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
        escalation::check(&self.api.access, &self.user, &self.target, old, new)
    }
}

/// What a request asks to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Bind,
    IssueToken,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The verb of a request, if the target has it.
    pub(crate) fn of(method: &Method, target: &Target, options: &Options) -> Option<Self> {
        let has_name = !target.name.is_empty();
        let is_main = target.part == Part::Main;
        // Writes to a collection need to know the namespace.
        let is_one_collection =
            !has_name && (target.kind.scope == super::kinds::Scope::Cluster || !target.namespace.is_empty());
        Some(match *method {
            Method::GET if options.watch && is_main => Self::Watch,
            Method::GET if has_name && matches!(target.part, Part::Main | Part::Status) => Self::Get,
            Method::GET if !has_name => Self::List,
            Method::POST if target.part == Part::Binding => Self::Bind,
            Method::POST if target.part == Part::Token => Self::IssueToken,
            // A token is made, and nothing of it is kept.
            _ if target.part == Part::Token => return None,
            Method::POST if is_one_collection => Self::Create,
            Method::PUT if has_name && target.part != Part::Binding => Self::Update,
            Method::PATCH if has_name && target.part != Part::Binding => Self::Patch,
            Method::DELETE if has_name && is_main => Self::Delete,
            Method::DELETE if is_one_collection && target.kind.deletes_many() => Self::DeleteCollection,
            _ => return None,
        })
    }

    /// Its name in the rules of roles.
    pub(crate) fn in_roles(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create | Self::Bind | Self::IssueToken => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::List => "LIST",
            Self::Watch => "WATCH",
            Self::Create | Self::Bind | Self::IssueToken => "POST",
            Self::Update => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::DeleteCollection => "DELETECOLLECTION",
        }
    }
}

/// Does what was asked.
pub(crate) async fn run(verb: Verb, call: Call) -> Result<Response, ApiError> {
    match verb {
        Verb::Get => get::get(&call),
        Verb::List => list::list(&call),
        Verb::Watch => watch::watch(&call),
        Verb::Create => create::create(&call).await,
        Verb::Bind => binding::bind(&call).await,
        Verb::IssueToken => tokens::issue(&call),
        Verb::Update => update::update(&call).await,
        Verb::Patch => patch::patch(&call).await,
        Verb::Delete => delete::delete(&call).await,
        Verb::DeleteCollection => delete::delete_collection(&call).await,
    }
}
