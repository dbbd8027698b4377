//! Who may do what: roles and bindings, asked as other users.

use http::Method;
use serde_json::{Value, json};

use super::harness::{CLAIMS, CLASSES, Cluster, MAPS, PODS, class, map};

pub(crate) const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
pub(crate) const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
pub(crate) const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
pub(crate) const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

pub(crate) fn role(kind: &str, name: &str, rules: &Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "rules": rules})
}

pub(crate) fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources})
}

/// `role` is `Role/name` or `ClusterRole/name`.
pub(crate) fn binding(kind: &str, name: &str, role: &str, subject: &Value) -> Value {
    let (role_kind, role) = role.split_once('/').unwrap();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
        "subjects": [subject],
    })
}

pub(crate) fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"})
}

impl Cluster {
    pub(crate) async fn ask(
        &self,
        who: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> super::harness::Answer {
        let media = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let headers = [("impersonate-user", who), ("content-type", media)];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.raw(method, path, &headers, body).await
    }

    pub(crate) async fn look(&self, who: &str, path: &str) -> super::harness::Answer {
        self.ask(who, Method::GET, path, &Value::Null).await
    }

    pub(crate) async fn give(&self, who: &str, rules: &Value) {
        self.post(ROLES, &role("Role", who, rules)).await.expect(201);
        let binding = binding("RoleBinding", who, &format!("Role/{who}"), &user(who));
        self.post(BINDINGS, &binding).await.expect(201);
    }
}

#[tokio::test]
async fn nothing_is_allowed_until_it_is() {
    let cluster = Cluster::start().await;
    let message = cluster.look("ann", PODS).await.refused(403, "Forbidden");
    assert_eq!(
        message,
        r#"pods is forbidden: User "ann" cannot list resource "pods" in API group "" in the namespace "default""#
    );
    let status = cluster.look("ann", &format!("{CLASSES}/fast")).await.expect(403);
    assert_eq!(
        status["message"],
        r#"storageclasses.storage.k8s.io "fast" is forbidden: User "ann" cannot get resource "storageclasses" in API group "storage.k8s.io" at the cluster scope"#
    );
    assert_eq!(
        status["details"],
        json!({"name": "fast", "group": "storage.k8s.io", "kind": "storageclasses"})
    );
    let message = cluster.look("ann", "/metrics").await.refused(403, "Forbidden");
    assert_eq!(message, r#"forbidden: User "ann" cannot get path "/metrics""#);
    // What is not there is not told to those who may not ask.
    cluster.look("ann", "/api/v1/namespaces/default/widgets").await.refused(403, "Forbidden");
    cluster.look("ann", "/nothing").await.refused(403, "Forbidden");
    for open in ["/api", "/apis", "/api/v1", "/apis/storage.k8s.io/v1", "/openapi/v3", "/version", "/readyz"]
    {
        assert_eq!(cluster.look("ann", open).await.code, 200, "{open}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_role_counts_in_its_namespace_at_once_and_until_it_is_gone() {
    let cluster = Cluster::start().await;
    for _ in 0..20 {
        cluster.look("ann", MAPS).await.refused(403, "Forbidden");
        cluster.give("ann", &json!([rule(&["get", "list", "create"], "", &["configmaps"])])).await;
        cluster.look("ann", MAPS).await.expect(200);
        cluster.look("ann", "/api/v1/configmaps").await.refused(403, "Forbidden");
        cluster.look("ann", "/api/v1/namespaces/kube-system/configmaps").await.refused(403, "Forbidden");
        cluster.look("bob", MAPS).await.refused(403, "Forbidden");
        cluster.look("ann", &format!("{MAPS}?watch=1")).await.refused(403, "Forbidden");
        cluster.delete(&format!("{BINDINGS}/ann")).await.expect(200);
        cluster.look("ann", MAPS).await.refused(403, "Forbidden");
        cluster.delete(&format!("{ROLES}/ann")).await.expect(200);
    }
    // A role that is not there is told.
    cluster
        .post(BINDINGS, &binding("RoleBinding", "lost", "ClusterRole/none", &user("ann")))
        .await
        .expect(201);
    let message = cluster.look("ann", MAPS).await.refused(403, "Forbidden");
    assert!(
        message.ends_with(
            r#"in the namespace "default": RBAC: clusterrole.rbac.authorization.k8s.io "none" not found"#
        ),
        "{message}"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn verbs_names_and_parts() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    cluster.post(MAPS, &map("b")).await.expect(201);
    let mut named = rule(&["get", "list", "watch", "patch", "delete"], "", &["configmaps"]);
    named["resourceNames"] = json!(["a"]);
    cluster.give("ann", &json!([named, rule(&["update"], "", &["pods/status"])])).await;
    let (a, b) = (format!("{MAPS}/a"), format!("{MAPS}/b"));
    cluster.look("ann", &a).await.expect(200);
    cluster.look("ann", &b).await.refused(403, "Forbidden");
    cluster.look("ann", MAPS).await.refused(403, "Forbidden");
    let one = cluster.look("ann", &format!("{MAPS}?fieldSelector=metadata.name%3Da")).await.expect(200);
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    cluster.look("ann", &format!("{MAPS}?fieldSelector=metadata.name%3Db")).await.refused(403, "Forbidden");
    let data = json!({"data": {"a": "2"}});
    cluster.ask("ann", Method::PATCH, &a, &data).await.expect(200);
    cluster.ask("ann", Method::PATCH, &b, &data).await.refused(403, "Forbidden");
    cluster.ask("ann", Method::PUT, &a, &map("a")).await.refused(403, "Forbidden");
    cluster.ask("ann", Method::POST, MAPS, &map("c")).await.refused(403, "Forbidden");
    cluster.ask("ann", Method::DELETE, MAPS, &Value::Null).await.refused(403, "Forbidden");
    cluster.ask("ann", Method::DELETE, &a, &Value::Null).await.expect(200);
    // Allowed, so it is said that it is not there.
    let status = format!("{PODS}/none/status");
    cluster.ask("ann", Method::PUT, &status, &super::harness::pod("none")).await.refused(404, "NotFound");
    cluster
        .ask("ann", Method::PUT, &format!("{PODS}/none"), &super::harness::pod("none"))
        .await
        .refused(403, "Forbidden");
    cluster.stop().await;
}

#[tokio::test]
async fn questions_about_access() {
    let cluster = Cluster::start().await;
    cluster.give("ann", &json!([rule(&["get"], "", &["pods"])])).await;
    let robot = json!({"kind": "ServiceAccount", "name": "robot", "namespace": "dev"});
    cluster.post(BINDINGS, &binding("RoleBinding", "robot", "Role/ann", &robot)).await.expect(201);
    let group = json!({"kind": "Group", "name": "ops", "apiGroup": "rbac.authorization.k8s.io"});
    cluster.post(BINDINGS, &binding("RoleBinding", "ops", "Role/ann", &group)).await.expect(201);
    let get = json!({"namespace": "default", "verb": "get", "resource": "pods"});
    let subject = format!("{REVIEWS}/subjectaccessreviews");
    for (who, allowed) in [
        (json!({"user": "ann"}), true),
        (json!({"user": "bob"}), false),
        (json!({"user": "bob", "groups": ["ops"]}), true),
        (json!({"user": "system:serviceaccount:dev:robot"}), true),
        (json!({"user": "system:serviceaccount:default:robot"}), false),
        (json!({"user": "x", "groups": ["system:masters"]}), true),
    ] {
        let mut asked = json!({"spec": who});
        asked["spec"]["resourceAttributes"] = get.clone();
        let answer = cluster.post(&subject, &asked).await.expect(201);
        assert_eq!(answer["status"]["allowed"], allowed, "{answer}");
    }
    let ann = json!({"spec": {"user": "ann", "resourceAttributes": get}});
    assert_eq!(
        cluster.post(&subject, &ann).await.expect(201)["status"]["reason"],
        r#"RBAC: allowed by RoleBinding "ann/default" of Role "ann" to User "ann""#
    );
    let local = |namespace: &str| format!("{REVIEWS}/namespaces/{namespace}/localsubjectaccessreviews");
    assert_eq!(cluster.post(&local("default"), &ann).await.expect(201)["status"]["allowed"], true);
    cluster.post(&local("dev"), &ann).await.refused(422, "Invalid");
    cluster.post(&format!("{REVIEWS}/localsubjectaccessreviews"), &ann).await.refused(404, "NotFound");
    cluster.ask("ann", Method::POST, &subject, &ann).await.refused(403, "Forbidden");
    for odd in [
        json!({"user": "ann"}),
        json!({"resourceAttributes": get}),
        json!({"user": "ann", "resourceAttributes": get, "nonResourceAttributes": {"path": "/"}}),
    ] {
        cluster.post(&subject, &json!({"spec": odd})).await.refused(422, "Invalid");
    }
    let rules = json!({"spec": {"namespace": "default"}});
    let rules = cluster.ask("ann", Method::POST, &format!("{REVIEWS}/selfsubjectrulesreviews"), &rules).await;
    let rules = rules.expect(201)["status"].clone();
    assert!(rules["resourceRules"].as_array().unwrap().contains(&rule(&["get"], "", &["pods"])), "{rules}");
    assert!(!rules["nonResourceRules"].as_array().unwrap().is_empty());
    let token = std::fs::read_to_string(cluster.folder.path().join("pki/admin.token")).unwrap();
    for (token, audiences, expected) in [
        (token.as_str(), json!(null), true),
        ("other", json!(null), false),
        (&token, json!(["vault"]), false),
    ] {
        let asked = json!({"spec": {"token": token, "audiences": audiences}});
        let answer = cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", &asked).await.expect(201);
        assert_eq!(answer["status"]["authenticated"], expected, "{audiences}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn default_roles_are_there_and_come_back() {
    let cluster = Cluster::start().await;
    let at = |name: &str| format!("{RBAC}/clusterroles/{name}");
    let view = cluster.get(&at("view")).await.expect(200);
    assert_eq!(view["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
    assert_eq!(view["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"], "true");
    for (name, role) in
        [("ann", "ClusterRole/view"), ("bob", "ClusterRole/edit"), ("eve", "ClusterRole/admin")]
    {
        cluster.post(BINDINGS, &binding("RoleBinding", name, role, &user(name))).await.expect(201);
    }
    for (who, method, path, body, code) in [
        ("ann", Method::GET, CLAIMS, json!(null), 200),
        ("ann", Method::GET, "/api/v1/namespaces/default", json!(null), 200),
        ("ann", Method::GET, "/api/v1/namespaces/default/secrets", json!(null), 403),
        ("ann", Method::POST, MAPS, map("m"), 403),
        ("bob", Method::GET, "/api/v1/namespaces/default/secrets", json!(null), 200),
        ("bob", Method::POST, MAPS, map("m"), 201),
        ("bob", Method::GET, ROLES, json!(null), 403),
        (
            "eve",
            Method::POST,
            BINDINGS,
            binding("RoleBinding", "more", "ClusterRole/edit", &user("joe")),
            201,
        ),
        ("eve", Method::POST, CLASSES, class("fast"), 403),
        ("joe", Method::POST, MAPS, map("n"), 201),
    ] {
        let answer = cluster.ask(who, method.clone(), path, &body).await;
        assert_eq!(answer.code, code, "{who} {method} {path}: {}", answer.text);
    }
    // Broken by accident: the next start mends it, but not where it was told to keep off.
    cluster.merge(&at("system:basic-user"), &json!({"rules": []})).await.expect(200);
    let own = json!({"rules": [], "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}});
    cluster.merge(&at("system:discovery"), &own).await.expect(200);
    cluster.delete(&at("view")).await.expect(200);
    let folder = cluster.stop().await;
    let cluster = Cluster::start_in(folder, |_| {}).await;
    assert_eq!(cluster.get(&at("system:basic-user")).await.expect(200)["rules"].as_array().unwrap().len(), 2);
    assert_eq!(cluster.get(&at("system:discovery")).await.expect(200)["rules"], json!([]));
    assert_eq!(cluster.get(&at("view")).await.expect(200)["rules"], view["rules"]);
    cluster.stop().await;
}
