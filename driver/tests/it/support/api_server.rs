//! A Kubernetes API server that knows deployments, secrets, pods and events of one namespace: lists, watches, server-side
//! apply, logs, and the WebSockets of exec and port-forward. It counts what it is asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use buildfleet::builder::KubeContext;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::{api_discovery, api_streams};

pub(crate) const NAMESPACE: &str = "builds";

/// The server; it ends when it is dropped.
pub(crate) struct ApiServer {
    shared: Arc<Shared>,
    kubeconfig: tempfile::NamedTempFile,
    url: String,
    task: Option<AbortOnDropHandle<()>>,
}

#[derive(Default)]
pub(crate) struct State {
    version: u64,
    /// By resource (`pods`) and name.
    pub(crate) objects: BTreeMap<&'static str, BTreeMap<String, Value>>,
    /// Patches of metadata by those who apply nothing.
    pub(super) merged: BTreeMap<(&'static str, String), Vec<Value>>,
    pub(crate) requests: Vec<String>,
    /// What to refuse, by `VERB resource`, and with which code and message.
    refusals: BTreeMap<String, (u16, String)>,
    pub(crate) exec: api_streams::Script,
    pub(crate) port: api_streams::Script,
    pub(crate) logs: VecDeque<String>,
    /// The input of an exec that takes one to its end.
    pub(crate) received: Vec<u8>,
    /// The container and the command of each exec, and the port of each port-forward.
    pub(crate) executed: Vec<String>,
    /// Put in its place when somebody is about to delete a deployment.
    pub(crate) before_delete: Option<Value>,
    /// What time it is, as HTTP has it.
    pub(crate) date: String,
    /// Another token than this is refused, once it is set.
    pub(crate) token: Option<&'static str>,
}

pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    changes: broadcast::Sender<(&'static str, Value)>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let shared = Arc::new(Shared { state: Mutex::default(), changes: broadcast::Sender::new(256) });
        let task = AbortOnDropHandle::new(tokio::spawn(accept(listener, Arc::clone(&shared))));
        let server = Self { shared, kubeconfig, url, task: Some(task) };
        server.write_kubeconfig("first");
        server
    }

    /// A kubeconfig with this token.
    pub(crate) fn write_kubeconfig(&self, token: &str) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "rig",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "contexts": [{"name": "rig", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
            "users": [{"name": "u", "user": {"token": token}}],
        });
        std::fs::write(self.kubeconfig.path(), config.to_string()).unwrap();
    }

    /// Nothing listens any more and every connection is cut.
    pub(crate) fn crash(&mut self) {
        self.task = None;
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn context(&self) -> KubeContext {
        KubeContext::File { paths: vec![self.kubeconfig.path().to_owned()], context: "rig".to_owned() }
    }

    pub(crate) fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.shared.state.lock().unwrap())
    }

    /// From now on `what` (`PATCH deployments`) is answered by this.
    pub(crate) fn refuse(&self, what: &str, code: u16, message: &str) {
        self.state(|state| state.refusals.insert(what.to_owned(), (code, message.to_owned())));
    }

    /// `VERB resource` of every request so far; lists are `LIST`, watches `WATCH`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state(|state| state.requests.clone())
    }

    pub(crate) fn put(&self, resource: &'static str, object: Value) {
        self.shared.put(resource, object);
    }

    pub(crate) fn remove(&self, resource: &'static str, name: &str) {
        self.shared.remove(resource, name);
    }

    /// As `kubectl edit` leaves it: with another generation.
    pub(crate) fn edit(&self, resource: &'static str, change: impl FnOnce(&mut Value)) {
        let mut object = self.object(resource).unwrap();
        change(&mut object);
        let generation = object["metadata"]["generation"].as_u64().unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + 1);
        object["metadata"]["managedFields"] =
            json!([{"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-01T00:00:00Z"}]);
        self.put(resource, object);
    }

    /// The only object of its resource.
    pub(crate) fn object(&self, resource: &'static str) -> Option<Value> {
        self.state(|state| state.object(resource))
    }
}

impl State {
    pub(crate) fn names(&self, resource: &str) -> Vec<String> {
        self.objects.get(resource).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// The only object of its resource.
    pub(crate) fn object(&self, resource: &str) -> Option<Value> {
        self.objects.get(resource)?.values().next().cloned()
    }
}

impl Shared {
    pub(super) fn put(&self, resource: &'static str, mut object: Value) -> Value {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        object["metadata"]["namespace"] = json!(NAMESPACE);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let before = state.objects.entry(resource).or_default().insert(name, object.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        // Nobody may be watching.
        let _ = self.changes.send((resource, json!({"type": kind, "object": object})));
        object
    }

    fn remove(&self, resource: &'static str, name: &str) -> Option<Value> {
        let mut state = self.state.lock().unwrap();
        let mut gone = state.objects.get_mut(resource)?.remove(name)?;
        state.merged.remove(&(resource, name.to_owned()));
        state.version += 1;
        gone["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let _ = self.changes.send((resource, json!({"type": "DELETED", "object": gone})));
        Some(gone)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        // A client that goes away in the middle is no failure of the test.
        connections.spawn(async move { drop(serve(stream, &shared).await) });
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Request { method, path: path.to_owned(), query: query.to_owned(), headers, body })
}

/// One request; the connection is closed after it.
async fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let request = read_request(&mut stream).await?;
    let mut stream = stream.into_inner();
    if request.path == "/version" {
        let date = shared.state.lock().unwrap().date.clone();
        let head = format!("HTTP/1.1 200 X\r\nconnection: close\r\ndate: {date}\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(head.as_bytes()).await?;
        return stream.shutdown().await;
    }
    if let Some(kinds) = api_discovery::kinds(&request.path) {
        return answer(&mut stream, 200, &kinds).await;
    }
    if !request.path.contains("/namespaces/") {
        return answer(&mut stream, 404, &status(404, "the server could not find the requested resource")).await;
    }
    let (_, rest) = request.path.split_once(&format!("/namespaces/{NAMESPACE}/")).expect("a namespaced path");
    let mut words = rest.split('/');
    let resource = match words.next().unwrap() {
        "deployments" => "deployments",
        "statefulsets" => "statefulsets",
        "poddisruptionbudgets" => "poddisruptionbudgets",
        "persistentvolumeclaims" => "persistentvolumeclaims",
        "secrets" => "secrets",
        "jobs" => "jobs",
        "services" => "services",
        "pods" => "pods",
        "events" => "events",
        other => panic!("no resource {other}"),
    };
    let (name, subresource) = (words.next(), words.next());
    let watches = request.query.contains("watch=true");
    let verb = match (request.method.as_str(), name, subresource) {
        ("GET", None, _) if watches => "WATCH",
        ("GET", None, _) => "LIST",
        (_, _, Some(subresource)) => subresource,
        (method, ..) => method,
    };
    let asked = format!("{verb} {resource}");
    let refusal = {
        let mut state = shared.state.lock().unwrap();
        state.requests.push(asked.clone());
        let given = request.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match state.token {
            Some(token) if given != Some(token) => Some((401, "Unauthorized".to_owned())),
            _ => state.refusals.get(&asked).cloned(),
        }
    };
    if let Some((code, message)) = refusal {
        return answer(&mut stream, code, &status(code, &message)).await;
    }
    let noted = if asked == "DELETE deployments" { shared.state.lock().unwrap().before_delete.take() } else { None };
    if let Some(noted) = noted {
        shared.put(resource, noted);
    }
    match (verb, name) {
        ("LIST", _) => {
            let (version, items) = {
                let state = shared.state.lock().unwrap();
                let items = state.objects.get(resource).into_iter().flat_map(|all| all.values().cloned());
                (state.version, items.collect::<Vec<_>>())
            };
            let list = json!({"metadata": {"resourceVersion": version.to_string()}, "items": items});
            answer(&mut stream, 200, &list).await
        }
        ("WATCH", _) => watch(&mut stream, shared, resource, &request).await,
        ("GET", Some(name)) => {
            let found = shared.state.lock().unwrap().objects.get(resource).and_then(|all| all.get(name)).cloned();
            match found {
                Some(object) => answer(&mut stream, 200, &object).await,
                None => answer(&mut stream, 404, &not_found(resource, name)).await,
            }
        }
        ("POST", None) => match shared.made(resource, serde_json::from_slice(&request.body).unwrap()) {
            Ok(object) => answer(&mut stream, 201, &object).await,
            Err(status) => answer(&mut stream, 409, &status).await,
        },
        ("PATCH", Some(name)) => {
            let patch: Value = serde_json::from_slice(&request.body).unwrap();
            let dry_run = request.query.contains("dryRun=All");
            match request.headers["content-type"].as_str() {
                "application/apply-patch+yaml" => {
                    let managed = request.query.split('&').any(|pair| pair == "fieldManager=buildfleet");
                    assert!(managed, "{}", request.query);
                    let object = shared.applied(resource, name, patch);
                    let object = if dry_run { object } else { shared.put(resource, object) };
                    answer(&mut stream, 200, &object).await
                }
                "application/merge-patch+json" => match shared.merged(resource, name, &patch, dry_run) {
                    Some(object) => answer(&mut stream, 200, &object).await,
                    None => answer(&mut stream, 404, &not_found(resource, name)).await,
                },
                other => panic!("{other}"),
            }
        }
        ("DELETE", Some(name)) if !shared.meets(resource, name, &request.body) => {
            answer(&mut stream, 409, &status(409, "the object has been modified")).await
        }
        ("DELETE", Some(name)) => match shared.remove(resource, name) {
            Some(_) => answer(&mut stream, 200, &json!({"kind": "Status", "status": "Success"})).await,
            None => answer(&mut stream, 404, &not_found(resource, name)).await,
        },
        ("log", Some(_)) => {
            let text = shared.state.lock().unwrap().logs.pop_front().unwrap_or_default();
            answer_bytes(&mut stream, 200, text.as_bytes()).await
        }
        ("exec" | "portforward", Some(name)) => {
            let exists = shared.state.lock().unwrap().objects.get("pods").is_some_and(|all| all.contains_key(name));
            if !exists {
                return answer(&mut stream, 404, &not_found("pods", name)).await;
            }
            if verb == "exec" {
                let told = request.query.split('&').filter(|pair| pair.starts_with("co"));
                let mut told: Vec<String> = told.map(|pair| pair.replace("%3A", ":").replace("%2F", "/")).collect();
                told.sort_by_key(|pair| !pair.starts_with("container"));
                shared.state.lock().unwrap().executed.push(told.join(" "));
            } else {
                let port = request.query.split('&').find(|pair| pair.starts_with("ports=")).unwrap_or_default();
                shared.state.lock().unwrap().executed.push(port.to_owned());
            }
            api_streams::upgrade(stream, &request.headers["sec-websocket-key"], verb == "exec", shared).await
        }
        (verb, name) => panic!("{verb} {name:?}"),
    }
}

pub(super) fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code, "reason": ""})
}

fn not_found(resource: &str, name: &str) -> Value {
    let mut status = status(404, &format!("{resource} \"{name}\" not found"));
    status["reason"] = json!("NotFound");
    status
}

async fn answer(stream: &mut TcpStream, code: u16, body: &Value) -> std::io::Result<()> {
    answer_bytes(stream, code, body.to_string().as_bytes()).await
}

async fn answer_bytes(stream: &mut TcpStream, code: u16, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {code} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}

/// Tells of every change from the version that was asked for on.
async fn watch(stream: &mut TcpStream, shared: &Shared, resource: &str, request: &Request) -> std::io::Result<()> {
    let since = request.query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")).unwrap();
    let since: u64 = since.parse().unwrap();
    let (mut changes, missed) = {
        let state = shared.state.lock().unwrap();
        let newer = |object: &&Value| version_of(object) > since;
        let missed: Vec<Value> = state
            .objects
            .iter()
            .filter(|(name, _)| **name == resource)
            .flat_map(|(_, all)| all.values())
            .filter(newer)
            .map(|object| json!({"type": "MODIFIED", "object": object}))
            .collect();
        (shared.changes.subscribe(), missed)
    };
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    for change in missed {
        write_chunk(stream, &change).await?;
    }
    loop {
        let (of, change) = changes.recv().await.unwrap();
        if of == resource {
            write_chunk(stream, &change).await?;
        }
    }
}

fn version_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

async fn write_chunk(stream: &mut TcpStream, event: &Value) -> std::io::Result<()> {
    let line = format!("{event}\n");
    stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await
}
