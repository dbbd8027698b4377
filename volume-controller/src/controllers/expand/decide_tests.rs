//! Expansion's table.

use super::{
    decide::{Action, decide},
    reason::Reason,
};
use crate::controllers::view::fixture::*;

#[test]
fn table() {
    let (a, v) = bound("a", "v");
    let local = v.clone().unset("spec.csi").set("spec.local.path", "/x");
    let larger = a.clone().size("2Gi");
    let tell = Some(Action::Tell { claim: of_claim("a"), reason: Reason::NoPlugin { volume: "v".into() } });
    for (number, why, objects, expected) in [
        (1, "nobody can grow it", vec![larger.clone(), local.clone()], tell),
        (2, "the resizer can", vec![larger.clone(), v], None),
        (3, "it is as large as asked for", vec![a.clone(), local.clone()], None),
        (4, "it is larger", vec![a.clone().size("1Mi"), local.clone()], None),
        (5, "not bound", vec![larger.clone().phase("Pending"), local.clone()], None),
        (6, "lost", vec![larger.clone().phase("Lost"), local.clone()], None),
        (7, "no capacity is known", vec![larger.clone().unset("status.capacity"), local.clone()], None),
        (8, "the volume is not there", vec![larger], None),
        (9, "a size that cannot be read", vec![a.size("many"), local], None),
    ] {
        assert_eq!(decide(&view(&objects), &of_claim("a")), expected, "case {number}: {why}");
    }
    let reason = Reason::NoPlugin { volume: "v".into() };
    assert_eq!(reason.name(), "ExternalExpanding");
    assert!(reason.to_string().contains("\"v\""));
}
