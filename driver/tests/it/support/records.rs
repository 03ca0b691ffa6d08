//! What a fake `buildkitd` keeps of what it did: cache, records of builds and their contents, told as BuildKit v0.33 tells them
//! (`control/control.go`, `solver/llbsolver/history`, containerd's content server).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use buildfleet_proto::buildkit::*;
use buildfleet_proto::content::content_server::Content;
use buildfleet_proto::content::{
    Info, InfoRequest as ContentInfoRequest, InfoResponse as ContentInfoResponse, ListContentRequest,
    ListContentResponse, ReadContentRequest, ReadContentResponse,
};
use futures::{Stream, StreamExt};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The size of the pieces in which a content is read.
const PIECE: usize = 32 << 10;

/// All that one pod keeps.
#[derive(Debug)]
pub(crate) struct Records {
    usage: Mutex<Vec<UsageRecord>>,
    active: Mutex<BTreeMap<String, BuildHistoryRecord>>,
    stored: Mutex<BTreeMap<String, BuildHistoryRecord>>,
    contents: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Builds that were listened to by their refs: their records are hidden when they are deleted, and no more.
    listened: Mutex<BTreeSet<String>>,
    hidden: Mutex<BTreeSet<String>>,
    news: broadcast::Sender<BuildHistoryEvent>,
    refusals: Mutex<HashMap<&'static str, Status>>,
    /// While it is true, calls wait before they answer.
    busy: watch::Sender<bool>,
    calls: Mutex<Vec<String>>,
    /// Calls that are open now.
    pub(crate) open: AtomicUsize,
    /// Records that prune has handed over.
    pub(crate) pruned: AtomicUsize,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            usage: Mutex::default(),
            active: Mutex::default(),
            stored: Mutex::default(),
            contents: Mutex::default(),
            listened: Mutex::default(),
            hidden: Mutex::default(),
            news: broadcast::Sender::new(1024),
            refusals: Mutex::default(),
            busy: watch::Sender::new(false),
            calls: Mutex::default(),
            open: AtomicUsize::default(),
            pruned: AtomicUsize::default(),
        }
    }
}

/// Counts a call for as long as it is open.
struct Open(Arc<Records>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn timestamp(time: SystemTime) -> Option<buildfleet_proto::Timestamp> {
    Some(time.into())
}

fn event(kind: BuildHistoryEventType, record: &BuildHistoryRecord) -> BuildHistoryEvent {
    BuildHistoryEvent { r#type: kind.into(), record: Some(record.clone()) }
}

/// The digest of a build's log.
pub(crate) fn log_digest(r#ref: &str) -> String {
    format!("sha256:log-of-{ref}")
}

/// What a test arranges.
impl Records {
    pub(crate) fn uses(&self, id: &str, size: i64) {
        self.usage.lock().unwrap().push(UsageRecord { id: id.to_owned(), size, ..UsageRecord::default() });
    }

    pub(crate) fn has_content(&self, digest: &str, bytes: &[u8]) {
        self.contents.lock().unwrap().insert(digest.to_owned(), bytes.to_vec());
    }

    pub(crate) fn drops_content(&self, digest: &str) {
        self.contents.lock().unwrap().remove(digest);
    }

    /// A build that began so many seconds ago and is over, with its log.
    pub(crate) fn built(&self, r#ref: &str, ago: u64) {
        self.begins_ago(r#ref, ago);
        self.ends(r#ref);
    }

    /// A build that began so many seconds ago.
    pub(crate) fn begins_ago(&self, r#ref: &str, ago: u64) {
        let created_at = timestamp(SystemTime::now() - Duration::from_secs(ago));
        let record = BuildHistoryRecord { r#ref: r#ref.to_owned(), created_at, ..BuildHistoryRecord::default() };
        self.tell(event(BuildHistoryEventType::Started, &record));
        self.active.lock().unwrap().insert(r#ref.to_owned(), record);
    }

    pub(crate) fn begins(&self, r#ref: &str) {
        self.begins_ago(r#ref, 0);
    }

    pub(crate) fn ends(&self, r#ref: &str) {
        let Some(mut record) = self.active.lock().unwrap().remove(r#ref) else { return };
        let log = log_digest(r#ref);
        self.has_content(&log, format!("log of {ref}").as_bytes());
        record.completed_at = timestamp(SystemTime::now());
        record.logs = Some(Descriptor { digest: log, ..Descriptor::default() });
        self.tell(event(BuildHistoryEventType::Complete, &record));
        self.stored.lock().unwrap().insert(r#ref.to_owned(), record);
    }

    pub(crate) fn runs(&self, r#ref: &str) -> bool {
        self.active.lock().unwrap().contains_key(r#ref)
    }

    /// The record is gone, as after 48 hours.
    pub(crate) fn forgets(&self, r#ref: &str) -> bool {
        let known = self.stored.lock().unwrap().remove(r#ref).is_some();
        // BuildKit tells this of every ref that it is asked to delete.
        let record = BuildHistoryRecord { r#ref: r#ref.to_owned(), ..BuildHistoryRecord::default() };
        self.tell(event(BuildHistoryEventType::Deleted, &record));
        known
    }

    pub(crate) fn record(&self, r#ref: &str) -> Option<BuildHistoryRecord> {
        self.stored.lock().unwrap().get(r#ref).cloned()
    }

    /// From now on a call of this name gets this answer.
    pub(crate) fn refuses(&self, call: &'static str, status: Status) {
        self.refusals.lock().unwrap().insert(call, status);
    }

    /// Whether calls wait before they answer.
    pub(crate) fn busy(&self, busy: bool) {
        self.busy.send_replace(busy);
    }

    /// The calls that came, as `Method about`.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }

    fn tell(&self, event: BuildHistoryEvent) {
        // Nobody may be listening.
        let _ = self.news.send(event);
    }

    async fn called(self: &Arc<Self>, call: &str, about: &str) -> Result<Open, Status> {
        self.calls.lock().unwrap().push(format!("{call} {about}").trim_end().to_owned());
        self.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(self));
        let _ = self.busy.subscribe().wait_for(|busy| !busy).await;
        match self.refusals.lock().unwrap().get(call) {
            Some(status) => Err(status.clone()),
            None => Ok(open),
        }
    }
}

/// The control API's part.
impl Records {
    pub(crate) async fn disk_usage(self: &Arc<Self>, asked: &DiskUsageRequest) -> Result<DiskUsageResponse, Status> {
        let _open = self.called("DiskUsage", &asked.filter.join(",")).await?;
        Ok(DiskUsageResponse { record: self.usage.lock().unwrap().clone() })
    }

    pub(crate) async fn prune(self: &Arc<Self>, asked: &PruneRequest) -> Result<Boxed<UsageRecord>, Status> {
        let open = self.called("Prune", &asked.filter.join(",")).await?;
        let pruned = std::mem::take(&mut *self.usage.lock().unwrap());
        Ok(Box::pin(tokio_stream::iter(pruned).map(move |record| {
            open.0.pruned.fetch_add(1, Ordering::SeqCst);
            Ok(record)
        })))
    }

    pub(crate) async fn listen(
        self: &Arc<Self>,
        asked: BuildHistoryRequest,
    ) -> Result<Boxed<BuildHistoryEvent>, Status> {
        let about = if asked.r#ref.is_empty() { asked.filter.join(",") } else { asked.r#ref.clone() };
        let open = self.called("Listen", &about).await?;
        if !asked.r#ref.is_empty() {
            self.listened.lock().unwrap().insert(asked.r#ref.clone());
        }
        let news = self.news.subscribe();
        let about = move |event: &BuildHistoryEvent, r#ref: &str| {
            r#ref.is_empty() || event.record.as_ref().is_some_and(|it| it.r#ref == r#ref)
        };
        let mut events: Vec<_> = {
            let active = self.active.lock().unwrap();
            active.values().map(|record| event(BuildHistoryEventType::Started, record)).collect()
        };
        if !asked.active_only {
            events.extend(self.finished(&asked)?);
        }
        events.retain(|event| about(event, &asked.r#ref));
        let told = tokio_stream::iter(events.into_iter().map(Ok));
        let later = BroadcastStream::new(news).filter_map(move |event| {
            let event = event.ok().filter(|event| about(event, &asked.r#ref));
            async move { event.map(Ok) }
        });
        let all: Boxed<BuildHistoryEvent> = if asked.early_exit { Box::pin(told) } else { Box::pin(told.chain(later)) };
        Ok(Box::pin(all.map(move |event| {
            let _open = &open;
            event
        })))
    }

    /// Sorted by ref; with a limit, the newest.
    fn finished(&self, asked: &BuildHistoryRequest) -> Result<Vec<BuildHistoryEvent>, Status> {
        let mut records: Vec<_> = self.stored.lock().unwrap().values().cloned().collect();
        records.retain(|record| !self.hidden.lock().unwrap().contains(&record.r#ref));
        for filter in &asked.filter {
            let Some(r#ref) = filter.strip_prefix("ref==") else {
                return Err(Status::unknown(format!("failed to parse history filters {filter}")));
            };
            records.retain(|record| record.r#ref == r#ref);
        }
        if asked.limit < 0 {
            return Err(Status::unknown(format!("invalid limit {}", asked.limit)));
        }
        if asked.limit > 0 {
            records.sort_by_key(|record| std::cmp::Reverse(record.created_at.map(|at| (at.seconds, at.nanos))));
            records.truncate(usize::try_from(asked.limit).unwrap());
        }
        Ok(records.iter().map(|record| event(BuildHistoryEventType::Complete, record)).collect())
    }

    pub(crate) async fn update(self: &Arc<Self>, asked: &UpdateBuildHistoryRequest) -> Result<(), Status> {
        let r#ref = &asked.r#ref;
        let what = if asked.delete {
            "Delete"
        } else if asked.finalize {
            "Finalize"
        } else {
            "Pin"
        };
        let _open = self.called(what, r#ref).await?;
        if asked.delete && self.listened.lock().unwrap().contains(r#ref) {
            self.hidden.lock().unwrap().insert(r#ref.clone());
            return Ok(());
        }
        if asked.delete {
            let lost = || Status::not_found(format!("lease \"ref_{ref}\": not found"));
            return self.forgets(r#ref).then_some(()).ok_or_else(lost);
        }
        let mut stored = self.stored.lock().unwrap();
        let Some(record) = stored.get_mut(r#ref) else {
            let lost = || Status::unknown(format!("failed to retrieve ref {ref}: file does not exist"));
            return asked.finalize.then_some(()).ok_or_else(lost);
        };
        if asked.finalize {
            record.trace = Some(Descriptor { digest: format!("sha256:trace-of-{ref}"), ..Descriptor::default() });
        } else {
            record.pinned = asked.pinned;
        }
        record.generation += 1;
        self.tell(event(BuildHistoryEventType::Complete, record));
        Ok(())
    }
}

/// The content service.
#[derive(Debug)]
pub(crate) struct Contents(pub(crate) Arc<Records>);

impl Contents {
    fn find(&self, digest: &str) -> Result<Vec<u8>, Status> {
        let lost = || Status::not_found(format!("content {digest}: not found"));
        self.0.contents.lock().unwrap().get(digest).cloned().ok_or_else(lost)
    }
}

#[tonic::async_trait]
impl Content for Contents {
    async fn info(&self, asked: Request<ContentInfoRequest>) -> Result<Response<ContentInfoResponse>, Status> {
        let digest = asked.into_inner().digest;
        let _open = self.0.called("Info", &digest).await?;
        let size = i64::try_from(self.find(&digest)?.len()).unwrap();
        Ok(Response::new(ContentInfoResponse { info: Some(Info { digest, size }) }))
    }

    type ListStream = Boxed<ListContentResponse>;

    async fn list(&self, _: Request<ListContentRequest>) -> Result<Response<Self::ListStream>, Status> {
        let open = self.0.called("List", "").await?;
        let contents = self.0.contents.lock().unwrap().clone();
        let told = contents.into_iter().map(move |(digest, bytes)| {
            let _open = &open;
            let size = i64::try_from(bytes.len()).unwrap();
            Ok(ListContentResponse { info: vec![Info { digest, size }] })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(told))))
    }

    type ReadStream = Boxed<ReadContentResponse>;

    async fn read(&self, asked: Request<ReadContentRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let ReadContentRequest { digest, offset, size } = asked.into_inner();
        let open = self.0.called("Read", &digest).await?;
        let whole = self.find(&digest)?;
        let begin = usize::try_from(offset).unwrap();
        if begin > whole.len() {
            return Err(Status::out_of_range(format!("read past object length {} bytes", whole.len())));
        }
        let length = if size == 0 { usize::MAX } else { usize::try_from(size).unwrap() };
        let part = whole[begin..].iter().copied().take(length).collect::<Vec<u8>>();
        let pieces: Vec<_> = part.chunks(PIECE).map(<[u8]>::to_vec).collect();
        let told = pieces.into_iter().enumerate().map(move |(number, data)| {
            let _open = &open;
            Ok(ReadContentResponse { offset: i64::try_from(number * PIECE).unwrap(), data })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(told))))
    }
}
