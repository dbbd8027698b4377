//! What a request is about, in the terms in which roles speak.

use http::{Method, Uri};

use super::super::kinds::Scope;
use super::super::options::Options;
use super::super::route::{self, Target};
use super::super::status::ApiError;
use super::super::user::User;
use super::super::verbs::Verb;
use holdfast_api::selector::{Requirement, Selector};

/// What somebody wants to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// `get`, `list`, …; for a path the method in small letters.
    pub(crate) verb: String,
    pub(crate) object: Object,
}

/// What they want to do it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Object {
    /// Objects of a resource. What does not apply is empty.
    Resource(Resource),
    /// A path that is about no object.
    Path(String),
}

impl Default for Object {
    fn default() -> Self {
        Self::Path(String::new())
    }
}

/// Objects of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) namespace: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) name: String,
}

impl Resource {
    /// `pods` or `pods/status`
    pub(crate) fn combined(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            part => format!("{}/{part}", self.resource),
        }
    }
}

impl Attributes {
    pub(crate) fn resource(verb: &str, resource: Resource) -> Self {
        Self { verb: verb.to_owned(), object: Object::Resource(resource) }
    }

    pub(crate) fn path(verb: &str, path: &str) -> Self {
        Self { verb: verb.to_owned(), object: Object::Path(path.to_owned()) }
    }

    /// What a request is about. Where the path is one of objects it is read by the very
    /// function that the request is answered with, so that nobody is allowed one thing
    /// and gets another.
    pub(crate) fn of(method: &Method, uri: &Uri) -> Self {
        let known = route::parse(uri.path()).ok().and_then(|target| {
            let options = Options::parse(uri).ok()?;
            let verb = Verb::of(method, &target, &options)?;
            Some(Self::of_target(verb, target, &options))
        });
        known.or_else(|| unknown(method, uri.path())).unwrap_or_else(|| Self {
            verb: method.as_str().to_ascii_lowercase(),
            object: Object::Path(uri.path().to_owned()),
        })
    }

    /// Making the object that a request of another verb names.
    pub(crate) fn create(target: &Target) -> Self {
        let Target { kind, stored, namespace, name, part } = target;
        let (namespace, name) = (namespace.clone(), name.clone());
        let target = Target { kind, stored, namespace, name, part: *part };
        Self::of_target(Verb::Create, target, &Options::default())
    }

    fn of_target(verb: Verb, target: Target, options: &Options) -> Self {
        let selected = match verb {
            Verb::List | Verb::Watch if target.name.is_empty() => selected_name(&options.field_selector),
            _ => None,
        };
        // As upstream reads it, a namespace lies in itself: a role in it may speak of it.
        let is_namespace = target.kind.scope == Scope::Cluster && target.kind.kind == "Namespace";
        let namespace = if is_namespace { target.name.clone() } else { target.namespace };
        let resource = Resource {
            namespace,
            group: target.kind.group.to_owned(),
            resource: target.kind.plural.to_owned(),
            subresource: target.part.name().to_owned(),
            name: selected.unwrap_or(target.name),
        };
        Self::resource(verb.in_roles(), resource)
    }

    /// That somebody may not, in upstream's words.
    pub(crate) fn denied(&self, user: &User, reason: &str) -> ApiError {
        let (group, resource, name, what) = match &self.object {
            Object::Path(path) => (String::new(), String::new(), String::new(), format!("path {path:?}")),
            Object::Resource(asked) => {
                let place = match asked.namespace.as_str() {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {namespace:?}"),
                };
                let what = format!("resource {:?} in API group {:?} {place}", asked.combined(), asked.group);
                (asked.group.clone(), asked.resource.clone(), asked.name.clone(), what)
            }
        };
        let colon = if reason.is_empty() { "" } else { ": " };
        let why = format!("User {:?} cannot {} {what}{colon}{reason}", user.name, self.verb);
        ApiError::Denied { group, resource, name, why }
    }
}

/// The one name that a field selector leaves.
fn selected_name(selector: &str) -> Option<String> {
    let selector = Selector::parse_fields(selector).ok()?;
    selector.requirements.into_iter().find_map(|requirement| match requirement {
        Requirement::In(key, mut values) if key == "metadata.name" && values.len() == 1 => values.pop(),
        _ => None,
    })
}

/// A path in the form of those of objects, of resources or methods that there are none of.
fn unknown(method: &Method, path: &str) -> Option<Attributes> {
    let segments = route::segments(path)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, rest) = match segments.as_slice() {
        ["api", _, rest @ ..] if !rest.is_empty() => ("", rest),
        ["apis", group, _, rest @ ..] if !rest.is_empty() => (*group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", name] | ["namespaces", name, "status" | "finalize", ..] => (*name, rest),
        ["namespaces", namespace, rest @ ..] => (*namespace, rest),
        rest => ("", rest),
    };
    let at = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
    let (resource, name, subresource) = (at(0), at(1), at(2));
    let verb = match *method {
        Method::GET | Method::HEAD if name.is_empty() => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ => "",
    };
    let (namespace, group) = (namespace.to_owned(), group.to_owned());
    Some(Attributes::resource(verb, Resource { namespace, group, resource, subresource, name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (request, expected) in [
            ("GET /api/v1/namespaces/dev/pods", "list pods in dev"),
            ("GET /api/v1/namespaces/dev/pods?watch=1", "watch pods in dev"),
            ("GET /api/v1/pods", "list pods"),
            ("GET /api/v1/pods?fieldSelector=metadata.name%3Da", "list pods a"),
            ("GET /api/v1/pods?fieldSelector=metadata.name!%3Da", "list pods"),
            ("GET /api/v1/namespaces/dev/pods/a", "get pods a in dev"),
            ("GET /api/v1/namespaces/dev/pods/a/status", "get pods/status a in dev"),
            ("POST /api/v1/namespaces/dev/pods/a/binding", "create pods/binding a in dev"),
            ("DELETE /api/v1/namespaces/dev/pods", "deletecollection pods in dev"),
            ("PATCH /apis/storage.k8s.io/v1/storageclasses/a", "patch storageclasses.storage.k8s.io a"),
            ("GET /api/v1/namespaces", "list namespaces"),
            ("GET /api/v1/namespaces/dev", "get namespaces dev in dev"),
            ("PUT /api/v1/namespaces/dev/finalize", "update namespaces/finalize dev in dev"),
            ("GET /api/v1//namespaces/%64ev/pods/", "list pods in dev"),
            ("GET /apis/events.k8s.io/v1/events", "list events.events.k8s.io"),
            // Nothing that there is, but somebody may know of it: first of all it is not allowed.
            ("GET /api/v1/widgets", "list widgets"),
            ("PUT /api/v1/namespaces/dev/widgets/a/x", "update widgets/x a in dev"),
            ("PUT /api/v1/namespaces/dev/pods", "update pods in dev"),
            (
                "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                "create selfsubjectaccessreviews.authorization.k8s.io",
            ),
            ("GET /apis/storage.k8s.io/v1", "get /apis/storage.k8s.io/v1"),
            ("HEAD /healthz", "head /healthz"),
            ("GET /api/v1", "get /api/v1"),
            ("GET /api/v1/pods/%zz", "get /api/v1/pods/%zz"),
        ] {
            let (method, uri) = request.split_once(' ').unwrap();
            let found = Attributes::of(&method.parse().unwrap(), &uri.parse().unwrap());
            let what = match &found.object {
                Object::Path(path) => path.clone(),
                Object::Resource(Resource { namespace, group, name, .. }) => {
                    let Object::Resource(resource) = &found.object else { unreachable!() };
                    let part = |before: &str, text: &str| {
                        if text.is_empty() { String::new() } else { format!("{before}{text}") }
                    };
                    let place = part(" in ", namespace);
                    format!("{}{}{}{place}", resource.combined(), part(".", group), part(" ", name))
                }
            };
            assert_eq!(format!("{} {what}", found.verb), expected, "{request}");
        }
    }
}
