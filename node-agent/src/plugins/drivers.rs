//! The drivers that can be used now, shared between registration and the volume loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::csi::Driver;

/// The usable drivers; clones share one table.
#[derive(Clone)]
pub(crate) struct Drivers {
    table: Arc<RwLock<BTreeMap<String, Driver>>>,
    generation: Arc<watch::Sender<u64>>,
}

impl Drivers {
    pub(crate) fn new() -> Self {
        Self { table: Arc::default(), generation: Arc::new(watch::channel(0).0) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Driver> {
        self.table.read().get(name).cloned()
    }

    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.table.read().keys().cloned().collect()
    }

    pub(crate) fn put(&self, driver: Driver) {
        self.table.write().insert(driver.name.clone(), driver);
        self.generation.send_modify(|g| *g += 1);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.table.write().remove(name);
        self.generation.send_modify(|g| *g += 1);
    }

    /// Fires whenever a driver came, came again, or went.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
