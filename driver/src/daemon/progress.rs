//! What a command tells its client while it works.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use buildfleet_proto::fleet::Progress;
use buildfleet_proto::fleet::progress::Level;
use tokio::sync::mpsc;
use tonic::Status;

use crate::backend::StoryLine;
use crate::builder::{NodeName, PodName};
use crate::fleet::NodeSnapshot;

/// A client that reads nothing for so long misses a line; the work goes on.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to the client of one command.
#[derive(Debug, Clone)]
pub(super) struct Teller(mpsc::Sender<Result<Progress, Status>>);

impl Teller {
    /// A way to a client, and its other end.
    pub(super) fn new() -> (Self, mpsc::Receiver<Result<Progress, Status>>) {
        let (sender, receiver) = mpsc::channel(64);
        (Self(sender), receiver)
    }

    pub(super) async fn info(&self, node: &NodeName, text: String) {
        self.tell(event(node, None, text, Level::Info)).await;
    }

    pub(super) async fn warning(&self, node: &NodeName, text: String) {
        self.tell(event(node, None, text, Level::Warning)).await;
    }

    pub(super) async fn tell(&self, event: Progress) {
        // A client that is gone or does not read changes nothing about the work.
        let _ = self.0.send_timeout(Ok(event), PATIENCE).await;
    }

    /// Ends the stream with an error.
    pub(super) async fn fail(&self, status: Status) {
        let _ = self.0.send_timeout(Err(status), PATIENCE).await;
    }

    /// Resolves when the client is gone.
    pub(super) async fn gone(&self) {
        self.0.closed().await;
    }
}

/// Turns a node's snapshots into what is new in each.
#[derive(Debug)]
pub(super) struct News {
    node: NodeName,
    told: BTreeSet<(Option<PodName>, String)>,
    counts: (u32, u32),
}

impl News {
    /// What a node that is ready already went through is old news.
    pub(super) fn since(node: NodeName, first: &NodeSnapshot) -> Self {
        let mut news = Self { node, told: BTreeSet::new(), counts: (0, 0) };
        if first.ready > 0 && first.ready >= first.wanted {
            news.next(first);
        }
        news
    }

    /// What this snapshot says that none before it said, oldest first.
    pub(super) fn next(&mut self, snapshot: &NodeSnapshot) -> Vec<Progress> {
        let counts = (snapshot.ready, snapshot.wanted);
        let mut events = Vec::new();
        for (pod, line) in &snapshot.story {
            if self.told.insert((pod.clone(), line.text.clone())) {
                let StoryLine { text, trouble } = line.clone();
                let level = if trouble { Level::Warning } else { Level::Info };
                events.push(event(&self.node, pod.as_ref(), text, level));
            }
        }
        if counts != self.counts && counts.0 > 0 {
            let (ready, wanted) = counts;
            let (text, level) = if ready >= wanted {
                ("ready".to_owned(), Level::Ready)
            } else {
                (format!("{ready} of {wanted} pods ready"), Level::Info)
            };
            events.push(event(&self.node, None, text, level));
        }
        self.counts = counts;
        for event in &mut events {
            (event.ready, event.wanted) = counts;
        }
        events
    }
}

fn event(node: &NodeName, pod: Option<&PodName>, text: String, level: Level) -> Progress {
    Progress {
        at: Some(SystemTime::now().into()),
        node: node.to_string(),
        pod: pod.map(ToString::to_string).unwrap_or_default(),
        text,
        level: level.into(),
        ready: 0,
        wanted: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(ready: u32, story: &[(Option<&str>, StoryLine)]) -> NodeSnapshot {
        let pod = |name: &str| name.parse().unwrap();
        let story = story.iter().map(|(name, line)| (name.map(pod), line.clone())).collect();
        NodeSnapshot { wanted: 2, ready, story, ..NodeSnapshot::default() }
    }

    fn texts(events: &[Progress]) -> Vec<(&str, &str, Level)> {
        events.iter().map(|event| (event.pod.as_str(), event.text.as_str(), event.level())).collect()
    }

    #[test]
    fn each_line_is_told_once_per_pod() {
        let scheduled = || StoryLine::plain("scheduled");
        let mut news = News::since("kube0".parse().unwrap(), &snapshot(0, &[]));
        let one = news.next(&snapshot(0, &[(Some("a"), scheduled())]));
        assert_eq!(texts(&one), [("a", "scheduled", Level::Info)]);
        let two = news.next(&snapshot(0, &[(Some("a"), scheduled()), (Some("b"), scheduled())]));
        assert_eq!(texts(&two), [("b", "scheduled", Level::Info)]);
        let three = news.next(&snapshot(1, &[(Some("a"), scheduled()), (None, StoryLine::trouble("quota"))]));
        assert_eq!(texts(&three), [("", "quota", Level::Warning), ("", "1 of 2 pods ready", Level::Info)]);
        assert_eq!((three[0].ready, three[0].wanted), (1, 2));
        let four = news.next(&snapshot(2, &[(Some("a"), scheduled())]));
        assert_eq!(texts(&four), [("", "ready", Level::Ready)]);
        assert!(news.next(&snapshot(2, &[(Some("a"), scheduled())])).is_empty());
    }

    #[test]
    fn the_story_of_a_node_that_was_ready_before_is_not_told_again() {
        let first = snapshot(2, &[(Some("a"), StoryLine::plain("scheduled"))]);
        let mut news = News::since("kube0".parse().unwrap(), &first);
        assert!(news.next(&first).is_empty());
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_noticed_and_told_nothing() {
        let (teller, receiver) = Teller::new();
        drop(receiver);
        teller.gone().await;
        teller.info(&"kube0".parse().unwrap(), "stopped".to_owned()).await;
    }
}
