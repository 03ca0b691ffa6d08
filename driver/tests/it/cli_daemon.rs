//! A daemon that answers from a script, and the command line run against it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use buildfleet_proto::fleet::fleet_server::{Fleet, FleetServer};
use buildfleet_proto::fleet::jobs_server::JobsServer;
use buildfleet_proto::fleet::{
    BootstrapRequest, Builder, Change, CreateRequest, CreateResponse, ExamineRequest, ExamineResponse, Finding,
    InspectRequest, LeaveRequest, ListRequest, ListResponse, LogChunk, LogsRequest, Node, Progress, RemoveRequest,
    ShutdownRequest, ShutdownResponse, StopRequest, UsageRequest, UsageResponse, UseRequest, UseResponse,
    VersionRequest, VersionResponse, progress,
};
use futures::{Stream, StreamExt, stream};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status};

pub(crate) use crate::support::ended::{Ended, ended};
pub(crate) use crate::support::jobs::FakeJobs;

const PROGRAM: &str = env!("CARGO_BIN_EXE_buildfleet");

/// What the daemon knows and was asked.
#[derive(Debug, Default)]
struct Script {
    builders: Vec<Builder>,
    /// What `Create` refuses with.
    create: Option<Status>,
    /// A node that is refused when it is more than looked at.
    bad_node: String,
    warnings: Vec<String>,
    /// What `Create` tells of the cluster.
    changes: Vec<Change>,
    list_warnings: Vec<String>,
    /// What `Bootstrap` tells, and how it ends; `None`: never.
    story: Vec<Progress>,
    end: Option<Result<(), Status>>,
    logs: Vec<LogChunk>,
    findings: Vec<Finding>,
    usage: UsageResponse,
    asked: Vec<String>,
    created: Option<CreateRequest>,
}

/// The machine: a home directory, a daemon and perhaps a buildx.
#[derive(Debug)]
pub(crate) struct Machine {
    home: TempDir,
    script: Arc<Mutex<Script>>,
    daemon: Mutex<Option<Runtime>>,
    pub(crate) jobs: FakeJobs,
}

impl Machine {
    /// A daemon without builders, and no buildx.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let run = home.path().join("run");
        fs::create_dir(&run).expect("ours");
        fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).expect("ours");
        let script = Arc::new(Mutex::new(Script { end: Some(Ok(())), ..Script::default() }));
        // A runtime of its own, whose end closes every connection as a killed daemon does.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a thread");
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(run.join("daemon.sock")).expect("a short path")
        };
        let fleet = FakeFleet { script: Arc::clone(&script), run };
        let jobs = FakeJobs::default();
        let server = tonic::transport::Server::builder()
            .add_service(FleetServer::new(fleet))
            .add_service(JobsServer::new(jobs.clone()));
        runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        Self { home, script, daemon: Mutex::new(Some(runtime)), jobs }
    }

    fn with(self, change: impl FnOnce(&mut Script)) -> Self {
        change(&mut self.script.lock().expect("no test panics with it"));
        self
    }

    pub(crate) fn builder(self, builder: Builder) -> Self {
        self.with(|script| script.builders.push(builder))
    }

    pub(crate) fn create_refuses(self, status: Status) -> Self {
        self.with(|script| script.create = Some(status))
    }

    pub(crate) fn create_refuses_node(self, node: &str) -> Self {
        self.with(|script| script.bad_node = node.to_owned())
    }

    pub(crate) fn create_warns(self, warning: &str) -> Self {
        self.with(|script| script.warnings.push(warning.to_owned()))
    }

    pub(crate) fn create_changes(self, object: &str, diff: &str) -> Self {
        self.with(|script| script.changes.push(Change { object: object.to_owned(), unified_diff: diff.to_owned() }))
    }

    pub(crate) fn list_warns(self, warning: &str) -> Self {
        self.with(|script| script.list_warnings.push(warning.to_owned()))
    }

    /// What Bootstrap tells; `end` is how its stream ends, `None` that it does not.
    pub(crate) fn bootstrap(self, story: Vec<Progress>, end: Option<Result<(), Status>>) -> Self {
        self.with(|script| (script.story, script.end) = (story, end))
    }

    pub(crate) fn logs(self, logs: Vec<LogChunk>) -> Self {
        self.with(|script| script.logs = logs)
    }

    pub(crate) fn findings(self, findings: Vec<Finding>) -> Self {
        self.with(|script| script.findings = findings)
    }

    pub(crate) fn usage(self, usage: UsageResponse) -> Self {
        self.with(|script| script.usage = usage)
    }

    pub(crate) fn run_dir(&self) -> String {
        self.home.path().join("run").display().to_string()
    }

    pub(crate) fn home(&self) -> String {
        self.home.path().display().to_string()
    }

    /// Writes a file below the home directory.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().expect("below home")).expect("ours");
        fs::write(path, text).expect("ours");
        self
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        // PATH has nothing but the fake docker, if there is one, and what its script needs.
        let path = format!("{}:/usr/bin:/bin", self.home.path().display());
        command.args(line.split(' ')).env_clear().env("HOME", self.home.path()).env("PATH", path);
        command.env("BUILDFLEET_RUNTIME_DIR", self.home.path().join("run"));
        if !self.home.path().join("docker").exists() {
            command.env("BUILDFLEET_BUILDX", "off");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs `buildfleet LINE` to its end.
    pub(crate) async fn run(&self, line: &str) -> Ended {
        ended(self.command(line).spawn().expect("the program was built")).await
    }

    pub(crate) async fn run_with(&self, line: &str, variable: &str, value: &str) -> Ended {
        ended(self.command(line).env(variable, value).spawn().expect("the program was built")).await
    }

    pub(crate) fn start(&self, line: &str) -> Child {
        self.command(line).stdin(Stdio::piped()).spawn().expect("the program was built")
    }

    /// The same machine, whose daemon has forgotten what jobs it was asked for.
    pub(crate) fn anew(&self) -> &Self {
        self.jobs.forget();
        self
    }

    /// As if the daemon were killed.
    pub(crate) fn kill_daemon(&self) {
        if let Some(runtime) = self.daemon.lock().expect("no test panics with it").take() {
            runtime.shutdown_background();
        }
    }

    /// What the daemon was asked to do, without the questions.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.script.lock().expect("no test panics with it").asked.clone()
    }

    pub(crate) fn created(&self) -> CreateRequest {
        self.script.lock().expect("no test panics with it").created.clone().expect("Create was called")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill_daemon();
    }
}

pub(crate) fn event(pod: &str, text: &str, level: progress::Level, ready: u32) -> Progress {
    Progress {
        at: None,
        node: "kube0".into(),
        pod: pod.into(),
        text: text.into(),
        level: level.into(),
        ready,
        wanted: 2,
    }
}

/// A builder whose sockets are below `run`.
pub(crate) fn builder(run: &str, name: &str, driver: &str, nodes: &[&str]) -> Builder {
    let node = |name: &&str| Node {
        name: (*name).to_owned(),
        driver: driver.into(),
        endpoint: format!("{driver}://{name}"),
        socket: format!("{run}/nodes/{name}.sock"),
        status: "stopped".into(),
        platforms: vec!["linux/amd64".into()],
        wanted: 2,
        ..Node::default()
    };
    Builder {
        name: name.into(),
        driver: driver.into(),
        nodes: nodes.iter().map(node).collect(),
        socket: format!("{run}/builders/{name}.sock"),
        ..Builder::default()
    }
}

struct FakeFleet {
    script: Arc<Mutex<Script>>,
    run: PathBuf,
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl FakeFleet {
    fn script<T>(&self, with: impl FnOnce(&mut Script) -> T) -> T {
        with(&mut self.script.lock().expect("no test panics with it"))
    }

    fn asked(&self, what: String) {
        self.script(|script| script.asked.push(what));
    }

    fn find(&self, name: &str) -> Result<Builder, Status> {
        self.script(|script| {
            let found =
                script.builders.iter().find(|builder| builder.name == name || (name.is_empty() && builder.current));
            found.cloned().ok_or_else(|| Status::not_found(format!("there is no builder `{name}`")))
        })
    }
}

#[tonic::async_trait]
impl Fleet for FakeFleet {
    type LeaveStream = Events<Progress>;
    type BootstrapStream = Events<Progress>;
    type StopStream = Events<Progress>;
    type RemoveStream = Events<Progress>;
    type LogsStream = Events<LogChunk>;

    async fn version(&self, _: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        let runtime_dir = self.run.display().to_string();
        Ok(Response::new(VersionResponse { version: "9.9.9".into(), pid: 7, runtime_dir, state_dir: "/s".into() }))
    }

    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let request = request.into_inner();
        self.asked(format!("create {}", request.builder));
        let run = self.run.display().to_string();
        self.script(|script| {
            script.created = Some(request.clone());
            if let Some(status) = script.create.take() {
                return Err(status);
            }
            if request.node == script.bad_node && !request.dry_run && !request.node.is_empty() {
                return Err(Status::internal("the disk is full"));
            }
            let name = if request.builder.is_empty() { "invented" } else { &request.builder };
            let at = script.builders.iter().position(|builder| builder.name == name);
            let count = at.map_or(0, |at| script.builders[at].nodes.len());
            let node = if request.node.is_empty() { format!("{name}{count}") } else { request.node.clone() };
            let mut made = builder(&run, name, &request.driver, &[&node]);
            if let Some(at) = at {
                let old = script.builders.remove(at);
                made.nodes = old.nodes.into_iter().filter(|old| old.name != node).chain(made.nodes).collect();
            }
            if !request.dry_run {
                script.builders.push(made.clone());
            }
            let manifests = if request.manifests { format!("kind: Node\nname: {node}\n") } else { String::new() };
            let (warnings, changes) = (script.warnings.clone(), script.changes.clone());
            let (takes_up_state, builder) = (request.force, Some(made));
            Ok(Response::new(CreateResponse { builder, node, warnings, manifests, changes, takes_up_state }))
        })
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<Self::LeaveStream>, Status> {
        let LeaveRequest { builder, node, keep_state, force } = request.into_inner();
        self.find(&builder)?;
        let by_force = if force { " by force" } else { "" };
        let kept = if keep_state { " but its state" } else { "" };
        self.asked(format!("leave {builder} {node}{by_force}{kept}"));
        self.script(|script| {
            let builders = script.builders.iter_mut().filter(|known| known.name == builder);
            builders.for_each(|known| known.nodes.retain(|known| known.name != node));
        });
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn bootstrap(&self, request: Request<BootstrapRequest>) -> Result<Response<Self::BootstrapStream>, Status> {
        let BootstrapRequest { builder, node, .. } = request.into_inner();
        self.asked(format!("bootstrap {builder} {node}"));
        let (story, end) = self.script(|script| (script.story.clone(), script.end.clone()));
        let story = stream::iter(story.into_iter().map(Ok));
        Ok(Response::new(match end {
            Some(Ok(())) => story.boxed(),
            Some(Err(status)) => story.chain(stream::iter([Err(status)])).boxed(),
            None => story.chain(stream::pending()).boxed(),
        }))
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        Ok(Response::new(self.script(|script| ListResponse {
            builders: script.builders.clone(),
            warnings: script.list_warnings.clone(),
        })))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<Builder>, Status> {
        self.find(&request.into_inner().builder).map(Response::new)
    }

    async fn r#use(&self, request: Request<UseRequest>) -> Result<Response<UseResponse>, Status> {
        let name = request.into_inner().builder;
        self.find(&name)?;
        self.asked(format!("use {name}"));
        Ok(Response::new(UseResponse {}))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<Self::StopStream>, Status> {
        let name = request.into_inner().builder;
        self.find(&name)?;
        self.asked(format!("stop {name}"));
        let event = event("", "scaled to 0 pods", progress::Level::Info, 0);
        Ok(Response::new(stream::iter([Ok(event)]).boxed()))
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<Self::RemoveStream>, Status> {
        let RemoveRequest { builder, force, keep_state, forget, keep_daemon } = request.into_inner();
        self.find(&builder)?;
        let by_force = if force { " by force" } else { "" };
        let by_force = if forget && !force { " and forget" } else { by_force };
        let kept = if keep_state { " but its state" } else { "" };
        let kept = if keep_daemon { " but its pods" } else { kept };
        self.asked(format!("remove {builder}{by_force}{kept}"));
        if builder == "stuck" && !force {
            let refused = Status::new(Code::FailedPrecondition, "failed to reach the API server");
            return Ok(Response::new(stream::iter([Err(refused)]).boxed()));
        }
        self.script(|script| script.builders.retain(|known| known.name != builder));
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let LogsRequest { builder, node, follow, tail } = request.into_inner();
        self.asked(format!("logs {builder}/{node} {follow} {tail}"));
        let logs = self.script(|script| script.logs.clone());
        if logs.is_empty() {
            return Err(Status::not_found(format!("there is no node `{node}`")));
        }
        Ok(Response::new(stream::iter(logs.into_iter().map(Ok)).boxed()))
    }

    async fn examine(&self, request: Request<ExamineRequest>) -> Result<Response<ExamineResponse>, Status> {
        let ExamineRequest { builder, driver, .. } = request.into_inner();
        self.asked(format!("examine {builder} {driver}"));
        if builder == "old" {
            return Err(Status::unimplemented(""));
        }
        Ok(Response::new(ExamineResponse { findings: self.script(|script| script.findings.clone()) }))
    }

    async fn usage(&self, _: Request<UsageRequest>) -> Result<Response<UsageResponse>, Status> {
        Ok(Response::new(self.script(|script| script.usage.clone())))
    }

    async fn shutdown(&self, _: Request<ShutdownRequest>) -> Result<Response<ShutdownResponse>, Status> {
        Err(Status::unimplemented("no command asks for it"))
    }
}
