//! Tables of scenarios: each row runs by itself and fails under its own name.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A row that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(45);

/// So many rows at once: each has pods of its own, and a machine has few processors.
const AT_ONCE: usize = 4;

/// Scenarios that have something in common.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    tasks: JoinSet<()>,
    names: Vec<(tokio::task::Id, String)>,
    room: Option<Arc<Semaphore>>,
}

impl Rows {
    pub(crate) fn row(&mut self, name: impl Into<String>, scenario: impl Future<Output = ()> + Send + 'static) {
        let (name, room) = (name.into(), self.room.get_or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone());
        let told = name.clone();
        let task = self.tasks.spawn(async move {
            let _place = room.acquire_owned().await.unwrap();
            assert!(tokio::time::timeout(LIMIT, Box::pin(scenario)).await.is_ok(), "{told}: hangs");
        });
        self.names.push((task.id(), name));
    }

    /// Waits for all, and panics with the names of those that failed.
    pub(crate) async fn pass(mut self) {
        let mut failed = Vec::new();
        while let Some(done) = self.tasks.join_next_with_id().await {
            if let Err(error) = done {
                let name = self.names.iter().find(|(id, _)| *id == error.id()).map(|(_, name)| name.clone());
                failed.push(name.unwrap_or_default());
            }
        }
        failed.sort();
        assert!(failed.is_empty(), "{} of {} rows fail: {failed:#?}", failed.len(), self.names.len());
    }
}
