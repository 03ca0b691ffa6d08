//! A Job followed to its end: its events are shown, Ctrl-C cancels it, and how it ended is how the command ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buildfleet_proto::fleet::job_event::Event;
use buildfleet_proto::fleet::{Job, JobEnd, JobEvent, JobPlace, JobState, RemoveJobRequest};
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;
use tonic::{Code, Streaming};

use super::context::PackError;
use super::show::Show;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::report;

/// How often a view that moves is painted.
const FRAME: Duration = Duration::from_millis(100);

/// The context that is on its way.
pub(super) struct Upload {
    /// How the packing ended.
    pub(super) packed: oneshot::Receiver<Result<(), PackError>>,
    /// Told when it has ended well: only then does the daemon hear that the context is whole.
    pub(super) whole: Option<oneshot::Sender<()>>,
    pub(super) size: Arc<AtomicU64>,
}

impl Upload {
    /// Waits for the end of the packing; once it has ended, for ever.
    async fn ended(upload: &mut Option<Self>) -> Result<(), Failure> {
        let Some(Self { packed, whole, .. }) = upload.as_mut().filter(|upload| upload.whole.is_some()) else {
            return std::future::pending().await;
        };
        match packed.await {
            Ok(Ok(())) => {
                // The call may have ended meanwhile, which is told by it.
                let _ = whole.take().map(|whole| whole.send(()));
                Ok(())
            }
            // The call has ended, and says why.
            Ok(Err(PackError::Unwanted(_))) | Err(_) => {
                drop(whole.take());
                Ok(())
            }
            Ok(Err(error)) => Err(Failure::other(report::chain(&error)).doing("upload the context")),
        }
    }

    /// How large the context is, when all of it is packed.
    fn all(&self) -> Option<u64> {
        self.whole.is_none().then(|| self.size.load(Ordering::Relaxed))
    }
}

/// What is followed.
pub(super) struct Followed {
    pub(super) client: Client,
    /// Its name may be known only by the first event.
    pub(super) place: JobPlace,
    /// Whether Ctrl-C is for the Job, or only for this command.
    pub(super) cancels: bool,
    pub(super) upload: Option<Upload>,
    pub(super) interrupts: Signal,
    pub(super) show: Show,
}

/// How it went, when nothing failed here.
pub(super) enum Outcome {
    /// By the Job's name.
    Ended((String, JobEnd)),
    /// The events are over and the Job is not.
    Left(Job),
}

type Removal = Pin<Box<dyn Future<Output = Result<Job, Failure>>>>;

impl Followed {
    /// Waits for the daemon's first word, while a context may be packed.
    pub(super) async fn begun(
        &mut self,
        asked: impl Future<Output = Result<Streaming<JobEvent>, Failure>>,
    ) -> Result<Streaming<JobEvent>, Failure> {
        tokio::pin!(asked);
        loop {
            tokio::select! {
                events = &mut asked => return events,
                ended = Upload::ended(&mut self.upload) => ended?,
                // Nothing is made that would stay: the daemon lets go of a Job without its context.
                _ = self.interrupts.recv() => return Err(Failure::interrupted()),
            }
        }
    }

    /// Shows all events. Not bounded: the daemon ends them with the Job, and an end of the daemon ends them as well.
    pub(super) async fn follow(mut self, mut events: Streaming<JobEvent>) -> Result<Outcome, Failure> {
        let mut frames = tokio::time::interval(FRAME);
        let (mut job, mut end) = (Job::default(), None);
        let mut removal: Option<Removal> = None;
        let ended: Result<(), Failure> = loop {
            tokio::select! {
                event = events.message(), if end.is_none() => match event {
                    Ok(Some(JobEvent { event: Some(event) })) => {
                        if let Some(last) = self.event(event, &mut job)? {
                            end = Some(last);
                            if removal.is_none() {
                                break Ok(());
                            }
                        }
                    }
                    Ok(Some(JobEvent { event: None })) => {}
                    Ok(None) | Err(_) if removal.is_some() => end = Some(JobEnd::default()),
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(self.broken(status, &job)),
                },
                ended = Upload::ended(&mut self.upload) => {
                    if let Err(failure) = ended {
                        break Err(failure);
                    }
                }
                _ = self.interrupts.recv() => {
                    if removal.is_some() || !self.cancels || self.place.name.is_empty() {
                        self.show.finish(None)?;
                        return Err(self.left(removal.is_some()));
                    }
                    let name = &self.place.name;
                    self.show.say(&format!("info: canceling job {name}; Ctrl-C once more leaves it at once"));
                    let (mut client, place) = (self.client.clone(), self.place.clone());
                    removal = Some(Box::pin(async move {
                        client.remove_job(RemoveJobRequest { place: Some(place), ..RemoveJobRequest::default() }).await
                    }));
                }
                removed = finished(&mut removal) => {
                    self.show.finish(None)?;
                    let name = &self.place.name;
                    return Err(match removed {
                        Ok(_) => Failure::interrupted().doing(format!("build: job {name} was canceled")),
                        Err(failure) => failure.doing(format!("cancel job {name}")),
                    });
                }
                _ = frames.tick() => self.show.tick(),
            }
        };
        self.show.finish(end.as_ref())?;
        ended?;
        let name = self.place.name;
        Ok(end.map_or(Outcome::Left(job), |end| Outcome::Ended((name, end))))
    }

    /// One event; the last one is given back.
    fn event(&mut self, event: Event, job: &mut Job) -> Result<Option<JobEnd>, Failure> {
        match event {
            Event::Job(told) => {
                (self.place.name, self.place.namespace) = (told.name.clone(), told.namespace.clone());
                self.show.job(&told)?;
                *job = told;
            }
            Event::News(news) => self.show.news(&news)?,
            Event::Output(bytes) => self.show.output(&bytes)?,
            Event::Uploaded(bytes) => self.show.uploaded(bytes, self.upload.as_ref().and_then(Upload::all))?,
            Event::End(end) => return Ok(Some(end)),
        }
        Ok(None)
    }

    /// A stream that ended by an error: the Job's own, or of the way to it.
    fn broken(&self, status: tonic::Status, job: &Job) -> Failure {
        let lost = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled);
        let failure = Failure::refused(status);
        match self.place.name.as_str() {
            "" => failure.doing("make the job"),
            name => {
                let failure = failure.doing(format!("follow job {name}"));
                let stays = self.upload.as_ref().is_none_or(|upload| upload.whole.is_none());
                if lost && stays { failure.hint(attach_hint(job)) } else { failure }
            }
        }
    }

    fn left(&self, canceling: bool) -> Failure {
        let name = &self.place.name;
        match (name.as_str(), canceling) {
            ("", _) => Failure::interrupted(),
            (_, true) => Failure::interrupted().hint(format!("job {name} may still be there: `buildfleet job ls`")),
            (_, false) => Failure::interrupted().hint(format!("job {name} goes on: `buildfleet job attach {name}`")),
        }
    }
}

/// How to come back to a Job that goes on.
fn attach_hint(job: &Job) -> String {
    format!("the job goes on without this daemon: `buildfleet job attach {} --namespace {}`", job.name, job.namespace)
}

async fn finished(removal: &mut Option<Removal>) -> Result<Job, Failure> {
    match removal {
        Some(removal) => removal.await,
        None => std::future::pending().await,
    }
}

/// How the command ends: as the build.
pub(super) fn verdict(name: &str, end: &JobEnd) -> Result<(), Failure> {
    let why = match (end.reason.trim(), end.detail.trim()) {
        ("", "") => String::new(),
        (reason, "") => format!(": {reason}"),
        ("", detail) => format!(": {detail}"),
        (reason, detail) if detail.contains(reason) => format!(": {detail}"),
        (reason, detail) => format!(": {reason}: {detail}"),
    };
    match (end.state(), end.exit_code) {
        (JobState::JobSucceeded, _) => Ok(()),
        (JobState::JobCanceled, _) => Err(Failure::other(format!("job {name} was canceled{why}"))),
        (_, Some(code)) if code != 0 => {
            let text = format!("the build in job {name} failed with exit code {code}");
            // What the pod said is on the screen; the reason says more than the code when it is not the code.
            let why = if end.reason == format!("exit code {code}") { String::new() } else { why };
            Err(Failure::ended(u8::try_from(code).unwrap_or(1), text + &why))
        }
        _ => Err(Failure::other(format!("job {name} failed{why}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_ends_as_the_build() {
        let end = |state: JobState, exit_code, reason: &str, detail: &str| JobEnd {
            exit_code,
            state: state.into(),
            reason: reason.into(),
            detail: detail.into(),
        };
        assert!(verdict("x", &end(JobState::JobSucceeded, Some(0), "", "")).is_ok());
        use JobState::{JobCanceled, JobFailed};
        for (end, code, text) in [
            (end(JobFailed, Some(1), "exit code 1", ""), 1, "the build in job x failed with exit code 1"),
            (
                end(JobFailed, Some(137), "OOMKilled", ""),
                137,
                "the build in job x failed with exit code 137: OOMKilled",
            ),
            (end(JobFailed, Some(256), "", ""), 1, "the build in job x failed with exit code 256"),
            (end(JobFailed, None, "Evicted", "low on memory"), 1, "job x failed: Evicted: low on memory"),
            (end(JobFailed, None, "Evicted", "Evicted by kubelet"), 1, "job x failed: Evicted by kubelet"),
            (end(JobFailed, None, "", ""), 1, "job x failed"),
            (end(JobFailed, Some(0), "DeadlineExceeded", ""), 1, "job x failed: DeadlineExceeded"),
            (end(JobCanceled, None, "", ""), 1, "job x was canceled"),
        ] {
            let failure = verdict("x", &end).expect_err(text);
            assert_eq!((failure.code(), failure.render()), (code, format!("error: {text}\n")), "{end:?}");
        }
    }
}
