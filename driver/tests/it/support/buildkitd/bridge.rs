//! LLBBridge: what a client that drives its build itself calls. Messages are read from their bytes, so that fields which the
//! proxy does not know are seen to arrive.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use buildfleet_proto::buildkit::WorkerRecord;
use buildfleet_proto::buildkit::frontend::*;
use bytes::Bytes;
use prost::Message;
use tonic::body::Body;
use tonic::server::{NamedService, UnaryService};
use tonic::{Code, Request, Response, Status};

use super::Machine;
use super::jobs::{Job, Work};
use super::script;
use super::seen::{Event, Open};
use crate::support::user::build::Failure;
use crate::support::user::raw::Raw;

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// BuildKit's limit for one message.
const LARGEST: usize = 16 << 20;

#[derive(Debug, Clone)]
pub(super) struct Bridge(pub(super) Arc<Machine>);

impl NamedService for Bridge {
    const NAME: &'static str = "moby.buildkit.v1.frontend.LLBBridge";
}

impl tower::Service<http::Request<Body>> for Bridge {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let call = Call { machine: Arc::clone(&self.0), method };
        let mut grpc = tonic::server::Grpc::new(Raw).max_decoding_message_size(LARGEST);
        Box::pin(async move { Ok(grpc.unary(call, request).await) })
    }
}

/// One call.
struct Call {
    machine: Arc<Machine>,
    method: String,
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = Answer<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (machine, method) = (Arc::clone(&self.machine), self.method.clone());
        Box::pin(async move { machine.bridge(&method, request).await.map(Response::new) })
    }
}

/// The field `result` of a ReturnRequest, as far as the generated type leaves it out.
#[derive(Clone, PartialEq, Message)]
struct Return {
    #[prost(message, optional, tag = "1")]
    result: Option<Metadata>,
    #[prost(message, optional, tag = "2")]
    error: Option<Failure>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(map = "string, bytes", tag = "10")]
    metadata: HashMap<String, Vec<u8>>,
}

impl Machine {
    async fn bridge(&self, method: &str, request: Request<Bytes>) -> Result<Bytes, Status> {
        let _open = Open::new(&self.seen, |seen| &seen.open_calls);
        let builds: Vec<_> = request.metadata().get_all("buildkit-controlapi-buildid").iter().collect();
        let [build] = builds[..] else {
            return Err(Status::unknown(format!("forwarding {method}: no buildid found in context")));
        };
        let build = build.to_str().unwrap();
        self.seen.happens(Event::Bridge(build.to_owned(), method.to_owned()));
        let job = self.jobs.find_driven(build, self.clocks.bridge).await;
        let job =
            job.map_err(|status| Status::new(status.code(), format!("forwarding {method}: {}", status.message())))?;
        let message = request.into_inner();
        let malformed = |error: prost::DecodeError| Status::internal(error.to_string());
        match method {
            "Ping" => Ok(self.pong()),
            "Solve" => self.make(&job, SolveRequest::decode(message).map_err(malformed)?).await,
            "Return" => {
                let rest = Return::decode(message.clone()).map_err(malformed)?;
                give_back(&job, ReturnRequest::decode(message).map_err(malformed)?, rest)
            }
            // Each names a handle in its first field.
            "Evaluate" | "ReadFile" | "ReadDir" | "StatFile" => {
                let handle = EvaluateRequest::decode(message).map_err(malformed)?.r#ref;
                let work = job.work(&handle, || format!("no such ref: {handle}, all []"))?;
                self.evaluate(&job, &work).await?;
                let file = ReadFileResponse { data: format!("of {}", self.name).into_bytes() };
                Ok(if method == "ReadFile" { file.encode_to_vec().into() } else { Bytes::new() })
            }
            // Its result is a handle, too, but of no consequence here.
            "NewContainer" => Ok(Bytes::new()),
            _ => Err(Status::unimplemented(format!("no method {method}"))),
        }
    }

    /// An answer that no other pod gives.
    fn pong(&self) -> Bytes {
        let labels = (0..200).map(|cap| (format!("source.cap.{cap}"), "enabled".to_owned())).collect();
        let worker = WorkerRecord { id: self.name.clone(), labels, ..WorkerRecord::default() };
        PongResponse { workers: vec![worker] }.encode_to_vec().into()
    }

    /// Runs the frontend. Its result has one handle, or one for each platform; `result` may ask for the old forms.
    async fn make(&self, job: &Arc<Job>, request: SolveRequest) -> Result<Bytes, Status> {
        let options = request.frontend_opt;
        script::run(self, job, &options, "do").await?;
        let platforms: Vec<String> =
            options.get("platform").map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default();
        let old = options.get("result").is_some_and(|form| form == "deprecated");
        let handle = || job.handle(&Arc::new(Work { options: options.clone(), ..Work::default() }));
        let new = || Ref { id: handle(), def: None };
        let form = match (platforms.len() > 1, old) {
            (false, false) => result::Result::Ref(new()),
            (false, true) => result::Result::RefDeprecated(handle()),
            (true, false) => {
                let refs = platforms.iter().map(|platform| (platform.clone(), new())).collect();
                result::Result::Refs(RefMap { refs })
            }
            (true, true) => {
                let refs = platforms.iter().map(|platform| (platform.clone(), handle())).collect();
                result::Result::RefsDeprecated(RefMapDeprecated { refs })
            }
        };
        let attested = options.contains_key("attest:sbom").then(|| {
            let attestation = vec![Attestation { r#ref: Some(new()) }];
            ("0".to_owned(), Attestations { attestation })
        });
        let mut made = Result_ { result: Some(form), attestations: attested.into_iter().collect() }.encode_to_vec();
        let config = format!("config made by {}", self.name).into_bytes();
        let rest = Metadata { metadata: HashMap::from([("containerimage.config".to_owned(), config)]) };
        // Messages that are put one after the other are one message with the fields of both.
        rest.encode(&mut made).unwrap();
        Ok(answer(&made))
    }

    /// Does what a handle stands for, unless it was done.
    pub(super) async fn evaluate(&self, job: &Arc<Job>, work: &Arc<Work>) -> Result<(), Status> {
        work.done.get_or_init(|| script::run(self, job, &work.options, "build")).await.clone()
    }
}

use buildfleet_proto::buildkit::frontend::Result as Result_;
use std::result::Result;

/// LLBBridge's SolveResponse with a result that is bytes already.
fn answer(result: &[u8]) -> Bytes {
    let mut answer = Vec::with_capacity(result.len() + 8);
    prost::encoding::encode_key(3, prost::encoding::WireType::LengthDelimited, &mut answer);
    prost::encoding::encode_varint(result.len() as u64, &mut answer);
    answer.extend_from_slice(result);
    answer.into()
}

fn give_back(job: &Job, request: ReturnRequest, rest: Return) -> Result<Bytes, Status> {
    if let Some(Failure { code, message }) = rest.error {
        job.return_once(Err(Status::new(Code::from(code), message)))?;
        return Ok(Bytes::new());
    }
    let Some(result) = request.result else { return Err(Status::invalid_argument("result is required")) };
    let mut handles: Vec<String> = match result.result {
        None => Vec::new(),
        Some(result::Result::RefDeprecated(id) | result::Result::Ref(Ref { id, .. })) => vec![id],
        Some(result::Result::RefsDeprecated(refs)) => refs.refs.into_values().collect(),
        Some(result::Result::Refs(refs)) => refs.refs.into_values().map(|handle| handle.id).collect(),
    };
    let attested = result.attestations.into_values().flat_map(|attestations| attestations.attestation);
    handles.extend(attested.filter_map(|attestation| attestation.r#ref.map(|handle| handle.id)));
    // The empty handle stands for an empty result.
    let handles = handles.into_iter().filter(|handle| !handle.is_empty());
    let works: Result<Vec<_>, Status> =
        handles.map(|handle| job.work(&handle, || format!("return reference {handle} not found"))).collect();
    for (name, value) in rest.result.unwrap_or_default().metadata {
        job.fact(&name, String::from_utf8_lossy(&value));
    }
    job.return_once(Ok(works?))?;
    Ok(Bytes::new())
}
