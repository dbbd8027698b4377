//! Deleted volumes can be restored for as long as the pool says, whether a driver runs
//! or not, and never half.

use std::{fs, path::Path, time::Duration};

use holdfast_csi_driver::{Error, Order, Outcome, PoolConfig, Trashed, carry_out, list_trash};
use tonic::Code;

use crate::harness::{Driver, MIB, Scratch, assert_code, entries, filesystem, mounted, needs, until, volume};

const DAY: Duration = Duration::from_secs(86400);

async fn keeping(pool: PoolConfig, scratch: Scratch) -> Driver {
    Driver::with(scratch, vec![pool.with_retention(DAY)]).await
}

async fn image() -> Driver {
    let scratch = Scratch::new();
    let pool = PoolConfig::image("default", scratch.path().join("pool")).with_capacity(100 * MIB as u64);
    keeping(pool, scratch).await
}

impl Driver {
    fn pool(&self) -> &PoolConfig {
        &self.config.pools[0]
    }

    fn trash(&self) -> Vec<Trashed> {
        list_trash(self.pool()).unwrap()
    }

    async fn order(&self, order: Order) -> Result<Outcome, Error> {
        carry_out(self.pool(), None, order).await
    }

    async fn restore(&self, what: &str) -> Result<(), String> {
        let restored = self.order(Order::Restore { what: what.to_owned() }).await;
        restored.map(drop).map_err(|error| error.to_string())
    }

    async fn empty(&self, older_than: Duration) -> Vec<String> {
        match self.order(Order::Empty { older_than, volume_id: None }).await.unwrap() {
            Outcome::Freed { entries } => entries,
            other => panic!("{other:?}"),
        }
    }

    /// Makes a volume with a file in it, and deletes it.
    async fn lose(&mut self, name: &str, content: &str) -> String {
        let capability = mounted("");
        let id = self.bring_up(name, 20 * MIB, &capability, "pod").await;
        fs::write(self.path("pod/file"), content).unwrap();
        self.take_down(&id, "pod").await;
        id
    }

    async fn content(&mut self, id: &str) -> String {
        let capability = mounted("");
        self.attach(id, &capability).await.unwrap();
        self.stage(id, &capability).await.unwrap();
        self.publish(id, "pod", &capability).await.unwrap();
        let content = fs::read_to_string(self.path("pod/file")).unwrap();
        self.unpublish(id, "pod").await.unwrap();
        self.unstage(id).await.unwrap();
        self.detach(id).await.unwrap();
        content
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_volume_comes_back_whole() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let disk = filesystem(&scratch, "btrfs");
    let on_btrfs = PoolConfig::directory("default", disk.join("pool"));
    for mut driver in [image().await, keeping(on_btrfs, scratch).await] {
        let id = driver.lose("v", "first").await;
        assert_code(driver.attach(&id, &mounted("")).await, Code::NotFound, "does not exist");
        let trash = driver.trash();
        assert_eq!(trash.len(), 1, "{trash:?}");
        assert_eq!((trash[0].volume_id.as_str(), trash[0].name.as_deref()), (id.as_str(), Some("v")));
        assert_eq!(trash[0].capacity, Some(20 * MIB as u64));

        // By the running driver, then by this process alone.
        driver.restore(&id).await.unwrap();
        assert_eq!(driver.trash(), []);
        assert_eq!(driver.content(&id).await, "first");
        driver.delete(&id).await.unwrap();
        driver.end().await;
        driver.restore(&id).await.unwrap();
        driver.restart().await;
        assert_eq!(driver.content(&id).await, "first");
        driver.delete(&id).await.unwrap();
        assert_eq!(driver.empty(Duration::ZERO).await.len(), 1);
        for folder in ["volumes", "trash"] {
            assert_eq!(entries(&driver.pool().path.join(folder)), Vec::<String>::new());
        }
        driver.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_not_overwritten() {
    needs!();
    let mut driver = image().await;
    let id = driver.lose("v", "first").await;
    driver.lose("v", "second").await;
    let [first, second] = driver.trash().try_into().unwrap();
    let ambiguous = driver.restore(&id).await.unwrap_err();
    assert!(ambiguous.contains(&first.entry) && ambiguous.contains(&second.entry), "{ambiguous}");
    driver.create(volume("v", 20 * MIB, &mounted(""))).await.unwrap();
    let taken = driver.restore(&first.entry).await.unwrap_err();
    assert!(taken.contains("exists again"), "{taken}");
    driver.delete(&id).await.unwrap();
    // Two deletions in one second have no order of their own.
    for (entry, _) in [(&first, 0), (&second, 1)] {
        driver.restore(&entry.entry).await.unwrap();
        let content = driver.content(&id).await;
        assert!(["first", "second"].contains(&content.as_str()), "{content}");
        driver.delete(&id).await.unwrap();
    }
    let gone = driver.restore("default.other").await.unwrap_err();
    assert!(gone.contains("there is no"), "{gone}");
    let outside = driver.restore("../volumes/default.v").await.unwrap_err();
    assert!(outside.contains("there is no"), "{outside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_not_promised_again() {
    needs!();
    let mut driver = image().await;
    let capability = mounted("");
    driver.create(volume("a", 60 * MIB, &capability)).await.unwrap();
    driver.delete("default.a").await.unwrap();
    for _ in 0..2 {
        let refused = driver.create(volume("b", 60 * MIB, &capability)).await;
        assert_code(refused, Code::ResourceExhausted, "60Mi held in the trash");
        // A restart counts the same.
        driver.restart().await;
    }
    assert_eq!(driver.empty(Duration::from_secs(3600)).await, Vec::<String>::new());
    driver.restore("default.a").await.unwrap();
    assert_code(
        driver.create(volume("b", 60 * MIB, &capability)).await,
        Code::ResourceExhausted,
        "limited to 100Mi by limits.capacity or --pool-capacity",
    );
    driver.delete("default.a").await.unwrap();
    assert_eq!(driver.empty(Duration::ZERO).await.len(), 1);
    driver.create(volume("b", 60 * MIB, &capability)).await.unwrap();
}

/// A disk that the volume itself has nearly filled has room for it to come back.
#[tokio::test(flavor = "multi_thread")]
async fn room_that_it_has_already_is_not_asked_for_twice() {
    needs!();
    let scratch = Scratch::new();
    let disk = scratch.path().join("disk");
    fs::create_dir(&disk).unwrap();
    crate::harness::command("mount", &["-t", "tmpfs", "-o", "size=64m", "none", disk.to_str().unwrap()])
        .unwrap();
    let mut driver = keeping(PoolConfig::image("default", disk.join("pool")), scratch).await;
    driver.create(volume("v", 40 * MIB, &mounted(""))).await.unwrap();
    fs::write(disk.join("pool/volumes/default.v/disk.img"), vec![7; 40 * MIB as usize]).unwrap();
    driver.delete("default.v").await.unwrap();
    driver.restore("default.v").await.unwrap();
    driver.delete("default.v").await.unwrap();
    // Others need the room meanwhile: refused, and nothing is lost by it.
    fs::write(disk.join("other"), vec![7; 8 * MIB as usize]).unwrap();
    let image =
        fs::read_dir(disk.join("pool/trash")).unwrap().next().unwrap().unwrap().path().join("disk.img");
    fs::File::options().write(true).open(&image).unwrap().set_len(0).unwrap();
    fs::write(disk.join("other"), vec![7; 50 * MIB as usize]).unwrap();
    let refused = driver.restore("default.v").await.unwrap_err();
    assert!(refused.contains("is full"), "{refused}");
    assert_eq!(driver.trash().len(), 1);
    driver.end().await;
}

/// What a crash in the middle of freeing leaves is never offered, and goes.
#[tokio::test(flavor = "multi_thread")]
async fn the_half_freed_never_come_back() {
    needs!();
    let mut driver = image().await;
    let id = driver.lose("v", "x").await;
    driver.end().await;
    let trash = driver.scratch.path().join("pool/trash");
    let entry = driver.trash().remove(0).entry;
    let gone = trash.join(format!(".gone-{entry}"));
    fs::rename(trash.join(&entry), &gone).unwrap();
    fs::remove_file(gone.join("volume.json")).unwrap();
    assert_eq!(driver.trash(), []);
    assert!(driver.restore(&id).await.is_err());
    driver.restart().await;
    until("the rest is freed", || entries(&trash).is_empty()).await;
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retention_nothing_is_kept() {
    needs!();
    let mut driver = Driver::image().await;
    let id = driver.lose("v", "x").await;
    driver.assert_nothing_left("pool").await;
    assert!(driver.restore(&id).await.unwrap_err().contains("there is no"));
}

/// Orders go to the driver that has the pool; where there is none yet, they say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_none_is_not_made() {
    needs!();
    let scratch = Scratch::new();
    let path = scratch.path().join("pool");
    let pool = PoolConfig::image("default", &path);
    let order = Order::Empty { older_than: Duration::ZERO, volume_id: None };
    let said = |error: Error| error.to_string();
    assert!(
        carry_out(&pool, None, order.clone()).await.map_err(said).unwrap_err().contains("make the folder")
    );
    assert!(list_trash(&pool).map_err(said).unwrap_err().contains("make the folder"));
    fs::create_dir(&path).unwrap();
    assert!(carry_out(&pool, None, order).await.map_err(said).unwrap_err().contains("no pool yet"));
    assert_eq!(entries(Path::new(&path)), Vec::<String>::new());
}
