//! Roles and bindings as people make and ask for them.

use super::kubectl::with_each;

#[tokio::test]
async fn roles_bindings_and_questions() {
    with_each(async |kubectl| {
        kubectl.ok(&["create", "role", "reader", "--verb=get,list,watch", "--resource=pods,configmaps"], "").await;
        kubectl.ok(&["create", "rolebinding", "ann", "--role=reader", "--user=ann", "--group=dev"], "").await;
        kubectl.ok(&["create", "serviceaccount", "robot"], "").await;
        kubectl
            .ok(&["create", "rolebinding", "robot", "--clusterrole=edit", "--serviceaccount=default:robot"], "")
            .await;
        kubectl.ok(&["create", "clusterrole", "metrics", "--verb=get", "--non-resource-url=/metrics"], "").await;
        kubectl
            .ok(&["create", "clusterrolebinding", "metrics", "--clusterrole=metrics", "--user=ann"], "")
            .await;

        let roles = kubectl.ok(&["get", "roles"], "").await;
        assert!(roles.starts_with("NAME     CREATED AT\nreader   20"), "{roles}");
        let bindings = kubectl.ok(&["get", "rolebindings", "-o", "wide"], "").await;
        let lines: Vec<Vec<&str>> = bindings.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["NAME", "ROLE", "AGE", "USERS", "GROUPS", "SERVICEACCOUNTS"]);
        assert_eq!((lines[1][0], lines[1][1], &lines[1][3..]), ("ann", "Role/reader", &["ann", "dev"][..]));
        assert_eq!((lines[2][1], lines[2][3]), ("ClusterRole/edit", "default/robot"));
        let described = kubectl.ok(&["describe", "role", "reader"], "").await;
        assert!(described.contains("configmaps") && described.contains("[get list watch]"), "{described}");
        let explained = kubectl.ok(&["explain", "role.rules.resourceNames"], "").await;
        assert!(explained.contains("resourceNames"), "{explained}");

        let error = kubectl.fails(&["get", "pvc", "--as=ann"], "").await;
        assert_eq!(
            error.trim(),
            r#"Error from server (Forbidden): persistentvolumeclaims is forbidden: User "ann" cannot list resource "persistentvolumeclaims" in API group "" in the namespace "default""#
        );
        kubectl.ok(&["get", "configmaps", "--as=ann"], "").await;
        kubectl.ok(&["get", "pods", "--as=joe", "--as-group=dev"], "").await;
        kubectl.ok(&["get", "--raw=/metrics", "--as=ann"], "").await;
        kubectl.fails(&["get", "--raw=/metrics", "--as=bob"], "").await;
        let robot = "--as=system:serviceaccount:default:robot";
        kubectl.ok(&["create", "configmap", "made", robot], "").await;

        for (question, answer) in [
            (&["list", "pods", "--as=ann"][..], "yes"),
            (&["delete", "pods", "--as=ann"], "no"),
            (&["list", "pods", "--as=ann", "-n", "kube-system"], "no"),
            (&["get", "/metrics", "--as=ann"], "yes"),
            (&["get", "pods", "--subresource=log", robot], "no"),
            (&["update", "pvc/data", robot], "yes"),
            (&["*", "*"], "yes"),
        ] {
            let arguments: Vec<&str> = ["auth", "can-i"].iter().chain(question).copied().collect();
            let output = kubectl.output(&arguments, "").await;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(text.trim(), answer, "{question:?}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.status.success(), answer == "yes");
        }
        let list = kubectl.ok(&["auth", "can-i", "--list", "--as=ann"], "").await;
        let has = |words: &[&str]| {
            list.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == words)
        };
        assert!(has(&["configmaps", "[]", "[]", "[get", "list", "watch]"]), "{list}");
        assert!(has(&["[/metrics]", "[]", "[get]"]), "{list}");
        // Older ones do not have it.
        if kubectl.is_current() {
            let who = kubectl.ok(&["auth", "whoami", "--as=ann", "--as-group=dev"], "").await;
            assert!(who.contains("ann") && who.contains("[dev system:authenticated]"), "{who}");
        }

        let manifest = kubectl.ok(&["get", "role", "reader", "-o", "yaml"], "").await;
        kubectl.ok(&["auth", "reconcile", "-f", "-"], &manifest).await;
        let apply = kubectl.ok(&["apply", "--server-side", "-f", "-"], ROLE).await;
        assert!(apply.contains("role.rbac.authorization.k8s.io/writer serverside-applied"), "{apply}");
        kubectl.ok(&["delete", "role,rolebinding", "--all"], "").await;
        kubectl.fails(&["get", "configmaps", "--as=ann"], "").await;
    })
    .await;
}

const ROLE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: writer
rules:
- apiGroups: ['']
  resources: [pods]
  verbs: [create]
";
