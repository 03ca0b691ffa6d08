//! Connections to a pod for streams that carry much: a build context on the shared connection would delay the small calls
//! of all other builds there.
//!
//! A stream never waits for a new connection when there is an old one: it joins the least used, and another one is dialled
//! behind its back for those that come later. One is dialled when the pod becomes ready and stays, so that a build on a
//! warm pod dials nothing: an exec takes 0.1 s, and each is a request to the API server.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::NodeFleet;
use super::follow::{self, ConnectError};
use super::upstream::{Driver, Upstream};
use crate::report;

/// How many there may be to one pod.
const MOST: usize = 4;

/// For how long streams have to share before another one is dialled: the sessions of one small build overlap for a moment.
const CROWDED: Duration = Duration::from_millis(200);

/// For how long one that nobody uses is kept when there is another one.
const IDLE: Duration = Duration::from_secs(30);

/// What a stream waits for the first one, while that is being dialled: the pod has just become ready.
const FIRST: Duration = Duration::from_millis(250);

/// From one dial to the next. After a failure it grows to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The handle on one stream's place; the place is free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Bulk {
    requests: SendRequest<Bytes>,
    /// `None` on the shared connection.
    place: Option<(Lines, u64)>,
}

impl Bulk {
    /// For a pod to which no other connection could be made.
    pub(super) fn shared(requests: SendRequest<Bytes>) -> Self {
        Self { requests, place: None }
    }

    /// Takes the stream for which the place is; keep `self` for as long as that.
    pub(crate) fn requests(&mut self) -> &mut SendRequest<Bytes> {
        &mut self.requests
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        if let Some((lines, number)) = &self.place {
            lines.left(*number);
        }
    }
}

/// The connections of one pod, as those see them who use them.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<watch::Sender<Table>>);

#[derive(Debug)]
struct Table {
    /// Oldest first.
    lines: Vec<Line>,
    dialling: bool,
    /// Somebody had to go without.
    missed: bool,
    /// Since when streams share connections, and none is free for the next.
    crowded: Option<Instant>,
}

#[derive(Debug)]
struct Line {
    number: u64,
    requests: SendRequest<Bytes>,
    streams: u32,
    /// When it was made, or the last stream left.
    since: Instant,
}

impl Lines {
    /// None yet: whoever keeps them dials the first one as soon as it runs.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Table { lines: Vec::new(), dialling: true, missed: false, crowded: None })))
    }

    /// A place on the least used connection; `None` when there is none, after a short wait if one is being dialled.
    pub(super) async fn place(&self) -> Option<Bulk> {
        let mut table = self.0.subscribe();
        let any = table.wait_for(|table| !table.lines.is_empty() || !table.dialling);
        // Its end is told by the table that is looked at next.
        let _ = tokio::time::timeout(FIRST, any).await;
        loop {
            let mut bulk = self.take()?;
            match poll_fn(|cx| bulk.requests.poll_ready(cx)).await {
                Ok(()) => return Some(bulk),
                Err(_) => self.remove(bulk.place.as_ref().map(|(_, number)| *number)?),
            }
        }
    }

    /// Those that have streams.
    pub(super) fn in_use(&self) -> Vec<(u64, SendRequest<Bytes>)> {
        let table = self.0.borrow();
        let used = table.lines.iter().filter(|line| line.streams > 0);
        used.map(|line| (line.number, line.requests.clone())).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        self.0.send_modify(|table| table.change(change));
    }

    fn take(&self) -> Option<Bulk> {
        let mut taken = None;
        self.change(|table| match table.lines.iter_mut().min_by_key(|line| line.streams) {
            Some(line) => {
                line.streams += 1;
                taken = Some(Bulk { requests: line.requests.clone(), place: Some((self.clone(), line.number)) });
            }
            None => table.missed = true,
        });
        taken
    }

    fn left(&self, number: u64) {
        self.change(|table| {
            if let Some(line) = table.lines.iter_mut().find(|line| line.number == number) {
                line.streams = line.streams.saturating_sub(1);
                line.since = Instant::now();
            }
        });
    }

    /// A stream may have come since somebody saw that nobody uses the connection: then it stays.
    fn close_idle(&self) {
        self.change(|table| {
            if let Some((at, number)) = table.close_at()
                && at <= Instant::now()
            {
                // Its handle goes with it, and without any the connection ends itself.
                table.lines.retain(|line| line.number != number);
            }
        });
    }

    fn dialled(&self, line: Option<Line>) {
        self.change(|table| {
            table.dialling = false;
            table.lines.extend(line);
        });
    }

    fn remove(&self, number: u64) {
        self.change(|table| table.lines.retain(|line| line.number != number));
    }
}

impl Table {
    fn change(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
        let streams: u32 = self.lines.iter().map(|line| line.streams).sum();
        let shared = usize::try_from(streams).is_ok_and(|streams| streams > self.lines.len());
        let none_free = self.lines.iter().all(|line| line.streams > 0);
        self.crowded =
            (shared && none_free && self.lines.len() < MOST).then(|| self.crowded.unwrap_or_else(Instant::now));
    }

    /// When another connection should be dialled: at once, later unless something changes, or not at all.
    fn dial_at(&self) -> Option<Instant> {
        if self.lines.is_empty() { Some(Instant::now()) } else { self.crowded.map(|since| since + CROWDED) }
    }

    /// Which connection is to be closed next, and when: never the last one.
    fn close_at(&self) -> Option<(Instant, u64)> {
        let idle = self.lines.iter().skip(1).filter(|line| line.streams == 0);
        idle.map(|line| (line.since + IDLE, line.number)).min()
    }
}

/// Dials connections when they are needed and closes them when they are not, for as long as it is polled.
pub(super) async fn keep(fleet: &NodeFleet, upstream: &Upstream) {
    let (pod, lines) = (&upstream.pod, upstream.lines());
    let mut drivers: JoinSet<u64> = JoinSet::new();
    let mut table = lines.0.subscribe();
    let (mut not_before, mut pause) = (Instant::now(), PAUSE);
    for number in 1.. {
        loop {
            let (dial_at, close_at) = {
                let table = table.borrow_and_update();
                let failed = pause > PAUSE;
                // Without any use, what failed is not tried again.
                let dial_at = table.dial_at().filter(|_| table.missed || table.crowded.is_some() || !failed);
                (dial_at.map(|at| at.max(not_before)), table.close_at().map(|(at, _)| at))
            };
            tokio::select! {
                changed = table.changed() => if changed.is_err() { return },
                () = until(dial_at) => break,
                () = until(close_at) => lines.close_idle(),
                Some(ended) = drivers.join_next() => match ended {
                    Ok(number) => lines.remove(number),
                    Err(error) => tracing::error!(%pod, %error, "the task of a connection for bulk failed"),
                },
            }
        }
        lines.change(|table| (table.dialling, table.missed) = (true, false));
        let outcome = dial(fleet, upstream).await;
        let requests = match outcome {
            Ok((requests, driver)) => {
                drivers.spawn(async move {
                    let ended = driver.await;
                    tracing::trace!(?ended, "a connection for bulk has ended");
                    number
                });
                pause = PAUSE;
                Some(requests)
            }
            Err(error) => {
                tracing::debug!(%pod, error = report::chain(&error), "no further connection to a pod");
                pause = (pause * 2).min(LONGEST_PAUSE);
                None
            }
        };
        not_before = Instant::now() + pause;
        lines.dialled(requests.map(|requests| Line { number, requests, streams: 0, since: Instant::now() }));
    }
}

async fn dial(fleet: &NodeFleet, upstream: &Upstream) -> Result<(SendRequest<Bytes>, Driver), ConnectError> {
    let dialed = follow::dial(fleet, &upstream.pod).await?;
    upstream.greet_again(dialed).await.map_err(ConnectError::Probe)
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
