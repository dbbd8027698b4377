//! Nobody gives others, or themselves, more than they have: by roles, bindings, labels or aggregation.

use http::Method;
use serde_json::json;

use super::access::{BINDINGS, RBAC, ROLES, binding, role, rule, user};
use super::harness::{Cluster, MAPS, map};

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
