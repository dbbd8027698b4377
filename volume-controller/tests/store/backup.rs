//! Backups, of every kind of store into every kind, and what is not restored.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_volume_controller::store::{Backup, BackupError, Expired, OpenError, RestoreError, restore};
use sha2::{Digest, Sha256};

in_every_place! {
    a_backup_is_restored_into_an_empty_place,
    a_backup_under_load_is_of_one_moment,
    nothing_is_overwritten,
    no_secret_is_in_it_in_the_clear,
}

const RESOURCES: [&str; 2] = [CLAIMS, "nodes"];

fn text(store: &Store) -> Vec<u8> {
    store.snapshot().into_text().flat_map(|piece| piece.unwrap()).collect()
}

fn read(text: &[u8]) -> Result<Backup, BackupError> {
    Backup::read(text)
}

/// Objects with a past, one of them gone, one with a line feed in it and one larger than a piece.
async fn filled(place: &Place) -> Store {
    let store = place.open().await;
    for value in 0..30 {
        let name = format!("claim-{}", value % 7);
        put(&store, key(&name), body(&name, value)).await;
    }
    put(&store, key("gone"), body("gone", 0)).await;
    store.commit(vec![write("gone", Precondition::Present, None)]).await.unwrap();
    put(&store, Key::new("nodes", "", "one"), json!({"text": "two\nlines ü"})).await;
    put(&store, Key::new("nodes", "", "large"), json!({"text": "x".repeat(200_000)})).await;
    store
}

async fn a_backup_is_restored_into_an_empty_place(place: Place) {
    let store = filled(&place).await;
    let (expected, revision) = (listed(&store, &RESOURCES), store.revision());
    let backup = read(&text(&store)).unwrap();
    store.close().await;
    assert_eq!((backup.header.objects, backup.header.revision), (9, revision));

    for target in [Some(Place::file()), Place::postgres().await].into_iter().flatten() {
        let restored = restore(target.config(), &backup).await.unwrap();
        assert!(restored.revision >= revision + 1_000_000_000, "{restored:?}");
        let store = target.open().await;
        assert_eq!(listed(&store, &RESOURCES), expected);
        assert_eq!((store.revision(), store.compacted()), (restored.revision, restored.revision));
        assert_eq!(store.check().await.unwrap().findings, Vec::<String>::new());
        // Whoever knows the old store has to list again; who has listed goes on.
        for from in [revision, restored.revision - 1] {
            assert_eq!(store.watch(&[], from).unwrap_err(), Expired { from, oldest: restored.revision });
        }
        let mut watch = store.watch(&[], restored.revision).unwrap();
        let at = expected[&key("claim-3")].revision;
        let change = write("claim-3", Precondition::Revision(at), Some(body("claim-3", 77)));
        assert_eq!(store.commit(vec![change]).await.unwrap()[0].revision, restored.revision + 1);
        assert_eq!(next_change(&mut watch).await.revision, restored.revision + 1);
        assert_ne!(store.incarnation(), 0);
        store.close().await;
        let store = target.open().await;
        assert_eq!(store.incarnation(), restored.incarnation);
        assert_eq!(value_of(&store.get(&key("claim-3")).unwrap()), 77);
        // A backup of what was restored is a backup.
        assert_eq!(read(&text(&store)).unwrap().header.objects, 9);
        store.close().await;
    }
}

async fn a_backup_under_load_is_of_one_moment(place: Place) {
    let store = place.open().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let writers = (0..4).map(|writer| {
        let (store, is_over) = (store.clone(), is_over.clone());
        tokio::spawn(async move {
            let keys = ["left", "right"].map(|side| key(&format!("{writer}-{side}")));
            let mut value = 0;
            while !is_over.load(Ordering::Relaxed) {
                value += 1;
                let precondition = if value == 1 { Precondition::Absent } else { Precondition::Present };
                let writes = keys.iter().map(|key| Write {
                    key: key.clone(),
                    precondition: precondition.clone(),
                    body: Some(body(&key.name, value)),
                });
                store.commit(writes.collect::<Vec<_>>()).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    eventually("all are there", || store.list(CLAIMS, None, None, None).objects.len() == 8).await;
    for _ in 0..5 {
        let before = store.revision();
        let backup = read(&text(&store)).unwrap();
        assert!(backup.header.revision >= before);
        // Nobody has to stop for a check either.
        let report = store.check().await.unwrap();
        assert!(report.findings.is_empty() && report.revision >= before, "{report:?}");
        let target = Place::file();
        restore(target.config(), &backup).await.unwrap();
        let restored = target.open().await;
        let objects = listed(&restored, &[CLAIMS]);
        for writer in 0..4 {
            let [left, right] = ["left", "right"].map(|side| &objects[&key(&format!("{writer}-{side}"))]);
            assert_eq!((value_of(left), left.revision + 1), (value_of(right), right.revision));
            assert!(right.revision <= backup.header.revision);
        }
        restored.close().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    futures::future::join_all(writers).await;
    store.close().await;
}

async fn nothing_is_overwritten(place: Place) {
    let store = filled(&place).await;
    let (backup, expected) = (read(&text(&store)).unwrap(), listed(&store, &RESOURCES));
    let mut config = place.config();
    config.sharing = Sharing::Alone;
    if matches!(place, Place::File { .. }) {
        let error = restore(config.clone(), &backup).await.unwrap_err();
        assert!(matches!(error, RestoreError::Open(OpenError::InUse { .. })), "{error}");
    }
    store.close().await;
    let error = restore(config, &backup).await.unwrap_err();
    assert!(matches!(error, RestoreError::NotEmpty { .. }), "{error}");
    let store = place.open().await;
    assert_eq!((listed(&store, &RESOURCES), store.incarnation()), (expected, 0));
    store.close().await;
}

#[tokio::test]
async fn what_lies_about_a_file_is_minded() {
    let source = Place::file();
    let store = filled(&source).await;
    let backup = read(&text(&store)).unwrap();
    store.close().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // A log without its file would be played into the new one.
    for name in ["state.db-wal", "state.db-journal"] {
        std::fs::write(path(name), "left").unwrap();
        let error = restore(config(&folder), &backup).await.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("move it away"), "{error}");
        assert!(!path("state.db").exists());
        std::fs::remove_file(path(name)).unwrap();
    }
    // What a killed attempt left is no obstacle.
    for suffix in ["", "-wal", ".lock"] {
        std::fs::write(path(&format!("state.db.restoring{suffix}")), "half").unwrap();
    }
    restore(config(&folder), &backup).await.unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["state.db", "state.db.lock"]);
    let store = Store::open(config(&folder)).await.unwrap();
    assert_eq!(listed(&store, &RESOURCES).len(), 9);
    store.close().await;
}

#[tokio::test]
async fn half_a_backup_is_none() {
    let place = Place::file();
    let store = filled(&place).await;
    let whole = text(&store);
    store.close().await;
    read(&whole).unwrap();
    for cut in (0..whole.len()).step_by(997) {
        let error = read(&whole[..cut]).unwrap_err();
        assert!(matches!(error, BackupError::Damaged(_) | BackupError::Foreign), "{cut}: {error}");
    }
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    assert_eq!(ends.len(), 11);
    for end in &ends[..10] {
        let error = read(&whole[..=*end]).unwrap_err();
        assert!(matches!(&error, BackupError::Damaged(why) if why.contains("of 9 objects")), "{error}");
    }
    // A digit of a body changed; a line left out; a line too many.
    let mut changed = whole.clone();
    let at = whole.windows(8).position(|part| part == br#""value":"#).unwrap() + 8;
    changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
    let without = [&whole[..=ends[2]], &whole[ends[3] + 1..]].concat();
    let with = [&whole[..], b"{}\n"].concat();
    for (text, part) in [(changed, "checksum"), (without, "8 objects"), (with, "follows")] {
        let error = read(&text).unwrap_err();
        assert!(matches!(&error, BackupError::Damaged(why) if why.contains(part)), "{error}");
    }
    for text in ["", "\n", "some notes\n", "{\"format\":\"other\",\"version\":1}\n"] {
        assert!(matches!(read(text.as_bytes()), Err(BackupError::Foreign)), "{text:?}");
    }
    let newer = String::from_utf8(whole).unwrap().replacen("\"version\":1", "\"version\":9", 1);
    assert!(matches!(read(newer.as_bytes()), Err(BackupError::Newer(9))));
}

/// The same lines with another last line, which fits them.
fn signed(text: &str) -> Vec<u8> {
    let (lines, _) = text.trim_end().rsplit_once('\n').unwrap();
    let (lines, count) = (format!("{lines}\n"), lines.lines().count() - 1);
    let sha256: String = Sha256::digest(&lines).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{lines}{{\"end\":{count},\"sha256\":\"{sha256}\"}}\n").into_bytes()
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|found| found == part.as_bytes())
}

async fn no_secret_is_in_it_in_the_clear(place: Place) {
    const PLAIN: &str = "the-plaintext-of-a-secret";
    let folder = tempfile::tempdir().unwrap();
    let keys = |name: &str| Some(folder.path().join(name));
    let coded = STANDARD.encode(PLAIN);
    let mut config = place.config();
    config.keys = keys("mine");
    let store = Store::open(config.clone()).await.unwrap();
    let secret = |name: &str| Key::new("secrets", "default", name);
    for name in ["a", "b"] {
        let body = json!({"metadata": {"uid": format!("uid-{name}")}, "data": {"p": coded}, "stringData": {"p": PLAIN}});
        put(&store, secret(name), body).await;
    }
    put(&store, key("open"), body("open", 7)).await;
    let (expected, text) = (listed(&store, &["secrets", CLAIMS]), text(&store));
    store.close().await;
    assert!(!contains(&text, PLAIN) && !contains(&text, &coded), "a secret is in the clear");
    assert!(contains(&text, "uid-open"), "the others are for people to read");
    let backup = read(&text).unwrap();
    assert_eq!((backup.header.objects, backup.header.bytes), (3, store.bytes()));

    // Without the key, with another, or for another object: nothing is made, not even a key.
    std::fs::write(keys("other").unwrap(), STANDARD.encode([7; 32])).unwrap();
    let target = place.another().await;
    let swapped = String::from_utf8(text.clone()).unwrap().replacen(r#""name":"a""#, r#""name":"c""#, 1);
    let swapped = read(&signed(&swapped)).unwrap();
    for (backup, name, part) in [
        (&backup, None, "there are no keys"),
        (&backup, keys("none"), "which is not in"),
        (&backup, keys("other"), "which is not in"),
        (&swapped, keys("mine"), "damaged or was moved"),
    ] {
        let mut config = target.config();
        config.keys.clone_from(&name);
        let error = restore(config, backup).await.unwrap_err();
        assert!(matches!(error, RestoreError::Sealed(_)), "{error}");
        let error = error.to_string();
        assert!(
            error.contains(part) && error.contains("encryption.keys") && !error.contains('\n'),
            "{error}"
        );
        assert!(!keys("none").unwrap().exists(), "a key was made that nothing needs");
        match &target {
            Place::File { path, .. } => assert!(!path.exists(), "a store was made"),
            Place::Postgres { .. } => {
                let schema = "SELECT count(*) FROM pg_namespace WHERE nspname = 'holdfast'";
                assert_eq!(target.number(schema).await, 0, "tables were made");
            }
        }
    }

    // Under a new key, with the old one beside it.
    let both = STANDARD.encode([8; 32]) + "\n" + &std::fs::read_to_string(keys("mine").unwrap()).unwrap();
    std::fs::write(keys("both").unwrap(), both).unwrap();
    let mut config = target.config();
    config.keys = keys("both");
    restore(config.clone(), &backup).await.unwrap();
    if let Place::File { path, .. } = &target {
        let file = std::fs::read(path).unwrap();
        assert!(!contains(&file, PLAIN) && !contains(&file, &coded), "a secret is in the clear");
    }
    let store = Store::open(config.clone()).await.unwrap();
    assert_eq!(listed(&store, &["secrets", CLAIMS]), expected);
    assert_eq!(store.check().await.unwrap().findings, Vec::<String>::new());
    store.close().await;
    // All of it is under the new one.
    std::fs::write(keys("both").unwrap(), STANDARD.encode([8; 32])).unwrap();
    let store = Store::open(config).await.unwrap();
    assert_eq!(listed(&store, &["secrets", CLAIMS]), expected);
    store.close().await;
}

/// Of a store without keys, in which secrets are in the clear.
#[tokio::test]
async fn secrets_are_encrypted_again() {
    let source = Place::file();
    let store = source.open().await;
    let secret = Key::new("secrets", "default", "password");
    put(&store, secret.clone(), json!({"data": {"p": "bm90IGZvciBldmVyeWJvZHk="}})).await;
    let backup = read(&text(&store)).unwrap();
    store.close().await;
    for target in [Some(Place::file()), Place::postgres().await].into_iter().flatten() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = target.config();
        config.keys = Some(folder.path().join("keys"));
        restore(config.clone(), &backup).await.unwrap();
        if let Place::File { path, .. } = &target {
            let file = std::fs::read(path).unwrap();
            assert!(!file.windows(8).any(|part| part == b"bm90IGZv"), "it is in the clear");
        }
        // Without the keys it is no store.
        Store::open(target.config()).await.unwrap_err();
        let store = Store::open(config).await.unwrap();
        assert_eq!(
            store.get(&secret).unwrap().decode::<Value>().unwrap()["data"]["p"],
            "bm90IGZvciBldmVyeWJvZHk="
        );
        assert_eq!(store.check().await.unwrap().findings, Vec::<String>::new());
        if matches!(target, Place::Postgres { .. }) {
            target.run("UPDATE change SET body = set_byte(body, 60, 7) WHERE name = 'password'").await;
            let findings = store.check().await.unwrap().findings;
            assert!(findings.iter().any(|finding| finding.contains("password")), "{findings:?}");
        }
        store.close().await;
    }
}
