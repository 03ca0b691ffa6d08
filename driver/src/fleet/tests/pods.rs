//! Pods in this process: each speaks as much HTTP/2 and gRPC as a fleet asks of one, and does what a test says.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buildfleet_proto::buildkit::frontend::ReturnResponse;
use buildfleet_proto::buildkit::{BuildkitVersion, ListWorkersResponse, SolveResponse, WorkerRecord};
use buildfleet_proto::health::HealthCheckResponse;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request};
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::network::{Ended, Way};
use crate::backend::{
    ApplyError, Backend, DeleteError, DialError, Dialed, LogStream, LogsError, LogsWanted, Pod, PodPhase, Pods,
    Removal, Removed, Transport,
};
use crate::builder::PodName;
use crate::fleet::{FleetConfig, NodeFleet, Remembered};
use crate::options::LoadBalance;
use crate::shutdown::Shutdown;
use crate::wire;

/// How the pods behave.
#[derive(Debug)]
pub(super) struct Told {
    /// The version that ListWorkers tells.
    pub(super) version: String,
    /// What Ping answers; `None` refuses it.
    pub(super) pong: Option<&'static [u8]>,
    /// Connections that one pod takes at a time.
    pub(super) most: usize,
    pub(super) transport: Transport,
    /// Whether health checks are answered.
    pub(super) checks: bool,
    /// A session says something every so often.
    pub(super) chatter: Option<Duration>,
}

/// The pods of one node.
#[derive(Debug)]
pub(super) struct FakePods {
    pods: watch::Sender<Pods>,
    told: Arc<Mutex<Told>>,
    /// Every call, as `pod connection method`.
    calls: Arc<watch::Sender<Vec<String>>>,
    /// Connections that stand, with their servers.
    connections: Arc<watch::Sender<BTreeMap<(PodName, u32), AbortHandle>>>,
    dials: AtomicU32,
    /// Of all connections that were made.
    ways: Mutex<Vec<Way>>,
    /// Builds that have begun and are not over.
    builds: watch::Sender<Vec<String>>,
    servers: Mutex<JoinSet<()>>,
}

impl FakePods {
    pub(super) fn new() -> Arc<Self> {
        let pods = Pods { known: true, applied: true, ..Pods::default() };
        let told = Told {
            version: "v0.33.1".to_owned(),
            pong: Some(b"pong"),
            most: usize::MAX,
            transport: Transport::Exec,
            checks: true,
            chatter: None,
        };
        Arc::new(Self {
            pods: watch::Sender::new(pods),
            told: Arc::new(Mutex::new(told)),
            calls: Arc::default(),
            connections: Arc::default(),
            dials: AtomicU32::new(0),
            ways: Mutex::default(),
            builds: watch::Sender::default(),
            servers: Mutex::default(),
        })
    }

    pub(super) fn fleet(self: &Arc<Self>, remembered: Remembered) -> Arc<NodeFleet> {
        let config = FleetConfig {
            node: "kube0".parse().unwrap(),
            replicas: 1,
            loadbalance: LoadBalance::Sticky,
            timeout: Duration::from_secs(20),
            platforms: Vec::new(),
            remembered,
        };
        NodeFleet::start(config, self.clone(), Shutdown::new())
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap());
    }

    pub(super) fn set(&self, name: &str, phase: PodPhase) {
        let name: PodName = name.parse().unwrap();
        let host = Some("node-b".to_owned());
        let pod = Pod { name, phase, incarnation: 1, host, started: None, story: Vec::new(), last_end: None };
        self.pods.send_modify(|pods| {
            pods.pods.retain(|other| other.name != pod.name);
            pods.pods.push(pod);
            pods.pods.sort_by(|a, b| a.name.cmp(&b.name));
        });
    }

    /// The backend cannot look them up.
    pub(super) fn be_unknown(&self) {
        self.pods.send_modify(|pods| pods.known = false);
    }

    /// How often a method was called.
    pub(super) fn count(&self, method: &str) -> usize {
        self.calls.borrow().iter().filter(|call| call.ends_with(&format!("/{method}"))).count()
    }

    /// Waits for calls of a method.
    pub(super) async fn called(&self, method: &str, wanted: usize) {
        let mut calls = self.calls.subscribe();
        let enough = calls.wait_for(|_| self.count(method) >= wanted);
        tokio::time::timeout(Duration::from_secs(60), enough).await.expect("the calls do not come").unwrap();
    }

    /// The numbers of a pod's connections that stand: dials of all pods are counted from one.
    pub(super) fn connections(&self, pod: &str) -> Vec<u32> {
        self.connections.borrow().keys().filter(|(name, _)| name.as_str() == pod).map(|(_, number)| *number).collect()
    }

    /// The numbers of the connections on which a method was called.
    pub(super) fn called_on(&self, method: &str) -> Vec<u32> {
        let calls = self.calls.borrow();
        let of_method = calls.iter().filter(|call| call.ends_with(&format!("/{method}")));
        of_method.map(|call| call.split(' ').nth(1).unwrap().parse().unwrap()).collect()
    }

    pub(super) fn break_connection(&self, number: u32) {
        let connections = self.connections.borrow();
        connections.iter().find(|((_, other), _)| *other == number).unwrap().1.abort();
    }

    /// The pod is not there any more.
    pub(super) fn end(&self, name: &str) {
        self.pods.send_modify(|pods| pods.pods.retain(|pod| pod.name.as_str() != name));
    }

    /// The network loses all that the present connections carry.
    pub(super) fn drop_everything(&self) {
        self.ways.lock().unwrap().iter().for_each(Way::drop_everything);
    }

    /// All present connections fail.
    pub(super) fn break_with(&self, kind: io::ErrorKind) {
        self.ways.lock().unwrap().iter().for_each(|way| way.break_with(kind));
    }

    pub(super) fn dials(&self) -> u32 {
        self.dials.load(Ordering::SeqCst)
    }

    /// Builds that a pod still holds open.
    pub(super) fn open_builds(&self) -> usize {
        self.builds.borrow().len()
    }
}

#[async_trait::async_trait]
impl Backend for FakePods {
    async fn apply(&self, _replicas: u32) -> Result<(), ApplyError> {
        Ok(())
    }

    fn pods(&self) -> watch::Receiver<Pods> {
        self.pods.subscribe()
    }

    async fn dial(&self, pod: &PodName) -> Result<Dialed, DialError> {
        let number = self.dials.fetch_add(1, Ordering::SeqCst) + 1;
        let (most, transport) = {
            let told = self.told.lock().unwrap();
            (told.most, told.transport)
        };
        if self.connections(pod.as_str()).len() >= most {
            let source = "no further connection".into();
            return Err(DialError::Failed { pod: pod.clone(), transport, source });
        }
        let (near, far) = tokio::io::duplex(64 << 10);
        let server = Server {
            name: format!("{pod} {number}"),
            told: Arc::clone(&self.told),
            calls: Arc::clone(&self.calls),
            builds: self.builds.clone(),
        };
        let place = (pod.clone(), number);
        let stands = Stands(Arc::clone(&self.connections), place.clone());
        let task = self.servers.lock().unwrap().spawn(async move {
            let _stands = stands;
            server.serve(far).await;
        });
        self.connections.send_modify(|connections| drop(connections.insert(place, task)));
        let way = Way::default();
        self.ways.lock().unwrap().push(way.clone());
        Ok(Dialed { stream: Box::new(Ended { stream: near, way }), transport })
    }

    async fn logs(&self, pod: &PodName, _wanted: LogsWanted) -> Result<LogStream, LogsError> {
        Err(LogsError::Gone(pod.clone()))
    }

    async fn delete(&self, _removal: Removal) -> Result<Removed, DeleteError> {
        Ok(Removed::gone())
    }
}

/// Takes a connection off the list also when its task is aborted.
struct Stands(Arc<watch::Sender<BTreeMap<(PodName, u32), AbortHandle>>>, (PodName, u32));

impl Drop for Stands {
    fn drop(&mut self) {
        self.0.send_modify(|connections| drop(connections.remove(&self.1)));
    }
}

/// One connection to a pod, from the pod's side.
#[derive(Debug, Clone)]
struct Server {
    name: String,
    told: Arc<Mutex<Told>>,
    calls: Arc<watch::Sender<Vec<String>>>,
    builds: watch::Sender<Vec<String>>,
}

impl Server {
    async fn serve(self, stream: DuplexStream) {
        let Ok(mut connection) = wire::serve(wire::buffered(stream)).await else { return };
        let mut calls = JoinSet::new();
        while let Some(Ok((request, respond))) = connection.accept().await {
            calls.spawn(self.clone().call(request, respond));
        }
    }

    async fn call(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let method = request.uri().path().to_owned();
        let build = request.headers().get(wire::BUILD).map(|id| id.to_str().unwrap().to_owned());
        self.calls.send_modify(|calls| calls.push(format!("{} {method}", self.name)));
        let (_, body) = request.into_parts();
        let question = if method.ends_with("/Session") { Vec::new() } else { whole(body).await };
        let answer = match method.rsplit('/').next().unwrap() {
            "ListWorkers" => {
                let version = self.told.lock().unwrap().version.clone();
                let version = BuildkitVersion { version, ..BuildkitVersion::default() };
                let worker = WorkerRecord { buildkit_version: Some(version), ..WorkerRecord::default() };
                Some(wire::message(&ListWorkersResponse { record: vec![worker] }))
            }
            "Solve" => {
                let solve: buildfleet_proto::buildkit::SolveRequest = prost::Message::decode(&question[5..]).unwrap();
                assert!(solve.internal, "the fleet's own builds are no builds of the user");
                self.builds.send_modify(|builds| builds.push(solve.r#ref.clone()));
                let mut builds = self.builds.subscribe();
                let returned = builds.wait_for(|builds| !builds.contains(&solve.r#ref));
                let cancelled = tokio::select! {
                    returned = returned => returned.is_err(),
                    _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => true,
                };
                if cancelled {
                    return self.builds.send_modify(|builds| builds.retain(|open| *open != solve.r#ref));
                }
                Some(wire::message(&SolveResponse::default()))
            }
            "Ping" => {
                let build = build.expect("a call of the gateway names its build");
                self.builds.subscribe().wait_for(|builds| builds.contains(&build)).await.unwrap();
                let pong = self.told.lock().unwrap().pong;
                pong.map(|pong| [&[0, 0, 0, 0, u8::try_from(pong.len()).unwrap()], pong].concat().into())
            }
            "Return" => {
                let build = build.expect("a call of the gateway names its build");
                self.builds.send_modify(|builds| builds.retain(|open| *open != build));
                Some(wire::message(&ReturnResponse {}))
            }
            "Session" => {
                let Ok(mut open) = respond.send_response(wire::headers(), false) else { return };
                let chatter = self.told.lock().unwrap().chatter;
                loop {
                    match chatter {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => std::future::pending().await,
                    }
                    let _ = open.send_data(Bytes::from_static(b"."), false);
                }
            }
            "Check" if self.told.lock().unwrap().checks => Some(wire::message(&HealthCheckResponse { status: 1 })),
            "Check" => return std::future::pending().await,
            _ => None,
        };
        let Ok(mut to) = respond.send_response(wire::headers(), false) else { return };
        let mut trailers = HeaderMap::new();
        let code = if answer.is_some() { 0 } else { 12 };
        if let Some(answer) = answer {
            let _ = to.send_data(answer, false);
        }
        trailers.insert("grpc-status", HeaderValue::from(code));
        let _ = to.send_trailers(trailers);
    }
}

async fn whole(mut body: RecvStream) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
        whole.extend_from_slice(&chunk);
    }
    whole
}
