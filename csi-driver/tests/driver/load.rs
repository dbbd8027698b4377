//! 64 clients at once on 1,000 volumes. Each has volumes of its own, of which it knows exactly
//! what every call has to answer, and all of them work on a few others besides. Afterwards
//! the model is what the list, the mount table, the loop devices and the pools' accounts say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use holdfast_csi_driver::PoolConfig;
use holdfast_proto::csi::{self, controller_client::ControllerClient, node_client::NodeClient};
use rand::{SeedableRng as _, rngs::StdRng};

use crate::{
    harness::{Driver, Scratch, channel, command, entries, needs, parameters, until},
    load_client::{CALLS, Client, list, path},
    load_model::{Call, Known, Name},
};

pub(crate) const CLIENTS: usize = 64;
const VOLUMES: usize = 1000;
/// Those on which everybody works.
pub(crate) const SHARED: usize = 2;
/// What each pool may promise.
const CAPACITY: i64 = 1 << 40;

/// Does the same with all clients at once, and answers what each of them said.
macro_rules! at_once {
    ($clients:ident, $client:ident => $work:expr) => {{
        let mut tasks = tokio::task::JoinSet::new();
        for mut $client in std::mem::take(&mut $clients) {
            tasks.spawn(async move {
                let said = $work;
                ($client, said)
            });
        }
        let mut said = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            let (client, word) = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            $clients.push(client);
            said.push(word);
        }
        said
    }};
}

async fn available(driver: &mut Driver, pool: &str) -> i64 {
    let enforce = if pool == "images" { "true" } else { "false" };
    let request = csi::GetCapacityRequest {
        parameters: parameters(&[("pool", pool), ("enforceSize", enforce)]),
        ..Default::default()
    };
    driver.controller.get_capacity(request).await.unwrap().into_inner().available_capacity
}

/// Compares the model with what there is.
async fn check(driver: &mut Driver, clients: &[Client], disk: &Path) {
    let is_shared = |id: &str| id.starts_with("folders.shared");
    let known: Vec<(&Name, &Known)> = clients
        .iter()
        .flat_map(|client| &client.own)
        .filter_map(|(name, known)| Some((name, known.as_ref()?)))
        .collect();
    let listed = list(&mut driver.controller, 100).await;
    let (shared, own): (BTreeMap<_, _>, BTreeMap<_, _>) =
        listed.into_iter().partition(|(id, _)| is_shared(id));
    let model: BTreeMap<String, (i64, bool)> =
        known.iter().map(|(name, known)| (name.id(), (known.size, known.attached))).collect();
    assert_eq!(own, model);
    let there: BTreeSet<String> =
        ["images", "folders"].iter().flat_map(|pool| entries(&disk.join(pool).join("volumes"))).collect();
    let listed: BTreeSet<String> = own.keys().chain(shared.keys()).cloned().collect();
    assert_eq!(there, listed);

    let mut mounts = BTreeSet::new();
    for (name, known) in &known {
        let home = driver.scratch.path();
        if known.staged && name.pool == "folders" {
            mounts.insert(PathBuf::from(path(home, "staging", name)));
        }
        let targets = known.targets.iter().map(|number| path(home, &format!("target{number}"), name));
        mounts.extend(targets.map(PathBuf::from));
    }
    let seen = driver.scratch.mounts();
    let seen: Vec<PathBuf> = seen
        .into_iter()
        .filter(|point| point != disk && !point.to_str().unwrap().contains("folders.shared"))
        .collect();
    assert_eq!(seen.iter().cloned().collect::<BTreeSet<_>>(), mounts);
    assert_eq!(seen.len(), mounts.len(), "something is mounted twice");
    let staged = known.iter().filter(|(name, known)| known.staged && name.pool == "images").count();
    assert_eq!(driver.scratch.loops().len(), staged);
    println!("{} volumes, {} mounts, {staged} loop devices", listed.len(), mounts.len());

    for pool in ["images", "folders"] {
        let prefix = format!("{pool}.");
        let promised: i64 = own
            .iter()
            .chain(&shared)
            .filter(|(id, _)| id.starts_with(&prefix))
            .map(|(_, (size, _))| size)
            .sum();
        // On this disk the pool's limit decides.
        assert_eq!(available(driver, pool).await, CAPACITY - promised, "{pool}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_what_the_clients_know() {
    needs!();
    let seed =
        std::env::var("HOLDFAST_LOAD_SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("HOLDFAST_LOAD_SEED={seed}");
    let scratch = Scratch::new();
    let disk = scratch.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // In memory, and larger than the pools' limits: this is about the driver.
    command("mount", &["-t", "tmpfs", "-o", "size=4t", "none", disk.to_str().unwrap()]).unwrap();
    let pools = vec![
        PoolConfig::image("images", disk.join("images")).with_capacity(CAPACITY as u64),
        PoolConfig::directory("folders", disk.join("folders")).with_capacity(CAPACITY as u64),
    ];
    let mut driver = Driver::with(scratch, pools).await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let channel = channel(&driver.config.endpoint).await;
        let own =
            (0..VOLUMES).filter(|volume| volume % CLIENTS == number).map(|volume| (Name::own(volume), None));
        clients.push(Client {
            controller: ControllerClient::new(channel.clone()),
            node: NodeClient::new(channel),
            home: driver.scratch.path().to_owned(),
            rng: StdRng::seed_from_u64(u64::wrapping_add(seed, number as u64)),
            own: own.collect(),
        });
    }

    let started = Instant::now();
    at_once!(clients, client => for name in client.own.keys().cloned().collect::<Vec<_>>() {
        client.on_own(Call::Create, &name).await;
    });
    println!("{VOLUMES} volumes made in {:.1} s", started.elapsed().as_secs_f64());
    check(&mut driver, &clients, &disk).await;

    let started = Instant::now();
    let said = at_once!(clients, client => client.work().await);
    let mut shared: BTreeMap<String, u64> = BTreeMap::new();
    for (code, count) in said.into_iter().flatten() {
        *shared.entry(code).or_default() += count;
    }
    println!(
        "{} calls in {:.1} s; on shared volumes: {shared:?}",
        CLIENTS * CALLS,
        started.elapsed().as_secs_f64()
    );
    assert!(shared["Ok"] > 0 && shared.contains_key("Aborted"), "the clients never met");
    check(&mut driver, &clients, &disk).await;

    // It knows the same when it starts anew; the clients' connections go with the old one.
    driver.restart().await;
    check(&mut driver, &clients, &disk).await;
    for client in &mut clients {
        let channel = channel(&driver.config.endpoint).await;
        (client.controller, client.node) = (ControllerClient::new(channel.clone()), NodeClient::new(channel));
    }
    at_once!(clients, client => for name in client.own.keys().cloned().collect::<Vec<_>>() {
        client.take_down(&name).await;
    });
    for number in 0..SHARED {
        clients[0].take_down(&Name::shared(number)).await;
    }
    assert_eq!(list(&mut driver.controller, 100).await, BTreeMap::new());
    assert_eq!(driver.scratch.mounts(), [disk.as_path()]);
    assert_eq!(driver.scratch.loops(), Vec::<String>::new());
    until("the trash is empty", || {
        ["images", "folders"].iter().all(|pool| entries(&disk.join(pool).join("trash")).is_empty())
    })
    .await;
    for pool in ["images", "folders"] {
        assert_eq!(entries(&disk.join(pool).join("volumes")), Vec::<String>::new());
        assert_eq!(available(&mut driver, pool).await, CAPACITY, "{pool}");
    }
    driver.end().await;
}
