//! Follows a Job to its end: watches, the output of its pods one after the other, and what keeps it from its start.

use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::telling::Told;
use super::watched::Watched;
use super::{Events, JobEnd, JobError, JobEvent, JobFollow, Jobs, output::Output};
use crate::backend::LogsWanted;
use crate::backend::kubernetes::logs;
use crate::builder::PodName;

/// How long the last output, and the last word of a pod, may come after the Job's own end.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// How much later than of its Job the watch may tell of a pod, which is another watch.
const LAG: Duration = Duration::from_secs(3);

/// After which a stream of output that broke is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// So many tries in a row that bring nothing end the reading: the pod is gone, or out of reach.
const TRIES: u32 = 30;

/// What a follower does beside telling.
#[derive(Debug)]
pub(super) struct Duty<'a> {
    /// The Job itself is told first.
    pub(super) announces: bool,
    /// The pod that waits for its context.
    pub(super) awaiting: &'a watch::Sender<Option<String>>,
    /// The Job is given up when no container of it has begun until then.
    pub(super) start_by: Option<(Instant, Duration)>,
}

impl Jobs {
    /// Tells of a Job that is there: first the Job itself, and its end last, when there is one.
    ///
    /// # Errors
    /// When there is no such Job, or the cluster does not say.
    pub async fn follow(&self, name: &str, wanted: JobFollow, events: &Events) -> Result<(), JobError> {
        let connection = self.connection().await?;
        let told = Told::of(self.find(&connection, name).await?);
        let (awaiting, _) = watch::channel(None);
        let duty = Duty { announces: true, awaiting: &awaiting, start_by: None };
        let end = tokio::select! {
            end = self.tell(name, told, wanted, duty, events) => end?,
            () = events.closed() => None,
        };
        if let Some(end) = end {
            let _ = events.send(JobEvent::End(end)).await;
        }
        Ok(())
    }

    /// All of it but the end, which is returned when the Job has come to it. Whoever hears nothing any more is no reason to
    /// stop: that is for the caller to notice.
    pub(super) async fn tell(
        &self,
        name: &str,
        mut told: Told,
        wanted: JobFollow,
        duty: Duty<'_>,
        events: &Events,
    ) -> Result<Option<JobEnd>, JobError> {
        let connection = self.connection().await?;
        let uid = told.uid().unwrap_or_default();
        let mut watched = Watched::begin(&connection, name, &uid);
        watched.first(&mut told).await;
        if let Some(event) = told.seen().filter(|_| duty.announces) {
            let _ = events.send(event).await;
        }
        let mut reading: Option<BoxFuture<'_, ()>> = None;
        let mut over_since: Option<Instant> = None;
        loop {
            for event in told.news() {
                let _ = events.send(event).await;
            }
            duty.awaiting.send_if_modified(|awaiting| {
                let now = told.awaits_context();
                let differs = *awaiting != now;
                *awaiting = now;
                differs
            });
            if reading.is_none()
                && let Some(pod) = told.next_to_read()
            {
                reading = Some(Box::pin(self.read(pod, wanted, events)));
            }
            if told.is_over() {
                let since = *over_since.get_or_insert_with(Instant::now);
                let late = since.elapsed() >= LAST_WORDS;
                let is_explained = told.is_explained() || since.elapsed() >= LAG;
                if late || (is_explained && (reading.is_none() || told.is_cut_short())) {
                    return Ok(Some(told.end()));
                }
            } else if reading.is_none() && !wanted.follow {
                return Ok(None);
            } else if !told.began
                && let Some((_, patience)) = duty.start_by
                && let Some(stuck) = told.stuck().filter(|stuck| stuck.forever)
            {
                tracing::info!(job = name, ?patience, reason = stuck.reason, "the job can never start");
                return Ok(Some(told.given_up(stuck.reason)));
            }
            let give_up = duty.start_by.filter(|_| !told.began && !told.is_over());
            tokio::select! {
                refused = watched.next(&mut told) => if refused {
                    tracing::warn!(server = %connection.server, "the API server refuses the credentials, reading them again");
                    self.cluster.forget();
                    watched = Watched::begin(&self.connection().await?, name, &uid);
                },
                () = next_of(&mut reading) => reading = None,
                () = until(over_since.map(|since| since + if since.elapsed() < LAG { LAG } else { LAST_WORDS })) => {}
                () = until(give_up.map(|(at, _)| at)) => {
                    let seconds = give_up.map_or(0, |(_, patience)| patience.as_secs());
                    let reason = told.stuck().map(|stuck| stuck.reason);
                    let reason = reason.unwrap_or_else(|| format!("it did not start within {seconds} s"));
                    return Ok(Some(told.given_up(reason)));
                }
            }
        }
    }

    /// The output of a pod's build, to its end.
    async fn read(&self, pod: String, wanted: JobFollow, events: &Events) {
        let Ok(pod) = pod.parse::<PodName>() else { return };
        let mut output = Output::default();
        let mut tries = 0;
        while tries < TRIES {
            match self.read_once(&pod, wanted, &mut output, events).await {
                Ok(()) => return,
                Err(true) => tries = 1,
                Err(false) => tries += 1,
            }
            sleep(AGAIN).await;
        }
    }

    /// Until the stream ends; the error says whether anything came before it broke.
    async fn read_once(
        &self,
        pod: &PodName,
        wanted: JobFollow,
        output: &mut Output,
        events: &Events,
    ) -> Result<(), bool> {
        let Ok(connection) = self.connection().await else { return Err(false) };
        let since = output.again();
        let lines = LogsWanted { follow: wanted.follow, tail: wanted.tail.filter(|_| since.is_none()) };
        let stream = logs::timed(&connection, pod, lines, since).await;
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => {
                if error.is_unauthorized() {
                    self.cluster.forget();
                }
                tracing::debug!(%pod, error = crate::report::chain(&error), "the output cannot be read");
                return Err(false);
            }
        };
        let mut any = false;
        while let Some(piece) = stream.next().await {
            let Ok(piece) = piece else { return Err(any) };
            any = true;
            let new = output.take(&piece);
            if !new.is_empty() {
                let _ = events.send(JobEvent::Output(new)).await;
            }
        }
        Ok(())
    }
}

async fn next_of(reading: &mut Option<BoxFuture<'_, ()>>) {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
