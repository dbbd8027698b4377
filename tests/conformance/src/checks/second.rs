//! The two tables of NodePublishVolume: what a second publish of the same volume on the
//! same node gets, by target path (T) and other arguments (P).

use holdfast_proto::csi::{self, volume_capability::access_mode::Mode};

use crate::{
    capability,
    check::Check,
    failure::Verdict,
    fixture::Fixture,
    need::{LOCAL, Need},
    rows::node::{SECOND_MULTI, SECOND_OTHER_ARGUMENTS, SECOND_SAME, SECOND_SINGLE},
};

/// The four cells of an access mode.
macro_rules! cells {
    ($($mode:ident $name:literal $other_target:ident),* $(,)?) => {
        &[$(
            cell!(concat!("node-publish-volume/second/", $name, "/same"), $mode, SECOND_SAME, "target", false),
            cell!(concat!("node-publish-volume/second/", $name, "/other-arguments"), $mode, SECOND_OTHER_ARGUMENTS, "target", true),
            cell!(concat!("node-publish-volume/second/", $name, "/other-target"), $mode, $other_target, "other", false),
            cell!(concat!("node-publish-volume/second/", $name, "/other-target-and-arguments"), $mode, $other_target, "other", true),
        )*]
    };
}

macro_rules! cell {
    ($id:expr, $mode:ident, $condition:expr, $target:literal, $readonly:literal) => {
        Check {
            id: $id,
            rpc: Some(crate::rpc::Rpc::NodePublishVolume),
            condition: $condition,
            needs: &[LOCAL, &[Need::Mode(Mode::$mode)]],
            run: |f| Box::pin(second(f, Mode::$mode, $target, $readonly)),
        }
    };
}

/// SINGLE_NODE_READER_ONLY is one of "Non MULTI_NODE"; its volumes are readonly in any case,
/// so that its other arguments are not told apart by `readonly`.
pub(super) const CHECKS: &[Check] = cells![
    SingleNodeWriter "single-node-writer" SECOND_SINGLE,
    SingleNodeSingleWriter "single-node-single-writer" SECOND_SINGLE,
    SingleNodeMultiWriter "single-node-multi-writer" SECOND_MULTI,
    MultiNodeSingleWriter "multi-node-single-writer" SECOND_MULTI,
    MultiNodeMultiWriter "multi-node-multi-writer" SECOND_MULTI,
];

async fn second(f: &Fixture, mode: Mode, target: &str, readonly: bool) -> Verdict {
    let volume = f.published_for(capability::with_mode(&f.capability(), mode)).await?;
    f.refused(csi::NodePublishVolumeRequest { readonly, ..f.publish_request(&volume, target) }).await?;
    // The first one is as it was.
    f.ok(f.publish_request(&volume, "target")).await.map(|_| ())
}
