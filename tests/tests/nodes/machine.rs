//! One machine that is server and node in one, with a volume that is really mounted.

use std::{
    fs,
    io::{Read as _, Seek as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use holdfast_api::nodes::{self, UNSCHEDULABLE};
use holdfast_tests::{
    cannot_run, leftovers,
    machine::Machine,
    objects::{self, Objects, is_published},
    wait::until,
};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Event, Node},
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use rustix::process::Signal;
use serde_json::json;

const NAME: &str = "here";
const GRACE: Duration = Duration::from_secs(5);

/// What is asked of the machine.
struct Place {
    machine: Machine,
    objects: Objects,
    nodes: Api<Node>,
    leases: Api<Lease>,
    events: Api<Event>,
}

impl Place {
    async fn start() -> Result<Self> {
        let machine = Machine::start(&["--node-name", NAME, "--node-monitor-grace-period", "5s"]).await?;
        let client = machine.client().await?;
        Ok(Self {
            objects: Objects::new(&client),
            nodes: Api::all(client.clone()),
            leases: Api::namespaced(client.clone(), nodes::LEASES),
            events: Api::namespaced(client, "default"),
            machine,
        })
    }

    /// Waits until there is another Node object than this one, which says what it uses.
    async fn made_anew(&self, former: &Node) -> Result<Node> {
        until("the node is there again, and says what it has", || async {
            let node =
                self.nodes.get_opt(NAME).await?.filter(|anew| anew.metadata.uid != former.metadata.uid);
            let in_use = |node: &Node| Some(!node.status.as_ref()?.volumes_in_use.as_ref()?.is_empty());
            Ok(node.filter(|node| in_use(node) == Some(true) && nodes::is_ready(node)))
        })
        .await
    }

    /// A pod whose volume is mounted, and where.
    async fn mounted(&self, pod: &str, claim: &str) -> Result<PathBuf> {
        objects::create(&self.objects.claims, objects::claim(claim, "local", "64Mi")).await?;
        objects::create(&self.objects.pods, objects::pod(pod, claim)).await?;
        let pod = until("the volume is published", || async {
            Ok(self.objects.pods.get(pod).await.ok().filter(is_published))
        })
        .await?;
        let uid = pod.metadata.uid.context("a pod has a UID")?;
        let of_pod = |path: &PathBuf| path.ends_with("mount") && path.iter().any(|part| part == uid.as_str());
        leftovers::mounts(self.machine.root()).into_iter().find(of_pod).context("a mount")
    }

    async fn everything_goes(&self) -> Result<()> {
        until("everything is gone", || async { Ok(self.objects.left().await?.is_empty().then_some(())) })
            .await?;
        let root = self.machine.root();
        until("nothing is left on the machine", || async {
            let left = leftovers::all(root);
            ensure!(left.is_empty(), "still there: {left:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Waits until the lease was renewed so many times.
    async fn renewals(&self, count: usize) -> Result<()> {
        let mut last = None;
        for _ in 0..=count {
            last = until("the lease is renewed", || async {
                let lease = self.leases.get(NAME).await?;
                let time = lease.spec.and_then(|spec| spec.renew_time).map(|time| time.0);
                Ok((time.is_some() && time != last).then_some(time))
            })
            .await?;
        }
        Ok(())
    }

    async fn told(&self, reason: &str) -> Result<Vec<String>> {
        let about = ListParams::default().fields(&format!("reason={reason}"));
        let events = self.events.list(&about).await?.items;
        Ok(events.into_iter().filter_map(|event| event.message).collect())
    }

    async fn has_taint(&self, key: &str, wanted: bool) -> Result<()> {
        until(&format!("the taint {key}: {wanted}"), || async {
            let node = self.nodes.get(NAME).await?;
            let has = nodes::taints(&node).iter().any(|taint| taint.key == key);
            Ok((has == wanted).then_some(()))
        })
        .await
    }

    /// Since when the node has been ready.
    async fn ready_since(&self) -> Result<String> {
        until("the node is ready", || async {
            let node = self.nodes.get(NAME).await?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.into_iter().find(|c| c.type_ == "Ready" && c.status == "True");
            Ok(ready.and_then(|ready| Some(ready.last_transition_time?.0.to_string())))
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_slept_or_lost_its_object_keeps_its_volumes() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let mut place = Place::start().await?;
    let objects = &place.objects;
    objects::create(&objects.classes, objects::class("local")).await?;
    let mount = place.mounted("user", "data").await?;
    let attachment =
        objects.attachments.list(&ListParams::default()).await?.items.pop().context("an attachment")?;
    let file = mount.join("file");
    fs::write(&file, "there")?;

    // The lease is of the node, and renewed often enough.
    place.renewals(3).await?;
    let node = place.nodes.get(NAME).await?;
    let lease = place.leases.get(NAME).await?;
    ensure!(lease.owner_references().iter().any(|owner| Some(&owner.uid) == node.metadata.uid.as_ref()));
    let spec = lease.spec.context("a lease")?;
    ensure!(
        spec.lease_duration_seconds == Some(4) && spec.holder_identity.as_deref() == Some(NAME),
        "{spec:?}"
    );

    // It sleeps for much longer than a node may be silent.
    let since = place.ready_since().await?;
    place.machine.signal(Signal::STOP)?;
    let stopped = Instant::now();
    until("the machine has slept for long", || async { Ok((stopped.elapsed() > GRACE * 3).then_some(())) })
        .await?;
    place.machine.signal(Signal::CONT)?;
    // The controller looks twice between two renewals.
    place.renewals(3).await?;
    ensure!(place.ready_since().await? == since, "it was taken for lost");
    ensure!(place.told("NodeNotReady").await?.is_empty(), "{:?}", place.told("NodeNotReady").await?);

    // Somebody takes it for lost all the same: it says at once that it is not.
    let lost = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    place.nodes.patch_status(NAME, &PatchParams::default(), &Patch::Strategic(lost)).await?;
    place.ready_since().await?;
    place.has_taint(nodes::UNREACHABLE, false).await?;

    // New pods are kept away, and come again.
    place.machine.kubectl(&["cordon", NAME])?;
    place.has_taint(UNSCHEDULABLE, true).await?;
    place.machine.kubectl(&["uncordon", NAME])?;
    place.has_taint(UNSCHEDULABLE, false).await?;

    // Its object is deleted: it is made anew, and what it has stays.
    place.machine.kubectl(&["delete", "node", NAME])?;
    let anew = place.made_anew(&node).await?;
    until("the lease is the new one's", || async {
        let lease = place.leases.get(NAME).await?;
        let is_owned =
            lease.owner_references().iter().any(|owner| Some(&owner.uid) == anew.metadata.uid.as_ref());
        Ok(is_owned.then_some(()))
    })
    .await?;
    place.renewals(3).await?;
    let kept = objects.attachments.get(&attachment.name_any()).await?;
    ensure!(kept.metadata.uid == attachment.metadata.uid && kept.metadata.deletion_timestamp.is_none());
    ensure!(is_published(&objects.pods.get("user").await?));
    ensure!(fs::read_to_string(&file)? == "there");

    // An end as usual.
    objects::delete(&objects.pods, "user").await?;
    objects::delete(&objects.claims, "data").await?;
    place.everything_goes().await?;
    ensure!(place.machine.interrupt().await?.success());
    Ok(())
}

/// The reproducer of kubernetes#106710, and worse: the pod is forced away, the node is made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_cannot_be_unmounted_stays_attached_whatever_is_deleted() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let mut place = Place::start().await?;
    let objects = &place.objects;
    objects::create(&objects.classes, objects::class("local")).await?;
    let mount = place.mounted("user", "data").await?;
    let attachment =
        objects.attachments.list(&ListParams::default()).await?.items.pop().context("an attachment")?;
    fs::write(mount.join("file"), "there")?;
    let held = fs::File::open(mount.join("file"))?;

    place.machine.kubectl(&["delete", "pod", "user", "--force", "--grace-period=0"])?;
    // That another volume is mounted shows that everybody has looked since.
    place.mounted("other", "more").await?;
    let stays = async || {
        let now = objects.attachments.get(&attachment.name_any()).await?;
        ensure!(
            now.metadata.uid == attachment.metadata.uid && now.metadata.deletion_timestamp.is_none(),
            "{now:?}"
        );
        let mut content = String::new();
        (&held).rewind()?;
        (&held).read_to_string(&mut content)?;
        ensure!(content == "there", "{content:?}");
        ensure!(leftovers::mounts(place.machine.root()).contains(&mount), "not mounted any more");
        Ok(())
    };
    stays().await?;

    for round in ["first", "second"] {
        let node = place.nodes.get(NAME).await?;
        place.machine.kubectl(&["delete", "node", NAME])?;
        place.made_anew(&node).await?;
        place.renewals(2).await?;
        stays().await.context(round)?;
    }

    // Once it can be unmounted, all goes its way.
    drop(held);
    until("the attachment is gone", || async {
        Ok(objects.attachments.get_opt(&attachment.name_any()).await?.is_none().then_some(()))
    })
    .await?;
    for (pod, claim) in [(None, "data"), (Some("other"), "more")] {
        if let Some(pod) = pod {
            objects::delete(&objects.pods, pod).await?;
        }
        objects::delete(&objects.claims, claim).await?;
    }
    place.everything_goes().await?;
    ensure!(place.machine.interrupt().await?.success());
    Ok(())
}
