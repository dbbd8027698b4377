//! Growth that nobody serves. A CSI volume is grown by the driver's resizer, which
//! sees the claim itself; a claim on any other kind of volume would wait in silence.

use holdfast_api::access;

use super::reason::Reason;
use crate::{
    controllers::view::{View, claim_phase, claim_volume, csi_source},
    store::Key,
};

/// The one step there is: say it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Tell { claim: Key, reason: Reason },
}

/// What to do for one claim.
pub(crate) fn decide(view: &View, key: &Key) -> Option<Action> {
    let claim = view.claims.at(key).filter(|claim| claim_phase(claim) == "Bound")?;
    // A quantity that cannot be read was refused by the API; nothing follows from it here.
    let (asked, has) = (access::claim_request(claim).ok()?, access::claim_capacity(claim).ok()??);
    let volume = view.volumes.get("", claim_volume(claim)?)?;
    (asked > has && csi_source(volume).is_none()).then(|| Action::Tell {
        claim: key.clone(),
        reason: Reason::NoPlugin { volume: volume.key.name.to_string() },
    })
}
