//! The daemon's API: requests into commands, what comes of them into messages.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use buildfleet_proto::fleet::fleet_server::Fleet;
use buildfleet_proto::fleet::{
    BootstrapRequest, Builder, CreateRequest, CreateResponse, ExamineRequest, ExamineResponse, InspectRequest,
    LeaveRequest, ListRequest, ListResponse, LogChunk, LogsRequest, Progress, RemoveRequest, ShutdownRequest,
    ShutdownResponse, StopRequest, UsageRequest, UsageResponse, UseRequest, UseResponse, VersionRequest,
    VersionResponse,
};
use tokio::sync::oneshot;
use tokio::time::timeout_at;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::entry::BuilderEntry;
use super::progress::Teller;
use super::registry::Registry;
use crate::backend::{LogsWanted, Removal};
use crate::fleet::NodeStatus;

mod bootstrap;
mod examine;
mod jobs;
mod logs;
mod objects;
mod status;
mod usage;
mod view;

/// How long after a node's own start its first look at the pods is waited for, and their first answers: before that, a
/// node that runs is not told from one that does not.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// The service behind the control socket.
#[derive(Debug, Clone)]
pub(super) struct Api {
    registry: Arc<Registry>,
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Api {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// Runs a command to its end even when its client goes away: half a change would be worse than an unwanted one.
    async fn complete<T: Send + 'static>(
        &self,
        command: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        let (done, result) = oneshot::channel();
        self.registry.shutdown().spawn(async move {
            // A client that is gone needs no answer.
            let _ = done.send(command.await);
        });
        result.await.unwrap_or_else(|_| Err(status::shutting_down()))
    }

    /// As [`Api::complete`], for a command that tells of its progress.
    fn progress<F>(&self, command: impl FnOnce(Arc<Registry>, Teller) -> F) -> Response<Events<Progress>>
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (teller, events) = Teller::new();
        let command = command(Arc::clone(&self.registry), teller.clone());
        self.registry.shutdown().spawn(async move {
            if let Err(status) = command.await {
                teller.fail(status).await;
            }
        });
        Response::new(Box::pin(ReceiverStream::new(events)))
    }

    /// The builder as messages have it, once its nodes had their first look.
    async fn view(&self, entry: &BuilderEntry, current: bool) -> Builder {
        for node in &entry.nodes {
            let mut snapshots = node.fleet.watch();
            let open = |status| matches!(status, NodeStatus::Inactive | NodeStatus::Starting);
            let first_look = snapshots.wait_for(|snapshot| !open(snapshot.status));
            // A backend that is not reached by then is shown as such.
            let _ = timeout_at(node.since + FIRST_LOOK, first_look).await;
        }
        view::builder(entry, current)
    }
}

#[tonic::async_trait]
impl Fleet for Api {
    type LeaveStream = Events<Progress>;
    type BootstrapStream = Events<Progress>;
    type StopStream = Events<Progress>;
    type RemoveStream = Events<Progress>;
    type LogsStream = Events<LogChunk>;

    async fn version(&self, _request: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        let settings = self.registry.settings();
        Ok(Response::new(VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            runtime_dir: settings.runtime_dir().display().to_string(),
            state_dir: settings.state_dir().display().to_string(),
        }))
    }

    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let registry = Arc::clone(&self.registry);
        let command =
            async move { registry.create(request.into_inner()).await.map_err(|error| status::create(&error)) };
        let created = self.complete(command).await?;
        let (_, current) = self.registry.all();
        let is_current = current.as_ref() == Some(&created.builder.name);
        let builder = match &created.entry {
            Some(entry) => view::builder(entry, is_current),
            None => view::planned(&created.builder),
        };
        let (node, warnings, manifests) = (created.node.to_string(), created.warnings, created.manifests);
        let takes_up_state = created.takes_up_state;
        let changes = created.changes.into_iter().map(view::change).collect();
        Ok(Response::new(CreateResponse { builder: Some(builder), node, warnings, manifests, changes, takes_up_state }))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<Self::LeaveStream>, Status> {
        let LeaveRequest { builder, node, keep_state, force } = request.into_inner();
        let removal = Removal { keep_state, force, let_go: false };
        Ok(self.progress(|registry, teller| async move {
            registry.leave(&builder, &node, removal, force, &teller).await.map_err(|error| status::remove(&error))
        }))
    }

    async fn bootstrap(&self, request: Request<BootstrapRequest>) -> Result<Response<Self::BootstrapStream>, Status> {
        let BootstrapRequest { builder, node, timeout_seconds } = request.into_inner();
        let nodes = self.registry.nodes(&builder, &node).map_err(|error| status::lookup(&error))?;
        let timeout = (timeout_seconds > 0).then(|| Duration::from_secs(timeout_seconds.into()));
        Ok(self.progress(|_, teller| bootstrap::bootstrap(nodes, timeout, teller)))
    }

    async fn list(&self, _request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let (entries, current) = self.registry.all();
        let views = entries.iter().map(|entry| self.view(entry, current.as_ref() == Some(&entry.builder.name)));
        let builders = futures::future::join_all(views).await;
        Ok(Response::new(ListResponse { builders, warnings: self.registry.warnings() }))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<Builder>, Status> {
        let entry = self.registry.builder(&request.into_inner().builder).map_err(|error| status::lookup(&error))?;
        let (_, current) = self.registry.all();
        let view = self.view(&entry, current.as_ref() == Some(&entry.builder.name)).await;
        Ok(Response::new(view::builder_with_placements(&entry, view)))
    }

    async fn r#use(&self, request: Request<UseRequest>) -> Result<Response<UseResponse>, Status> {
        let (registry, name) = (Arc::clone(&self.registry), request.into_inner().builder);
        let command = async move { registry.make_current(&name).await.map_err(|error| status::remove(&error)) };
        self.complete(command).await?;
        Ok(Response::new(UseResponse {}))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<Self::StopStream>, Status> {
        let StopRequest { builder } = request.into_inner();
        Ok(self.progress(|registry, teller| async move {
            registry.stop(&builder, &teller).await.map_err(|error| status::remove(&error))
        }))
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<Self::RemoveStream>, Status> {
        let RemoveRequest { builder, force, keep_state, forget, keep_daemon: let_go } = request.into_inner();
        let (removal, forget) = (Removal { keep_state, force, let_go }, force || forget);
        Ok(self.progress(|registry, teller| async move {
            registry.remove(&builder, removal, forget, &teller).await.map_err(|error| status::remove(&error))
        }))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let LogsRequest { builder, node, follow, tail } = request.into_inner();
        let node = self.registry.node(&builder, &node).map_err(|error| status::lookup(&error))?;
        let wanted = LogsWanted { follow, tail: (tail > 0).then_some(tail) };
        let backend = Arc::clone(node.fleet.backend());
        let chunks = logs::logs(node.name.clone(), backend, wanted, self.registry.shutdown()).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }

    async fn examine(&self, request: Request<ExamineRequest>) -> Result<Response<ExamineResponse>, Status> {
        examine::examine(&self.registry, request.into_inner()).await.map(Response::new)
    }

    async fn usage(&self, request: Request<UsageRequest>) -> Result<Response<UsageResponse>, Status> {
        let entry = self.registry.builder(&request.into_inner().builder).map_err(|error| status::lookup(&error))?;
        Ok(Response::new(usage::usage(&entry).await))
    }

    async fn shutdown(&self, _request: Request<ShutdownRequest>) -> Result<Response<ShutdownResponse>, Status> {
        tracing::info!("asked to shut down");
        self.registry.shutdown().drain();
        Ok(Response::new(ShutdownResponse {}))
    }
}
