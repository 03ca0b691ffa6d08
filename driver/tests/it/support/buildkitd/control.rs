//! The control API: the part of a build that is no gateway call, and what is asked about builds, caches and workers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use buildfleet_proto::buildkit::control_server::Control;
use buildfleet_proto::buildkit::*;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Machine;
use super::jobs::{Job, Work};
use super::script;
use super::seen::{End, Event, Open, is_own};

/// Told before anything is looked for.
const NOW: &str = "buildkit-current-timestamp";

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Machine>);

impl Machine {
    async fn solve(&self, job: &Arc<Job>, driven: bool) -> Result<(), Status> {
        let works = if driven {
            job.returned().await?
        } else {
            let options = job.request.frontend_attrs.clone();
            script::run(self, job, &options, "do").await?;
            vec![Arc::new(Work { options, ..Work::default() })]
        };
        for work in works {
            self.evaluate(job, &work).await?;
        }
        for (number, exporter) in job.request.exporters.iter().enumerate() {
            self.export(job, number, exporter).await?;
        }
        Ok(())
    }

    /// Exporters to the user send `bytes`; with `doom-after` the pod is to end once it has handed over so many of them.
    async fn export(&self, job: &Job, number: usize, exporter: &Exporter) -> Result<(), Status> {
        if !["tar", "local", "oci", "docker"].contains(&exporter.r#type.as_str()) {
            job.fact("containerimage.digest", "sha256:0");
            return Ok(());
        }
        let number_of = |name: &str| exporter.attrs.get(name).map(|text| text.parse::<usize>().unwrap());
        let session = self.sessions.find(&job.request.session, self.clocks.session).await?;
        let end = number_of("doom-after").map(|bytes| (bytes, &self.doomed));
        let sent = |bytes| _ = self.seen.exported.fetch_add(bytes, Ordering::SeqCst);
        session.export(number, number_of("bytes").unwrap_or_default(), end, sent).await
    }
}

#[tonic::async_trait]
impl Control for Service {
    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Result<Response<ListWorkersResponse>, Status> {
        let version = BuildkitVersion { version: "v0.33.1".to_owned(), ..BuildkitVersion::default() };
        let platform = Platform { os: "linux".to_owned(), architecture: "arm64".to_owned(), ..Platform::default() };
        let record = WorkerRecord {
            id: self.0.name.clone(),
            platforms: vec![platform],
            buildkit_version: Some(version),
            ..WorkerRecord::default()
        };
        Ok(Response::new(ListWorkersResponse { record: vec![record] }))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Err(Status::internal("the daemon answers this itself"))
    }

    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let machine = &self.0;
        let request = request.into_inner();
        let _open = (!is_own(&request.r#ref)).then(|| Open::new(&machine.seen, |seen| &seen.solving));
        let driven = request.frontend.is_empty() && request.definition.is_none();
        // Such a request never becomes a build, as with rights that are not allowed.
        if let Some(exporter) = request.exporters.iter().find(|exporter| exporter.r#type == "nowhere") {
            machine.seen.happens(Event::Solve(Box::new(request.clone())));
            return Err(Status::unknown(format!("exporter \"{}\" could not be found", exporter.r#type)));
        }
        let mut under_way = machine.jobs.begin(request, driven)?;
        let job = Arc::clone(&under_way.job);
        let solved = machine.solve(&job, driven).await;
        under_way.ends(if solved.is_ok() { End::Done } else { End::Failed });
        solved?;
        Ok(Response::new(SolveResponse { exporter_response: job.answer(&machine.name) }))
    }

    type SessionStream = Boxed<BytesMessage>;

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (metadata, _, mut input) = request.into_parts();
        let (near, far) = tokio::io::duplex(64 << 10);
        let (mut reader, mut writer) = tokio::io::split(far);
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(Ok(message)) = input.next().await {
                if writer.write_all(&message.data).await.is_err() {
                    return;
                }
            }
            // The user's half is closed, or broke off: BuildKit reads the same from both.
            let _ = writer.shutdown().await;
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; 32 << 10];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                if sender.send(Ok(BytesMessage { data: buffer[..count].to_vec() })).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(Arc::clone(&self.0.sessions).hold(metadata.into_headers(), near));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type StatusStream = Boxed<StatusResponse>;

    /// The headers go out at once, before the build is found.
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<Self::StatusStream>, Status> {
        let open = Open::new(&self.0.seen, |seen| &seen.open_statuses);
        let (machine, r#ref) = (Arc::clone(&self.0), request.into_inner().r#ref);
        machine.seen.happens(Event::Status(r#ref.clone()));
        let told = async move {
            let found = machine.jobs.find(&r#ref, machine.clocks.status).await;
            let seen = Arc::clone(&machine.seen);
            let told: Self::StatusStream = match found {
                Err(status) => Box::pin(tokio_stream::once(Err(status))),
                Ok(job) => Box::pin(job.follow().map(move |response| {
                    let _open = &open;
                    let bytes = response.logs.iter().map(|log| log.msg.len()).sum();
                    seen.told.fetch_add(bytes, Ordering::SeqCst);
                    Ok(response)
                })),
            };
            told
        };
        let mut response: Response<Self::StatusStream> = Response::new(Box::pin(futures::stream::once(told).flatten()));
        response.metadata_mut().insert(NOW, "2026-01-01T00:00:00.000000000Z".parse().unwrap());
        Ok(response)
    }

    async fn disk_usage(&self, asked: Request<DiskUsageRequest>) -> Result<Response<DiskUsageResponse>, Status> {
        self.0.records.disk_usage(asked.get_ref()).await.map(Response::new)
    }

    type PruneStream = Boxed<UsageRecord>;

    async fn prune(&self, asked: Request<PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        self.0.records.prune(asked.get_ref()).await.map(Response::new)
    }

    type ListenBuildHistoryStream = Boxed<BuildHistoryEvent>;

    /// The headers go out at once here, too.
    async fn listen_build_history(
        &self,
        asked: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        let (records, asked) = (Arc::clone(&self.0.records), asked.into_inner());
        let told = async move {
            let told: Self::ListenBuildHistoryStream = match records.listen(asked).await {
                Ok(told) => told,
                Err(status) => Box::pin(tokio_stream::once(Err(status))),
            };
            told
        };
        let told: Self::ListenBuildHistoryStream = Box::pin(futures::stream::once(told).flatten());
        let mut response = Response::new(told);
        response.metadata_mut().insert(NOW, "2026-01-01T00:00:00.000000000Z".parse().unwrap());
        Ok(response)
    }

    async fn update_build_history(
        &self,
        asked: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        self.0.records.update(asked.get_ref()).await?;
        if asked.get_ref().delete {
            self.0.jobs.forget(&asked.get_ref().r#ref);
        }
        Ok(Response::new(UpdateBuildHistoryResponse::default()))
    }
}
