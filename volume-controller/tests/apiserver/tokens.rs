//! Tokens of service accounts: asked for, used, reviewed, and taken back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::endpoints::without_token;
use super::harness::{CLAIMS, Cluster, MAPS, PODS, map, pod};
use super::kubectl::with_each;

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

fn account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
}

impl Cluster {
    async fn robot(&self) {
        self.post(ACCOUNTS, &account("robot")).await.expect(201);
        let subject = json!({"kind": "ServiceAccount", "name": "robot", "namespace": "default"});
        let binding = json!({
            "metadata": {"name": "robot"}, "subjects": [subject],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        });
        self.post(BINDINGS, &binding).await.expect(201);
    }

    async fn token(&self, spec: &Value) -> String {
        let answer = self.post(&format!("{ACCOUNTS}/robot/token"), &json!({"spec": spec})).await.expect(201);
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// The code with which the token's bearer lists configmaps.
    async fn opens(&self, token: &str) -> u16 {
        without_token(self, MAPS, Some(token), &[]).await.0
    }

    async fn review(&self, spec: &Value) -> Value {
        self.post(REVIEWS, &json!({"spec": spec})).await.expect(201)["status"].clone()
    }
}

#[tokio::test]
async fn asked_for_and_used() {
    let cluster = Cluster::start().await;
    cluster.robot().await;
    let path = format!("{ACCOUNTS}/robot/token");
    let answer = cluster.post(&path, &json!({})).await.expect(201);
    assert_eq!(answer["kind"], "TokenRequest");
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    assert_eq!(answer["spec"]["audiences"], json!(["https://kubernetes.default.svc"]));
    let token = answer["status"]["token"].as_str().unwrap();
    assert_eq!(cluster.opens(token).await, 200);
    assert_eq!(without_token(&cluster, CLAIMS, Some(token), &[]).await.0, 200);
    assert_eq!(without_token(&cluster, SECRETS, Some(token), &[]).await.0, 403);

    // What others see who check it themselves.
    let keys = cluster.get("/openid/v1/jwks").await.expect(200);
    let document = cluster.get("/.well-known/openid-configuration").await.expect(200);
    let decode = |part: usize| -> Value {
        let part = token.split('.').nth(part).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(decode(0)["kid"], keys["keys"][0]["kid"]);
    let claims = decode(1);
    assert_eq!(claims["iss"], document["issuer"]);
    assert_eq!(claims["sub"], "system:serviceaccount:default:robot");
    let found = cluster.get(&format!("{ACCOUNTS}/robot")).await.expect(200);
    let uid = &found["metadata"]["uid"];
    assert_eq!(
        claims["kubernetes.io"],
        json!({"namespace": "default", "serviceaccount": {"name": "robot", "uid": uid}})
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    // The bearer may read these; strangers may not.
    assert_eq!(without_token(&cluster, "/openid/v1/jwks", Some(token), &[]).await.0, 200);
    assert_eq!(without_token(&cluster, "/openid/v1/jwks", None, &[]).await.0, 403);

    let status = cluster.review(&json!({"token": token})).await;
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:robot");
    assert_eq!(status["user"]["uid"], *uid);
    assert_eq!(
        status["user"]["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    // Another start knows it still.
    let token = token.to_owned();
    let cluster = Cluster::start_in(cluster.stop().await, |_| {}).await;
    assert_eq!(cluster.opens(&token).await, 200);
    cluster.stop().await;
}

#[tokio::test]
async fn for_others_only() {
    let cluster = Cluster::start().await;
    cluster.robot().await;
    let token = cluster.token(&json!({"audiences": ["vault", "other"]})).await;
    assert_eq!(cluster.opens(&token).await, 401);
    let status = cluster.review(&json!({"token": token})).await;
    assert_eq!(status["authenticated"], false, "{status}");
    let status = cluster.review(&json!({"token": token, "audiences": ["vault", "third"]})).await;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["vault"])));
    cluster.stop().await;
}

#[tokio::test]
async fn refused() {
    let cluster = Cluster::start().await;
    cluster.robot().await;
    cluster.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{ACCOUNTS}/robot/token");
    let bound = |kind: &str, name: &str, uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}}});
    for (body, code, reason, words) in [
        (json!({"spec": {"expirationSeconds": 599}}), 422, "Invalid", "less than 10 minutes"),
        (json!({"spec": {"expirationSeconds": -1}}), 422, "Invalid", "less than 10 minutes"),
        (json!({"spec": {"expirationSeconds": 5_000_000_000_i64}}), 422, "Invalid", "larger than 2^32"),
        (json!({"spec": {"audiences": 7}}), 400, "BadRequest", "cannot be read"),
        (json!({"metadata": {"name": "x"}}), 400, "BadRequest", "name of the TokenRequest"),
        (bound("ConfigMap", "a", ""), 422, "Invalid", "cannot bind token"),
        (bound("Secret", "a", ""), 404, "NotFound", "secrets \"a\" not found"),
        (bound("Pod", "p", ""), 400, "BadRequest", "different serviceaccount"),
        (bound("Pod", "p", "old"), 409, "Conflict", "deleted and then recreated"),
    ] {
        let message = cluster.post(&path, &body).await.refused(code, reason);
        assert!(message.contains(words), "{message}");
    }
    cluster.post(&format!("{ACCOUNTS}/none/token"), &json!({})).await.refused(404, "NotFound");
    for (method, path) in
        [(http::Method::GET, path.as_str()), (http::Method::PUT, &path), (http::Method::DELETE, &path)]
    {
        cluster.raw(method, path, &[], "{}").await.refused(405, "MethodNotAllowed");
    }
    // Who may create accounts may not take their place.
    let who = [("impersonate-user", "ann"), ("content-type", "application/json")];
    cluster.raw(http::Method::POST, &path, &who, "{}").await.refused(403, "Forbidden");
    cluster.stop().await;
}

#[tokio::test]
async fn taken_back() {
    let cluster = Cluster::start().await;
    cluster.robot().await;
    let mut owned = pod("p");
    owned["spec"]["serviceAccountName"] = json!("robot");
    let secret = json!({"metadata": {"name": "s"}});
    let node = json!({"metadata": {"name": "n"}});
    for (kind, collection, body) in
        [("Pod", PODS, &owned), ("Secret", SECRETS, &secret), ("Node", "/api/v1/nodes", &node)]
    {
        cluster.post(collection, body).await.expect(201);
        let name = body["metadata"]["name"].as_str().unwrap();
        let reference = json!({"apiVersion": "v1", "kind": kind, "name": name});
        let token = cluster.token(&json!({"boundObjectRef": reference})).await;
        assert_eq!(cluster.opens(&token).await, 200, "{kind}");
        let extra = &cluster.review(&json!({"token": token})).await["user"]["extra"];
        if kind != "Secret" {
            let key = format!("authentication.kubernetes.io/{}-name", kind.to_lowercase());
            assert_eq!(extra[&key], json!([name]), "{extra}");
        }
        cluster.delete(&format!("{collection}/{name}")).await.expect(200);
        assert_eq!(cluster.opens(&token).await, 401, "{kind}");
        // One of the same name is not the same.
        cluster.post(collection, body).await.expect(201);
        assert_eq!(cluster.opens(&token).await, 401, "{kind}");
        let why = cluster.review(&json!({"token": token})).await;
        assert!(why["error"].as_str().unwrap().contains("has been invalidated"), "{why}");
    }
    let token = cluster.token(&json!({})).await;
    assert_eq!(cluster.opens(&token).await, 200);
    cluster.delete(&format!("{ACCOUNTS}/robot")).await.expect(200);
    assert_eq!(cluster.opens(&token).await, 401);
    cluster.post(ACCOUNTS, &account("robot")).await.expect(201);
    assert_eq!(cluster.opens(&token).await, 401);
    // Another server's, for an account of the same name.
    let other = Cluster::start().await;
    other.robot().await;
    assert_eq!(cluster.opens(&other.token(&json!({})).await).await, 401);
    other.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn kubectl_create_token() {
    with_each(async |kubectl| {
        if !kubectl.is_current() {
            // Came with 1.24.
            return;
        }
        kubectl.cluster.robot().await;
        kubectl.cluster.post(MAPS, &map("a")).await.expect(201);
        let token = kubectl.ok(&["create", "token", "robot", "--duration=10m"], "").await;
        let mut kubeconfig: Value =
            serde_json::from_slice(&std::fs::read(&kubectl.cluster.kubeconfig).unwrap()).unwrap();
        kubeconfig["users"][0]["user"] = json!({"token": token.trim()});
        let path = kubectl.cluster.folder.path().join("robot.kubeconfig");
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        let robot = |arguments: &[&'static str]| {
            let mut all = vec!["--kubeconfig", path.to_str().unwrap()];
            all.extend_from_slice(arguments);
            all.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let run = async |arguments: &[&'static str]| {
            let arguments = robot(arguments);
            kubectl.ok(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), "").await
        };
        let who = run(&["auth", "whoami", "-o", "jsonpath={.status.userInfo}"]).await;
        assert!(who.contains("system:serviceaccount:default:robot"), "{who}");
        assert!(run(&["get", "configmaps"]).await.contains('a'));
        assert!(run(&["auth", "can-i", "get", "pods"]).await.contains("yes"));
    })
    .await;
}

#[tokio::test]
async fn dry_runs_make_none() {
    let cluster = Cluster::start().await;
    cluster.robot().await;
    let path = format!("{ACCOUNTS}/robot/token?dryRun=All");
    let answer = cluster.post(&path, &json!({"spec": {"expirationSeconds": 900}})).await.expect(201);
    assert_eq!((&answer["status"]["token"], &answer["spec"]["expirationSeconds"]), (&json!(""), &json!(900)));
    assert!(answer["status"]["expirationTimestamp"].is_string());
    // Everything else is as it would be.
    cluster.post(&path, &json!({"spec": {"expirationSeconds": 1}})).await.refused(422, "Invalid");
    cluster.post(&format!("{ACCOUNTS}/nobody/token?dryRun=All"), &json!({})).await.refused(404, "NotFound");
    let why = cluster.post(&format!("{ACCOUNTS}/robot/token?dryRun=Some"), &json!({})).await;
    assert!(why.refused(422, "Invalid").contains("dryRun: Unsupported value: \"Some\""), "{}", why.text);
    // Reviews store nothing anyway.
    let token = cluster.token(&json!({})).await;
    let review = json!({"spec": {"token": token}});
    let answer = cluster.post(&format!("{REVIEWS}?dryRun=All"), &review).await.expect(201);
    assert_eq!(answer["status"]["authenticated"], true);
    cluster.post(&format!("{REVIEWS}?dryRun=Some"), &review).await.refused(422, "Invalid");
    cluster.stop().await;
}
