//! The view: what is related to what, in which order, and that changes lead to
//! the same view as a list.

use proptest::prelude::*;
use serde_json::json;

use super::{fixture::*, *};

fn related(view: &View, relation: Relation, key: &Key) -> Vec<String> {
    view.related(relation, key).map(|key| key.name.to_string()).collect()
}

fn put(view: &mut View, made: &Made, revision: u64) -> Option<Touched> {
    view.apply(ChangeKind::Updated, revision, &made.stored(revision))
}

fn take(view: &mut View, made: &Made, revision: u64) -> Option<Touched> {
    view.apply(ChangeKind::Deleted, revision, &made.stored(revision))
}

#[test]
fn owners_of_fields_are_not_kept() {
    let mut made = claim("a");
    made.0["metadata"]["managedFields"] = json!([{
        "manager": "me", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}},
    }]);
    let view = view(&[made]);
    let seen = view.claims.at(&of_claim("a")).unwrap();
    assert_eq!(seen.metadata.name.as_deref(), Some("a"));
    assert_eq!(seen.metadata.managed_fields, None);
}

#[test]
fn relations_follow_the_objects() {
    use Relation::{
        Attached, AttachedAs, ChosenFor, NamedBy, ReservedIn, Runs, Unscheduled, UsedBy, WantedBy,
    };
    let mut view = view(&[
        claim("a").class("late").note(holdfast_api::names::SELECTED_NODE, "n"),
        claim("b").set("spec.volumeName", "v"),
        volume("v").kept_for("b", "uid-b"),
        pod("p", &["a", "b"]),
        pod_on("n", "q", &["b"]),
        attachment("v", "n", true),
    ]);
    let attached = attachment("v", "n", true).key().name.to_string();
    let class = Key::new(CLASSES, "", "late");
    for (relation, key, expected) in [
        (UsedBy, of_claim("a"), vec!["p"]),
        (UsedBy, of_claim("b"), vec!["p", "q"]),
        (Runs, node_key("n"), vec!["q"]),
        (Unscheduled, nowhere(), vec!["p"]),
        (ReservedIn, of_claim("b"), vec!["v"]),
        (NamedBy, of_volume("v"), vec!["b"]),
        (WantedBy, class.clone(), vec!["a"]),
        (ChosenFor, node_key("n"), vec!["a"]),
        (Attached, node_key("n"), vec![&*attached]),
        (AttachedAs, of_volume("v"), vec![&*attached]),
        (UsedBy, claim_key("prod", "a"), vec![]),
    ] {
        assert_eq!(related(&view, relation, &key), expected, "{relation:?} {key}");
    }
    // Placed, bound, gone.
    put(&mut view, &pod_on("n", "p", &["a"]), 8);
    assert_eq!(related(&view, Runs, &node_key("n")), ["p", "q"]);
    assert!(related(&view, Unscheduled, &nowhere()).is_empty());
    assert_eq!(related(&view, UsedBy, &of_claim("b")), ["q"]);
    put(&mut view, &claim("a").set("spec.volumeName", "w"), 9);
    assert!(
        related(&view, WantedBy, &class).is_empty() && related(&view, ChosenFor, &node_key("n")).is_empty()
    );
    for (revision, made) in
        [claim("a"), claim("b"), volume("v"), pod("p", &[]), pod("q", &[])].iter().enumerate()
    {
        take(&mut view, made, 10 + revision as u64);
    }
    take(&mut view, &attachment("v", "n", true), 20);
    assert!(view.links.is_empty(), "{:?}", view.links);
    assert_eq!(view.free, order::FreeVolumes::default());
    assert_eq!(view.pending, order::PendingClaims::default());
}

#[test]
fn free_volumes_come_in_the_order_of_their_fitness() {
    let two = ["ReadWriteOnce", "ReadOnlyMany"];
    let mut view = view(&[
        volume("wide").modes(&two),
        volume("large").size("9Gi"),
        volume("small"),
        volume("tiny").size("1Mi"),
        volume("equal"),
        volume("kept").kept_for("a", ""),
        volume("other").class("fast"),
    ]);
    let names = |view: &View, modes: &[&str], bytes| {
        let modes: Vec<String> = modes.iter().map(|&mode| mode.to_owned()).collect();
        let claim: PersistentVolumeClaim = serde_json::from_value(claim("a").0).unwrap();
        let found = view.free.candidates(&Slot::of_claim(&claim), modes_mask(&modes), bytes);
        found.map(ToString::to_string).collect::<Vec<_>>()
    };
    let gi = 1 << 30;
    assert_eq!(names(&view, &["ReadWriteOnce"], gi), ["equal", "small", "large", "wide"]);
    assert_eq!(names(&view, &two, gi), ["wide"]);
    assert_eq!(names(&view, &["ReadWriteOnce"], 1), ["tiny", "equal", "small", "large", "wide"]);
    assert_eq!(names(&view, &["ReadWriteOnce"], 10 * gi), [""; 0]);
    put(&mut view, &volume("small").size("10Gi"), 8);
    put(&mut view, &volume("equal").phase("Bound"), 9);
    assert_eq!(names(&view, &["ReadWriteOnce"], gi), ["large", "small", "wide"]);
}

#[test]
fn waiting_claims_come_with_the_largest_first() {
    let placed = |name: &str| claim(name).note(holdfast_api::names::SELECTED_NODE, "n");
    let view = view(&[
        claim("a"),
        claim("b").size("3Gi"),
        claim("c").size("2Gi"),
        claim("many").modes(&["ReadWriteMany"]),
        claim("block").set("spec.volumeMode", "Block"),
        claim("named").set("spec.volumeName", "v"),
        claim("going").deleting(),
        placed("on"),
    ]);
    let names = |bytes: i64, only_placed| {
        let offer: PersistentVolume = serde_json::from_value(volume("v").0).unwrap();
        let modes = modes_mask(volume_modes(&offer));
        let found = view.pending.satisfied_by(&Slot::of_volume(&offer), modes, bytes, only_placed);
        found.map(|key| key.name.to_string()).collect::<Vec<_>>()
    };
    let gi = 1 << 30;
    assert_eq!(names(9 * gi, false), ["on", "b", "c", "a"]);
    assert_eq!(names(2 * gi, false), ["on", "c", "a"]);
    assert_eq!(names(2 * gi, true), ["on"]);
    assert_eq!(names(gi - 1, false), [""; 0]);
    assert_eq!(names(i64::MAX, true), ["on"]);
}

#[test]
fn what_is_older_than_known_is_ignored() {
    let mut view = view(&[claim("a")]);
    assert!(put(&mut view, &claim("a").size("2Gi"), REVISION - 1).is_none());
    assert!(put(&mut view, &claim("a").size("2Gi"), REVISION).is_none());
    assert!(take(&mut view, &claim("a"), REVISION - 1).is_none());
    assert_eq!(view.claims.iter().count(), 1);
    let Some(Touched::Claim(delta)) = put(&mut view, &claim("a").size("2Gi"), REVISION + 1) else { panic!() };
    assert_eq!(delta.both().count(), 2);
    let Some(Touched::Claim(delta)) = take(&mut view, &claim("a"), REVISION + 2) else { panic!() };
    assert!(delta.old.is_some() && delta.new.is_none());
}

#[test]
fn what_cannot_be_read_is_not_absent() {
    let mut view = view(&[claim("a")]);
    let broken = claim("a").set("spec.accessModes", "all of them");
    assert!(put(&mut view, &broken, REVISION + 1).is_none());
    assert_eq!(view.claims.get(SPACE, "a").unwrap().revision, REVISION);
    assert_eq!(view.revision, REVISION + 1, "the rest goes on");
}

#[test]
fn other_resources_are_not_held() {
    let mut view = View::default();
    let object =
        Object { key: Key::new("secrets", SPACE, "s"), revision: 3, uid: "u".into(), body: "{}".into() };
    assert!(view.apply(ChangeKind::Created, 3, &object).is_none());
    assert_eq!(view.revision, 3);
}

/// An object that is one of a few, so that changes meet.
fn any_object() -> impl Strategy<Value = Made> {
    let name = || prop::sample::select(vec!["x", "y", "z"]);
    let size = prop::sample::select(vec!["1Gi", "2Gi", "many"]);
    let claims = (name(), size.clone(), name(), 0..5u8).prop_map(|(claim_name, size, other, kind)| {
        let made = claim(claim_name).size(size);
        match kind {
            0 => made.set("spec.volumeName", other),
            1 => made.class(other),
            2 => made.deleting(),
            3 => made.note(holdfast_api::names::SELECTED_NODE, other),
            _ => made,
        }
    });
    let volumes = (name(), size, name(), 0..5u8).prop_map(|(volume_name, size, other, kind)| {
        let made = volume(volume_name).size(size);
        match kind {
            0 => made.kept_for(other, ""),
            1 => made.kept_for(other, "uid").phase("Released"),
            2 => made.deleting(),
            3 => made.class(other).modes(&["ReadWriteMany", "ReadWriteOnce"]),
            _ => made,
        }
    });
    let pods = (name(), name(), name(), any::<bool>()).prop_map(|(name, claim, node, placed)| {
        if placed { pod_on(node, name, &[claim]) } else { pod(name, &[claim]) }
    });
    let attachments =
        (name(), name(), any::<bool>()).prop_map(|(volume, node, done)| attachment(volume, node, done));
    prop_oneof![claims, volumes, pods, attachments, name().prop_map(node), name().prop_map(class)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the changes, and however often each is told, the view is that of the list at the end.
    #[test]
    fn changes_lead_to_the_same_view_as_a_list(
        changes in prop::collection::vec((any_object(), prop::bool::weighted(0.3), 1..3usize), 0..60),
        start in 0..60usize,
    ) {
        let mut world: BTreeMap<Key, (u64, Made)> = BTreeMap::new();
        let mut followed = View::default();
        let mut log = Vec::new();
        let mut halfway = Vec::new();
        for (step, (made, gone, times)) in changes.iter().enumerate() {
            let revision = step as u64 + 1;
            if *gone && world.remove(&made.key()).is_none() {
                continue;
            }
            if !gone {
                world.insert(made.key(), (revision, made.clone()));
            }
            log.push((*gone, revision, made.clone()));
            for _ in 0..*times {
                if *gone { take(&mut followed, made, revision) } else { put(&mut followed, made, revision) };
            }
            if step == start {
                halfway = world.values().cloned().collect();
            }
        }
        let mut listed = View::default();
        for (revision, made) in world.values() {
            put(&mut listed, made, *revision);
        }
        // A list from the middle with the whole log told again after it.
        let mut resumed = View::default();
        for (revision, made) in &halfway {
            put(&mut resumed, made, *revision);
        }
        if !halfway.is_empty() {
            for (gone, revision, made) in log.iter().filter(|(_, revision, _)| *revision > start as u64 + 1) {
                if *gone { take(&mut resumed, made, *revision) } else { put(&mut resumed, made, *revision) };
            }
            prop_assert_eq!(shape(&resumed), shape(&listed));
        }
        prop_assert_eq!(shape(&followed), shape(&listed));
    }
}

/// Everything of a view but its revision, to be compared.
fn shape(view: &View) -> String {
    fn keys<T>(shelf: &Shelf<T>) -> Vec<(&Key, u64)> {
        shelf.iter().map(|seen| (&seen.key, seen.revision)).collect()
    }
    let typed = (
        keys(&view.claims),
        keys(&view.volumes),
        keys(&view.pods),
        keys(&view.attachments),
        keys(&view.nodes),
    );
    format!("{typed:#?} {:#?} {:#?} {:#?} {:#?}", keys(&view.classes), view.free, view.pending, view.links)
}

#[test]
fn deleting_the_last_of_a_space_leaves_nothing() {
    let mut view = view(&[claim("a")]);
    take(&mut view, &claim("a"), REVISION + 1);
    assert_eq!(view.claims.iter().count(), 0);
    assert!(view.claims.get(SPACE, "a").is_none());
    put(&mut view, &claim("a").set("metadata.labels", json!({})), REVISION + 2);
    assert_eq!(view.claims.iter().count(), 1);
}
