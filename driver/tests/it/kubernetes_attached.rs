//! Pods that somebody else runs: found, used, and never changed.

use buildfleet::backend::kubernetes::AttachedBackend;
use buildfleet::backend::{Backend, PodPhase, Pods, Removal, Removed, Transport};
use buildfleet::report::chain;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::kubernetes::pod;
use crate::support::api_server::ApiServer;

fn attach(server: &ApiServer, to: &str) -> AttachedBackend {
    let (name, to) = ("theirs0".parse().unwrap(), to.parse().unwrap());
    AttachedBackend::start(name, to, server.context(), None, None)
}

fn workload(replicas: u32) -> Value {
    json!({"metadata": {"name": "team"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "kube0"}}, "template": {}, "serviceName": "team"}})
}

/// A pod whose container is not called as ours.
fn builder(name: &str) -> Value {
    let status = json!({"phase": "Running", "containerStatuses": [{
        "name": "builder", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }]});
    let mut pod = pod(name, &status);
    pod["spec"]["containers"][0] =
        json!({"name": "builder", "image": "moby/buildkit", "args": ["--addr", "unix:///run/b.sock"]});
    pod
}

async fn seen(backend: &AttachedBackend, what: impl FnMut(&Pods) -> bool) -> Pods {
    let mut pods = backend.pods();
    let found = tokio::time::timeout(std::time::Duration::from_secs(10), pods.wait_for(what)).await;
    found.unwrap_or_else(|_| panic!("not seen in time: {:#?}", *backend.pods().borrow())).unwrap().clone()
}

/// What was asked of the server that changes something.
fn writes(server: &ApiServer) -> Vec<String> {
    let reads = ["LIST", "WATCH", "GET", "exec", "log"];
    server.requests().into_iter().filter(|request| !reads.iter().any(|read| request.starts_with(read))).collect()
}

#[tokio::test]
async fn pods_of_a_workload_or_a_bare_pod_are_found_and_reached_by_exec() {
    for (to, resource) in
        [("deployment/team", Some("deployments")), ("sts/team", Some("statefulsets")), ("pod/team-0", None)]
    {
        let server = ApiServer::start().await;
        if let Some(resource) = resource {
            server.put(resource, workload(1));
        }
        server.put("pods", builder("team-0"));
        let backend = attach(&server, to);
        backend.apply(1).await.unwrap();
        let pods = seen(&backend, |pods| pods.known && pods.pods.len() == 1).await;
        assert_eq!((pods.pods[0].phase, pods.replicas, pods.applied), (PodPhase::Running, Some(1), true), "{to}");
        let mut dialed = backend.dial(&pods.pods[0].name).await.unwrap();
        assert_eq!(dialed.transport, Transport::Exec);
        let mut heard = [0; 5];
        dialed.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ready");
        assert_eq!(
            server.state(|state| state.executed.clone()),
            ["container=builder command=buildctl command=--addr command=unix:///run/b.sock command=dial-stdio"]
        );
        assert_eq!(writes(&server), Vec::<String>::new(), "{to}");
    }
}

#[tokio::test]
async fn an_end_of_its_use_changes_nothing_of_theirs() {
    let server = ApiServer::start().await;
    server.put("deployments", workload(2));
    server.put("pods", builder("team-0"));
    let backend = attach(&server, "deployment/team");
    seen(&backend, |pods| pods.pods.len() == 1 && pods.replicas == Some(2)).await;
    backend.apply(0).await.unwrap();
    seen(&backend, |pods| pods.pods.is_empty() && !pods.applied).await;
    backend.apply(1).await.unwrap();
    seen(&backend, |pods| pods.pods.len() == 1 && pods.applied).await;
    let removal = Removal { force: true, ..Removal::default() };
    assert_eq!(backend.delete(removal).await.unwrap(), Removed::Released { users: Vec::new() });
    assert_eq!(writes(&server), Vec::<String>::new());
    assert!(server.object("deployments").is_some() && server.object("pods").is_some());
}

#[tokio::test]
async fn what_is_not_there_is_named_and_found_when_it_comes() {
    let server = ApiServer::start().await;
    let backend = attach(&server, "deployment/team");
    let error = backend.apply(1).await.unwrap_err();
    assert_eq!(chain(&error), "failed to attach to deployment/team: it is not there in namespace builds");
    server.put("deployments", workload(0));
    let pods = seen(&backend, |pods| pods.notes.iter().any(|note| note.trouble)).await;
    assert_eq!(pods.notes[0].text, "deployment team has no pods: whoever runs it has scaled it to zero");
    server.put("deployments", workload(1));
    server.put("pods", builder("team-0"));
    seen(&backend, |pods| pods.pods.len() == 1 && pods.notes.is_empty()).await;
    // A right that is missing is named.
    let forbidden = ApiServer::start().await;
    forbidden.refuse("LIST deployments", 403, "deployments is forbidden");
    let backend = attach(&forbidden, "deployment/team");
    let pods = seen(&backend, |pods| !pods.notes.is_empty()).await;
    assert!(pods.notes[0].text.starts_with("not allowed to watch deployments in namespace builds"), "{pods:?}");
}
