//! Label and field selectors of list, watch and deletecollection.

use std::collections::BTreeMap;

use holdfast_api::selector::{Requirement, Selector};
use serde::Deserialize;
use serde_json::Value;

use super::kinds::Field;
use super::options::Options;
use super::route::Target;
use super::status::ApiError;
use super::writer::is_custom_upstream;
use crate::store::Object;

/// Which objects a request is about.
pub(crate) struct Selection {
    labels: Selector,
    fields: Selector,
    /// The fields that need the object's body.
    read: Vec<&'static Field>,
}

#[derive(Deserialize)]
struct Labelled {
    #[serde(default)]
    metadata: Labels,
}

#[derive(Deserialize, Default)]
struct Labels {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl Selection {
    /// Reads both selectors; a name in the path selects that one object.
    pub(crate) fn parse(target: &Target, options: &Options) -> Result<Self, ApiError> {
        let refuse = |e: &dyn std::error::Error| ApiError::BadRequest(e.to_string());
        let labels = Selector::parse(&options.label_selector).map_err(|e| refuse(&e))?;
        let mut fields = Selector::parse_fields(&options.field_selector).map_err(|e| refuse(&e))?;
        let mut read = Vec::new();
        for requirement in &fields.requirements {
            // The only ones that fields have.
            let (Requirement::In(key, _) | Requirement::NotIn(key, _)) = requirement else { continue };
            if key == "metadata.name" || key == "metadata.namespace" {
                continue;
            }
            let field = target.kind.fields.iter().find(|field| field.path == key);
            read.push(field.ok_or_else(|| unknown(target, key))?);
        }
        if !target.name.is_empty() {
            fields.requirements.push(Requirement::In("metadata.name".to_owned(), vec![target.name.clone()]));
        }
        Ok(Self { labels, fields, read })
    }

    /// Whether every object is meant.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.requirements.is_empty() && self.fields.requirements.is_empty()
    }

    /// Whether an object is meant. Its body is decoded only as far as needed.
    pub(crate) fn matches(&self, target: &Target, object: &Object) -> Result<bool, ApiError> {
        let undecodable =
            |e| ApiError::Internal(format!("the stored body of {} is damaged: {e}", object.key));
        if !self.fields.requirements.is_empty() {
            let mut values = BTreeMap::from([
                ("metadata.name", object.key.name.to_string()),
                ("metadata.namespace", object.key.namespace.to_string()),
            ]);
            if !self.read.is_empty() {
                let body = target.to_served(object.decode::<Value>().map_err(undecodable)?);
                values.extend(self.read.iter().map(|field| (field.path, (field.value)(&body))));
            }
            if !self.fields.matches(|key| values.get(key).map(String::as_str)) {
                return Ok(false);
            }
        }
        if self.labels.requirements.is_empty() {
            return Ok(true);
        }
        let labelled: Labelled = object.decode().map_err(undecodable)?;
        Ok(self.labels.matches_map(labelled.metadata.labels.as_ref()))
    }
}

/// Upstream says it in other words for kinds without fields of their own.
fn unknown(target: &Target, key: &str) -> ApiError {
    let has_own = !target.kind.fields.is_empty() || is_custom_upstream(target.kind);
    ApiError::BadRequest(match has_own {
        true => format!("field label not supported: {key}"),
        false => {
            format!("{key:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
    })
}
