//! PostgreSQL over a network: passwords, encryption, and a network that goes away.

#![expect(
    clippy::disallowed_methods,
    reason = "a test makes a network with the programs that an administrator uses"
)]

use std::process::Command;

use super::*;
use holdfast_test_needs::postgres::{Cluster, Durability};
use holdfast_test_needs::{Need, missing};
use holdfast_volume_controller::store::OpenError;

const SECRET: &str = "secret%2F%40";

/// The URL of a new database with a password in it, as a URL writes it.
fn with_password(url: &str, password: &str) -> String {
    url.replace("holdfast@", &format!("holdfast:{password}@"))
}

fn place(url: String) -> Place {
    Place::Postgres { url, durability: Durability::None }
}

async fn refused(url: String) -> String {
    let error = Store::open(place(url).config()).await.unwrap_err();
    let text = format!("{error} {error:?}");
    println!("{error}");
    assert!(matches!(error, OpenError::Database { .. }), "{text}");
    assert!(!text.contains("secret") && !error.to_string().contains('\n'), "{text}");
    error.to_string()
}

#[tokio::test]
async fn a_password_opens_and_is_never_shown() {
    let Some(cluster) = Cluster::start_on_network(Durability::None, "secret/@") else { return };
    let url = cluster.database();
    let right = place(with_password(&url, SECRET));
    let store = right.open().await;
    put(&store, key("a"), body("a", 1)).await;
    let shown = format!("{store:?} {:?}", right.config());
    assert!(!shown.contains("secret"), "{shown}");
    store.close().await;
    for url in [with_password(&url, "secret"), url.clone()] {
        let said = refused(url).await;
        assert!(said.contains("password"), "{said}");
    }
}

#[tokio::test]
async fn a_connection_is_as_secret_as_sslmode_says() {
    let Some(cluster) = Cluster::start_on_network(Durability::None, "secret/@") else { return };
    let url = with_password(&cluster.database(), SECRET);
    let with_ca = format!("sslrootcert={}", cluster.authority().display());
    for (parameters, is_encrypted) in [
        ("sslmode=disable".to_owned(), 0),
        ("sslmode=prefer".to_owned(), 1),
        ("sslmode=require".to_owned(), 1),
        (format!("sslmode=verify-ca&{with_ca}"), 1),
        (format!("sslmode=verify-full&{with_ca}"), 1),
    ] {
        let place = place(format!("{url}?{parameters}"));
        let store = place.open().await;
        put(&store, key("a"), body("a", 1)).await;
        let sessions = "SELECT (count(*) > 0)::int::bigint FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
             WHERE ssl AND application_name LIKE 'holdfast process%'";
        assert_eq!(place.number(sessions).await, is_encrypted, "{parameters}");
        store.close().await;
    }
    // Not signed by anybody who is trusted; signed, but for another host.
    let said = refused(format!("{url}?sslmode=verify-full")).await;
    assert!(said.contains("certificate"), "{said}");
    let elsewhere = url.replace("127.0.0.1", "127.0.0.2");
    place(format!("{elsewhere}?sslmode=verify-ca&{with_ca}")).open().await.close().await;
    let said = refused(format!("{elsewhere}?sslmode=verify-full&{with_ca}")).await;
    assert!(said.contains("certificate"), "{said}");
}

/// A network namespace with a cable to this one; both go when it is dropped.
struct Cable {
    name: String,
    subnet: String,
}

impl Cable {
    fn lay() -> Self {
        let id = std::process::id();
        let cable = Self { name: format!("hf{id}"), subnet: format!("198.18.{}", id % 250) };
        let Self { name, subnet } = &cable;
        let made = ip(&format!("netns add {name}"))
            && ip(&format!("link add {name} type veth peer name far netns {name}"))
            && ip(&format!("addr add {subnet}.1/30 dev {name}"))
            && ip(&format!("link set {name} up"))
            && ip(&format!("-n {name} addr add {subnet}.2/30 dev far"))
            && ip(&format!("-n {name} link set far up"));
        assert!(made, "a cable");
        cable
    }

    /// Nothing that is sent arrives, and nobody is told.
    fn pull(&self) {
        assert!(ip(&format!("link set {} down", self.name)));
    }

    fn plug_in(&self) {
        assert!(ip(&format!("link set {} up", self.name)));
    }

    /// Opens the store from the far end, in a thread that lives there; it writes when told to, and says
    /// what it wrote.
    fn write_from_far(
        &self,
        config: Config,
    ) -> (std::sync::mpsc::Sender<u64>, std::sync::mpsc::Receiver<String>) {
        let (orders, ordered) = std::sync::mpsc::channel();
        let (done, told) = std::sync::mpsc::channel();
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::spawn(move || {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(kind))
                .unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = Store::open(config).await.unwrap();
                // The writer runs on this thread, too.
                loop {
                    match ordered.try_recv() {
                        Ok(value) => {
                            let key = key(&format!("a{value}"));
                            let write =
                                Write { key, precondition: Precondition::Absent, body: Some(json!({})) };
                            let outcome = store.commit(vec![write]).await;
                            let _ = done
                                .send(outcome.map_or_else(|error| error.to_string(), |_| "done".to_owned()));
                        }
                        Err(std::sync::mpsc::TryRecvError::Empty) => {
                            tokio::time::sleep(Duration::from_millis(10)).await
                        }
                        Err(_) => break,
                    }
                }
                store.close().await;
            });
        });
        (orders, told)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The other end goes along; what is not there need not go.
        let _ = ip(&format!("link del {}", self.name));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).status().is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_cut_off_loses_its_lock_and_gets_it_back() {
    if missing(&[Need::Root, Need::Program("ip")]) {
        return;
    }
    let Some(cluster) = Cluster::start_on_network(Durability::None, "secret/@") else { return };
    let cable = Cable::lay();
    let near = place(with_password(&cluster.database(), SECRET));
    let Place::Postgres { url, .. } = &near else { return };
    let mut config = place(url.replace("127.0.0.1", &format!("{}.1", cable.subnet))).config();
    config.sharing = Sharing::Alone;
    let (orders, told) = cable.write_from_far(config);
    orders.send(1).unwrap();
    assert_eq!(told.recv().unwrap(), "done");
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    assert_eq!(near.number(locks).await, 1);

    cable.pull();
    let pulled = std::time::Instant::now();
    while near.number(locks).await != 0 {
        assert!(pulled.elapsed() < Duration::from_secs(40), "the server keeps the lock of who is gone");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("the lock was free {:?} after the cable was pulled", pulled.elapsed());
    cable.plug_in();
    let plugged = std::time::Instant::now();
    let mut value = 1;
    loop {
        value += 1;
        orders.send(value).unwrap();
        let outcome = told.recv().unwrap();
        if outcome == "done" {
            break;
        }
        println!("{outcome}");
        assert!(
            plugged.elapsed() < Duration::from_secs(60),
            "it is locked out of its own database: {outcome}"
        );
    }
    println!("it wrote again {:?} after the cable was plugged in", plugged.elapsed());
    assert_eq!(near.number(locks).await, 1);
}
