//! What to tell of one volume's condition. Pure.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::reason::Reason;
use crate::csi::DriverFacts;

/// How the driver is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// ListVolumes: all at once; goes before the other, as upstream.
    List,
    /// ControllerGetVolume: one by one.
    Each,
    /// It does not tell conditions.
    NotAtAll,
}

pub(super) fn way(facts: &DriverFacts) -> Way {
    match (facts.volume_condition, facts.list_volumes, facts.get_volume) {
        (true, true, _) => Way::List,
        (true, false, true) => Way::Each,
        _ => Way::NotAtAll,
    }
}

/// The volume's handle, where it is bound and the driver's.
pub(super) fn watched<'a>(volume: &'a PersistentVolume, driver: &str) -> Option<&'a str> {
    let bound = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let source = volume.spec.as_ref()?.csi.as_ref()?;
    (bound && source.driver == driver && !source.volume_handle.is_empty()).then_some(&source.volume_handle)
}

/// What the driver says of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) abnormal: bool,
    pub(super) message: String,
}

/// What the claim's owner is told. A volume that the driver says nothing of is neither well nor ill.
pub(super) fn judge(condition: Option<&Condition>, was_ill: bool) -> Option<Reason> {
    match condition {
        Some(Condition { abnormal: true, message }) => Some(Reason::Abnormal { message: message.clone() }),
        Some(Condition { abnormal: false, .. }) if was_ill => Some(Reason::Recovered),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions() {
        let told = |abnormal| Some(Condition { abnormal, message: "worn".to_owned() });
        let ill = || Some(Reason::Abnormal { message: "worn".to_owned() });
        let table = [
            (1, None, false, None),
            (2, None, true, None),
            (3, told(false), false, None),
            (4, told(false), true, Some(Reason::Recovered)),
            (5, told(true), false, ill()),
            (6, told(true), true, ill()),
        ];
        for (number, condition, was_ill, wanted) in table {
            assert_eq!(judge(condition.as_ref(), was_ill), wanted, "row {number}");
        }
    }

    #[test]
    fn ways() {
        let facts = |condition, list, get| DriverFacts {
            volume_condition: condition,
            list_volumes: list,
            get_volume: get,
            ..DriverFacts::default()
        };
        assert_eq!(way(&facts(true, true, true)), Way::List);
        assert_eq!(way(&facts(true, false, true)), Way::Each);
        assert_eq!(way(&facts(true, false, false)), Way::NotAtAll);
        assert_eq!(way(&facts(false, true, true)), Way::NotAtAll);
    }

    #[test]
    fn which_volumes() {
        let volume = |phase: &str, driver: &str| {
            let value =
                json!({"spec": {"csi": {"driver": driver, "volumeHandle": "h"}}, "status": {"phase": phase}});
            serde_json::from_value::<PersistentVolume>(value).expect("a volume")
        };
        assert_eq!(watched(&volume("Bound", "d"), "d"), Some("h"));
        assert_eq!(watched(&volume("Released", "d"), "d"), None);
        assert_eq!(watched(&volume("Bound", "other"), "d"), None);
        assert_eq!(watched(&PersistentVolume::default(), "d"), None);
    }
}
