//! Who may do what: roles and bindings, asked as other users.

use http::Method;
use serde_json::{Value, json};

use super::endpoints::without_token;
use super::harness::{CLAIMS, CLASSES, Cluster, MAPS, PODS, class, map};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

fn role(kind: &str, name: &str, rules: &Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "rules": rules})
}

fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources})
}

/// `role` is `Role/name` or `ClusterRole/name`.
fn binding(kind: &str, name: &str, role: &str, subject: &Value) -> Value {
    let (role_kind, role) = role.split_once('/').unwrap();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
        "subjects": [subject],
    })
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"})
}

impl Cluster {
    async fn ask(&self, who: &str, method: Method, path: &str, body: &Value) -> super::harness::Answer {
        let media = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let headers = [("impersonate-user", who), ("content-type", media)];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.raw(method, path, &headers, body).await
    }

    async fn look(&self, who: &str, path: &str) -> super::harness::Answer {
        self.ask(who, Method::GET, path, &Value::Null).await
    }

    async fn give(&self, who: &str, rules: &Value) {
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
async fn nobody_grants_what_they_do_not_have() {
    let cluster = Cluster::start().await;
    let writes = rule(
        &["create", "update", "patch", "get", "list"],
        "rbac.authorization.k8s.io",
        &["roles", "rolebindings"],
    );
    cluster.give("ann", &json!([writes, rule(&["get"], "", &["configmaps"])])).await;
    let small = json!([rule(&["get"], "", &["configmaps"])]);
    let big = json!([rule(&["get", "delete"], "", &["configmaps"])]);
    cluster.ask("ann", Method::POST, ROLES, &role("Role", "small", &small)).await.expect(201);
    let message =
        cluster.ask("ann", Method::POST, ROLES, &role("Role", "big", &big)).await.refused(403, "Forbidden");
    assert_eq!(
        message,
        "roles.rbac.authorization.k8s.io \"big\" is forbidden: user \"ann\" (groups=[\"system:authenticated\"]) is attempting \
         to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"configmaps\"], Verbs:[\"delete\"]}"
    );
    let at = format!("{ROLES}/small");
    let refused = [
        cluster.ask("ann", Method::PATCH, &at, &json!({"rules": big})).await,
        cluster.ask("ann", Method::PUT, &at, &role("Role", "small", &big)).await,
        cluster.ask("ann", Method::POST, &format!("{ROLES}?dryRun=All"), &role("Role", "big", &big)).await,
    ];
    for answer in refused {
        answer.refused(403, "Forbidden");
    }
    for name in ["small", "big"] {
        let apply = [("impersonate-user", "ann"), ("content-type", "application/apply-patch+yaml")];
        let path = format!("{ROLES}/{name}?fieldManager=me&force=true");
        let answer = cluster.raw(Method::PATCH, &path, &apply, role("Role", name, &big).to_string()).await;
        answer.refused(403, "Forbidden");
    }
    // Labels may grant, finalizers and owners do not, even where the rules are more than one has.
    cluster.post(ROLES, &role("Role", "large", &big)).await.expect(201);
    let large = format!("{ROLES}/large");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    cluster.ask("ann", Method::PATCH, &large, &label).await.refused(403, "Forbidden");
    let finalizer = json!({"metadata": {"finalizers": ["example.com/a"]}});
    cluster.ask("ann", Method::PATCH, &large, &finalizer).await.expect(200);
    cluster.ask("ann", Method::PATCH, &large, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    cluster.ask("ann", Method::PATCH, &format!("{ROLES}/small"), &label).await.expect(200);

    // Bindings.
    let bind = |name: &str, role: &str| binding("RoleBinding", name, role, &user("bob"));
    cluster.ask("ann", Method::POST, BINDINGS, &bind("one", "Role/small")).await.expect(201);
    cluster.ask("ann", Method::POST, BINDINGS, &bind("two", "Role/large")).await.refused(403, "Forbidden");
    cluster
        .ask("ann", Method::POST, BINDINGS, &bind("two", "ClusterRole/admin"))
        .await
        .refused(403, "Forbidden");
    cluster.ask("ann", Method::POST, BINDINGS, &bind("two", "Role/none")).await.refused(404, "NotFound");
    cluster.post(BINDINGS, &bind("three", "ClusterRole/admin")).await.expect(201);
    let more = json!({"subjects": [user("bob"), user("ann")]});
    cluster.ask("ann", Method::PATCH, &format!("{BINDINGS}/three"), &more).await.refused(403, "Forbidden");
    cluster.look("bob", &format!("{MAPS}/x")).await.refused(404, "NotFound");

    // The verbs that let one do so all the same.
    let mut allowed = rule(&["bind"], "rbac.authorization.k8s.io", &["clusterroles"]);
    allowed["resourceNames"] = json!(["admin"]);
    let escalate = rule(&["escalate"], "rbac.authorization.k8s.io", &["roles"]);
    cluster.post(ROLES, &role("Role", "trusted", &json!([allowed, escalate]))).await.expect(201);
    let trust = binding("RoleBinding", "trusted", "Role/trusted", &user("ann"));
    cluster.post(BINDINGS, &trust).await.expect(201);
    cluster.ask("ann", Method::POST, BINDINGS, &bind("two", "ClusterRole/admin")).await.expect(201);
    cluster
        .ask("ann", Method::POST, BINDINGS, &bind("four", "ClusterRole/cluster-admin"))
        .await
        .refused(403, "Forbidden");
    cluster.ask("ann", Method::POST, ROLES, &role("Role", "big", &big)).await.expect(201);
    cluster.stop().await;
}

/// Who may write ClusterRoles gets no more by the label that brings a role into `view`, nor by
/// taking away what kept an aggregated role's rules.
#[tokio::test]
async fn labels_and_aggregation_make_nobody_an_administrator() {
    let cluster = Cluster::start().await;
    let roles = format!("{RBAC}/clusterroles");
    let writes = rule(
        &["create", "update", "patch", "get"],
        "rbac.authorization.k8s.io",
        &["clusterroles", "clusterrolebindings"],
    );
    let own = role("ClusterRole", "writer", &json!([writes]));
    cluster.post(&roles, &own).await.expect(201);
    for name in ["writer", "view"] {
        let made = binding("ClusterRoleBinding", name, &format!("ClusterRole/{name}"), &user("ann"));
        cluster.post(&format!("{RBAC}/clusterrolebindings"), &made).await.expect(201);
    }
    let label = json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}});
    let admin = format!("{roles}/cluster-admin");
    cluster.ask("ann", Method::PATCH, &admin, &label).await.refused(403, "Forbidden");
    assert!(cluster.get(&admin).await.expect(200)["metadata"]["labels"]
        ["rbac.authorization.k8s.io/aggregate-to-view"]
        .is_null());
    // One's own may have it.
    cluster.ask("ann", Method::PATCH, &format!("{roles}/writer"), &label).await.expect(200);
    for body in [json!({"aggregationRule": null}), json!({"aggregationRule": null, "rules": []})] {
        let answer = cluster.ask("ann", Method::PATCH, &format!("{roles}/view"), &body).await;
        let message = answer.refused(403, "Forbidden");
        assert!(message.contains("must have cluster-admin privileges"), "{message}");
    }
    let texts: Vec<String> = (0..1000).map(|n| format!("t{n}")).collect();
    let large = json!([{"verbs": ["get"], "apiGroups": texts, "resources": texts}]);
    let answer = cluster.ask("ann", Method::POST, &roles, &role("ClusterRole", "large", &large)).await;
    assert!(answer.text.len() < 1000, "{}", answer.text.len());
    assert!(answer.refused(422, "Invalid").contains("1000000"), "{}", answer.text);
    let some = json!([{"verbs": ["get"], "apiGroups": texts, "resources": ["a"]}]);
    let answer = cluster.ask("ann", Method::POST, &roles, &role("ClusterRole", "some", &some)).await;
    assert!(answer.text.len() < 10_000, "{}", answer.text.len());
    assert!(answer.refused(403, "Forbidden").ends_with("… and 980 more"), "{}", answer.text);
    cluster.stop().await;
}

#[tokio::test]
async fn an_apply_that_creates_needs_create() {
    let cluster = Cluster::start().await;
    cluster.give("ann", &json!([rule(&["patch"], "", &["configmaps"])])).await;
    let headers = [("impersonate-user", "ann"), ("content-type", "application/apply-patch+yaml")];
    let apply = async |query: &str| {
        let path = format!("{MAPS}/a?fieldManager=me{query}");
        cluster.raw(Method::PATCH, &path, &headers, map("a").to_string()).await
    };
    for query in ["", "&dryRun=All"] {
        let message = apply(query).await.refused(403, "Forbidden");
        assert!(message.contains("cannot create resource \"configmaps\""), "{message}");
    }
    cluster.get(&format!("{MAPS}/a")).await.refused(404, "NotFound");
    cluster.post(MAPS, &map("a")).await.expect(201);
    apply("&force=true").await.expect(200);
    cluster.delete(&format!("{MAPS}/a")).await.expect(200);
    cluster
        .post(ROLES, &role("Role", "maker", &json!([rule(&["create"], "", &["configmaps"])])))
        .await
        .expect(201);
    cluster.post(BINDINGS, &binding("RoleBinding", "maker", "Role/maker", &user("ann"))).await.expect(201);
    apply("").await.expect(201);
    cluster.stop().await;
}

#[tokio::test]
async fn a_binding_keeps_its_role() {
    let cluster = Cluster::start().await;
    let made = binding("RoleBinding", "a", "ClusterRole/view", &user("ann"));
    cluster.post(BINDINGS, &made).await.expect(201);
    let other = json!({"roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}});
    let message = cluster.merge(&format!("{BINDINGS}/a"), &other).await.refused(422, "Invalid");
    assert!(message.contains("cannot change roleRef"), "{message}");
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = cluster.raw(Method::GET, &format!("{BINDINGS}/a"), &table, "").await.expect(200);
    assert_eq!(table["rows"][0]["cells"][1], "ClusterRole/view");
    cluster.stop().await;
}

#[tokio::test]
async fn impersonation_is_a_right() {
    let cluster = Cluster::start().await;
    let who = |answer: Value| answer["status"]["userInfo"].clone();
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let media = ("content-type", "application/json");
    let ask = async |headers: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().copied().chain([media]).collect();
        cluster.raw(Method::POST, path, &headers, "{}").await
    };
    let ann = ask(&[
        ("impersonate-user", "ann"),
        ("impersonate-group", "dev"),
        ("impersonate-group", "ops"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-scopes%2fa", "x"),
    ]);
    assert_eq!(
        who(ann.await.expect(201)),
        json!({"username": "ann", "uid": "7", "groups": ["dev", "ops", "system:authenticated"], "extra": {"scopes/a": ["x"]}})
    );
    let account = ask(&[("impersonate-user", "system:serviceaccount:dev:robot")]).await.expect(201);
    let groups = ["system:serviceaccounts", "system:serviceaccounts:dev", "system:authenticated"];
    assert_eq!(who(account)["groups"], json!(groups));
    for odd in [
        &[("impersonate-group", "dev")][..],
        &[("impersonate-user", "")],
        &[("impersonate-user", "a"), ("impersonate-other", "x")],
        &[("impersonate-user", "a"), ("impersonate-user", "b")],
    ] {
        ask(odd).await.refused(400, "BadRequest");
    }
    let anonymous = ask(&[("impersonate-user", "system:anonymous")]).await.refused(403, "Forbidden");
    assert!(anonymous.contains(r#"User "system:anonymous" cannot create resource"#), "{anonymous}");

    // Each part is asked for: of who has the right for one user only.
    let mut one = rule(&["impersonate"], "", &["users"]);
    one["resourceNames"] = json!(["bob"]);
    cluster
        .post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "as-bob", &json!([one])))
        .await
        .expect(201);
    let rights = binding("ClusterRoleBinding", "as-bob", "ClusterRole/as-bob", &user("ann"));
    cluster.post(&format!("{RBAC}/clusterrolebindings"), &rights).await.expect(201);
    for (spec, allowed) in [
        (json!({"verb": "impersonate", "resource": "users", "name": "bob"}), true),
        (json!({"verb": "impersonate", "resource": "users", "name": "eve"}), false),
        (json!({"verb": "impersonate", "resource": "groups", "name": "system:masters"}), false),
    ] {
        let asked = json!({"spec": {"resourceAttributes": spec}});
        let path = format!("{REVIEWS}/selfsubjectaccessreviews");
        let answer = cluster.ask("ann", Method::POST, &path, &asked).await.expect(201);
        assert_eq!(answer["status"]["allowed"], allowed, "{answer}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn who_may_not_impersonate_does_not() {
    let cluster = Cluster::start().await;
    // The one sender besides the administrator is whoever sends no token.
    let ask = async |headers: &[(&str, &str)]| {
        let (code, answer) = without_token(&cluster, MAPS, None, headers).await;
        (code, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    let (ann, masters) = (("impersonate-user", "ann"), ("impersonate-group", "system:masters"));
    let refused = |resource: &str, group: &str| {
        format!(
            r#"User "system:anonymous" cannot impersonate resource "{resource}" in API group "{group}" at the cluster scope"#
        )
    };
    for headers in [&[ann][..], &[ann, masters]] {
        let (code, message) = ask(headers).await;
        assert_eq!((code, message), (403, format!(r#"users "ann" is forbidden: {}"#, refused("users", ""))));
    }
    // Allowed one user and nothing else, each other part is refused.
    let mut one = rule(&["impersonate"], "", &["users"]);
    one["resourceNames"] = json!(["ann"]);
    cluster
        .post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "as-ann", &json!([one])))
        .await
        .expect(201);
    let rights = binding("ClusterRoleBinding", "as-ann", "ClusterRole/as-ann", &user("system:anonymous"));
    cluster.post(&format!("{RBAC}/clusterrolebindings"), &rights).await.expect(201);
    cluster.give("ann", &json!([rule(&["list"], "", &["configmaps"])])).await;
    assert_eq!(ask(&[]).await.0, 403);
    assert_eq!(ask(&[ann]).await.0, 200);
    for (headers, resource, group) in [
        (&[("impersonate-user", "admin")][..], "users", ""),
        (&[ann, masters], "groups", ""),
        (&[ann, ("impersonate-uid", "1")], "uids", "authentication.k8s.io"),
        (&[ann, ("impersonate-extra-a", "b")], "userextras/a", "authentication.k8s.io"),
    ] {
        let (code, message) = ask(headers).await;
        assert!(code == 403 && message.ends_with(&refused(resource, group)), "{code} {message}");
    }
    let account = [("impersonate-user", "system:serviceaccount:dev:robot")];
    let (code, message) = ask(&account).await;
    let expected = r#"cannot impersonate resource "serviceaccounts" in API group "" in the namespace "dev""#;
    assert!(code == 403 && message.ends_with(expected), "{code} {message}");
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
