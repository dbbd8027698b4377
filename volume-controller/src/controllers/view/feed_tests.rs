//! The one watch that keeps the view, on a real store.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::spawn_blocking, time::timeout};

use super::{fixture::*, inbox::LIMIT, *};
use crate::store::{self, LogLimits, Precondition, Store, Write};

async fn store(changes: usize) -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = store::Config::new(folder.path().join("state.db"));
    config.log = LogLimits { changes, ..LogLimits::default() };
    (Store::open(config).await.unwrap(), folder)
}

async fn create(store: &Store, made: &Made) -> u64 {
    let write = Write { key: made.key(), precondition: Precondition::Absent, body: Some(made.0.clone()) };
    store.commit(vec![write]).await.unwrap()[0].revision
}

fn feeding(index: &Arc<Index>, store: &Store) -> tokio::task::JoinHandle<crate::controllers::Error> {
    let (index, store) = (Arc::clone(index), store.clone());
    tokio::spawn(async move { feed(&index, &store).await.unwrap_err() })
}

#[tokio::test]
async fn a_write_is_in_the_view_once_it_was_waited_for() {
    let (store, _folder) = store(1000).await;
    create(&store, &claim("before")).await;
    let index = Arc::new(Index::new());
    let task = feeding(&index, &store);
    index.filled().await;
    let inbox = index.subscribe();
    assert!(matches!(inbox.take().await, Mail::Everything), "a new reader looks at everything");
    for number in 0..50 {
        let made = claim(&format!("c{number}"));
        index.wait_for(create(&store, &made).await).await;
        assert!(index.read(|view| view.claims.at(&made.key()).is_some()));
    }
    let mut seen = 0;
    while seen < 50 {
        let Mail::Changes(changes) = inbox.take().await else { panic!("nothing was lost") };
        seen += changes.len();
    }
    store.close().await;
    assert!(matches!(task.await.unwrap(), crate::controllers::Error::StoreClosed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_falls_behind_begins_again_with_a_list() {
    let (store, _folder) = store(10).await;
    create(&store, &claim("goes")).await;
    let index = Arc::new(Index::new());
    let task = feeding(&index, &store);
    index.filled().await;
    let inbox = index.subscribe();
    inbox.take().await;
    // Somebody looks at the view for so long that the watch is left behind.
    let ((held, is_held), (release, released)) = (oneshot::channel(), oneshot::channel::<()>());
    let reader = {
        let index = Arc::clone(&index);
        spawn_blocking(move || {
            index.read(|_| {
                held.send(()).unwrap();
                released.blocking_recv().unwrap();
            });
        })
    };
    is_held.await.unwrap();
    let gone = Write { key: of_claim("goes"), precondition: Precondition::Present, body: None };
    store.commit(vec![gone]).await.unwrap();
    for number in 0..100 {
        create(&store, &claim(&format!("c{number}"))).await;
    }
    release.send(()).unwrap();
    reader.await.unwrap();
    timeout(Duration::from_secs(20), index.wait_for(store.revision())).await.unwrap();
    assert!(matches!(inbox.take().await, Mail::Everything));
    index.read(|view| {
        assert_eq!(view.claims.iter().count(), 100);
        assert!(view.claims.get(SPACE, "goes").is_none(), "what went meanwhile is not kept");
    });
    // And it goes on.
    index.wait_for(create(&store, &volume("v")).await).await;
    assert!(matches!(inbox.take().await, Mail::Changes(_)));
    task.abort();
}

#[tokio::test]
async fn an_inbox_that_nobody_reads_does_not_grow_for_ever() {
    let mut view = view(&[]);
    let made = claim("a");
    let touched = view.apply(ChangeKind::Created, 1, &made.stored(1)).unwrap();
    let inbox = Inbox::default();
    for _ in 0..=LIMIT {
        inbox.put(touched.clone());
    }
    assert!(matches!(inbox.take().await, Mail::Everything));
    inbox.put(touched);
    let Mail::Changes(changes) = inbox.take().await else { panic!("it has been read") };
    assert_eq!(changes.len(), 1);
}

#[tokio::test]
async fn who_has_gone_gets_no_mail() {
    let index = Index::new();
    drop(index.subscribe());
    let inbox = index.subscribe();
    assert_eq!(index.readers(), 1);
    drop(inbox);
}
