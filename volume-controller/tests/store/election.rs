//! Several servers on one PostgreSQL: one of them leads, and what another one writes as a leader is refused.

use holdfast_volume_controller::store::{Candidate, CommitError, Term};
use tokio::task::JoinHandle;

use super::*;

/// Nothing here takes so long; more is a hang.
const PATIENCE: Duration = Duration::from_secs(120);

fn candidate(place: &Place) -> Candidate {
    Candidate::of(&place.config()).unwrap()
}

async fn elected(candidate: &mut Candidate) -> Term {
    tokio::time::timeout(PATIENCE, candidate.elected()).await.expect("nobody leads")
}

/// Stands in a task of its own.
fn standing(place: &Place) -> JoinHandle<(Term, Candidate)> {
    let mut candidate = candidate(place);
    tokio::spawn(async move {
        let term = elected(&mut candidate).await;
        (term, candidate)
    })
}

/// Leads until it does no more, and says why.
fn leading(mut candidate: Candidate) -> JoinHandle<(&'static str, Candidate)> {
    tokio::spawn(async move {
        let why = tokio::time::timeout(PATIENCE, candidate.deposed()).await.expect("it goes on");
        (why, candidate)
    })
}

/// "HoldLead" in ASCII, in halves as the server shows it.
const LOCK: &str = "locktype = 'advisory' AND classid = x'486f6c64'::int AND objid = x'4c656164'::int";

/// The session that waits for the lock, or has it; 0 for none.
async fn session(place: &Place, granted: bool) -> i64 {
    let sql = format!(
        "SELECT coalesce(max(pid), 0)::bigint FROM pg_locks l JOIN pg_database d ON d.oid = l.database
         WHERE {LOCK} AND d.datname = current_database() AND granted = {granted}"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut place.connect().await).await.unwrap()
}

/// Waits until somebody waits for the lock.
async fn somebody_waits(place: &Place) {
    let waiting = async {
        while session(place, false).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("nobody waits for the lock");
}

/// Ends the session that has the lock.
async fn end_leader(place: &Place) {
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
         WHERE {LOCK} AND d.datname = current_database() AND granted"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut place.connect().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leads_and_the_next_begins_when_it_resigns() {
    let Some(place) = Place::postgres().await else { return };
    let store = place.open().await;
    let mut first = candidate(&place);
    let old = elected(&mut first).await;
    let before = store.in_term(old);
    before.commit(vec![create("a")]).await.expect("it leads");
    let second = standing(&place);
    somebody_waits(&place).await;
    assert!(!second.is_finished(), "two lead at once");
    before.commit(vec![create("b")]).await.expect("that another one stands changes nothing");

    first.resign().await;
    let (new, second) = second.await.unwrap();
    assert_ne!(new, old);
    let refused = before.commit(vec![create("c")]).await.unwrap_err();
    assert!(matches!(refused, CommitError::Deposed), "{refused}");
    assert!(!refused.is_retryable());
    store.in_term(new).commit(vec![create("c")]).await.expect("the new one leads");
    store.commit(vec![create("d")]).await.expect("what clients write is of no term");
    let late = before.clone().commit(vec![write("a", Precondition::Present, Some(body("a", 2)))]).await;
    assert!(matches!(late, Err(CommitError::Deposed)), "clones are of the same term: {late:?}");
    assert_eq!(value_of(&store.get(&key("a")).unwrap()), 0, "nothing of it was written");
    second.resign().await;
    store.close().await;
}

/// Together with others' writes in one transaction of the database, each is looked at by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_batch_only_the_stale_part_is_refused() {
    let Some(place) = Place::postgres().await else { return };
    let store = place.open().await;
    let mut first = candidate(&place);
    let old = store.in_term(elected(&mut first).await);
    first.resign().await;
    let mut second = candidate(&place);
    let new = store.in_term(elected(&mut second).await);
    let names: Vec<String> = (0..30).map(|number| format!("a{number}")).collect();
    let handles = [&store, &old, &new];
    let commits = names.iter().zip(handles.iter().cycle());
    let commits = commits.map(|(name, store)| store.commit(vec![create(name)]));
    let outcomes = futures::future::join_all(commits).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        let is_stale = number % 3 == 1;
        assert_eq!(matches!(outcome, Err(CommitError::Deposed)), is_stale, "{number}: {outcome:?}");
        assert_eq!(store.get(&key(&names[number])).is_none(), is_stale);
    }
    assert_eq!(store.revision(), 21, "what was refused took no revision");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_cut_off_and_not_overtaken_goes_on() {
    let Some(place) = Place::postgres().await else { return };
    let store = place.open().await;
    let mut only = candidate(&place);
    let term = elected(&mut only).await;
    let leading = leading(only);
    for value in 0..3 {
        let before = session(&place, true).await;
        end_leader(&place).await;
        let again = async {
            while [0, before].contains(&session(&place, true).await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, again).await.expect("it does not take the lock again");
        store.in_term(term).commit(vec![create(&format!("a{value}"))]).await.expect("it leads still");
    }
    assert!(!leading.is_finished());
    leading.abort();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_overtaken_while_cut_off_is_told() {
    let Some(place) = Place::postgres().await else { return };
    let store = place.open().await;
    let mut first = candidate(&place);
    let old = elected(&mut first).await;
    let first = leading(first);
    let second = standing(&place);
    somebody_waits(&place).await;
    end_leader(&place).await;
    let (new, second) = second.await.unwrap();
    let (why, mut first) = first.await.unwrap();
    assert_eq!(why, "another server has taken over");
    let refused = store.in_term(old).commit(vec![create("a")]).await.unwrap_err();
    assert!(matches!(refused, CommitError::Deposed), "{refused}");
    store.in_term(new).commit(vec![create("a")]).await.unwrap();
    // It stands again, and each time is another term.
    drop(second);
    let again = elected(&mut first).await;
    assert!(again != old && again != new);
    store.close().await;
}

/// One that is stopped, or hangs, keeps its session, and with it the lock: nobody would lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_is_replaced() {
    let Some(place) = Place::postgres().await else { return };
    let store = place.open().await;
    // Idle for as long, and none of anybody's business.
    let mut bystander = place.connect().await;
    let mut hung = candidate(&place);
    let old = elected(&mut hung).await;
    // From here on it does not look any more.
    let mut second = candidate(&place);
    let new = elected(&mut second).await;
    assert_ne!(new, old);
    let (why, _hung) = leading(hung).await.unwrap();
    assert_eq!(why, "another server has taken over");
    // One that does look is left alone, for longer than that took.
    let second = leading(second);
    let third = tokio::time::timeout(Duration::from_secs(20), candidate(&place).elected()).await;
    assert!(third.is_err() && !second.is_finished(), "a leader that is well was replaced");
    second.abort();
    sqlx::raw_sql("SELECT 1").execute(&mut bystander).await.expect("its session was ended as well");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_nobody_leads_for_long() {
    let Some(cluster) =
        holdfast_test_needs::postgres::Cluster::start(holdfast_test_needs::postgres::Durability::Full)
    else {
        return;
    };
    let place = Place::on(&cluster).await;
    let store = place.open().await;
    let mut candidate = candidate(&place);
    let old = elected(&mut candidate).await;
    cluster.stop();
    let (why, mut candidate) = leading(candidate).await.unwrap();
    assert!(why.contains("did not say"), "{why}");
    cluster.start_again();
    let new = elected(&mut candidate).await;
    assert_ne!(new, old);
    store.in_term(new).commit(vec![create("a")]).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn nobody_is_elected_on_a_file() {
    let place = Place::file();
    assert!(Candidate::of(&place.config()).is_none());
}
