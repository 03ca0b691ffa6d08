//! What `gc` removes from a namespace and what it leaves, by the API server's own clock.

use buildfleet::backend::kubernetes::{Collect, Fate, Found};
use serde_json::{Value, json};

use crate::support::api_server::ApiServer;

async fn server() -> ApiServer {
    let server = ApiServer::start().await;
    server.state(|state| state.date = "Sat, 21 Nov 2026 17:00:00 GMT".to_owned());
    server
}

/// An object of a node that daemons wrote to last at that time.
fn object(name: &str, node: &str, at: &str, annotations: &Value) -> Value {
    json!({"metadata": {
        "name": name,
        "uid": format!("uid of {name}"),
        "creationTimestamp": "2026-11-01T00:00:00Z",
        "labels": {"app.kubernetes.io/managed-by": "buildfleet", "app.kubernetes.io/instance": node},
        "annotations": annotations,
        "managedFields": [{"manager": "buildfleet-notes", "time": at}],
    }})
}

fn put_node(server: &ApiServer, kind: &'static str, node: &str, at: &str, annotations: Value) {
    let mut annotations = annotations;
    annotations["buildfleet.internal/user.a"] = json!("anna@laptop 2026-11-19T10:00:00Z x");
    server.put(kind, object(node, node, at, &annotations));
    server.put("secrets", object(&format!("{node}-tls"), node, at, &json!({})));
}

fn collect(server: &ApiServer) -> Collect {
    Collect {
        context: server.context(),
        namespace: None,
        all_namespaces: false,
        ttl: Some("24h".parse().unwrap()),
        dry_run: false,
        volumes: false,
        api_server: None,
    }
}

fn fates(found: &[Found]) -> Vec<(&str, Fate)> {
    found.iter().map(|found| (found.object.as_str(), found.fate)).collect()
}

fn names(server: &ApiServer, resource: &'static str) -> Vec<String> {
    server.state(|state| state.names(resource))
}

const OLD: &str = "2026-11-20T16:59:59Z";
const RECENT: &str = "2026-11-20T17:00:01Z";

#[tokio::test]
async fn what_nobody_has_used_for_its_ttl_goes_with_all_that_belongs_to_it() {
    let server = server().await;
    put_node(
        &server,
        "deployments",
        "old0",
        OLD,
        json!({"buildfleet.internal/user.b": "bob@ci 2026-11-20T10:00:00Z x"}),
    );
    put_node(&server, "deployments", "busy0", RECENT, json!({}));
    put_node(&server, "deployments", "kept0", OLD, json!({"buildfleet.internal/ttl": "never"}));
    put_node(&server, "statefulsets", "disk0", OLD, json!({}));
    server.put("persistentvolumeclaims", object("buildkit-disk0-0", "disk0", OLD, &json!({})));
    server.put("poddisruptionbudgets", object("old0", "old0", OLD, &json!({})));

    let wanted = [
        ("deployment busy0", Fate::Stays),
        ("statefulset disk0", Fate::Removed),
        ("persistentvolumeclaim buildkit-disk0-0", Fate::Removed),
        ("secret disk0-tls", Fate::Removed),
        ("deployment kept0", Fate::Stays),
        ("deployment old0", Fate::Removed),
        ("poddisruptionbudget old0", Fate::Removed),
        ("secret old0-tls", Fate::Removed),
    ];
    let planned = Collect { dry_run: true, ..collect(&server) }.run().await.unwrap();
    assert_eq!(fates(&planned), wanted);
    assert_eq!(names(&server, "deployments"), ["busy0", "kept0", "old0"], "a dry run removes nothing");
    assert_eq!(planned[5].why, "last used 24h1s ago by bob@ci; its ttl is 24h");

    assert_eq!(collect(&server).run().await.unwrap(), planned);
    assert_eq!(names(&server, "deployments"), ["busy0", "kept0"]);
    assert_eq!(names(&server, "secrets"), ["busy0-tls", "kept0-tls"]);
    for gone in ["statefulsets", "persistentvolumeclaims", "poddisruptionbudgets"] {
        assert_eq!(names(&server, gone), [""; 0], "{gone}");
    }
    // Nobody says for how long: nothing goes.
    put_node(&server, "deployments", "old0", OLD, json!({}));
    let unsaid = Collect { ttl: None, ..collect(&server) }.run().await.unwrap();
    assert!(unsaid.iter().all(|found| found.fate == Fate::Stays), "{unsaid:?}");
}

#[tokio::test]
async fn what_is_left_of_nodes_that_are_gone_goes_but_for_volumes_and_what_is_new() {
    let server = server().await;
    server.put("secrets", object("gone0-tls", "gone0", OLD, &json!({})));
    server.put("secrets", object("soon0-tls", "soon0", "2026-11-21T16:59:59Z", &json!({})));
    server.put("persistentvolumeclaims", object("buildkit-gone0-0", "gone0", OLD, &json!({})));
    let found = collect(&server).run().await.unwrap();
    let claim = "persistentvolumeclaim buildkit-gone0-0";
    let wanted = [(claim, Fate::Stays), ("secret gone0-tls", Fate::Removed), ("secret soon0-tls", Fate::Stays)];
    assert_eq!(fates(&found), wanted);
    assert!(found[0].why.contains("--volumes"), "{found:?}");
    let found = Collect { volumes: true, ..collect(&server) }.run().await.unwrap();
    assert_eq!(fates(&found), [(claim, Fate::Removed), ("secret soon0-tls", Fate::Stays)]);
    assert_eq!(names(&server, "persistentvolumeclaims"), [""; 0]);
}

#[tokio::test]
async fn what_somebody_begins_to_use_at_this_moment_stays() {
    let server = server().await;
    put_node(&server, "deployments", "old0", OLD, json!({}));
    // Their note comes between the look and the deletion.
    server.state(|state| {
        state.before_delete = Some(object(
            "old0",
            "old0",
            "2026-11-21T17:00:00Z",
            &json!({"buildfleet.internal/user.b": "bob@ci 2026-11-21T17:00:00Z x"}),
        ));
    });
    let found = collect(&server).run().await.unwrap();
    assert_eq!(fates(&found), [("deployment old0", Fate::Stays)]);
    assert!(found[0].why.starts_with("last used 0s ago"), "{found:?}");
    assert_eq!(names(&server, "deployments"), ["old0"]);
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_and_keeps_nothing_else() {
    let server = server().await;
    put_node(&server, "deployments", "old0", OLD, json!({}));
    server.refuse("LIST secrets", 403, "secrets is forbidden");
    let found = collect(&server).run().await.unwrap();
    assert_eq!(fates(&found), [("secrets", Fate::Failed), ("deployment old0", Fate::Removed)]);
    assert!(found[0].why.contains("not allowed to list secrets in namespace builds"), "{found:?}");
    server.refuse("LIST statefulsets", 403, "statefulsets is forbidden");
    let error = collect(&server).run().await.unwrap_err();
    assert_eq!(error.to_string(), "not allowed to list statefulsets in namespace builds");
}
