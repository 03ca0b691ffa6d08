//! Pods as child processes of the daemon: `buildkitd`, as root or by rootlesskit, each with its own state and socket.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::{
    ApplyError, Backend, DeleteError, DialError, Dialed, Finding, LogStream, LogsError, LogsWanted, PodUsage, Pods,
    Removal, Removed, Transport, UsageError, Verdict,
};
use crate::builder::{Node, PodName};
use crate::options::LocalOptions;

mod backoff;
pub mod child;
mod command;
mod config;
mod course;
mod machine;
mod output;
mod places;
mod publish;
mod removal;
mod supervisor;
mod usage;

pub use machine::Machine;

use backoff::Backoff;
use machine::Launch;
use places::Places;
use publish::Publisher;
use supervisor::{Clocks, Plan, Supervisor};

/// The first start after a crash, the longest wait, and how long a process has to run for its crashes to be forgotten.
const BACKOFF: (Duration, Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(30), Duration::from_secs(60));

/// From SIGTERM to SIGKILL.
const TERM: Duration = Duration::from_secs(10);

/// The `buildkitd` processes of one node. Dropping it takes them down, and waits for that: at most 15 s, because a
/// `buildkitd` that does not end by SIGTERM in 10 s is killed.
#[derive(Debug)]
pub struct LocalBackend {
    node: Node,
    options: LocalOptions,
    state: PathBuf,
    run: PathBuf,
    machine: Machine,
    clocks: Clocks,
    publisher: Publisher,
    incarnations: Arc<AtomicU64>,
    supervisors: Mutex<BTreeMap<u32, Supervisor>>,
}

impl LocalBackend {
    /// Starts no process yet: `apply` does. `state` keeps what outlives a restart, `run` the sockets; the node has both
    /// directories to itself.
    pub fn start(node: Node, options: LocalOptions, state: PathBuf, run: PathBuf) -> Self {
        Self::start_on(Machine::this(), TERM, node, options, state, run)
    }

    /// The same on a given machine, with `term` from SIGTERM to SIGKILL.
    pub fn start_on(
        machine: Machine,
        term: Duration,
        node: Node,
        options: LocalOptions,
        state: PathBuf,
        run: PathBuf,
    ) -> Self {
        let (first, ceiling, healthy) = BACKOFF;
        let backoff = Backoff::try_new(first, ceiling, healthy).expect("the ceiling is above the first delay");
        Self {
            node,
            options,
            state,
            run,
            machine,
            clocks: Clocks { backoff, term },
            publisher: Publisher::new(),
            incarnations: Arc::default(),
            supervisors: Mutex::default(),
        }
    }

    fn supervisors(&self) -> MutexGuard<'_, BTreeMap<u32, Supervisor>> {
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(object: &str, source: impl Into<super::BoxError>) -> ApplyError {
        ApplyError::Refused { verb: "run", object: object.to_owned(), source: source.into() }
    }

    fn plan(&self, index: u32, launch: &Launch, flags: &[String]) -> Result<Plan, ApplyError> {
        let pod = places::pod_name(&self.node.name, index).map_err(|error| Self::refused("buildkitd", error))?;
        let places = Places::new(pod, index, &self.state, &self.run);
        let (programs, rootless) = match launch {
            Launch::Root { programs, .. } => (programs, false),
            Launch::Rootless { programs, .. } => (programs, true),
        };
        places.check_lengths(rootless).map_err(|error| Self::refused(places.pod.as_str(), error))?;
        let line = command::command_line(launch, &places, flags, self.machine.supervise(), std::process::id());
        Ok(Plan {
            line,
            path: programs.path.clone(),
            relayed: rootless,
            host: self.machine.host_name(),
            suspect: if rootless { self.machine.namespace_suspect() } else { None },
            clocks: self.clocks,
            incarnations: Arc::clone(&self.incarnations),
            places,
        })
    }

    fn start_missing(&self, replicas: u32) -> Result<(), ApplyError> {
        let mut supervisors = self.supervisors();
        for (_, supervisor) in supervisors.range(replicas..) {
            supervisor.course().leave(self.options.drain_timeout);
        }
        let runs = |index: &u32| supervisors.get(index).is_some_and(|supervisor| supervisor.course().stay());
        let missing: Vec<u32> = (0..replicas).filter(|index| !runs(index)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        command::check_flags(&self.node.buildkitd_flags).map_err(|error| Self::refused("buildkitd", error))?;
        let launch = self.machine.launch(&self.options, &self.node.buildkitd_flags)?;
        let mut flags = self.node.buildkitd_flags.clone();
        if let Some(config) = &self.node.config {
            flags.extend(config::write(config, &self.state).map_err(|error| Self::refused("buildkitd", error))?);
        }
        // All of them are known to be possible before the first one starts.
        let plans = missing.iter().map(|index| Ok((*index, self.plan(*index, &launch, &flags)?)));
        let plans = plans.collect::<Result<Vec<_>, ApplyError>>()?;
        for (index, plan) in plans {
            let predecessor = supervisors.remove(&index);
            let supervisor = Supervisor::start(plan, self.publisher.clone(), predecessor)
                .map_err(|source| ApplyError::Spawn { program: "buildkitd".to_owned(), source })?;
            supervisors.insert(index, supervisor);
        }
        Ok(())
    }

    fn places_of(&self, pod: &PodName) -> Option<Places> {
        let index = places::index_of(&self.node.name, pod)?;
        Some(Places::new(pod.clone(), index, &self.state, &self.run))
    }
}

impl Drop for LocalBackend {
    fn drop(&mut self) {
        let supervisors = std::mem::take(&mut *self.supervisors());
        end(supervisors);
    }
}

/// Takes all of them down at the same time, and waits.
fn end(supervisors: BTreeMap<u32, Supervisor>) {
    for supervisor in supervisors.values() {
        supervisor.course().go();
    }
    drop(supervisors);
}

#[async_trait::async_trait]
impl Backend for LocalBackend {
    async fn apply(&self, replicas: u32) -> Result<(), ApplyError> {
        // What it asks of the file system is a few names in memory: not worth a thread.
        self.start_missing(replicas)?;
        self.publisher.applied(true);
        Ok(())
    }

    fn pods(&self) -> watch::Receiver<Pods> {
        self.publisher.subscribe()
    }

    async fn dial(&self, pod: &PodName) -> Result<Dialed, DialError> {
        let there = self.publisher.subscribe().borrow().get(pod).is_some();
        let index = places::index_of(&self.node.name, pod).filter(|_| there);
        let course = index.and_then(|index| self.supervisors().get(&index).map(|run| Arc::clone(run.course())));
        let (Some(course), Some(places)) = (course, self.places_of(pod)) else {
            return Err(DialError::Gone(pod.clone()));
        };
        let transport = Transport::Unix;
        match UnixStream::connect(&places.socket).await {
            Ok(stream) => Ok(Dialed { stream: Box::new(course.used_by(stream)), transport }),
            Err(source) => Err(DialError::Failed { pod: pod.clone(), transport, source: Box::new(source) }),
        }
    }

    async fn logs(&self, pod: &PodName, wanted: LogsWanted) -> Result<LogStream, LogsError> {
        let places = self.places_of(pod).ok_or_else(|| LogsError::Gone(pod.clone()))?;
        let failed = |pod: PodName| {
            move |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => LogsError::Gone(pod.clone()),
                _ => LogsError::Failed { pod: pod.clone(), source: Box::new(error) },
            }
        };
        let (name, pods) = (pod.clone(), self.publisher.subscribe());
        // The list may be closed too: then the backend is gone.
        let gone = move || pods.has_changed().is_err() || pods.borrow().get(&name).is_none();
        let stream = output::read(places.log, wanted.tail, wanted.follow, gone).await.map_err(failed(pod.clone()))?;
        let failed = failed(pod.clone());
        Ok(Box::pin(stream.map(move |chunk| chunk.map_err(&failed))))
    }

    async fn delete(&self, removal: Removal) -> Result<Removed, DeleteError> {
        let supervisors = std::mem::take(&mut *self.supervisors());
        let (state, run) = (self.state.clone(), self.run.clone());
        let rootlesskit = self.machine.rootlesskit();
        let object = format!("the state directory {}", state.display());
        let removed = tokio::task::spawn_blocking(move || {
            end(supervisors);
            removal::remove(&run, None)?;
            if removal.keep_state { Ok(()) } else { removal::remove(&state, rootlesskit.as_deref()) }
        });
        let refused = |source: super::BoxError| DeleteError::Refused { object, source };
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(refused(Box::new(error))),
            Err(error) => return Err(refused(Box::new(error))),
        }
        self.publisher.applied(false);
        let kept = removal.keep_state.then(|| self.state.display().to_string());
        Ok(Removed::Gone { kept: kept.into_iter().collect() })
    }

    async fn examine(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        match self.machine.launch(&self.options, &self.node.buildkitd_flags) {
            Ok(Launch::Root { programs, .. }) => {
                findings.push(Finding::new(Verdict::Works, "buildkitd", programs.buildkitd.display().to_string()));
                let text = "not needed: the daemon runs as root";
                findings.push(Finding::new(Verdict::Note, "user namespaces", text));
            }
            Ok(Launch::Rootless { programs, rootlesskit }) => {
                let text = format!("{}, by {}", programs.buildkitd.display(), rootlesskit.display());
                findings.push(Finding::new(Verdict::Works, "buildkitd", text));
                findings.push(match self.machine.namespace_suspect() {
                    None => Finding::new(Verdict::Works, "user namespaces", "switched on, with subordinate ids"),
                    Some(suspect) => Finding::new(Verdict::Warning, "user namespaces", suspect),
                });
                let kernel = self.machine.kernel();
                let slow = super::kernel::without_overlayfs(&kernel);
                findings.extend(slow.map(|why| Finding::new(Verdict::Warning, "overlayfs", why)));
            }
            Err(error) => {
                let finding = Finding::new(Verdict::Fails, "buildkitd", crate::report::chain(&error));
                findings.push(match error.hint() {
                    Some(hint) => finding.hint(hint),
                    None => finding,
                });
            }
        }
        findings
    }

    async fn usage(&self) -> Result<Vec<PodUsage>, UsageError> {
        let pods = self.publisher.subscribe().borrow().pods.clone();
        let places = pods.into_iter().filter_map(|pod| Some((pod.name.clone(), self.places_of(&pod.name)?.root)));
        Ok(usage::usage(places.collect()).await)
    }
}
