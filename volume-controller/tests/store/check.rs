//! What a check finds, and that it finds nothing where nothing is.

use super::*;

in_every_place! {
    damage_is_found,
    what_is_in_order_is_said_to_be,
}

async fn filled(place: &Place) -> Store {
    let store = place.open().await;
    for value in 0..12 {
        let name = format!("claim-{}", value % 4);
        put(&store, key(&name), body(&name, value)).await;
    }
    store.commit(vec![write("claim-3", Precondition::Present, None)]).await.unwrap();
    store
}

async fn what_is_in_order_is_said_to_be(place: Place) {
    let store = filled(&place).await;
    for _ in 0..2 {
        let report = store.check().await.unwrap();
        assert_eq!(report.findings, Vec::<String>::new());
        assert_eq!((report.objects, report.changes, report.revision), (3, 13, 14));
        assert_eq!(report.bytes, store.bytes());
    }
    put(&store, key("more"), body("more", 1)).await;
    store.close().await;
    store.check().await.unwrap_err();
}

/// What opening a store does not notice.
async fn damage_is_found(place: Place) {
    for (sql, part) in [
        ("UPDATE change SET kind = 0 WHERE revision = 12", "change 12 (Created"),
        ("UPDATE change SET kind = 1 WHERE revision = 3", "change 3 (Updated"),
        (
            "UPDATE change SET body = (SELECT body FROM change WHERE revision = 7) WHERE revision = 11",
            "claim-1 at revision 11 is that of something else",
        ),
    ] {
        let place = place.another().await;
        filled(&place).await.close().await;
        place.run(sql).await;
        let store = place.open().await;
        let findings = store.check().await.unwrap().findings;
        assert!(findings.iter().any(|finding| finding.contains(part)), "{sql}: {findings:?}");
        store.close().await;
    }
}

/// What is changed under a running process, which a file's lock prevents.
#[tokio::test]
async fn what_is_served_is_compared_with_what_is_stored() {
    let Some(place) = Place::postgres().await else { return };
    let store = filled(&place).await;
    for (sql, part) in [
        (
            "UPDATE change SET body = convert_to(convert_from(body, 'UTF8') || ' ', 'UTF8') WHERE revision = 11",
            "served as of",
        ),
        ("UPDATE change SET kind = 2 WHERE revision = 12", "claim-2 is served, and not stored"),
    ] {
        place.run(sql).await;
        let findings = store.check().await.unwrap().findings;
        assert!(findings.iter().any(|finding| finding.contains(part)), "{sql}: {findings:?}");
    }
    store.close().await;
}
