//! The main job on real mounts, undisturbed and with `kill -9` of `holdfast up`
//! at each of its moments. Whatever the moment, the end is the same: the same
//! file in the second pod, 2Gi everywhere, and nothing left.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use holdfast_tests::{
    cannot_run, leftovers,
    machine::Machine,
    objects::{self, Objects, bound_volume, is_published, volume_path},
    wait::until,
};

/// When the process is killed. Each is reached in every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    ClaimCreated,
    VolumeCreated,
    Bound,
    PodCreated,
    AttachmentCreated,
    Attached,
    Staged,
    Published,
    FileWritten,
    GrowthAsked,
    VolumeGrown,
    FirstPodDeleting,
    FirstPodUnpublished,
    SecondPodCreated,
    SecondPodDeleting,
    ClaimDeleting,
    VolumeReleased,
}

/// How the process ends at its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed(Moment),
    Interrupted(Moment),
}

struct Life {
    machine: Machine,
    objects: Objects,
    end: Option<End>,
    ended: bool,
}

impl Life {
    async fn start(end: Option<End>) -> Result<Self> {
        let machine = Machine::start(&[]).await?;
        let objects = Objects::new(&machine.client().await?);
        Ok(Self { machine, objects, end, ended: false })
    }

    /// The run has come to this moment.
    async fn at(&mut self, moment: Moment) -> Result<()> {
        if self.end == Some(End::Killed(moment)) {
            self.machine.kill()?;
        } else if self.end == Some(End::Interrupted(moment)) {
            let status = self.machine.interrupt().await?;
            ensure!(status.success(), "Ctrl-C ended holdfast up with {status}");
        } else {
            return Ok(());
        }
        self.ended = true;
        self.machine.restart().await
    }

    async fn published(&self, pod: &str, volume: &str) -> Result<std::path::PathBuf> {
        let pod = until("the pod's volumes are published", || async {
            Ok(self.objects.pods.get_opt(pod).await?.filter(is_published))
        })
        .await?;
        let path = volume_path(self.machine.root(), &pod, volume)?;
        ensure!(leftovers::mounts(self.machine.root()).contains(&path), "{} is not mounted", path.display());
        Ok(path)
    }

    async fn run(mut self) -> Result<()> {
        let root = self.machine.root().to_owned();

        // The claim.
        until("the class is created", || async {
            objects::create(&self.objects.classes, objects::growing_class("local")).await.map(Some)
        })
        .await?;
        until("the claim is created", || async {
            objects::create(&self.objects.claims, objects::claim("data", "local", "1Gi")).await.map(Some)
        })
        .await?;
        self.at(Moment::ClaimCreated).await?;
        until("a volume is provisioned", || async {
            Ok(self.objects.volumes.list(&Default::default()).await?.items.pop())
        })
        .await?;
        self.at(Moment::VolumeCreated).await?;
        let volume = until("the claim is bound", || async {
            Ok(self.objects.claims.get("data").await.map(|claim| bound_volume(&claim))?)
        })
        .await?;
        self.at(Moment::Bound).await?;

        // The first pod.
        until("the first pod is created", || async {
            objects::create(&self.objects.pods, objects::pod("first", "data")).await.map(Some)
        })
        .await?;
        self.at(Moment::PodCreated).await?;
        until("an attachment is there", || async {
            Ok(self.objects.attachments.list(&Default::default()).await?.items.pop())
        })
        .await?;
        self.at(Moment::AttachmentCreated).await?;
        until("the volume is attached", || async {
            let attachments = self.objects.attachments.list(&Default::default()).await?.items;
            Ok(attachments.into_iter().find(|a| a.status.as_ref().is_some_and(|s| s.attached)))
        })
        .await?;
        self.at(Moment::Attached).await?;
        if self.end.is_none() {
            let text = self
                .machine
                .client()
                .await?
                .request_text(http::Request::get("/metrics").body(Vec::new())?)
                .await?;
            each_is_described_once(&text)?;
        }
        let mounted = |ending: &'static str| {
            let root = root.clone();
            move || {
                let found = leftovers::mounts(&root).iter().any(|path| path.ends_with(ending));
                async move { Ok(found.then_some(())) }
            }
        };
        until("the volume is staged", mounted("globalmount")).await?;
        self.at(Moment::Staged).await?;
        until("the volume is published", mounted("mount")).await?;
        self.at(Moment::Published).await?;
        let path = self.published("first", &volume).await?;
        let content = content();
        write_durably(&path.join("file"), &content)?;
        self.at(Moment::FileWritten).await?;

        // Growth, while mounted.
        until("growth is asked for", || async {
            objects::resize(&self.objects.claims, "data", "2Gi").await.map(Some)
        })
        .await?;
        self.at(Moment::GrowthAsked).await?;
        until("the volume has grown", || async {
            let volume = self.objects.volumes.get(&volume).await?;
            Ok((holdfast_api::access::volume_capacity(&volume)? == 2 << 30).then_some(()))
        })
        .await?;
        self.at(Moment::VolumeGrown).await?;
        until("the claim has grown", || async {
            let claim = self.objects.claims.get("data").await?;
            Ok((holdfast_api::access::claim_capacity(&claim)? == Some(2 << 30)).then_some(()))
        })
        .await?;
        let size = size_of_file_system(&path)?;
        ensure!(size > 1900 << 20 && size <= 2 << 30, "df shows {size} bytes, not 2Gi");
        ensure!(fs::read(path.join("file"))? == content, "the file changed while the volume grew");

        // The second pod.
        until("the first pod is deleted", || async {
            objects::delete(&self.objects.pods, "first").await.map(Some)
        })
        .await?;
        self.at(Moment::FirstPodDeleting).await?;
        until("the first pod's mount is gone", || async {
            Ok((!leftovers::mounts(&root).contains(&path)).then_some(()))
        })
        .await?;
        self.at(Moment::FirstPodUnpublished).await?;
        until("the first pod is gone", || async {
            Ok(self.objects.pods.get_opt("first").await?.is_none().then_some(()))
        })
        .await?;
        until("the second pod is created", || async {
            objects::create(&self.objects.pods, objects::pod("second", "data")).await.map(Some)
        })
        .await?;
        self.at(Moment::SecondPodCreated).await?;
        let path = self.published("second", &volume).await?;
        ensure!(fs::read(path.join("file"))? == content, "the second pod reads another file");

        // The end.
        until("the second pod is deleted", || async {
            objects::delete(&self.objects.pods, "second").await.map(Some)
        })
        .await?;
        self.at(Moment::SecondPodDeleting).await?;
        until("the claim is deleted", || async {
            objects::delete(&self.objects.claims, "data").await.map(Some)
        })
        .await?;
        self.at(Moment::ClaimDeleting).await?;
        until("the volume is released or gone", || async {
            let volume = self.objects.volumes.get_opt(&volume).await?;
            Ok(volume
                .is_none_or(|v| v.status.and_then(|s| s.phase).as_deref() == Some("Released"))
                .then_some(()))
        })
        .await?;
        self.at(Moment::VolumeReleased).await?;
        until("no object is left", || async {
            let left = self.objects.left().await?;
            ensure!(left.is_empty(), "still there: {left:?}");
            Ok(Some(()))
        })
        .await?;
        until("nothing is left on the machine", || async {
            let left = leftovers::all(&root);
            ensure!(left.is_empty(), "still there: {left:?}");
            Ok(Some(()))
        })
        .await?;
        ensure!(self.ended == self.end.is_some(), "{:?} was not reached", self.end);
        let status = self.machine.interrupt().await?;
        ensure!(status.success(), "holdfast up ended with {status}");
        Ok(())
    }
}

/// Bytes that no file system makes by accident.
fn content() -> Vec<u8> {
    (0u32..1 << 18).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Scrapers refuse an answer that describes a metric twice.
fn each_is_described_once(metrics: &str) -> Result<()> {
    let mut names: Vec<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for part in
        ["apiserver_request", "workqueue_depth", "sidecar_workqueue_depth", "csi_sidecar_operations_seconds"]
    {
        ensure!(names.contains(&part), "{part} is missing: {names:?}");
    }
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    ensure!(twice.is_empty(), "described twice: {twice:?}");
    Ok(())
}

fn write_durably(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::File::open(path)?.sync_all()?)
}

fn size_of_file_system(path: &Path) -> Result<u64> {
    let statistics = rustix::fs::statvfs(path)?;
    Ok(statistics.f_blocks * statistics.f_frsize)
}

macro_rules! life {
    ($($name:ident: $end:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            if cannot_run() {
                return Ok(());
            }
            let life = Life::start($end).await?;
            life.run().await
        }
    )*};
}

life! {
    undisturbed: None;
    interrupted_when_the_pod_is_created: Some(End::Interrupted(Moment::PodCreated));
    interrupted_when_the_file_is_written: Some(End::Interrupted(Moment::FileWritten));
    interrupted_when_growth_is_asked_for: Some(End::Interrupted(Moment::GrowthAsked));
    interrupted_when_the_claim_is_deleting: Some(End::Interrupted(Moment::ClaimDeleting));
    killed_when_the_claim_is_created: Some(End::Killed(Moment::ClaimCreated));
    killed_when_the_volume_is_created: Some(End::Killed(Moment::VolumeCreated));
    killed_when_bound: Some(End::Killed(Moment::Bound));
    killed_when_the_pod_is_created: Some(End::Killed(Moment::PodCreated));
    killed_when_the_attachment_is_created: Some(End::Killed(Moment::AttachmentCreated));
    killed_when_attached: Some(End::Killed(Moment::Attached));
    killed_when_staged: Some(End::Killed(Moment::Staged));
    killed_when_published: Some(End::Killed(Moment::Published));
    killed_when_the_file_is_written: Some(End::Killed(Moment::FileWritten));
    killed_when_growth_is_asked_for: Some(End::Killed(Moment::GrowthAsked));
    killed_when_the_volume_has_grown: Some(End::Killed(Moment::VolumeGrown));
    killed_when_the_first_pod_is_deleting: Some(End::Killed(Moment::FirstPodDeleting));
    killed_when_the_first_pod_is_unpublished: Some(End::Killed(Moment::FirstPodUnpublished));
    killed_when_the_second_pod_is_created: Some(End::Killed(Moment::SecondPodCreated));
    killed_when_the_second_pod_is_deleting: Some(End::Killed(Moment::SecondPodDeleting));
    killed_when_the_claim_is_deleting: Some(End::Killed(Moment::ClaimDeleting));
    killed_when_the_volume_is_released: Some(End::Killed(Moment::VolumeReleased));
}
