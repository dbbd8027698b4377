//! One operation a volume at a time, across Controller and Node.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;

use crate::{error::Error, volume_id::VolumeId};

/// Which volumes have an operation running.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guards(Arc<Mutex<HashSet<VolumeId>>>);

impl Guards {
    /// Takes the volume, or answers [`Error::Busy`]: CSI v1.12, "Error Scheme", lets
    /// a plugin refuse with ABORTED what is still pending, and the caller tries again.
    pub(crate) fn take(&self, id: &VolumeId) -> Result<Guard, Error> {
        if self.0.lock().insert(id.clone()) {
            Ok(Guard { guards: self.clone(), id: id.clone() })
        } else {
            Err(Error::Busy(id.to_string()))
        }
    }
}

/// Holds a volume until dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    guards: Guards,
    id: VolumeId,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.guards.0.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_done() {
        let guards = Guards::default();
        let (a, b) = (VolumeId::derive("p", "a"), VolumeId::derive("p", "b"));
        let held = guards.take(&a);
        assert!(held.is_ok() && guards.take(&b).is_ok());
        assert!(matches!(guards.take(&a), Err(Error::Busy(_))));
        drop(held);
        assert!(guards.take(&a).is_ok());
    }
}
