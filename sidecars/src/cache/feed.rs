//! From a watch into a store, and from there to the listeners.

use std::{collections::HashMap, hash::Hash, pin::pin, sync::Arc};

use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use parking_lot::RwLock;
use tracing::{info, warn};

use super::{Cached, Change, Listener};

/// Feeds one kind until the task is dropped.
pub(super) async fn feed<K: Cached>(
    api: Api<K>,
    store: Store<K>,
    mut writer: Writer<K>,
    listeners: Arc<RwLock<Vec<Listener<K>>>>,
    strip: fn(&mut K),
) where
    ObjectRef<K>: Eq + Hash,
{
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut broken = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if std::mem::take(&mut broken) {
                    info!(kind = %K::kind(&()), "watching again");
                }
                take_in(event.modify(strip), &store, &mut writer, &listeners);
            }
            Err(error) => {
                // Said once an outage; the watcher goes on trying with its own backoff.
                if !std::mem::replace(&mut broken, true) {
                    warn!(kind = %K::kind(&()), %error, "cannot watch: trying again until the API server answers");
                }
            }
        }
    }
}

fn take_in<K: Cached>(
    event: Event<K>,
    store: &Store<K>,
    writer: &mut Writer<K>,
    listeners: &RwLock<Vec<Listener<K>>>,
) where
    ObjectRef<K>: Eq + Hash,
{
    match &event {
        Event::Apply(object) => {
            let key = ObjectRef::from_obj(object);
            let old = store.get(&key);
            writer.apply_watcher_event(&event);
            if let Some(new) = store.get(&key) {
                tell(listeners, &Change::Set { old, new });
            }
        }
        Event::Delete(object) => {
            writer.apply_watcher_event(&event);
            tell(listeners, &Change::Gone(Arc::new(object.clone())));
        }
        Event::Init | Event::InitApply(_) => writer.apply_watcher_event(&event),
        Event::InitDone => {
            let mut before: HashMap<ObjectRef<K>, Arc<K>> =
                store.state().into_iter().map(|object| (ObjectRef::from_obj(&*object), object)).collect();
            let mut left = Vec::new();
            // Who subscribes meanwhile, as many do as soon as there is something, waits and is then told of all: once.
            let told = listeners.read();
            writer.apply_watcher_event(&event);
            let mut say = |change| {
                if !hear(&told, &change) {
                    left.push(change);
                }
            };
            for new in store.state() {
                let old = before.remove(&ObjectRef::from_obj(&*new));
                let same = old.as_ref().is_some_and(|old| old.resource_version() == new.resource_version());
                if !same {
                    say(Change::Set { old, new });
                }
            }
            for gone in before.into_values() {
                say(Change::Gone(gone));
            }
            drop(told);
            left.iter().for_each(|change| part(listeners, change));
        }
    }
}

fn tell<K>(listeners: &RwLock<Vec<Listener<K>>>, change: &Change<K>) {
    let all_stay = hear(&listeners.read(), change);
    if !all_stay {
        part(listeners, change);
    }
}

/// Every listener hears of it, also after one that leaves. Says whether all stay.
fn hear<K>(listeners: &[Listener<K>], change: &Change<K>) -> bool {
    listeners.iter().filter(|listener| !listener(change)).count() == 0
}

/// Whoever wanted to leave has heard of this change already; a second time does no harm.
fn part<K>(listeners: &RwLock<Vec<Listener<K>>>, change: &Change<K>) {
    listeners.write().retain(|listener| listener(change));
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use parking_lot::Mutex;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cache::Kind;

    fn node(name: &str, version: &str) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        node.metadata.resource_version = Some(version.to_owned());
        node
    }

    #[test]
    fn a_relist_tells_of_what_changed_and_what_is_gone() {
        let (kind, mut writer) = Kind::<Node>::new();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let ears = Arc::clone(&heard);
        kind.subscribe(move |change: &Change<Node>| {
            let verb = match change {
                Change::Set { old: None, .. } => "new",
                Change::Set { old: Some(_), .. } => "changed",
                Change::Gone(_) => "gone",
            };
            ears.lock().push(format!("{verb} {}", change.object().name_any()));
            true
        });
        let mut see = |event| take_in(event, &kind.store, &mut writer, &kind.listeners);
        see(Event::Init);
        see(Event::InitApply(node("a", "1")));
        see(Event::InitApply(node("b", "2")));
        see(Event::InitApply(node("c", "3")));
        see(Event::InitDone);
        let mut first = std::mem::take(&mut *heard.lock());
        first.sort();
        assert_eq!(first, ["new a", "new b", "new c"]);
        see(Event::Apply(node("a", "4")));
        assert_eq!(std::mem::take(&mut *heard.lock()), ["changed a"]);
        // The watch breaks; meanwhile b changes and c goes.
        see(Event::Init);
        see(Event::InitApply(node("a", "4")));
        see(Event::InitApply(node("b", "5")));
        see(Event::InitDone);
        assert_eq!(std::mem::take(&mut *heard.lock()), ["changed b", "gone c"]);
        see(Event::Delete(node("a", "6")));
        assert_eq!(std::mem::take(&mut *heard.lock()), ["gone a"]);
        assert!(kind.get(None, "a").is_none() && kind.get(None, "b").is_some());
    }

    #[test]
    fn a_listener_that_panics_is_the_end_of_its_own_controller_only() {
        let (kind, mut writer) = Kind::<Node>::new();
        let (mine, others) = (CancellationToken::new(), CancellationToken::new());
        kind.seen_by(&mine).subscribe(|_: &Change<Node>| panic!("this panic is part of the test"));
        let heard: Arc<Mutex<u32>> = Arc::default();
        let ears = Arc::clone(&heard);
        kind.seen_by(&others).subscribe(move |_: &Change<Node>| {
            *ears.lock() += 1;
            true
        });
        let mut see = |event| take_in(event, &kind.store, &mut writer, &kind.listeners);
        see(Event::Apply(node("a", "1")));
        see(Event::Apply(node("a", "2")));
        assert!(*heard.lock() >= 2, "others hear of every change");
        assert!(mine.is_cancelled() && !others.is_cancelled());
    }

    /// What is there is told once, to who comes while it is being told, too: a second time is a second look, and a call of
    /// the driver that has just refused.
    #[test]
    fn who_comes_at_the_beginning_is_told_once() {
        let (kind, mut writer) = Kind::<Node>::new();
        let kind = Arc::new(kind);
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let late: Arc<Mutex<Option<std::thread::JoinHandle<()>>>> = Arc::default();
        let (weak, ears, thread) = (Arc::downgrade(&kind), Arc::clone(&heard), Arc::clone(&late));
        kind.subscribe(move |_: &Change<Node>| {
            let (kind, ears) = (weak.upgrade().unwrap(), Arc::clone(&ears));
            thread.lock().get_or_insert_with(|| {
                let late = Arc::clone(&kind);
                let comes = std::thread::spawn(move || {
                    late.subscribe(move |change: &Change<Node>| {
                        ears.lock().push(change.object().name_any());
                        true
                    });
                });
                // It has come and waits: nobody else is let in to read any more.
                while kind.listeners.try_read().is_some() {
                    std::thread::yield_now();
                }
                comes
            });
            true
        });
        let mut see = |event| take_in(event, &kind.store, &mut writer, &kind.listeners);
        see(Event::Init);
        for name in ["a", "b", "c"] {
            see(Event::InitApply(node(name, "1")));
        }
        see(Event::InitDone);
        late.lock().take().unwrap().join().unwrap();
        heard.lock().sort();
        assert_eq!(*heard.lock(), ["a", "b", "c"]);
    }

    #[test]
    fn a_listener_that_leaves_hears_no_more() {
        let (kind, mut writer) = Kind::<Node>::new();
        let heard: Arc<Mutex<u32>> = Arc::default();
        let ears = Arc::clone(&heard);
        kind.subscribe(move |_: &Change<Node>| {
            *ears.lock() += 1;
            false
        });
        let mut see = |event| take_in(event, &kind.store, &mut writer, &kind.listeners);
        see(Event::Apply(node("a", "1")));
        let after_first = *heard.lock();
        see(Event::Apply(node("a", "2")));
        assert_eq!(*heard.lock(), after_first);
    }
}
