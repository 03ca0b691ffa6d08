//! The daemon's Jobs service, spoken to as the command line does, with everything that it tells kept.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use buildfleet::daemon::launch;
use buildfleet::settings::Settings;
use buildfleet_proto::fleet::job_event::Event;
use buildfleet_proto::fleet::jobs_client::JobsClient;
use buildfleet_proto::fleet::run_job_request::Message;
use buildfleet_proto::fleet::{
    FollowJobRequest, Job, JobEnd, JobEvent, JobPlace, JobSpec, Kubeconfig, ListJobsRequest, RemoveJobRequest,
    RunJobRequest,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::call::Call;
use super::clock::seconds;
use super::scene::Scene;
use super::tools::cluster;

/// No build of a test takes longer, on however busy a machine.
const LIMIT: Duration = seconds(150);

/// A piece of a context, as large as the service takes it.
const PIECE: usize = 256 * 1024;

/// A client of one daemon.
#[derive(Debug)]
pub(crate) struct Jobs {
    runtime: Runtime,
    client: JobsClient<Channel>,
    namespace: String,
}

impl Jobs {
    /// Starts the scene's daemon if need be.
    pub(crate) fn of(scene: &Scene, namespace: &str) -> Self {
        scene.buildfleet("ls").succeeds();
        let variables = BTreeMap::from([
            ("BUILDFLEET_RUNTIME_DIR", scene.runtime_dir().into_os_string()),
            ("BUILDFLEET_STATE_DIR", scene.state_dir().into_os_string()),
        ]);
        let settings = Settings::read(&variables).expect("the scene's directories");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let channel = runtime.block_on(launch::connect(&settings)).expect("the daemon answers").expect("a daemon");
        Self { runtime, client: JobsClient::new(channel), namespace: namespace.to_owned() }
    }

    pub(crate) fn place(&self, name: &str) -> JobPlace {
        let paths = vec![cluster().kubeconfig.display().to_string()];
        JobPlace {
            kubeconfig: Some(Kubeconfig { paths, context: String::new() }),
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        }
    }

    /// A build of an uploaded context.
    pub(crate) fn spec(&self, name: &str, arguments: &str) -> JobSpec {
        let local =
            "--frontend dockerfile.v0 --local context=/workspace/context --local dockerfile=/workspace/context ";
        JobSpec {
            place: Some(self.place(name)),
            arguments: format!("{local}{arguments}").split_whitespace().map(str::to_owned).collect(),
            uploads_context: true,
            ttl: 600,
            ..JobSpec::default()
        }
    }

    /// Runs a Job in the background; without a context it needs none.
    pub(crate) fn run(&self, spec: JobSpec, context: Option<Context>) -> Following {
        let (pieces, receiver) = tokio::sync::mpsc::channel(4);
        let first = RunJobRequest { message: Some(Message::Spec(spec)) };
        let mut client = self.client.clone();
        self.runtime.spawn(async move {
            let _ = pieces.send(first).await;
            let Some(context) = context else { return };
            tokio::task::spawn_blocking(move || {
                context(&mut |piece: &[u8]| {
                    piece.chunks(PIECE).all(|piece| {
                        let message = Message::Context(piece.to_vec());
                        pieces.blocking_send(RunJobRequest { message: Some(message) }).is_ok()
                    })
                });
            });
        });
        let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
        self.following(async move { client.run(requests).await.map(tonic::Response::into_inner) })
    }

    pub(crate) fn follow(&self, name: &str, follow: bool) -> Following {
        let request = FollowJobRequest { place: Some(self.place(name)), follow, tail: 0 };
        let mut client = self.client.clone();
        self.following(async move { client.follow(request).await.map(tonic::Response::into_inner) })
    }

    fn following(&self, call: impl Future<Output = Result<Streaming<JobEvent>, Status>> + Send + 'static) -> Following {
        let (told, heard) = mpsc::channel();
        let task = self.runtime.spawn(async move {
            let mut stream = match call.await {
                Ok(stream) => stream,
                Err(status) => return drop(told.send(Err(status))),
            };
            loop {
                let next = match stream.message().await {
                    Ok(Some(event)) => Ok(event.event.expect("an event")),
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                if told.send(next).is_err() {
                    return;
                }
            }
        });
        Following { heard, task, events: Vec::new(), failure: None }
    }

    pub(crate) fn list(&self) -> Vec<Job> {
        let request = ListJobsRequest { place: Some(self.place("")), all_namespaces: false };
        self.runtime.block_on(self.client.clone().list(request)).expect("a list").into_inner().jobs
    }

    /// The YAML of a Job that is not made.
    pub(crate) fn render(&self, spec: JobSpec) -> String {
        self.runtime.block_on(self.client.clone().render(spec)).expect("a rendering").into_inner().manifests
    }

    pub(crate) fn remove(&self, name: &str) -> Result<Job, Status> {
        let request = RemoveJobRequest { place: Some(self.place(name)), ..RemoveJobRequest::default() };
        let removed = self.runtime.block_on(self.client.clone().remove(request));
        removed.map(|removed| removed.into_inner().job.expect("the job"))
    }
}

/// Writes the archive, in pieces of any size, until nobody takes it any more.
pub(crate) type Context = Box<dyn FnOnce(&mut dyn FnMut(&[u8]) -> bool) + Send>;

/// A directory as its client packs it.
pub(crate) fn directory(dir: &Path) -> Context {
    let archive = dir.with_extension("tar.gz");
    Call::new("tar").arg("-czf").arg(&archive).arg("-C").arg(dir).arg(".").succeeds();
    let bytes = std::fs::read(archive).expect("a file of our own");
    Box::new(move |piece| {
        piece(&bytes);
    })
}

/// A Dockerfile that says so much, and a file of so many bytes that nobody can compress.
pub(crate) fn large(dockerfile: &'static str, size: u64) -> Context {
    Box::new(move |piece| {
        let mut archive = GzEncoder::new(Pieces(piece), Compression::none());
        append(&mut archive, "Dockerfile", dockerfile.len() as u64, |out| out.write_all(dockerfile.as_bytes()));
        append(&mut archive, "large", size, |out| {
            let mut state = 88_172_645_463_325_252_u64;
            let mut block = vec![0; 1 << 16];
            for _ in 0..size / (1 << 16) {
                for word in block.chunks_exact_mut(8) {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    word.copy_from_slice(&state.to_le_bytes());
                }
                out.write_all(&block)?;
            }
            Ok(())
        });
        let _ = archive.write_all(&[0; 1024]);
        let _ = archive.finish();
    })
}

fn append(out: &mut impl Write, name: &str, size: u64, content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..124].copy_from_slice(b"0000000\x000000000\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    // Whoever no longer takes it says so by the end of the run.
    let _ = out.write_all(&header);
    let _ = content(&mut *out);
    let padding = usize::try_from(size.next_multiple_of(512) - size).expect("less than a block");
    let _ = out.write_all(&vec![0; padding]);
}

struct Pieces<'a>(&'a mut dyn FnMut(&[u8]) -> bool);

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = (self.0)(bytes);
        if taken { Ok(bytes.len()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A Job that somebody hears of. Dropping it is going away.
#[derive(Debug)]
pub(crate) struct Following {
    heard: mpsc::Receiver<Result<Event, Status>>,
    task: tokio::task::JoinHandle<()>,
    pub(crate) events: Vec<Event>,
    failure: Option<Status>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Following {
    fn next(&mut self) -> bool {
        match self.heard.recv_timeout(LIMIT) {
            Ok(Ok(event)) => self.events.push(event),
            Ok(Err(status)) => self.failure = Some(status),
            Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing is told for {LIMIT:?} after {:#?}", self.events),
        }
        true
    }

    /// Waits until it tells such a thing.
    pub(crate) fn until(&mut self, what: &str, is: impl Fn(&Event) -> bool) {
        while !self.events.iter().any(&is) {
            assert!(self.next(), "{what}: the end came first: {:#?} {:?}", self.events, self.failure);
        }
    }

    /// Waits until the output of the build has this in it.
    pub(crate) fn says(&mut self, text: &str) {
        while !self.output().contains(text) {
            assert!(self.next(), "{text}: the end came first: {:#?} {:?}", self.events, self.failure);
        }
    }

    pub(crate) fn output(&self) -> String {
        let pieces = self.events.iter().filter_map(|event| match event {
            Event::Output(piece) => Some(String::from_utf8_lossy(piece).into_owned()),
            _ => None,
        });
        pieces.collect()
    }

    /// What was told of the Job and its pods.
    pub(crate) fn news(&self) -> String {
        let lines = self.events.iter().filter_map(|event| match event {
            Event::News(news) => Some(format!("{}\n", news.text)),
            _ => None,
        });
        lines.collect()
    }

    pub(crate) fn uploaded(&self) -> u64 {
        let bytes = |event: &Event| if let Event::Uploaded(bytes) = event { Some(*bytes) } else { None };
        self.events.iter().filter_map(bytes).max().unwrap_or_default()
    }

    /// The Job as it was made or found.
    pub(crate) fn job(&mut self) -> Job {
        self.until("the job", |event| matches!(event, Event::Job(_)));
        let job =
            self.events.iter().find_map(|event| if let Event::Job(job) = event { Some(job.clone()) } else { None });
        job.expect("it was waited for")
    }

    /// Its end, which has to be the last word.
    pub(crate) fn end(&mut self) -> JobEnd {
        while self.next() {}
        match self.events.last() {
            Some(Event::End(end)) if self.failure.is_none() => end.clone(),
            _ => panic!("no end: {:#?} {:?}", self.events, self.failure),
        }
    }

    /// Why there was none.
    pub(crate) fn fails(&mut self) -> Status {
        while self.next() {}
        self.failure.clone().unwrap_or_else(|| panic!("it did not fail: {:#?}", self.events))
    }
}
