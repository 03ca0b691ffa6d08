//! A daemon in this process, and how its API is spoken.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use buildfleet::daemon::launch;
use buildfleet::daemon::{Daemon, DaemonError};
use buildfleet::settings::Settings;
use buildfleet::shutdown::Shutdown;
use buildfleet_proto::fleet::fleet_client::FleetClient;
use buildfleet_proto::fleet::{
    Builder, CreateRequest, CreateResponse, InspectRequest, Kubeconfig, ListRequest, ListResponse, Progress,
    RemoveRequest,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::fake_backend::FakeBackends;

/// Where a daemon lives; it outlives its daemons.
#[derive(Debug)]
pub(crate) struct Home {
    directory: TempDir,
    pub(crate) settings: Settings,
    pub(crate) backends: FakeBackends,
}

impl Home {
    pub(crate) fn new() -> Self {
        let private = fs::Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("bf").permissions(private).tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).into_os_string();
        let variables = BTreeMap::from([("BUILDFLEET_RUNTIME_DIR", at("run")), ("BUILDFLEET_STATE_DIR", at("state"))]);
        let settings = Settings::read(&variables).unwrap();
        Self { directory, settings, backends: FakeBackends::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The files in a directory below this one, sorted.
    pub(crate) fn files(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path().join(directory)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub(crate) async fn try_start(&self) -> Result<Running, DaemonError> {
        let shutdown = Shutdown::new();
        let backends = Box::new(self.backends.clone());
        let daemon = Daemon::start(self.settings.clone(), backends, shutdown.clone()).await?;
        let serving = tokio::spawn(daemon.serve(Duration::from_secs(5)));
        let client = FleetClient::new(launch::connect(&self.settings).await.unwrap().expect("nobody answers"));
        Ok(Running { client, shutdown, serving })
    }

    pub(crate) async fn start(&self) -> Running {
        self.try_start().await.unwrap()
    }
}

/// A daemon that serves.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) client: FleetClient<Channel>,
    pub(crate) shutdown: Shutdown,
    pub(crate) serving: JoinHandle<Result<(), DaemonError>>,
}

impl Running {
    pub(crate) async fn end(self) {
        let Self { client, shutdown, serving } = self;
        drop(client);
        shutdown.drain();
        serving.await.unwrap().unwrap();
    }

    pub(crate) async fn create(&mut self, request: CreateRequest) -> Result<CreateResponse, Status> {
        self.client.create(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn inspect(&mut self, builder: &str) -> Result<Builder, Status> {
        let request = InspectRequest { builder: builder.to_owned() };
        self.client.inspect(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn list(&mut self) -> ListResponse {
        self.client.list(ListRequest {}).await.unwrap().into_inner()
    }

    /// What `rm` told, or why it failed.
    pub(crate) async fn remove(&mut self, builder: &str, force: bool) -> Result<Vec<Progress>, Status> {
        let builder = builder.to_owned();
        let request = RemoveRequest { builder, force, forget: force, ..RemoveRequest::default() };
        self.removed(request).await
    }

    pub(crate) async fn removed(&mut self, request: RemoveRequest) -> Result<Vec<Progress>, Status> {
        told(self.client.remove(request).await?.into_inner()).await
    }
}

/// All that a stream tells until it ends.
pub(crate) async fn told<T>(mut stream: Streaming<T>) -> Result<Vec<T>, Status> {
    let mut events = Vec::new();
    while let Some(event) = stream.message().await? {
        events.push(event);
    }
    Ok(events)
}

/// A request for a node of builder `builder`.
pub(crate) fn kubernetes(builder: &str) -> CreateRequest {
    let kubeconfig = Kubeconfig { paths: vec!["/home/u/.kube/config".to_owned()], context: String::new() };
    CreateRequest {
        builder: builder.to_owned(),
        driver: "kubernetes".to_owned(),
        kubeconfig: Some(kubeconfig),
        ..CreateRequest::default()
    }
}

/// A request for one more node.
pub(crate) fn append(builder: &str) -> CreateRequest {
    CreateRequest { append: true, ..kubernetes(builder) }
}
