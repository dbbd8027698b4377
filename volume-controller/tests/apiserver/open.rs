//! What stays open: watches and connections of one user have an end, and leave room for everybody else.

use std::time::Duration;

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use serde_json::json;

use super::harness::{Answer, Cluster, MAPS, PATIENCE, map};

const MOST: usize = 5;
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn start() -> Cluster {
    let cluster = Cluster::start_as(
        tempfile::tempdir().unwrap(),
        |_| {},
        |config| (config.max_watches, config.max_connections) = (MOST, MOST),
    )
    .await;
    let rules = json!([{"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["configmaps"]}]);
    let role = json!({"metadata": {"name": "r"}, "rules": rules});
    cluster.post(&format!("{RBAC}/clusterroles"), &role).await.expect(201);
    let everybody =
        json!({"kind": "Group", "name": "system:authenticated", "apiGroup": "rbac.authorization.k8s.io"});
    let binding = json!({
        "metadata": {"name": "r"}, "subjects": [everybody],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
    });
    cluster.post(&format!("{RBAC}/clusterrolebindings"), &binding).await.expect(201);
    cluster.post(MAPS, &map("a")).await.expect(201);
    cluster
}

/// An open watch, or the code of a refusal with its `Retry-After`.
async fn watch(client: &Client, user: Option<&str>) -> Result<Response<Body>, (u16, Option<String>)> {
    let mut request = Request::get(format!("{MAPS}?watch=1"));
    if let Some(user) = user {
        request = request.header("impersonate-user", user);
        request = request.header("impersonate-group", "system:authenticated");
    }
    let request = request.body(Body::empty()).unwrap();
    let response = tokio::time::timeout(PATIENCE, client.send(request)).await.expect("no answer").unwrap();
    let wait = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    match response.status().as_u16() {
        200 => Ok(response),
        code => Err((code, wait)),
    }
}

/// Until there is room again for one that left.
async fn until_open(client: &Client, user: Option<&str>) -> Response<Body> {
    let opened = async {
        loop {
            match watch(client, user).await {
                Ok(open) => break open,
                Err((429, _)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.expect("who left keeps the room")
}

async fn get(cluster: &Cluster, user: &str) -> Answer {
    let headers = [("impersonate-user", user), ("impersonate-group", "system:authenticated")];
    cluster.raw(Method::GET, &format!("{MAPS}/a"), &headers, "").await
}

#[tokio::test]
async fn watches_of_one_user_have_an_end() {
    let cluster = start().await;
    let client = &cluster.client;
    let mut open = Vec::new();
    for _ in 0..MOST {
        open.push(watch(client, Some("greedy")).await.expect("a watch"));
    }
    let (code, wait) = watch(client, Some("greedy")).await.expect_err("one too many");
    assert_eq!((code, wait.as_deref()), (429, Some("1")));
    let headers = [("impersonate-user", "greedy"), ("impersonate-group", "system:authenticated")];
    let refused = cluster.raw(Method::GET, &format!("{MAPS}?watch=1"), &headers, "").await;
    let why = refused.refused(429, "TooManyRequests");
    assert!(why.contains("5 watches"), "{why}");
    // Who watches too much may still do everything else, and everybody else may watch.
    get(&cluster, "greedy").await.expect(200);
    let other = watch(client, Some("other")).await.expect("a watch of another user");
    let mut admins = Vec::new();
    for _ in 0..2 * MOST {
        admins.push(watch(client, None).await.expect("a watch of an administrator"));
    }
    let metrics = cluster.get("/metrics").await.text;
    assert!(metrics.contains("apiserver_dropped_requests_total{request_kind=\"watch\"} 2\n"), "{metrics}");
    open.pop();
    open.push(until_open(client, Some("greedy")).await);
    drop((open, other, admins));
    cluster.stop().await;
}

/// A client with a connection of its own, by the token of a service account or that of the administrator.
async fn connect(cluster: &Cluster, token: Option<&str>) -> Client {
    let mut kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig).unwrap();
    if let Some(token) = token {
        for user in &mut kubeconfig.auth_infos {
            let token = Some(token.to_owned().into());
            user.auth_info = Some(AuthInfo { token, ..AuthInfo::default() });
        }
    }
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn connections_of_one_user_have_an_end() {
    let cluster = start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let mut tokens = Vec::new();
    for name in ["greedy", "other"] {
        cluster.post(accounts, &json!({"metadata": {"name": name}})).await.expect(201);
        let token = cluster.post(&format!("{accounts}/{name}/token"), &json!({})).await.expect(201);
        tokens.push(token["status"]["token"].as_str().unwrap().to_owned());
    }
    // A watch, so that none of them is idle.
    let mut open = Vec::new();
    for _ in 0..MOST {
        let client = connect(&cluster, Some(&tokens[0])).await;
        open.push((watch(&client, None).await.expect("a connection"), client));
    }
    let mut client = connect(&cluster, Some(&tokens[0])).await;
    let (code, wait) = watch(&client, None).await.expect_err("one too many");
    assert_eq!((code, wait.as_deref()), (429, Some("1")));
    let other = connect(&cluster, Some(&tokens[1])).await;
    watch(&other, None).await.expect("a connection of another user");
    for _ in 0..2 * MOST {
        let admin = connect(&cluster, None).await;
        watch(&admin, None).await.expect("a connection of an administrator");
        open.push((watch(&admin, None).await.expect("a watch"), admin));
    }
    drop(open.remove(0));
    client = connect(&cluster, Some(&tokens[0])).await;
    let again = until_open(&client, None).await;
    drop((again, open));
    cluster.stop().await;
}
