//! The unix socket, and who its users are.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use holdfast_test_needs::{Need, missing};
use serde_json::Value;
use tokio::process::Command;

use super::harness::{CLAIMS, Cluster};

const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// As another user, and with further arguments; the body and the code.
async fn curl(socket: &Path, uid: u32, path: &str, arguments: &[&str]) -> (Value, String) {
    let mut command = Command::new("curl");
    command.args(["-s", "-S", "--max-time", "20", "-w", "\n%{http_code}", "--unix-socket"]).arg(socket);
    command.args(arguments).arg(format!("http://localhost{path}"));
    if uid != 0 {
        command.uid(uid).gid(uid);
    }
    let output = command.output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, code) = text.rsplit_once('\n').unwrap();
    (serde_json::from_str(body).unwrap_or_default(), code.to_owned())
}

#[tokio::test]
async fn the_kernel_says_who_it_is() {
    if missing(&[Need::Root, Need::Program("curl")]) {
        return;
    }
    let cluster = Cluster::start().await;
    let socket = cluster.server.socket.clone();
    assert_eq!(socket, cluster.folder.path().join("api.sock"));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let post = ["-X", "POST", "-H", "content-type: application/json", "-d", "{}"];
    let (who, _) = curl(&socket, 0, WHO, &post).await;
    let groups = serde_json::json!(["system:masters", "system:authenticated"]);
    assert_eq!(
        (&who["status"]["userInfo"]["username"], &who["status"]["userInfo"]["groups"]),
        (&"unix:0".into(), &groups)
    );
    // Impersonation, tokens and wrong tokens are what they are elsewhere.
    let (who, _) = curl(&socket, 0, WHO, &[&post[..], &["-H", "impersonate-user: ann"]].concat()).await;
    assert_eq!(who["status"]["userInfo"]["username"], "ann");
    assert_eq!(curl(&socket, 0, CLAIMS, &["-H", "authorization: Bearer wrong"]).await.1, "401");

    // Others cannot open it,
    assert_eq!(curl(&socket, 1234, CLAIMS, &[]).await.1, "000");
    // and where an administrator lets them, have no more rights than roles give.
    std::fs::set_permissions(cluster.folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    chown(&socket, Some(1234), None).unwrap();
    let (refused, code) = curl(&socket, 1234, CLAIMS, &[]).await;
    assert_eq!(code, "403");
    assert!(refused["message"].as_str().unwrap().contains("User \"unix:1234\" cannot list"), "{refused}");
    let (who, _) = curl(&socket, 1234, WHO, &post).await;
    assert_eq!(who["status"]["userInfo"]["groups"], serde_json::json!(["system:authenticated"]));

    // The next start takes the place of what a killed process left.
    let folder = cluster.stop().await;
    assert!(socket.exists());
    let cluster = Cluster::start_in(folder, |_| {}).await;
    assert_eq!(curl(&socket, 0, CLAIMS, &[]).await.1, "200");
    cluster.stop().await;
}
