//! Nothing that is marked `csi_secret` may be printed.

use std::collections::HashMap;

use crate::csi;

const KEY: &str = "adminKey-7f3a";
const VALUE: &str = "hunter2-c0ffee";

fn secret() -> HashMap<String, String> {
    HashMap::from([(KEY.to_owned(), VALUE.to_owned())])
}

#[test]
fn no_secret_field_is_printed() {
    let printed = csi::debug_of_every_secret(&secret());
    for (field, text) in &printed {
        assert!(!text.contains(KEY) && !text.contains(VALUE), "{field} is printed: {text}");
        assert!(text.contains("***"), "{field} is not shown as hidden: {text}");
    }
}

#[test]
fn every_marked_field_is_covered() {
    let source = include_str!("../proto/csi/v1/csi.proto");
    let marked = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .filter(|line| line.contains("(csi_secret) = true"))
        .count();
    assert_eq!(marked, csi::debug_of_every_secret(&secret()).len());
}

#[test]
fn the_other_fields_still_print() {
    let request = csi::CreateVolumeRequest {
        name: "pvc-1".to_owned(),
        secrets: secret(),
        parameters: HashMap::from([("pool".to_owned(), "fast".to_owned())]),
        ..Default::default()
    };
    let text = format!("{request:?}");
    assert!(text.contains("pvc-1") && text.contains("fast"), "{text}");

    let request = csi::NodeStageVolumeRequest {
        volume_id: "vol-1".to_owned(),
        secrets: secret(),
        ..Default::default()
    };
    let text = format!("{request:?}");
    assert!(text.contains("vol-1") && text.contains("***") && !text.contains(VALUE), "{text}");
}
