//! To act as somebody else is a right like any other.

use http::Method;
use serde_json::{Value, json};

use super::access::{RBAC, REVIEWS, binding, role, rule, user};
use super::endpoints::without_token;
use super::harness::{Cluster, MAPS};

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
