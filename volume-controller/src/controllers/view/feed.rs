//! The one watch on the store that keeps the view.

use std::{
    future::Future,
    sync::{Arc, Weak},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{Inbox, RESOURCES, View};
use crate::{
    controllers::Error,
    store::{ChangeKind, Next, Store, WatchError},
};

/// The shared view and those who wait for it.
#[derive(Debug)]
pub(crate) struct Index {
    view: RwLock<View>,
    /// Of those that still read: a controller that was started again has a new one.
    inboxes: Mutex<Vec<Weak<Inbox>>>,
    /// The view's revision; 0 until it is filled for the first time.
    revision: watch::Sender<u64>,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { view: RwLock::default(), inboxes: Mutex::default(), revision: watch::Sender::new(0) }
    }

    /// Looks at the view; writers wait meanwhile, so be quick.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&View) -> R) -> R {
        look(&self.view.read())
    }

    /// An inbox for every change from now on; it begins with "everything".
    pub(crate) fn subscribe(&self) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::default());
        inbox.put_everything();
        let mut inboxes = self.inboxes.lock();
        inboxes.retain(|inbox| inbox.strong_count() > 0);
        inboxes.push(Arc::downgrade(&inbox));
        drop(inboxes);
        inbox
    }

    /// How many inboxes are kept.
    #[cfg(test)]
    pub(super) fn readers(&self) -> usize {
        self.inboxes.lock().len()
    }

    /// Waits until the view holds everything up to a revision.
    pub(crate) fn wait_for(&self, revision: u64) -> impl Future<Output = ()> + Send + use<> {
        let mut receiver = self.revision.subscribe();
        async move {
            // An error means that the index itself is gone: then nobody decides any more.
            let _ = receiver.wait_for(|&at| at >= revision).await;
        }
    }

    /// Waits until the view was filled.
    pub(crate) async fn filled(&self) {
        self.wait_for(1).await;
    }

    fn replace(&self, view: View) {
        let revision = view.revision.max(1);
        *self.view.write() = view;
        for inbox in self.inboxes.lock().iter().filter_map(Weak::upgrade) {
            inbox.put_everything();
        }
        self.revision.send_replace(revision);
    }

    fn take_in(&self, next: &Next) {
        let revision = match next {
            Next::Change(change) => {
                let touched = self.view.write().apply(change.kind, change.revision, &change.object);
                if let Some(touched) = touched {
                    for inbox in self.inboxes.lock().iter().filter_map(Weak::upgrade) {
                        inbox.put(touched.clone());
                    }
                }
                change.revision
            }
            Next::Progress(revision) => {
                self.view.write().revision = *revision;
                *revision
            }
        };
        self.revision.send_if_modified(|at| std::mem::replace(at, revision.max(*at)) < revision);
    }
}

/// Keeps the view until the store closes. A watch that fell behind, or whose
/// start was compacted away meanwhile, begins again with a list.
pub(crate) async fn feed(index: &Index, store: &Store) -> Result<(), Error> {
    loop {
        match fill(index, store).await {
            WatchError::TooSlow => tracing::warn!("the controllers' watch fell behind; listing again"),
            WatchError::Closed => return Err(Error::StoreClosed),
        }
    }
}

async fn fill(index: &Index, store: &Store) -> WatchError {
    let start = store.revision();
    let mut view = View { revision: start, ..View::default() };
    let mut listed = start;
    for resource in RESOURCES {
        let list = store.list(resource, None, None, None);
        listed = listed.max(list.revision);
        for object in &list.objects {
            view.apply(ChangeKind::Created, object.revision, object);
        }
    }
    view.revision = start;
    let Ok(mut watch) = store.watch(&RESOURCES, start) else { return WatchError::TooSlow };
    // The lists are of slightly different moments; nobody sees them before the
    // changes in between are in.
    while view.revision < listed {
        match watch.next().await {
            Ok(Next::Change(change)) => {
                view.apply(change.kind, change.revision, &change.object);
            }
            Ok(Next::Progress(revision)) => view.revision = view.revision.max(revision),
            Err(error) => return error,
        }
    }
    index.replace(view);
    loop {
        match watch.next().await {
            Ok(next) => index.take_in(&next),
            Err(error) => return error,
        }
    }
}
