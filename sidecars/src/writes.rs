//! Reads and writes of the API that are safe to repeat and safe against others' writes.
//!
//! Everything written is a merge patch of a few fields. Where a decision depends on what
//! was read, the patch carries the `resourceVersion` and `uid` it was read with: a change
//! in between makes the API refuse, and the decision is made again on the live object.

use std::{collections::HashMap, fmt::Debug, future::Future, sync::Arc, time::Duration};

pub(crate) use holdfast_api::secret::SecretKey;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// How long one request may take; a request cut off is repeated, never taken as refused.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Repetitions of one request before the key goes back to its queue.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A request to the API that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The API refused, or could not be reached.
    #[error("cannot {what}: {source}")]
    Request { what: String, source: kube::Error },
    /// No answer in time; whether it was done is not known.
    #[error("cannot {what}: the API server did not answer within {} s", after.as_secs_f32())]
    Timeout { what: String, after: Duration },
    /// A secret that a class or volume names is not there.
    #[error("secret {namespace}/{name} is not there: create it, or correct the class that names it")]
    NoSecret { namespace: String, name: String },
}

impl ApiError {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Request { source: kube::Error::Api(status), .. } => Some(status.code),
            _ => None,
        }
    }

    /// Whether the very same request may succeed later: overload, server trouble, lost connections.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::NoSecret { .. } => false,
            Self::Request { source: kube::Error::Api(status), .. } => {
                status.code == 429 || status.code >= 500
            }
            Self::Request { source, .. } => matches!(
                source,
                kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_)
            ),
        }
    }

    /// 409: changed meanwhile, or already there.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    fn is_invalid(&self) -> bool {
        self.code() == Some(422)
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }
}

/// An [`ApiError`] as part of a reason: what stood in the way of a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Blocked {
    what: String,
    /// Conflicts and overload pass by themselves; a missing secret or a refusal is for people.
    pub passes: bool,
}

impl From<&ApiError> for Blocked {
    fn from(error: &ApiError) -> Self {
        Self { what: error.to_string(), passes: error.is_retryable() || error.is_conflict() }
    }
}

/// What became of a write with preconditions.
#[derive(Debug)]
pub(crate) enum Written<K> {
    /// Done; the object as it is now.
    Yes(K),
    /// Not done, because it is no longer what was read; the object as it is now.
    Changed(K),
    /// Not done, because it is gone, or another of the same name took its place.
    Gone,
}

impl<K> Written<K> {
    /// The object as it is now; `None` when it is gone.
    pub(crate) fn current(self) -> Option<Arc<K>> {
        match self {
            Self::Yes(now) | Self::Changed(now) => Some(Arc::new(now)),
            Self::Gone => None,
        }
    }
}

/// What every object here can do.
pub(crate) trait Object:
    Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync
{
}
impl<K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync> Object
    for K
{
}

fn describe<K: Object>(verb: &str, name: &str) -> String {
    format!("{verb} {} {name}", K::kind(&()))
}

async fn attempt<T, Fut>(what: String, request: impl Fn() -> Fut) -> Result<T, ApiError>
where
    Fut: Future<Output = Result<T, kube::Error>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match once(&what, &request, REQUEST_TIMEOUT).await {
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            other => return other,
        }
    }
    once(&what, &request, REQUEST_TIMEOUT).await
}

/// One request, which is not repeated.
pub(crate) async fn once<T, Fut>(
    what: &str,
    request: &impl Fn() -> Fut,
    within: Duration,
) -> Result<T, ApiError>
where
    Fut: Future<Output = Result<T, kube::Error>>,
{
    match tokio::time::timeout(within, request()).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(ApiError::Request { what: what.to_owned(), source }),
        Err(_) => Err(ApiError::Timeout { what: what.to_owned(), after: within }),
    }
}

/// The object as it is now; `None` only when the API says that it is not there.
pub(crate) async fn get<K: Object>(api: &Api<K>, name: &str) -> Result<Option<K>, ApiError> {
    attempt(describe::<K>("get", name), || api.get_opt(name)).await
}

/// Where a patch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    Status,
}

async fn merge<K: Object>(api: &Api<K>, name: &str, part: Part, patch: &Value) -> Result<K, ApiError> {
    let params = PatchParams::default();
    attempt(describe::<K>("patch", name), || async {
        match part {
            Part::Whole => api.patch(name, &params, &Patch::Merge(patch)).await,
            Part::Status => api.patch_status(name, &params, &Patch::Merge(patch)).await,
        }
    })
    .await
}

/// Applies `patch` if `object` is still exactly what was read.
pub(crate) async fn patch_if_unchanged<K: Object>(
    api: &Api<K>,
    object: &K,
    part: Part,
    mut patch: Value,
) -> Result<Written<K>, ApiError> {
    let name = object.name_any();
    patch["metadata"]["resourceVersion"] = json!(object.resource_version());
    patch["metadata"]["uid"] = json!(object.uid());
    match merge(api, &name, part, &patch).await {
        Ok(now) => Ok(Written::Yes(now)),
        Err(error) if error.is_not_found() => Ok(Written::Gone),
        // Kubernetes calls a patch with another object's UID invalid before it compares versions.
        Err(error) if error.is_conflict() || error.is_invalid() => match get(api, &name).await? {
            Some(now) if now.uid() != object.uid() => Ok(Written::Gone),
            Some(now) if error.is_invalid() && now.resource_version() == object.resource_version() => {
                Err(error)
            }
            Some(now) => Ok(Written::Changed(now)),
            None => Ok(Written::Gone),
        },
        Err(error) => Err(error),
    }
}

/// Applies `patch` to fields that only we write, whatever else changed meanwhile, as long
/// as it is the same object (by UID).
pub(crate) async fn patch_own_fields<K: Object>(
    api: &Api<K>,
    object: &K,
    part: Part,
    mut patch: Value,
) -> Result<Written<K>, ApiError> {
    let name = object.name_any();
    patch["metadata"]["uid"] = json!(object.uid());
    match merge(api, &name, part, &patch).await {
        Ok(now) => Ok(Written::Yes(now)),
        Err(error) if error.is_not_found() => Ok(Written::Gone),
        Err(error) if error.is_conflict() || error.is_invalid() => match get(api, &name).await? {
            Some(now) if now.uid() == object.uid() => Err(error),
            _ => Ok(Written::Gone),
        },
        Err(error) => Err(error),
    }
}

/// The patch that leaves `finalizer` in (or out of) the object's list.
pub(crate) fn finalizer_patch<K: Object>(object: &K, finalizer: &str, wanted: bool) -> Value {
    let mut all: Vec<&str> =
        object.finalizers().iter().map(String::as_str).filter(|other| *other != finalizer).collect();
    if wanted {
        all.push(finalizer);
    }
    json!({ "metadata": { "finalizers": all } })
}

/// Creates `object`. Already there counts as created when `same` says so of what is there.
pub(crate) async fn create<K: Object>(
    api: &Api<K>,
    object: &K,
    same: impl Fn(&K) -> bool,
) -> Result<K, ApiError> {
    let name = object.name_any();
    let params = PostParams::default();
    match attempt(describe::<K>("create", &name), || api.create(&params, object)).await {
        Err(error) if error.is_conflict() => match get(api, &name).await? {
            Some(there) if same(&there) => Ok(there),
            _ => Err(error),
        },
        other => other,
    }
}

/// Deletes exactly this object (by UID), of a kind without a grace period. Already gone is success. Returns the object as
/// it is now, where finalizers keep it.
pub(crate) async fn delete<K: Object>(api: &Api<K>, object: &K) -> Result<Option<K>, ApiError> {
    let name = object.name_any();
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: object.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    match attempt(describe::<K>("delete", &name), || api.delete(&name, &params)).await {
        // What went at once is answered as it last was, or with a status.
        Ok(answer) => Ok(answer.left().filter(|now| !now.finalizers().is_empty())),
        Err(error) if error.is_not_found() => Ok(None),
        // Another object took the name: the one that was meant is gone.
        Err(error) if error.is_conflict() => match get(api, &name).await? {
            Some(now) if now.uid() == object.uid() => Err(error),
            _ => Ok(None),
        },
        Err(error) => Err(error),
    }
}

/// As [`secret`], for a deletion: the secret may have been deleted together with what used it. The driver
/// can still refuse; not asking it would keep what is to be deleted for ever.
pub(crate) async fn secret_to_delete(
    client: &Client,
    key: Option<&SecretKey>,
) -> Result<HashMap<String, String>, ApiError> {
    match secret(client, key).await {
        Err(ApiError::NoSecret { .. }) => Ok(HashMap::new()),
        read => read,
    }
}

/// Reads a secret as CSI wants it. Values that are not UTF-8 cannot be said in CSI and are
/// an error of the secret; they are replaced lossily, as upstream does.
pub(crate) async fn secret(
    client: &Client,
    key: Option<&SecretKey>,
) -> Result<HashMap<String, String>, ApiError> {
    let Some(SecretKey { namespace, name }) = key else { return Ok(HashMap::new()) };
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = get(&api, name)
        .await?
        .ok_or_else(|| ApiError::NoSecret { namespace: namespace.clone(), name: name.clone() })?;
    let data = found.data.unwrap_or_default();
    Ok(data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
}
