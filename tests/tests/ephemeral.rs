//! A pod that brings its volumes along: they come with it, and go with it.

use anyhow::{Context as _, Result, ensure};
use holdfast_tests::{
    cannot_run, leftovers,
    machine::Machine,
    objects::{self, NAMESPACE, Objects, is_published},
    wait::until,
};
use k8s_openapi::api::core::v1::{Event, Pod, ResourceQuota};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy},
};
use serde_json::{Value, json};

fn pod(name: &str) -> Value {
    let own = |volume: &str| {
        let template = json!({
            "metadata": {"labels": {"of": name}},
            "spec": {
                "storageClassName": "local", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "64Mi"}},
            },
        });
        json!({"name": volume, "ephemeral": {"volumeClaimTemplate": template}})
    };
    json!({
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "containers": [{"name": "app", "image": "busybox"}], "volumes": [own("one"), own("two")],
        },
    })
}

async fn published(objects: &Objects, name: &str) -> Result<Pod> {
    until("the pod's volumes are published", || async {
        Ok(objects.pods.get_opt(name).await?.filter(is_published))
    })
    .await
}

async fn nothing_is_left(machine: &Machine, objects: &Objects) -> Result<()> {
    until("everything is gone", || async { Ok(objects.left().await?.is_empty().then_some(())) }).await?;
    let root = machine.root();
    until("nothing is mounted or attached", || async {
        Ok((leftovers::mounts(root).is_empty() && leftovers::loops(root).is_empty()).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_a_pod() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let mut machine = Machine::start(&[]).await?;
    let client = machine.client().await?;
    let objects = Objects::new(&client);
    objects::create(&objects.classes, objects::class("local")).await?;

    // The namespace may have one claim only: the other is refused, and it is said why.
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), NAMESPACE);
    let hard = json!({"metadata": {"name": "few"}, "spec": {"hard": {"persistentvolumeclaims": "1"}}});
    objects::create(&quotas, hard).await?;
    objects::create(&objects.pods, pod("first")).await?;
    let events: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    let refused = until("the refusal is told", || async {
        let about = ListParams::default().fields("involvedObject.name=first,reason=FailedBinding");
        Ok(events.list(&about).await?.items.into_iter().find_map(|event| event.message))
    })
    .await?;
    ensure!(refused.contains("ephemeral volume two") && refused.contains("exceeded quota: few"), "{refused}");
    let more = json!({"spec": {"hard": {"persistentvolumeclaims": "2"}}});
    quotas.patch("few", &PatchParams::default(), &Patch::Merge(more)).await?;

    let first = published(&objects, "first").await?;
    let claims = objects.claims.list(&ListParams::default().labels("of=first")).await?.items;
    let names: Vec<_> = claims.iter().filter_map(|claim| claim.metadata.name.as_deref()).collect();
    ensure!(names == ["first-one", "first-two"], "{names:?}");
    for claim in &claims {
        let owner = claim.metadata.owner_references.iter().flatten().next().context("an owner")?;
        ensure!(
            Some(&owner.uid) == first.metadata.uid.as_ref() && owner.controller == Some(true),
            "{owner:?}"
        );
    }
    machine.kill()?;
    machine.restart().await?;
    // The claims are in use until the pod is gone; then they go, and their volumes.
    objects::delete(&objects.pods, "first").await?;
    nothing_is_left(&machine, &objects).await?;

    // A claim of that name that is not the pod's is not touched, and the pod waits.
    objects::create(&objects.claims, objects::claim("second-one", "local", "64Mi")).await?;
    objects::create(&objects.pods, pod("second")).await?;
    let in_the_way = machine.kubectl(&["wait", "--for=condition=PodScheduled=False", "pod/second"])?;
    ensure!(in_the_way.contains("condition met"), "{in_the_way}");
    objects::delete(&objects.claims, "second-one").await?;
    published(&objects, "second").await?;
    // Foreground: the pod itself waits for its claims, killed or not.
    let foreground =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..Default::default() };
    objects.pods.delete("second", &foreground).await?;
    machine.kill()?;
    machine.restart().await?;
    nothing_is_left(&machine, &objects).await?;
    Ok(())
}
