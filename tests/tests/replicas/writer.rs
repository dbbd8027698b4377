//! One client that writes, and notes what it was told.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;

use super::{
    clients::{Shared, api, map, note},
    log::{Told, field, revision},
    pause,
};

/// To this everybody adds.
pub(crate) const COUNTER: &str = "counter";
/// Objects of each writer.
const OBJECTS: u32 = 4;
/// One of three writes is looked at through another server.
const LOOK: f64 = 0.33;

/// What an error says of a write.
fn told(error: &kube::Error) -> Told {
    match error {
        // A timeout says that nobody knows.
        kube::Error::Api(status) if status.code != 504 => Told::Refused,
        _ => Told::Unknown,
    }
}

/// Writes through its own server, and knows what its own objects are.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    number: usize,
    operations: u32,
    rng: StdRng,
    /// Those that are there: revision and UID.
    objects: BTreeMap<String, (u64, String)>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, number: usize, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ ((number as u64 + 1) << 32));
        Self { shared, number, operations: 0, rng, objects: BTreeMap::new() }
    }

    pub(crate) async fn run(mut self) -> Result<()> {
        while !*self.shared.is_over.borrow() {
            let Ok(api) = api(&self.shared.roots[self.number]).await else {
                pause().await;
                continue;
            };
            // Until something goes wrong with it.
            while !*self.shared.is_over.borrow() && self.step(&api).await? {}
            pause().await;
        }
        Ok(())
    }

    fn operation(&mut self) -> String {
        self.operations += 1;
        format!("{}-{}", self.number, self.operations)
    }

    /// One write; whether the server was well.
    async fn step(&mut self, api: &Api<ConfigMap>) -> Result<bool> {
        if self.rng.random_bool(0.25) {
            return self.count_up(api).await;
        }
        let name = format!("of-{}-{}", self.number, self.rng.random_range(0..OBJECTS));
        let operation = self.operation();
        let known = self.objects.get(&name).cloned();
        let written = match &known {
            None => {
                api.create(&PostParams::default(), &serde_json::from_value(map(&name, &operation, 0))?).await
            }
            Some((revision, _)) => match self.rng.random_range(0..3) {
                0 => {
                    let patch = json!({"data": {"operation": operation}});
                    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await
                }
                1 => {
                    let mut object: ConfigMap = serde_json::from_value(map(&name, &operation, 0))?;
                    object.metadata.resource_version = Some(revision.to_string());
                    api.replace(&name, &PostParams::default(), &object).await
                }
                _ => return self.delete(api, name, operation).await,
            },
        };
        match written {
            Ok(object) => {
                let at = revision(&object)?;
                let uid = object.metadata.uid.clone().context("an object without a UID")?;
                note(&self.shared, operation.clone(), Told::Written(at));
                self.objects.insert(name.clone(), (at, uid));
                self.look(&name, Some(&operation)).await?;
                self.acknowledge();
                Ok(true)
            }
            Err(error) => {
                self.failed(&name, operation, &error).await?;
                Ok(false)
            }
        }
    }

    async fn delete(&mut self, api: &Api<ConfigMap>, name: String, operation: String) -> Result<bool> {
        match api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => {
                let (_, uid) = self.objects.remove(&name).context("it was there")?;
                note(&self.shared, operation, Told::Deleted(uid));
                self.look(&name, None).await?;
                self.acknowledge();
                Ok(true)
            }
            Err(error) => {
                self.failed(&name, operation, &error).await?;
                Ok(false)
            }
        }
    }

    /// Adds one to what everybody adds to.
    async fn count_up(&mut self, api: &Api<ConfigMap>) -> Result<bool> {
        let operation = self.operation();
        let written = match api.get_opt(COUNTER).await {
            Ok(None) => {
                api.create(&PostParams::default(), &serde_json::from_value(map(COUNTER, &operation, 1))?)
                    .await
            }
            Ok(Some(found)) => {
                let value: u64 = field(&found, "value").parse()?;
                let mut object: ConfigMap = serde_json::from_value(map(COUNTER, &operation, value + 1))?;
                object.metadata.resource_version = found.metadata.resource_version;
                api.replace(COUNTER, &PostParams::default(), &object).await
            }
            Err(_) => return Ok(false),
        };
        let outcome = match &written {
            Ok(object) => Told::Written(revision(object)?),
            Err(error) => told(error),
        };
        let is_well = match &written {
            // Somebody else was faster.
            Err(kube::Error::Api(status)) => status.code == 409,
            written => written.is_ok(),
        };
        note(&self.shared, operation, outcome);
        if written.is_ok() {
            self.acknowledge();
        }
        Ok(is_well)
    }

    fn acknowledge(&self) {
        self.shared.acknowledged[self.number].send_modify(|count| *count += 1);
    }

    /// Nobody else writes these objects, so that only what is wrong with a server may keep a write from them.
    async fn failed(&mut self, name: &str, operation: String, error: &kube::Error) -> Result<()> {
        let outcome = told(error);
        if let kube::Error::Api(status) = error {
            ensure!(
                [503, 504].contains(&status.code),
                "{operation} of {name}, known as {:?}, was refused: {status:?}",
                self.objects.get(name)
            );
        }
        let is_unknown = matches!(outcome, Told::Unknown);
        note(&self.shared, operation, outcome);
        if is_unknown { self.find_out(name).await } else { Ok(()) }
    }

    /// What an object is now. A transaction of a server that was killed may still be under way in the database; a write
    /// through any server comes after its end.
    async fn find_out(&mut self, name: &str) -> Result<()> {
        let mark = self.operation();
        let mut attempt = 0;
        let found = loop {
            attempt += 1;
            let turn = (self.number + attempt) % self.shared.roots.len();
            let operation = format!("{mark}.{attempt}");
            if let Ok(api) = api(&self.shared.roots[turn]).await {
                let mark = format!("mark-{}", self.number);
                let patch = PatchParams::apply("test").force();
                let applied = api.patch(&mark, &patch, &Patch::Apply(map(&mark, &operation, 0))).await;
                note(
                    &self.shared,
                    operation,
                    match &applied {
                        Ok(object) => Told::Written(revision(object)?),
                        Err(error) => told(error),
                    },
                );
                if applied.is_ok()
                    && let Ok(found) = api.get_opt(name).await
                {
                    break found;
                }
            }
            pause().await;
        };
        match found {
            Some(object) => {
                let uid = object.metadata.uid.clone().context("an object without a UID")?;
                self.objects.insert(name.to_owned(), (revision(&object)?, uid));
            }
            None => {
                self.objects.remove(name);
            }
        }
        Ok(())
    }

    /// What was acknowledged a moment ago is there for whoever asks another server.
    async fn look(&mut self, name: &str, operation: Option<&str>) -> Result<()> {
        if !self.rng.random_bool(LOOK) {
            return Ok(());
        }
        let others = self.shared.roots.len() - 1;
        let other = (self.number + 1 + self.rng.random_range(0..others)) % self.shared.roots.len();
        let Ok(api) = api(&self.shared.roots[other]).await else { return Ok(()) };
        // One that is gone, or has no database, says nothing.
        let Ok(found) = api.get_opt(name).await else { return Ok(()) };
        let found = found.map(|object| field(&object, "operation"));
        ensure!(
            found.as_deref() == operation,
            "server {other} shows {name} as of {found:?} after {operation:?} was acknowledged"
        );
        self.shared.looks.send_modify(|looks| *looks += 1);
        Ok(())
    }
}
