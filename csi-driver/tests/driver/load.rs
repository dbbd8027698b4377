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
use holdfast_proto::csi::{
    self, CapacityRange, VolumeCapability, controller_client::ControllerClient, node_client::NodeClient,
    volume_capability::access_mode::Mode,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tonic::{Code, Status, transport::Channel};

use crate::harness::{
    Driver, MIB, NODE, Scratch, block, channel, command, entries, mounted, needs, parameters, until,
};

const CLIENTS: usize = 64;
const VOLUMES: usize = 1000;
/// Those on which everybody works.
const SHARED: usize = 2;
/// Calls of each client, after it made its volumes.
const CALLS: usize = 60;
const TARGETS: u8 = 2;
/// What each pool may promise.
const CAPACITY: i64 = 1 << 40;

/// A volume as the model has it; `None` in place of it: there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    size: i64,
    attached: bool,
    staged: bool,
    targets: BTreeSet<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Create,
    Delete,
    Attach,
    Detach,
    Stage,
    Unstage,
    Publish(u8),
    Unpublish(u8),
    Expand,
}

/// What a call must answer, and what is there then.
fn expected(call: Call, now: Option<&Known>) -> (Code, Option<Known>) {
    let same = |code| (code, now.cloned());
    let Some(known) = now else {
        return match call {
            Call::Create => (Code::Ok, Some(Known { size: MIB, ..Known::default() })),
            Call::Delete | Call::Detach => same(Code::Ok),
            _ => same(Code::NotFound),
        };
    };
    let mut next = known.clone();
    let code = match call {
        Call::Create if known.size == MIB => Code::Ok,
        Call::Create => Code::AlreadyExists,
        Call::Delete if known.attached || known.staged => Code::FailedPrecondition,
        Call::Delete => return (Code::Ok, None),
        Call::Attach => {
            next.attached = true;
            Code::Ok
        }
        Call::Detach => {
            next.attached = false;
            Code::Ok
        }
        Call::Stage if !known.attached => Code::FailedPrecondition,
        Call::Stage => {
            next.staged = true;
            Code::Ok
        }
        Call::Unstage if !known.targets.is_empty() => Code::FailedPrecondition,
        Call::Unstage => {
            next.staged = false;
            Code::Ok
        }
        Call::Publish(_) if !known.staged => Code::FailedPrecondition,
        Call::Publish(target) => {
            next.targets.insert(target);
            Code::Ok
        }
        Call::Unpublish(target) => {
            next.targets.remove(&target);
            Code::Ok
        }
        Call::Expand => {
            next.size += MIB;
            Code::Ok
        }
    };
    if code == Code::Ok { (code, Some(next)) } else { same(code) }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    pool: &'static str,
    name: String,
}

impl Name {
    fn own(number: usize) -> Self {
        let pool = if number.is_multiple_of(2) { "images" } else { "folders" };
        Self { pool, name: format!("v{number}") }
    }

    fn number(&self) -> usize {
        self.name.trim_start_matches('v').parse().unwrap()
    }

    fn shared(number: usize) -> Self {
        Self { pool: "folders", name: format!("shared{number}") }
    }

    fn id(&self) -> String {
        format!("{}.{}", self.pool, self.name)
    }

    fn capability(&self) -> VolumeCapability {
        if self.pool == "images" { block(Mode::SingleNodeMultiWriter) } else { mounted("") }
    }
}

struct Client {
    controller: ControllerClient<Channel>,
    node: NodeClient<Channel>,
    home: PathBuf,
    rng: StdRng,
    own: BTreeMap<Name, Option<Known>>,
}

fn path(home: &Path, kind: &str, name: &Name) -> String {
    home.join(format!("{kind}-{}", name.id())).to_str().unwrap().to_owned()
}

impl Client {
    async fn call(&mut self, call: Call, name: &Name) -> Result<(), Status> {
        let volume_id = name.id();
        let staging_target_path = path(&self.home, "staging", name);
        let target = |number: u8| path(&self.home, &format!("target{number}"), name);
        let volume_capability = Some(name.capability());
        match call {
            Call::Create => {
                let enforce = if name.pool == "images" { "true" } else { "false" };
                let request = csi::CreateVolumeRequest {
                    name: name.name.clone(),
                    capacity_range: Some(CapacityRange { required_bytes: MIB, limit_bytes: MIB }),
                    volume_capabilities: vec![name.capability()],
                    parameters: parameters(&[("pool", name.pool), ("enforceSize", enforce)]),
                    ..Default::default()
                };
                self.controller.create_volume(request).await.map(drop)
            }
            Call::Delete => {
                let request = csi::DeleteVolumeRequest { volume_id, ..Default::default() };
                self.controller.delete_volume(request).await.map(drop)
            }
            Call::Attach => {
                let request = csi::ControllerPublishVolumeRequest {
                    volume_id,
                    node_id: NODE.to_owned(),
                    volume_capability,
                    ..Default::default()
                };
                self.controller.controller_publish_volume(request).await.map(drop)
            }
            Call::Detach => {
                let request = csi::ControllerUnpublishVolumeRequest {
                    volume_id,
                    node_id: NODE.to_owned(),
                    ..Default::default()
                };
                self.controller.controller_unpublish_volume(request).await.map(drop)
            }
            Call::Stage => {
                fs::create_dir_all(&staging_target_path).unwrap();
                let request = csi::NodeStageVolumeRequest {
                    volume_id,
                    staging_target_path,
                    volume_capability,
                    ..Default::default()
                };
                self.node.node_stage_volume(request).await.map(drop)
            }
            Call::Unstage => {
                let request = csi::NodeUnstageVolumeRequest { volume_id, staging_target_path };
                self.node.node_unstage_volume(request).await.map(drop)
            }
            Call::Publish(number) => {
                let request = csi::NodePublishVolumeRequest {
                    volume_id,
                    staging_target_path,
                    target_path: target(number),
                    volume_capability,
                    ..Default::default()
                };
                self.node.node_publish_volume(request).await.map(drop)
            }
            Call::Unpublish(number) => {
                let request = csi::NodeUnpublishVolumeRequest { volume_id, target_path: target(number) };
                self.node.node_unpublish_volume(request).await.map(drop)
            }
            Call::Expand => {
                // More than it can have: no repetition comes near it.
                let required_bytes =
                    self.own.get(name).and_then(Option::as_ref).map_or(MIB, |known| known.size + MIB);
                let request = csi::ControllerExpandVolumeRequest {
                    volume_id,
                    capacity_range: Some(CapacityRange { required_bytes, limit_bytes: 0 }),
                    ..Default::default()
                };
                self.controller.controller_expand_volume(request).await.map(drop)
            }
        }
    }

    /// A call on a volume that nobody else uses: it has one right answer.
    async fn on_own(&mut self, call: Call, name: &Name) {
        let now = self.own[name].clone();
        let (code, next) = expected(call, now.as_ref());
        let answer = self.call(call, name).await;
        let got = answer.as_ref().err().map_or(Code::Ok, Status::code);
        assert_eq!(got, code, "{call:?} of {}, {now:?}: {answer:?}", name.id());
        self.own.insert(name.clone(), next);
    }

    /// Whatever the others do to it, this is answered, or refused for a reason of the specification.
    async fn on_shared(&mut self, call: Call, name: &Name) -> Code {
        let Err(status) = self.call(call, name).await else { return Code::Ok };
        assert!(
            matches!(
                status.code(),
                Code::Aborted | Code::NotFound | Code::FailedPrecondition | Code::AlreadyExists
            ),
            "{call:?} of {}: {status}",
            name.id()
        );
        status.code()
    }

    /// While the others make and delete volumes, a list has all that stay and none twice.
    async fn look_at_list(&mut self) {
        let listed = list(&mut self.controller, self.rng.random_range(50..400)).await;
        let own: BTreeSet<String> =
            self.own.iter().filter(|(_, known)| known.is_some()).map(|(name, _)| name.id()).collect();
        let all: BTreeSet<String> = self.own.keys().map(Name::id).collect();
        let seen: BTreeSet<String> = listed.into_keys().filter(|id| all.contains(id)).collect();
        assert_eq!(seen, own);
    }

    fn any_call(&mut self) -> Call {
        let target = self.rng.random_range(0..TARGETS);
        match self.rng.random_range(0..16) {
            0 => Call::Create,
            1 => Call::Delete,
            2..5 => Call::Attach,
            5 => Call::Detach,
            6..9 => Call::Stage,
            9 => Call::Unstage,
            10..13 => Call::Publish(target),
            13 => Call::Unpublish(target),
            _ => Call::Expand,
        }
    }

    async fn work(&mut self) -> BTreeMap<String, u64> {
        let mut codes = BTreeMap::new();
        let mut names: Vec<Name> = self.own.keys().cloned().collect();
        names.sort_by_key(Name::number);
        for _ in 0..CALLS {
            match self.rng.random_range(0..60) {
                0 => self.look_at_list().await,
                1..20 => {
                    let call = self.any_call();
                    let name = Name::shared(self.rng.random_range(0..SHARED));
                    let code = self.on_shared(call, &name).await;
                    *codes.entry(format!("{code:?}")).or_default() += 1;
                }
                _ => {
                    // Few of its own, so that they come far.
                    let name = names[self.rng.random_range(0..names.len().min(3))].clone();
                    let call = self.any_call();
                    let detaches_staged = matches!(call, Call::Detach)
                        && self.own[&name].as_ref().is_some_and(|known| known.staged);
                    // Loop devices are the machine's: one at most for each client.
                    let may_stage = name.pool == "folders" || name.number() < CLIENTS;
                    if !detaches_staged && (may_stage || !matches!(call, Call::Stage)) {
                        self.on_own(call, &name).await;
                    }
                }
            }
        }
        codes
    }

    async fn take_down(&mut self, name: &Name) {
        for target in 0..TARGETS {
            drop(self.call(Call::Unpublish(target), name).await);
        }
        for call in [Call::Unstage, Call::Detach, Call::Delete] {
            match self.call(call, name).await {
                Err(status) if !(matches!(call, Call::Unstage) && status.code() == Code::NotFound) => {
                    panic!("{call:?} of {}: {status}", name.id())
                }
                _ => {}
            }
        }
    }
}

/// The whole list in pages: by id the size, and whether it is attached.
async fn list(controller: &mut ControllerClient<Channel>, max_entries: i32) -> BTreeMap<String, (i64, bool)> {
    let mut all = BTreeMap::new();
    let mut starting_token = String::new();
    loop {
        let request = csi::ListVolumesRequest { max_entries, starting_token };
        let page = controller.list_volumes(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= max_entries as usize);
        for entry in page.entries {
            let volume = entry.volume.unwrap();
            let attached = !entry.status.unwrap().published_node_ids.is_empty();
            let before = all.insert(volume.volume_id.clone(), (volume.capacity_bytes, attached));
            assert_eq!(before, None, "{} is listed twice", volume.volume_id);
        }
        if page.next_token.is_empty() {
            return all;
        }
        starting_token = page.next_token;
    }
}

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
