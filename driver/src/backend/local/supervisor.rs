//! One thread per local pod: it starts `buildkitd`, sees it end, starts it again after a while, and takes it down.
//!
//! It is a thread and not a task because the kernel sends the parent-death signal when the *thread* that spawned a child
//! ends: a thread of the runtime's pool may end at any time, this one outlives its child. And the child can be taken down
//! in `Drop`, when no runtime may be left to run a task.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::backoff::{Backoff, jitter};
use super::command::NOT_INHERITED;
use super::course::{Course, Heading};
use super::output;
use super::places::Places;
use super::publish::Publisher;
use crate::backend::{Pod, PodEnd, PodPhase, StoryLine};

/// How often the length of the output is looked at.
const LOG_CHECK: Duration = Duration::from_secs(10);

/// How long a killed process may take to be gone: longer means that the kernel can't end it now.
const KILLED: Duration = Duration::from_secs(5);

/// Lines of output that tell how a process ended.
const LAST_LINES: usize = 3;

/// What `unshare` says before it ends with exit code 1 when its child was killed by SIGKILL: it tries to end by the same
/// signal, and first to reset its handler, which this signal cannot have.
const UNSHARE_OF_KILLED: &str = "unshare: sigprocmask unblock failed";

/// What `buildkitd` says when an earlier one still has its state directory.
const LOCKED: &str = "could not lock";

/// The clocks of a pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    pub(super) backoff: Backoff,
    /// From SIGTERM to SIGKILL.
    pub(super) term: Duration,
}

/// What a supervisor needs to know.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) places: Places,
    /// Program and arguments.
    pub(super) line: Vec<OsString>,
    /// `PATH` of the process.
    pub(super) path: OsString,
    /// The leader passes signals on, so that the group must not get them a second time: a second SIGTERM makes
    /// `buildkitd` drop what it does.
    pub(super) relayed: bool,
    pub(super) host: Option<String>,
    /// What may be wrong with this machine, told when `buildkitd` fails.
    pub(super) suspect: Option<String>,
    pub(super) clocks: Clocks,
    pub(super) incarnations: Arc<AtomicU64>,
}

#[derive(Debug)]
pub(super) enum Event {
    /// There is news of what the pod is to do.
    Course,
    /// Its process has ended and waits to be reaped.
    Exited,
}

/// A running supervisor; dropping it takes the pod down and waits for that.
#[derive(Debug)]
pub(super) struct Supervisor {
    course: Arc<Course>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// `predecessor` has the same files and may still be ending: the new process waits for it.
    pub(super) fn start(plan: Plan, publisher: Publisher, predecessor: Option<Self>) -> io::Result<Self> {
        let (events, inbox) = mpsc::channel();
        let course = Arc::new(Course::new(events.clone()));
        let of_thread = Arc::clone(&course);
        let thread = std::thread::Builder::new().name(format!("pod {}", plan.places.pod)).spawn(move || {
            drop(predecessor);
            let (course, exits) = (of_thread, events);
            Run { plan, publisher, course, inbox, exits, story: Vec::new(), started: None, last_end: None }.run();
        })?;
        Ok(Self { course, thread: Some(thread) })
    }

    /// What the pod is to do.
    pub(super) fn course(&self) -> &Arc<Course> {
        &self.course
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.course.go();
        // Bounded by the two deadlines of a stop.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the supervisor of a local pod has panicked");
        }
    }
}

struct Run {
    plan: Plan,
    publisher: Publisher,
    course: Arc<Course>,
    inbox: mpsc::Receiver<Event>,
    exits: mpsc::Sender<Event>,
    story: Vec<StoryLine>,
    started: Option<SystemTime>,
    last_end: Option<PodEnd>,
}

/// How one process came to its end.
enum Outcome {
    Stopped(PodEnd),
    Crashed(PodEnd),
}

impl Run {
    fn run(mut self) {
        let mut failures = 0;
        let end = loop {
            let begun = Instant::now();
            let incarnation = self.plan.incarnations.fetch_add(1, Ordering::Relaxed) + 1;
            let end = match self.once(incarnation) {
                Outcome::Stopped(end) => break end,
                // Nobody is left to wait for.
                Outcome::Crashed(end) if self.course.now() != Heading::Stay => break end,
                Outcome::Crashed(end) => end,
            };
            failures = self.plan.clocks.backoff.failures_after(failures, begun.elapsed());
            let delay = self.plan.clocks.backoff.delay(failures, jitter());
            self.crashed(incarnation, end.clone(), delay);
            if self.stop_within(delay) {
                break end;
            }
        };
        self.course.go();
        self.clear();
        tracing::debug!(pod = %self.plan.places.pod, %end, "local pod has ended");
        self.publisher.remove(&self.plan.places.pod, end);
    }

    /// One process from its start to its end.
    fn once(&mut self, incarnation: u64) -> Outcome {
        let pod = self.plan.places.pod.clone();
        let (child, begin) = match self.spawn() {
            Ok(spawned) => spawned,
            Err(error) => {
                let reason = "failed to start".to_owned();
                return Outcome::Crashed(PodEnd { reason, detail: Some(error.to_string()) });
            }
        };
        tracing::debug!(%pod, pid = child.id(), "buildkitd was started");
        self.story.truncate(0);
        self.story.push(StoryLine::plain("started buildkitd"));
        self.started = Some(SystemTime::now());
        self.tell(incarnation, PodPhase::Running);
        self.attend(child, begin, incarnation)
    }

    /// The process, and where its output begins.
    fn spawn(&self) -> io::Result<(Child, u64)> {
        let places = &self.plan.places;
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        self.clear();
        for directory in [&places.state, &places.root, &places.sockets, &places.scratch] {
            private.create(directory)?;
        }
        let (log, begin) = output::open(&places.log)?;
        let (program, arguments) =
            self.plan.line.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("PATH", &self.plan.path)
            // Exporters make temporary mounts in it: the daemon's own may be missing, and may end with a login session.
            .env("XDG_RUNTIME_DIR", &places.scratch)
            // The daemon's own may be anywhere, and would be kept from being unmounted.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C at the daemon's terminal is for the daemon alone.
            .process_group(0);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        Ok((command.spawn()?, begin))
    }

    fn clear(&self) {
        let places = &self.plan.places;
        for socket in [&places.socket, &places.trace_socket] {
            if let Err(error) = std::fs::remove_file(socket)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %socket.display(), %error, "failed to remove a socket");
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&places.scratch)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %places.scratch.display(), %error, "failed to remove a directory");
        }
    }

    fn attend(&mut self, mut child: Child, begin: u64, incarnation: u64) -> Outcome {
        // The id of a process that was not reaped yet can't be another's.
        let leader = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let exits = self.exits.clone();
        let watcher = std::thread::Builder::new().name("wait".into()).spawn(move || {
            while waitid(Id::Pid(leader), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::Error::EINTR) {}
            let _ = exits.send(Event::Exited);
        });
        if let Err(error) = watcher {
            let _ = killpg(leader, Signal::SIGKILL);
            let _ = child.wait();
            return Outcome::Crashed(PodEnd { reason: "failed to start".into(), detail: Some(error.to_string()) });
        }
        let mut heading = Heading::Stay;
        let (mut asked, mut killed) = (false, false);
        let mut deadline: Option<Instant> = None;
        loop {
            let now = self.course.now();
            if now != heading && !asked {
                heading = now;
                self.turn(heading, incarnation);
                match heading {
                    Heading::Stay => deadline = None,
                    Heading::Leave(until) => deadline = Some(until),
                    Heading::Go => {
                        asked = true;
                        deadline = Some(Instant::now() + self.plan.clocks.term);
                        self.terminate(leader);
                    }
                }
            }
            let patience = deadline.map_or(LOG_CHECK, |deadline| deadline.saturating_duration_since(Instant::now()));
            match self.inbox.recv_timeout(patience.min(LOG_CHECK)) {
                Ok(Event::Exited) => break,
                Ok(Event::Course) => {}
                Err(_) if !asked => {
                    if let Err(error) = output::bound(&self.plan.places.log, output::LOG_MAX) {
                        tracing::warn!(path = %self.plan.places.log.display(), %error, "failed to shorten a log");
                    }
                }
                Err(_) if deadline.is_some_and(|deadline| Instant::now() < deadline) => {}
                Err(_) if !killed => {
                    killed = true;
                    deadline = Some(Instant::now() + KILLED);
                    let _ = killpg(leader, Signal::SIGKILL);
                }
                Err(_) => {
                    let reason = format!("process {leader} did not end by SIGKILL");
                    return Outcome::Stopped(PodEnd { reason, detail: None });
                }
            }
        }
        // Whatever the leader has left of its group, while its id is still its own.
        let _ = killpg(leader, Signal::SIGKILL);
        let status = child.wait();
        if asked {
            let reason = if killed { "stopped by SIGKILL" } else { "stopped" };
            return Outcome::Stopped(PodEnd { reason: reason.into(), detail: None });
        }
        let mut lines = output::last_lines(&self.plan.places.log, begin, LAST_LINES).unwrap_or_default();
        let reason = if lines.pop_if(|line| line.starts_with(UNSHARE_OF_KILLED)).is_some() {
            format!("killed by {}", Signal::SIGKILL)
        } else {
            status.map_or_else(|error| error.to_string(), reason_of)
        };
        Outcome::Crashed(PodEnd { reason, detail: (!lines.is_empty()).then(|| lines.join("; ")) })
    }

    /// Tells of a new order.
    fn turn(&mut self, heading: Heading, incarnation: u64) {
        self.story.truncate(1);
        let (line, phase) = match heading {
            Heading::Stay => (None, PodPhase::Running),
            Heading::Leave(_) => (Some("was asked to stop, and waits for its builds"), PodPhase::Terminating),
            Heading::Go => (Some("was asked to stop"), PodPhase::Terminating),
        };
        self.story.extend(line.map(StoryLine::plain));
        // An earlier crash is not why it goes.
        self.last_end = None;
        self.tell(incarnation, phase);
    }

    fn terminate(&self, leader: Pid) {
        let sent = if self.plan.relayed { kill(leader, Signal::SIGTERM) } else { killpg(leader, Signal::SIGTERM) };
        if let Err(error) = sent {
            tracing::warn!(pod = %self.plan.places.pod, %error, "failed to send SIGTERM");
        }
    }

    fn crashed(&mut self, incarnation: u64, end: PodEnd, delay: Duration) {
        let again = format!("starts again in {:.1} s", delay.as_secs_f64());
        self.story.truncate(0);
        if end.detail.as_ref().is_some_and(|detail| detail.contains(LOCKED)) {
            self.story.push(StoryLine::plain(format!("an earlier buildkitd still has the state directory; {again}")));
        } else {
            tracing::warn!(pod = %self.plan.places.pod, %end, "local pod has crashed");
            self.story.push(StoryLine::trouble(format!("buildkitd has ended: {end}")));
            self.story.extend(self.plan.suspect.iter().map(StoryLine::trouble));
            self.story.push(StoryLine::plain(again));
        }
        self.last_end = Some(end);
        self.started = None;
        self.tell(incarnation, PodPhase::Failed);
    }

    /// Waits; true when it is to go instead.
    fn stop_within(&self, delay: Duration) -> bool {
        let until = Instant::now() + delay;
        loop {
            if self.course.now() != Heading::Stay {
                return true;
            }
            match self.inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Course | Event::Exited) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return true,
                Err(mpsc::RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    fn tell(&self, incarnation: u64, phase: PodPhase) {
        self.publisher.put(Pod {
            name: self.plan.places.pod.clone(),
            phase,
            incarnation,
            host: self.plan.host.clone(),
            started: self.started,
            story: self.story.clone(),
            last_end: self.last_end.clone(),
        });
    }
}

fn reason_of(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(Ok(signal))) => format!("killed by {signal}"),
        (None, _) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_its_code_or_signal() {
        for (raw, reason) in [(0, "exit code 0"), (1 << 8, "exit code 1"), (9, "killed by SIGKILL"), (62, "signal: 62")]
        {
            assert_eq!(reason_of(ExitStatus::from_raw(raw)), reason);
        }
    }
}
