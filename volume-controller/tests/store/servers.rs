//! Who may have a PostgreSQL database open together with whom, and by which keys servers know one another.

use holdfast_volume_controller::store::{Credential, Ended, OpenError, note_credentials};

use super::*;

fn sharing(place: &Place, sharing: Sharing) -> Config {
    Config { sharing, ..place.config() }
}

fn credential(file: &'static str, fingerprints: &[&str]) -> Credential {
    Credential { file, fingerprints: fingerprints.iter().map(|&f| f.to_owned()).collect() }
}

fn server(place: &Place, credentials: &[Credential]) -> Config {
    sharing(place, Sharing::Servers(credentials.to_vec()))
}

#[tokio::test]
async fn servers_are_together_and_nobody_is_alone_meanwhile() {
    let Some(place) = Place::postgres().await else { return };
    let alone = sharing(&place, Sharing::Alone);
    let one = Store::open(server(&place, &[])).await.unwrap();
    let other = Store::open(server(&place, &[])).await.unwrap();
    put(&one, key("a"), body("a", 1)).await;
    put(&other, key("b"), body("b", 1)).await;
    one.close().await;
    let error = Store::open(alone.clone()).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { holder: Some(_), .. }), "{error}");
    // They get their lock back after their connections were cut.
    place.end_sessions().await;
    put(&other, key("c"), body("c", 1)).await;
    let error = Store::open(alone.clone()).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    other.close().await;

    let single = Store::open(alone).await.expect("free now");
    let error = Store::open(server(&place, &[])).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    put(&single, key("d"), body("d", 1)).await;
    single.close().await;
    Store::open(server(&place, &[])).await.expect("free again").close().await;
}

/// That the database has ended a connection is noticed by the next who needs it, and is no reason to refuse him.
#[tokio::test]
async fn a_lost_connection_is_not_a_database_that_is_away() {
    let Some(place) = Place::postgres().await else { return };
    let store = Store::open(server(&place, &[])).await.unwrap();
    for value in 0..20 {
        put(&store, key("a"), body("a", value)).await;
        place.end_sessions().await;
        store.catch_up().await.unwrap();
        assert!(store.is_reachable());
    }
    store.close().await;
}

#[tokio::test]
async fn who_was_overtaken_by_the_other_kind_writes_no_more() {
    let Some(place) = Place::postgres().await else { return };
    let kinds = [Sharing::Servers(Vec::new()), Sharing::Alone];
    for (first, second) in [(0, 1), (1, 0)] {
        let first = Store::open(sharing(&place, kinds[first].clone())).await.unwrap();
        // Cut off for a moment, and the other is quicker.
        let second = loop {
            place.end_sessions().await;
            match Store::open(sharing(&place, kinds[second].clone())).await {
                Ok(store) => break store,
                Err(OpenError::InUse { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        first.commit(vec![create("never")]).await.unwrap_err();
        let Ended::Lost(why) = first.ended().await else { panic!("it goes on") };
        assert!(why.contains("another process has taken"), "{why}");
        second.close().await;
    }
    let store = place.open().await;
    assert!(store.get(&key("never")).is_none());
}

#[tokio::test]
async fn a_server_with_other_keys_is_refused() {
    let Some(place) = Place::postgres().await else { return };
    let noted = [credential("pki/ca.crt", &["a1"]), credential("pki/sa.key", &["s1", "s0"])];
    let first = server(&place, &[]);
    let store = Store::open(first.clone()).await.expect("nobody has said anything yet");
    note_credentials(&first, noted.to_vec()).await.unwrap();
    for (name, here, differs) in [
        ("the same", noted.to_vec(), ""),
        ("one more to be believed", vec![noted[0].clone(), credential("pki/sa.key", &["s1", "s2"])], ""),
        ("another authority", vec![credential("pki/ca.crt", &["a2"]), noted[1].clone()], "pki/ca.crt"),
        (
            "only what is not signed with any more",
            vec![noted[0].clone(), credential("pki/sa.key", &["s0"])],
            "pki/sa.key",
        ),
        (
            "nothing yet",
            vec![credential("pki/ca.crt", &[]), credential("pki/sa.key", &[])],
            "pki/ca.crt, pki/sa.key",
        ),
    ] {
        match Store::open(server(&place, &here)).await {
            Ok(store) => {
                assert_eq!(differs, "", "{name}: it was let in");
                store.close().await;
            }
            Err(error) => {
                assert!(
                    matches!(error, OpenError::OtherKeys { .. }) && !error.is_retryable(),
                    "{name}: {error}"
                );
                let said = error.to_string();
                assert!(
                    !differs.is_empty() && said.contains(&format!("has not their {differs}. ")),
                    "{name}: {said}"
                );
                note_credentials(&server(&place, &[]), here).await.unwrap_err();
            }
        }
    }
    store.close().await;
}

/// One server after the other puts the new key first, when all have it.
#[tokio::test]
async fn keys_are_replaced_while_servers_run() {
    let Some(place) = Place::postgres().await else { return };
    let config = server(&place, &[]);
    let running = Store::open(config.clone()).await.unwrap();
    for keys in [&["k1"][..], &["k1", "k2"], &["k2", "k1"], &["k1", "k2"], &["k2", "k1"], &["k2"]] {
        let here = [credential("pki/sa.key", keys)];
        Store::open(server(&place, &here))
            .await
            .unwrap_or_else(|error| panic!("{keys:?}: {error}"))
            .close()
            .await;
        note_credentials(&config, here.to_vec()).await.unwrap();
    }
    let error = Store::open(server(&place, &[credential("pki/sa.key", &["k1"])])).await.unwrap_err();
    assert!(matches!(error, OpenError::OtherKeys { .. }), "{error}");
    running.close().await;
    // Who is alone need not ask anybody.
    let alone = sharing(&place, Sharing::Alone);
    let store = Store::open(alone.clone()).await.unwrap();
    note_credentials(&alone, vec![credential("pki/sa.key", &["k9"])]).await.unwrap();
    store.close().await;
    Store::open(server(&place, &[credential("pki/sa.key", &["k9"])])).await.unwrap().close().await;
}

/// The file of the keys of secrets is among them, and a server that is refused makes none.
#[tokio::test]
async fn the_keys_of_the_secrets_are_shared_too() {
    let Some(place) = Place::postgres().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str| {
        let mut config = server(&place, &[]);
        config.keys = Some(folder.path().join(name));
        config
    };
    let first = Store::open(with("one")).await.unwrap();
    note_credentials(&with("one"), Vec::new()).await.unwrap();
    let error = Store::open(with("other")).await.unwrap_err();
    let OpenError::OtherKeys { files, .. } = &error else { panic!("{error}") };
    assert_eq!(files, &["encryption.keys"]);
    assert!(!folder.path().join("other").exists(), "keys of nobody were left there");
    std::fs::copy(folder.path().join("one"), folder.path().join("other")).unwrap();
    let other = Store::open(with("other")).await.unwrap();
    let secret = Key::new("secrets", "default", "s");
    put(&first, secret.clone(), json!({"metadata": {"name": "s"}, "data": {"a": "MQ=="}})).await;
    other.catch_up().await.unwrap();
    assert_eq!(other.get(&secret).unwrap().decode::<Value>().unwrap()["data"]["a"], "MQ==");
    first.close().await;
    other.close().await;
}
