//! Tells people that the store is filling up, while Events can still be written.

use tokio_util::sync::CancellationToken;

use super::Error;
use super::recorder::{News, Recorder, Severity};
use super::view::NAMESPACES;
use crate::store::{Key, Level, Store};

/// Runs until cancelled.
pub(super) async fn run(store: Store, recorder: Recorder, cancel: CancellationToken) -> Result<(), Error> {
    let mut level = store.level();
    loop {
        let now = *level.borrow_and_update();
        if let Some(news) = news(now) {
            recorder.tell(news);
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            changed = level.changed() => changed.map_err(|_| Error::StoreClosed)?,
        }
    }
}

fn news(level: Level) -> Option<News> {
    let (reason, message) = match level {
        Level::Low => return None,
        Level::High => (
            "StoreFillingUp",
            "four fifths of the store's quota are used: delete what is not needed, or raise --store-quota",
        ),
        // A new object, so the store takes it only where there is one from before. The log has it in any case.
        Level::Full => {
            ("StoreFull", "the store takes nothing new: delete what is not needed, or raise --store-quota")
        }
    };
    Some(News {
        about: Key::new(NAMESPACES, "", "default"),
        component: "store",
        severity: Severity::Warning,
        reason,
        message: message.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::view::EVENTS;
    use crate::store::{Config, Precondition, Write};
    use serde_json::{Value, json};
    use std::time::Duration;

    #[tokio::test]
    async fn an_event_tells_of_it_before_it_is_too_late() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(folder.path().join("state.db"));
        config.quota = Some(10_000);
        let store = Store::open(config).await.unwrap();
        let create = |key, body| vec![Write { key, precondition: Precondition::Absent, body: Some(body) }];
        let namespace = Key::new(NAMESPACES, "", "default");
        store.commit(create(namespace, json!({"metadata": {"name": "default"}}))).await.unwrap();
        let (recorder, write_events) = Recorder::new(store.clone());
        let cancel = CancellationToken::new();
        let running = tokio::spawn(run(store.clone(), recorder, cancel.clone()));
        tokio::spawn(write_events);
        let text = json!({"metadata": {"name": "a"}, "text": "x".repeat(8_000)});
        store.commit(create(Key::new("configmaps", "default", "a"), text)).await.unwrap();
        let event = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                if let Some(event) = store.list(EVENTS, None, None, None).objects.pop() {
                    break event;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let event: Value = event.await.expect("an event in time").decode().unwrap();
        assert_eq!(
            (&event["reason"], &event["type"]),
            (&json!("StoreFillingUp"), &json!("Warning")),
            "{event}"
        );
        cancel.cancel();
        running.await.unwrap().unwrap();
        store.close().await;
    }
}
