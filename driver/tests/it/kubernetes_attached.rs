//! Pods that somebody else runs: found, used, and never changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use buildfleet::backend::kubernetes::{AttachedBackend, Attachment};
use buildfleet::backend::{Backend, PodPhase, Pods, Removal, Removed, Transport};
use buildfleet::builder::{Address, AttachTarget, Driver};
use buildfleet::options::{DriverOptions, parse_driver_opts};
use buildfleet::report::chain;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::kubernetes::pod;
use crate::remote::Authority;
use crate::support::api_server::ApiServer;

fn attach(server: &ApiServer, to: &str) -> AttachedBackend {
    let to: AttachTarget = to.parse().unwrap();
    AttachedBackend::start("theirs0".parse().unwrap(), Attachment::to(&to), server.context(), None, None)
}

/// The node of an address of the remote driver.
fn at(server: &ApiServer, address: &str, options: &[String]) -> AttachedBackend {
    let Ok(Address::Cluster(at)) = address.parse() else { panic!("{address}") };
    let (_, typed) = parse_driver_opts(Driver::Remote, options).unwrap();
    let DriverOptions::Remote(options) = typed else { panic!("{typed:?}") };
    AttachedBackend::start("theirs0".parse().unwrap(), Attachment::at(&at, &options), server.context(), None, None)
}

/// A Service, and the pod's side of TLS for the authority's clients.
fn service(server: &ApiServer, authority: &Authority, spec: &Value) {
    server.put("services", json!({"metadata": {"name": "buildkitd"}, "spec": spec}));
    let (certificate, key) = authority.sign("buildkitd");
    let pem = |text: String| STANDARD.encode(text);
    let data = json!({"ca.pem": pem(authority.pem()), "cert.pem": pem(certificate.pem()), "key.pem": pem(key.serialize_pem())});
    server.put("secrets", json!({"metadata": {"name": "buildkit-daemon-certs"}, "data": data}));
}

/// The options of a client without a `servername`.
fn client(authority: &Authority) -> Vec<String> {
    let files = authority.client().into_iter().filter(|(key, _)| *key != "servername");
    files.map(|(key, value)| format!("{key}={value}")).collect()
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

#[tokio::test]
async fn pods_behind_a_service_are_found_by_its_selector_and_reached_at_its_port_by_mtls() {
    let (server, authority) = (ApiServer::start().await, Authority::new());
    let ports = json!([{"name": "http", "port": 80}, {"name": "tls", "port": 443, "targetPort": "grpc"}]);
    service(&server, &authority, &json!({"selector": {"app": "kube0"}, "ports": ports}));
    let mut pod = builder("team-0");
    pod["spec"]["containers"][0]["ports"] = json!([{"name": "grpc", "containerPort": 1235}]);
    server.put("pods", pod);
    for address in ["kube-service://buildkitd:443", "kube-service://buildkitd:tls"] {
        server.state(|state| state.executed.clear());
        let backend = at(&server, address, &client(&authority));
        backend.apply(1).await.unwrap();
        let pods = seen(&backend, |pods| pods.known && pods.pods.len() == 1).await;
        assert_eq!((pods.replicas, pods.applied), (Some(1), true));
        let mut dialed = backend.dial(&pods.pods[0].name).await.unwrap();
        assert_eq!(dialed.transport, Transport::PortForward);
        let mut heard = [0; 5];
        dialed.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ready");
        assert_eq!(server.state(|state| state.executed.clone()), ["ports=1235"]);
    }
    assert_eq!(writes(&server), ["portforward pods"; 2]);
    // Who shows another certificate is not spoken to.
    for (options, wanted) in [
        (client(&Authority::new()), "invalid peer certificate"),
        ([client(&authority), vec!["servername=other".to_owned()]].concat(), "not valid for name \"other\""),
    ] {
        let backend = at(&server, "kube-service://buildkitd:443", &options);
        seen(&backend, |pods| pods.known && pods.pods.len() == 1).await;
        let told = chain(&backend.dial(&"team-0".parse().unwrap()).await.unwrap_err());
        assert!(told.starts_with("failed to reach pod team-0 by port-forward: ") && told.contains(wanted), "{told}");
    }
}

#[tokio::test]
async fn a_service_that_leads_to_no_pod_says_why() {
    let (server, authority) = (ApiServer::start().await, Authority::new());
    let backend = at(&server, "kube-service://buildkitd:1", &client(&authority));
    let error = backend.apply(1).await.unwrap_err();
    assert_eq!(chain(&error), "failed to attach to service/buildkitd: it is not there in namespace builds");
    for (selector, note) in [
        (json!(null), "service buildkitd has no selector, by which its pods could be found"),
        (json!({"app": "x"}), "service buildkitd has no pods: none has the labels app=x"),
    ] {
        service(&server, &authority, &json!({"selector": selector, "ports": [{"port": 1234}]}));
        let pods = seen(&backend, |pods| pods.known && pods.notes.iter().any(|line| line.text == note)).await;
        assert_eq!(pods.replicas, Some(0));
    }
    server.put("pods", builder("team-0"));
    seen(&backend, |pods| pods.pods.len() == 1 && pods.notes.is_empty() && pods.replicas == Some(1)).await;
    let told = chain(&backend.dial(&"team-0".parse().unwrap()).await.unwrap_err());
    assert!(told.ends_with("service buildkitd has no port 1, it has 1234"), "{told}");
    server.remove("services", "buildkitd");
    seen(&backend, |pods| pods.pods.is_empty() && !pods.applied).await;
}

#[tokio::test]
async fn a_named_pod_is_entered_in_the_container_that_its_address_names() {
    let server = ApiServer::start().await;
    server.put("pods", builder("team-0"));
    for (address, container) in [("kube-pod://team-0", "builder"), ("kube-pod://team-0?container=other", "other")] {
        server.state(|state| state.executed.clear());
        let backend = at(&server, address, &[]);
        seen(&backend, |pods| pods.pods.len() == 1).await;
        backend.dial(&"team-0".parse().unwrap()).await.unwrap();
        let executed = server.state(|state| state.executed.clone());
        assert!(executed[0].starts_with(&format!("container={container} ")), "{executed:?}");
    }
}

#[tokio::test]
async fn without_the_right_to_exec_the_right_and_the_way_by_a_service_are_named() {
    let server = ApiServer::start().await;
    server.put("pods", builder("team-0"));
    server.refuse("exec pods", 403, "pods \"team-0\" is forbidden");
    let backend = at(&server, "kube-pod://team-0", &[]);
    seen(&backend, |pods| pods.pods.len() == 1).await;
    let told = chain(&backend.dial(&"team-0".parse().unwrap()).await.unwrap_err());
    assert_eq!(
        told,
        "failed to reach pod team-0 by exec: not allowed to create pods/exec in namespace builds: pods \"team-0\" is \
         forbidden; where pods/exec is not allowed, kube-service://NAME:PORT reaches the pods of a Service by mTLS with the \
         right to create pods/portforward, or in the cluster with none"
    );
}
