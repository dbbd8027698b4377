//! What the query of a request asks for: the parameters of `ListOptions`,
//! `CreateOptions`, `PatchOptions` and `DeleteOptions`.

use axum::extract::Query;
use http::Uri;

use super::kinds::{Cause, CauseReason};
use super::status::{ApiError, Resource};

/// What becomes of fields that a kind does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped with a warning; upstream's default.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// The parameters that this server knows; others are ignored, as upstream does.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
    pub(crate) resource_version: String,
    pub(crate) resource_version_match: String,
    pub(crate) watch: bool,
    pub(crate) allow_bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) dry_run: Vec<String>,
    pub(crate) field_validation: FieldValidation,
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation_policy: Option<String>,
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) include_object: String,
    pub(crate) field_manager: String,
    pub(crate) force: Option<bool>,
}

impl Options {
    /// Reads the query.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|e| ApiError::BadRequest(format!("the query cannot be read: {e}")))?;
        let mut options = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "labelSelector" => options.label_selector = value,
                "fieldSelector" => options.field_selector = value,
                "limit" => options.limit = number(&name, &value)?.unwrap_or(0),
                "continue" => options.continue_token = value,
                "resourceVersion" => options.resource_version = value,
                "resourceVersionMatch" => options.resource_version_match = value,
                "watch" => options.watch = truth(&value),
                "allowWatchBookmarks" => options.allow_bookmarks = truth(&value),
                "sendInitialEvents" => options.send_initial_events = Some(truth(&value)),
                "timeoutSeconds" => options.timeout_seconds = number(&name, &value)?,
                "dryRun" => options.dry_run.push(value),
                "fieldValidation" => options.field_validation = validation(&value)?,
                "gracePeriodSeconds" => options.grace_period_seconds = number(&name, &value)?,
                "propagationPolicy" => options.propagation_policy = Some(value),
                "orphanDependents" => options.orphan_dependents = Some(truth(&value)),
                "includeObject" => options.include_object = value,
                "fieldManager" => options.field_manager = value,
                "force" => options.force = Some(truth(&value)),
                _ => {}
            }
        }
        Ok(options)
    }

    /// Whether everything is to happen but the write.
    pub(crate) fn is_dry_run(&self, of: impl Into<Resource>) -> Result<bool, ApiError> {
        is_dry_run(&self.dry_run, of)
    }

    /// `resourceVersion` as a revision; `None` when unset.
    pub(crate) fn revision(&self) -> Result<Option<u64>, ApiError> {
        if self.resource_version.is_empty() {
            return Ok(None);
        }
        self.resource_version.parse().map(Some).map_err(|_| {
            ApiError::BadRequest(format!(
                "resourceVersion: Invalid value: {:?}: must be a number that a list or watch returned",
                self.resource_version
            ))
        })
    }
}

/// Reads `dryRun`, whose one value is `All`.
pub(crate) fn is_dry_run(values: &[String], of: impl Into<Resource>) -> Result<bool, ApiError> {
    let wrong: Vec<Cause> = values
        .iter()
        .filter(|value| *value != "All")
        .map(|value| Cause {
            field: "dryRun".to_owned(),
            reason: CauseReason::NotSupported,
            message: format!("{value:?}: supported values: \"All\""),
        })
        .collect();
    ApiError::invalid(of, "", wrong)?;
    Ok(!values.is_empty())
}

/// Upstream's reading of booleans in queries: all but `false` and `0` is true.
fn truth(value: &str) -> bool {
    !value.eq_ignore_ascii_case("false") && value != "0"
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<Option<T>, ApiError> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| {
        ApiError::BadRequest(format!("{name}: Invalid value: {value:?}: must be a whole number"))
    })
}

fn validation(value: &str) -> Result<FieldValidation, ApiError> {
    match value {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => Err(ApiError::BadRequest(format!(
            "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query() {
        let uri: Uri =
            "/x?watch=1&limit=5&labelSelector=a%3Db%2Cc&timeoutSeconds=&sendInitialEvents=false&x=y"
                .parse()
                .unwrap();
        let options = Options::parse(&uri).unwrap();
        assert!(options.watch);
        assert_eq!(options.limit, 5);
        assert_eq!(options.label_selector, "a=b,c");
        assert_eq!(options.timeout_seconds, None);
        assert_eq!(options.send_initial_events, Some(false));
        assert!(Options::parse(&"/x?limit=many".parse().unwrap()).is_err());
        assert!(Options::parse(&"/x?fieldValidation=Maybe".parse().unwrap()).is_err());
    }
}
