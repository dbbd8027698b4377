//! What of PostgreSQL is and is not opened, and what happens to who loses it.

use super::*;
use holdfast_test_needs::postgres::{Cluster, Durability};
use holdfast_volume_controller::store::{CommitError, Database, Ended, OpenError};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

/// An empty database with a bit of SQL run in it, which no store has touched.
async fn prepared(sql: &'static str) -> Option<Place> {
    let place = Place::postgres().await?;
    let Place::Postgres { url, .. } = &place else { return None };
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(sqlx::raw_sql(sql)).await.unwrap();
    connection.close().await.unwrap();
    Some(place)
}

/// The store's tables, changed behind its back.
async fn run(place: &Place, sql: &'static str) {
    place.connect().await.execute(sqlx::raw_sql(sql)).await.unwrap();
}

fn alone(place: &Place) -> Config {
    let mut config = place.config();
    config.sharing = Sharing::Alone;
    config
}

/// Opening fails, with one line.
async fn refused(config: Config) -> OpenError {
    let error = Store::open(config).await.unwrap_err();
    let text = error.to_string();
    println!("{text}");
    assert!(!text.contains('\n') && !text.contains("secret"), "{text}");
    error
}

/// Why the store ends by itself.
async fn lost(store: &Store) -> String {
    let ended = tokio::time::timeout(Duration::from_secs(30), store.ended()).await.expect("it goes on");
    let Ended::Lost(why) = ended else { panic!("it was closed") };
    why
}

#[tokio::test]
async fn a_process_that_must_be_alone_is() {
    let Some(place) = Place::postgres().await else { return };
    let store = Store::open(alone(&place)).await.unwrap();
    let error = refused(alone(&place)).await;
    let OpenError::InUse { holder: Some(holder), .. } = &error else { panic!("{error}") };
    assert!(holder.contains(&format!("holdfast process {}", std::process::id())), "{error}");
    assert!(error.is_retryable());
    // It gets the lock back after its connection was cut, and the second one still does not get in.
    place.end_sessions().await;
    store.commit(vec![create("a")]).await.unwrap();
    assert!(matches!(refused(alone(&place)).await, OpenError::InUse { .. }));
    store.close().await;
    assert_eq!(store.ended().await, Ended::Closed);
    Store::open(alone(&place)).await.expect("free again after a close").close().await;
}

#[tokio::test]
async fn who_was_taken_over_while_cut_off_writes_no_more() {
    let Some(place) = Place::postgres().await else { return };
    let first = Store::open(alone(&place)).await.unwrap();
    first.commit(vec![create("a")]).await.unwrap();
    // Cut off for a moment, and the other is quicker.
    let second = loop {
        place.end_sessions().await;
        match Store::open(alone(&place)).await {
            Ok(store) => break store,
            Err(OpenError::InUse { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let refused = first.commit(vec![create("b")]).await.unwrap_err();
    assert!(matches!(refused, CommitError::Database(_) | CommitError::Closed), "{refused}");
    let Ended::Lost(why) = first.ended().await else { panic!("it goes on") };
    assert!(why.contains("another process has taken"), "{why}");
    assert!(first.get(&key("a")).is_some(), "reads go on");
    assert!(second.get(&key("b")).is_none());
    second.commit(vec![create("b")]).await.unwrap();
    second.close().await;
}

/// What one replica has acknowledged, another shows to who asks for the present.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lags_catches_up_when_asked() {
    let Some(place) = Place::postgres().await else { return };
    let (one, other) = (place.open().await, place.open().await);
    let mut lagged = 0;
    for value in 1..=200 {
        let revision = put(&one, key("a"), body("a", value)).await;
        lagged += u32::from(other.revision() < revision);
        other.catch_up().await.unwrap();
        assert!(other.revision() >= revision);
        assert_eq!(value_of(&other.get(&key("a")).unwrap()), value);
    }
    println!("{lagged} of 200 were not yet there when they were acknowledged");
    assert!(lagged > 0, "nothing was shown: the other is never behind");
    // Under load from both sides, and many at once.
    let writing = tokio::spawn({
        let other = other.clone();
        async move {
            for value in 1..=200 {
                put(&other, key("b"), body("b", value)).await;
            }
        }
    });
    for value in 201..=300 {
        let revision = put(&one, key("a"), body("a", value)).await;
        for known in futures::future::join_all((0..20).map(|_| other.catch_up())).await {
            known.unwrap();
        }
        assert!(other.revision() >= revision);
    }
    writing.await.unwrap();
    other.close().await;
    other.catch_up().await.unwrap_err();
    one.close().await;
}

/// Where the present is not known, it is not made up; who is alone knows it.
#[tokio::test]
async fn the_present_is_not_guessed() {
    let Some(cluster) = Cluster::start(Durability::Full) else { return };
    let (shared, own) = (Place::on(&cluster).await, Place::on(&cluster).await);
    let (store, single) = (shared.open().await, Store::open(alone(&own)).await.unwrap());
    store.commit(vec![create("a")]).await.unwrap();
    cluster.stop();
    let error = store.catch_up().await.unwrap_err().to_string();
    assert!(error.contains("is not known"), "{error}");
    assert!(store.get(&key("a")).is_some(), "what was known is there for who takes that");
    single.catch_up().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let Some(place) = Place::postgres().await else { return };
    place.open().await.close().await;
    run(&place, "UPDATE schema_version SET version = 99").await;
    let error = refused(place.config()).await;
    assert!(matches!(error, OpenError::Newer { found: 99, known: 5, .. }), "{error}");
    assert_eq!(place.number("SELECT version FROM schema_version").await, 99);
}

#[tokio::test]
async fn who_meets_a_newer_schema_while_running_writes_no_more() {
    let Some(place) = Place::postgres().await else { return };
    let store = place.open().await;
    run(&place, "UPDATE schema_version SET version = 99").await;
    store.commit(vec![create("a")]).await.unwrap_err();
    let why = lost(&store).await;
    assert!(why.contains("version 99"), "{why}");
    assert_eq!(place.number("SELECT current FROM revision").await, 1);
}

#[tokio::test]
async fn who_only_reads_meets_a_newer_schema_as_well() {
    let Some(place) = Place::postgres().await else { return };
    let store = place.open().await;
    run(&place, "UPDATE schema_version SET version = 99").await;
    let why = lost(&store).await;
    assert!(why.contains("version 99"), "{why}");
}

#[tokio::test]
async fn an_older_schema_is_brought_up_to_date() {
    let Some(place) = Place::postgres().await else { return };
    let store = place.open().await;
    store.commit(vec![create("a")]).await.unwrap();
    store.close().await;
    let first = include_str!("../../src/store/dialect/postgres/1.sql");
    let objects =
        &first[first.find("CREATE TABLE object").unwrap()..first.find("INSERT INTO schema_version").unwrap()];
    run(&place, "DROP TABLE credential; ALTER TABLE revision DROP COLUMN store, DROP COLUMN incarnation, DROP COLUMN leader;
         UPDATE schema_version SET version = 1").await;
    place.run(objects).await;
    let store = place.open().await;
    assert!(store.get(&key("a")).is_some());
    store.commit(vec![create("b")]).await.unwrap();
    store.close().await;
    assert_eq!(place.number("SELECT version FROM schema_version").await, 5);
    assert_eq!(place.number("SELECT count(*) FROM revision WHERE store IS NOT NULL").await, 1);
}

#[tokio::test]
async fn what_somebody_has_is_not_even_looked_at() {
    // "Holdfast" in ASCII: the lock of a process that must be alone.
    let Some(place) = prepared("").await else { return };
    let Place::Postgres { url, .. } = &place else { return };
    let mut holder = PgConnection::connect(url).await.unwrap();
    holder.execute(sqlx::raw_sql("SELECT pg_advisory_lock(x'486f6c6466617374'::bigint)")).await.unwrap();
    let error = refused(alone(&place)).await;
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert_eq!(place.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'holdfast'").await, 0);
    holder.close().await.unwrap();
    Store::open(alone(&place)).await.expect("free now").close().await;
}

#[tokio::test]
async fn the_schema_of_another_application_is_left_alone() {
    let Some(place) = prepared("CREATE SCHEMA holdfast; CREATE TABLE holdfast.theirs (id int)").await else {
        return;
    };
    let error = refused(place.config()).await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'holdfast'::regnamespace";
    assert_eq!(place.number(tables).await, 1);
}

#[tokio::test]
async fn other_tables_of_the_database_do_not_matter() {
    let Some(place) = prepared("CREATE TABLE object (id int); CREATE TABLE revision (id int)").await else {
        return;
    };
    let store = place.open().await;
    store.commit(vec![create("a")]).await.unwrap();
    store.close().await;
    assert_eq!(place.number("SELECT count(*) FROM public.object").await, 0);
}

#[tokio::test]
async fn damage_is_found_at_the_start() {
    for (name, sql) in [
        ("a change is missing", "DELETE FROM change WHERE revision = 5"),
        ("what a change replaced is missing", "UPDATE change SET previous = 1 WHERE revision = 5"),
        ("a change replaced another object", "UPDATE change SET previous = 4 WHERE revision = 5"),
        ("a name is there twice", "UPDATE change SET name = 'claim-1' WHERE revision = 5"),
        ("the counter is behind", "UPDATE revision SET current = 5"),
        ("a body is no object", "UPDATE change SET body = '[]' WHERE revision = 9"),
    ] {
        let Some(place) = Place::postgres().await else { return };
        let store = place.open().await;
        for value in 0..10 {
            put(&store, key(&format!("claim-{value}")), body("x", value)).await;
        }
        store.close().await;
        run(&place, sql).await;
        let error = refused(place.config()).await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{name}: {error}");
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_in_one_line() {
    let Some(place) = Place::postgres().await else { return };
    let Place::Postgres { url, .. } = &place else { return };
    for (url, part) in [
        (url.replace("user=holdfast", "user=nobody-at-all&password=secret"), "nobody-at-all"),
        (url.replace("/store_", "/no_such_store_") + "&password=secret", "no_such_store_"),
        (url.replace("port=5432", "port=5433") + "&password=secret", "port=5433"),
        ("postgres://me:secret@127.0.0.1:1/store".to_owned(), "127.0.0.1:1"),
        ("postgres://me:secret@no-such-host.invalid/store".to_owned(), "no-such-host.invalid"),
    ] {
        let error = refused(Config::new(url.parse::<Database>().unwrap())).await;
        let text = error.to_string();
        assert!(matches!(error, OpenError::Database { .. } | OpenError::Unreachable { .. }), "{text}");
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_forgets_is_refused() {
    let Some(place) = Place::postgres().await else { return };
    let Place::Postgres { durability: Durability::None, .. } = &place else { return };
    let mut config = place.config();
    config.allow_fsync_off = false;
    let error = refused(config).await;
    assert!(matches!(error, OpenError::Unfit { .. }) && error.to_string().contains("fsync"), "{error}");
}

#[tokio::test]
async fn a_weaker_synchronous_commit_of_the_server_is_raised() {
    let Some(place) = Place::postgres().await else { return };
    run(&place, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$")
        .await;
    // The trigger notes what held when the store wrote.
    let store = place.open().await;
    run(
        &place,
        "CREATE TABLE noted (setting text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO holdfast.noted VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
         CREATE TRIGGER note AFTER UPDATE ON revision EXECUTE FUNCTION note()",
    )
    .await;
    store.commit(vec![create("a")]).await.unwrap();
    store.close().await;
    assert_eq!(place.number("SELECT count(*) FROM noted WHERE setting = 'on'").await, 1);
    assert_eq!(place.number("SELECT count(*) FROM noted WHERE setting <> 'on'").await, 0);
}

#[tokio::test]
async fn a_database_that_went_back_in_time_is_not_written_to() {
    let Some(place) = Place::postgres().await else { return };
    let store = place.open().await;
    store.commit(vec![create("a")]).await.unwrap();
    // As after the restore of a backup, in which others then wrote something else.
    run(&place, "UPDATE change SET token = token + 1; UPDATE revision SET token = token + 1").await;
    store.commit(vec![create("b")]).await.unwrap_err();
    let why = lost(&store).await;
    assert!(why.contains("does not continue"), "{why}");
    assert_eq!(place.number("SELECT current FROM revision").await, 2);
}

/// As after the restore of a backup that has `a` only, from a time when somebody else was alone with it.
const WENT_BACK: &str = "DELETE FROM change WHERE revision > 2;
    UPDATE revision SET current = 2, token = (SELECT token FROM change WHERE revision = 2), owner = 4711";

#[tokio::test]
async fn that_it_went_back_is_not_taken_for_another_process() {
    for is_cut_off in [false, true] {
        let Some(place) = Place::postgres().await else { return };
        let store = Store::open(alone(&place)).await.unwrap();
        store.commit(vec![create("a")]).await.unwrap();
        store.commit(vec![create("b")]).await.unwrap();
        run(&place, WENT_BACK).await;
        if is_cut_off {
            place.end_sessions().await;
        }
        let why = lost(&store).await;
        assert!(why.contains("does not continue") && why.contains("revision 3"), "{why}");
    }
}

#[tokio::test]
async fn another_past_is_not_taken_for_a_compacted_one() {
    for (name, other) in [
        ("another body", "UPDATE change SET body = '{\"metadata\": {}}'::bytea WHERE revision = 2"),
        ("another object", "UPDATE change SET name = 'x' WHERE revision = 2"),
    ] {
        let Some(place) = Place::postgres().await else { return };
        let store = place.open().await;
        store.commit(vec![create("a")]).await.unwrap();
        store.commit(vec![create("b")]).await.unwrap();
        // At once, as a process that was cut off sees it: revision 3 is gone, others have come and are compacted.
        let all = format!(
            "BEGIN; {other}; DELETE FROM change WHERE revision = 3;
             INSERT INTO change (revision, kind, token, resource, namespace, name, body)
             VALUES (4, 0, 1, '{CLAIMS}', 'default', 'c', '{{\"metadata\": {{}}}}');
             UPDATE revision SET current = 4, compacted = 4, token = 1; COMMIT"
        );
        place.connect().await.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(all))).await.unwrap();
        let why = lost(&store).await;
        assert!(why.contains("does not continue") && why.contains("revision 3"), "{name}: {why}");
        assert!(store.get(&key("b")).is_some(), "{name}: nothing of it is shown");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_commit_has_reached_the_standby() {
    let Some(cluster) = Cluster::start(Durability::Full) else { return };
    let place = Place::on(&cluster).await;
    let store = place.open().await;
    let mut server = place.connect().await;
    let standby = |name: &str| format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
    // A standby that is not there: COMMIT is in this server's log, and waits.
    server.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(standby("nobody")))).await.unwrap();
    server.execute(sqlx::raw_sql("SELECT pg_reload_conf()")).await.unwrap();
    let committing = tokio::spawn({
        let store = store.clone();
        async move { store.commit(vec![create("a")]).await }
    });
    let first = waiting_for_standby(&mut server, 0, &committing).await;
    // The wait is over without the standby; the commit stands, here.
    sqlx::query("SELECT pg_terminate_backend($1)").bind(first).execute(&mut server).await.unwrap();
    waiting_for_standby(&mut server, first, &committing).await;
    server.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(standby("")))).await.unwrap();
    server.execute(sqlx::raw_sql("SELECT pg_reload_conf()")).await.unwrap();
    committing.await.unwrap().expect("it is settled");
    assert_eq!(store.commit(vec![create("b")]).await.unwrap()[0].revision, 3);
    store.close().await;
}

/// Waits until a session other than that of `not` waits for a standby, while nobody was answered.
async fn waiting_for_standby<T>(
    server: &mut PgConnection,
    not: i32,
    commit: &tokio::task::JoinHandle<T>,
) -> i32 {
    loop {
        let waiting: Option<i32> =
            sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid <> $1")
                .bind(not)
                .fetch_optional(&mut *server)
                .await
                .unwrap();
        if let Some(pid) = waiting {
            return pid;
        }
        assert!(!commit.is_finished(), "answered before the standby has it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
