//! The class of a snapshot, or of a group snapshot: the one that it names, or the default.

use k8s_openapi::{Metadata, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::reason::Reason;
use crate::controllers::view::{Shared, Shelf, annotation};

pub(super) enum Class<'a, C> {
    /// It is named.
    Named(&'a Shared<C>),
    /// None is named, and this is the default.
    Default(&'a Shared<C>),
}

/// The class for volumes of `driver`. `mark` is the annotation of a default.
pub(super) fn choose<'a, C: Metadata<Ty = ObjectMeta>>(
    classes: &'a Shelf<C>,
    named: Option<&str>,
    driver: &str,
    of: fn(&C) -> &str,
    mark: &str,
) -> Result<Class<'a, C>, Reason> {
    if let Some(name) = named.filter(|name| !name.is_empty()) {
        let Some(class) = classes.get("", name) else {
            return Err(Reason::NoClass { class: name.to_owned() });
        };
        if of(class) != driver {
            let (of, driver) = (of(class).to_owned(), driver.to_owned());
            return Err(Reason::WrongDriver { class: name.to_owned(), of, driver });
        }
        return Ok(Class::Named(class));
    }
    let is_default =
        |class: &&Shared<C>| of(class) == driver && annotation(class.metadata(), mark) == Some("true");
    let mut defaults = classes.iter().filter(is_default);
    match (defaults.next(), defaults.next()) {
        (None, _) => Err(Reason::NoDefaultClass { driver: driver.to_owned() }),
        (Some(class), None) => Ok(Class::Default(class)),
        (Some(one), Some(other)) => Err(Reason::ManyDefaultClasses {
            driver: driver.to_owned(),
            classes: [one, other].map(|class| class.key.name.to_string()).join(", "),
        }),
    }
}
