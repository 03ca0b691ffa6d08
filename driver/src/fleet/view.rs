//! What is known of a node, for users: a pure function of what the backend saw and what answered.

use std::collections::BTreeMap;
use std::time::SystemTime;

use buildfleet_proto::buildkit::{ListWorkersResponse, Platform as WirePlatform, WorkerRecord};

use bytes::Bytes;

use crate::backend::{Pod, PodPhase, Pods, Sharing, StoryLine, Transport};
use crate::builder::{NodeName, Platform, PodName};

/// What outlives the pods and a restart of the daemon, so that `ls` and `inspect` never start a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remembered {
    /// An answer to ListWorkers, merged over the pods.
    pub workers: Option<ListWorkersResponse>,
    /// What the pods' gateway can do.
    pub ping: Option<PingAnswer>,
    /// No pod is wanted: `buildfleet stop`, or never started.
    pub stopped: bool,
}

/// A pod's answer to LLBBridge.Ping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PingAnswer {
    /// As it came: one message with its framing.
    pub answer: Bytes,
    /// What the pod said of its BuildKit; empty when that is not known.
    pub version: String,
}

/// What is known of a node now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeSnapshot {
    pub status: NodeStatus,
    /// Why, when the status is not `Running`.
    pub reason: Option<String>,
    pub wanted: u32,
    pub ready: u32,
    pub pods: Vec<PodSnapshot>,
    /// The story so far, oldest first: lines of the node (pod `None`) and of its pods.
    pub story: Vec<(Option<PodName>, StoryLine)>,
    pub remembered: Remembered,
    /// How somebody else has changed or removed what the node has in its backend.
    pub drift: Option<String>,
    pub sharing: Option<Sharing>,
}

/// In buildx's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NodeStatus {
    /// At least one pod is ready.
    Running,
    /// Pods are wanted and none is ready yet.
    Starting,
    /// No pod is wanted.
    Stopped,
    /// Nothing is known: the backend cannot be reached.
    #[default]
    Inactive,
    /// Pods are wanted, none is ready, and the last try failed.
    Error,
}

/// What is known of a pod now.
#[derive(Debug, Clone, PartialEq)]
pub struct PodSnapshot {
    pub name: PodName,
    pub status: PodStatus,
    pub reason: Option<String>,
    pub host: Option<String>,
    pub started: Option<SystemTime>,
    pub builds: u32,
    pub transport: Option<Transport>,
}

/// How far a pod is, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodStatus {
    Pending,
    /// Running, but it does not answer yet.
    Starting,
    Ready,
    Terminating,
    Failed,
}

/// What the fleet itself knows of a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Link {
    /// Set while a connection stands and answered.
    pub(super) transport: Option<Transport>,
    /// Why the last try failed, when it did.
    pub(super) trouble: Option<String>,
    /// What was not answered over a connection that stands, and is not made up for yet.
    pub(super) remark: Option<String>,
    /// Builds of this daemon that run there.
    pub(super) builds: u32,
}

/// What the fleet itself knows of the node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wish {
    pub(super) stopped: bool,
    pub(super) wanted: u32,
    /// Why the last order to the backend failed, when it did.
    pub(super) trouble: Option<String>,
    /// This process has given an order.
    pub(super) ordered: bool,
}

/// What the pods said of themselves.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Learned {
    pub(super) workers: Option<ListWorkersResponse>,
    pub(super) ping: Option<PingAnswer>,
}

pub(super) fn snapshot(pods: &Pods, links: &BTreeMap<PodName, Link>, wish: &Wish, learned: Learned) -> NodeSnapshot {
    let views: Vec<PodSnapshot> = pods.pods.iter().map(|pod| pod_view(pod, links.get(&pod.name))).collect();
    let ready = views.iter().filter(|pod| pod.status == PodStatus::Ready).count();
    let first_trouble = || {
        let of_pods = views.iter().find_map(|pod| pod.reason.as_ref().map(|reason| format!("{}: {reason}", pod.name)));
        let of_node = pods.notes.iter().rev().find(|note| note.trouble).map(|note| note.text.clone());
        wish.trouble.clone().or(of_pods).or(of_node)
    };
    let (status, reason) = if ready > 0 {
        (NodeStatus::Running, None)
    } else if !pods.known {
        (NodeStatus::Inactive, first_trouble())
    } else if wish.stopped && views.is_empty() {
        (NodeStatus::Stopped, None)
    } else if wish.trouble.is_some() || views.iter().any(|pod| pod.status == PodStatus::Failed) {
        (NodeStatus::Error, first_trouble())
    } else if wish.stopped {
        (NodeStatus::Stopped, None)
    } else {
        (NodeStatus::Starting, first_trouble())
    };
    let story = pods.notes.iter().map(|note| (None, note.clone()));
    let story = story.chain(pods.pods.iter().flat_map(|pod| {
        let answered = links.get(&pod.name).and_then(|link| link.transport);
        let answers = answered.map(|transport| StoryLine::plain(format!("answers by {transport}")));
        pod.story.iter().cloned().chain(answers).map(|line| (Some(pod.name.clone()), line))
    }));
    NodeSnapshot {
        status,
        reason,
        wanted: if wish.stopped { 0 } else { pods.replicas.unwrap_or(wish.wanted) },
        ready: u32::try_from(ready).unwrap_or(u32::MAX),
        story: story.collect(),
        pods: views,
        remembered: Remembered { workers: learned.workers, ping: learned.ping, stopped: wish.stopped },
        drift: pods.drift.clone().or_else(|| lost(pods, wish)),
        sharing: pods.sharing.clone(),
    }
}

/// What was there when the daemon ended, and is no more.
fn lost(pods: &Pods, wish: &Wish) -> Option<String> {
    let lost = pods.known && pods.absent && !wish.stopped && !wish.ordered;
    lost.then(|| "its workload was deleted by somebody else; the next build or bootstrap makes it again".to_owned())
}

fn pod_view(pod: &Pod, link: Option<&Link>) -> PodSnapshot {
    let transport = link.and_then(|link| link.transport);
    let status = match pod.phase {
        PodPhase::Pending => PodStatus::Pending,
        PodPhase::Running if transport.is_some() => PodStatus::Ready,
        PodPhase::Running => PodStatus::Starting,
        PodPhase::Terminating => PodStatus::Terminating,
        PodPhase::Failed => PodStatus::Failed,
    };
    let told = || pod.story.iter().rev().find(|line| line.trouble).map(|line| line.text.clone());
    let reason = match status {
        PodStatus::Ready => link.and_then(|link| link.remark.clone()),
        PodStatus::Starting => link.and_then(|link| link.trouble.clone()),
        PodStatus::Failed => pod.last_end.as_ref().map(ToString::to_string).or_else(told),
        PodStatus::Pending | PodStatus::Terminating => told(),
    };
    PodSnapshot {
        name: pod.name.clone(),
        status,
        reason,
        host: pod.host.clone(),
        started: pod.started,
        builds: link.map_or(0, |link| link.builds),
        transport,
    }
}

/// The last word of each pod and of the node, for an error at the end of a wait.
pub(super) fn last_words(snapshot: &NodeSnapshot) -> Vec<String> {
    let mut words: Vec<String> = snapshot
        .pods
        .iter()
        .filter(|pod| pod.status != PodStatus::Ready)
        .map(|pod| {
            let of_pod = |(name, _): &&(Option<PodName>, StoryLine)| name.as_ref() == Some(&pod.name);
            let last = snapshot.story.iter().rev().find(of_pod).map(|(_, line)| line.text.as_str());
            let told = pod.reason.as_deref().or(last).unwrap_or("nothing is known of it yet");
            format!("{}: {told}", pod.name)
        })
        .collect();
    words
        .extend(snapshot.story.iter().filter(|(pod, line)| pod.is_none() && line.trouble).map(|(_, l)| l.text.clone()));
    if words.is_empty() {
        words.push(snapshot.reason.clone().unwrap_or_else(|| "no pod was created".to_owned()));
    }
    words
}

/// What ListWorkers answers while no pod was ever seen: one worker with the platforms that the user gave, or else this
/// machine's, because a client takes an empty list for a broken builder.
pub(super) fn expected_workers(node: &NodeName, platforms: &[Platform]) -> ListWorkersResponse {
    let given = if platforms.is_empty() { vec![Platform::host()] } else { platforms.to_vec() };
    let platforms = given.iter().map(|platform| WirePlatform {
        architecture: platform.arch().to_owned(),
        os: platform.os().to_owned(),
        variant: platform.variant().unwrap_or_default().to_owned(),
        ..WirePlatform::default()
    });
    let labels = [("dev.buildfleet.state".to_owned(), "not started yet".to_owned())];
    ListWorkersResponse {
        record: vec![WorkerRecord {
            id: format!("buildfleet-{node}"),
            labels: labels.into(),
            platforms: platforms.collect(),
            ..WorkerRecord::default()
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::PodEnd;

    fn pod(name: &str, phase: PodPhase, story: &[StoryLine]) -> Pod {
        Pod {
            name: name.parse().unwrap(),
            phase,
            incarnation: 1,
            host: None,
            started: None,
            story: story.to_vec(),
            last_end: None,
        }
    }

    fn seen(pods: Vec<Pod>) -> Pods {
        Pods { known: true, applied: true, pods, ..Pods::default() }
    }

    fn up(wanted: u32) -> Wish {
        Wish { wanted, ..Wish::default() }
    }

    fn ready_link() -> Link {
        Link { transport: Some(Transport::Exec), ..Link::default() }
    }

    #[test]
    fn a_node_runs_as_soon_as_one_pod_answers() {
        let pods = seen(vec![pod("a", PodPhase::Running, &[]), pod("b", PodPhase::Pending, &[])]);
        let links = BTreeMap::from([("a".parse().unwrap(), ready_link())]);
        let view = snapshot(&pods, &links, &up(2), Learned::default());
        assert_eq!((view.status, view.ready, view.wanted), (NodeStatus::Running, 1, 2));
        assert_eq!(view.pods[0].status, PodStatus::Ready);
    }

    #[test]
    fn the_status_tells_stopped_starting_failing_and_unknown_apart() {
        let crashed = || {
            let mut crashed = pod("a", PodPhase::Failed, &[]);
            crashed.last_end = Some(PodEnd { reason: "OOMKilled".into(), detail: None });
            crashed
        };
        let stopped = Wish { stopped: true, ..up(1) };
        for (pods, wish, status, reason) in [
            (Pods::unknown(), up(1), NodeStatus::Inactive, None),
            (seen(vec![]), stopped, NodeStatus::Stopped, None),
            (seen(vec![]), up(1), NodeStatus::Starting, None),
            (seen(vec![pod("a", PodPhase::Running, &[])]), up(1), NodeStatus::Starting, None),
            (seen(vec![crashed()]), up(1), NodeStatus::Error, Some("a: OOMKilled")),
            (seen(vec![]), Wish { trouble: Some("quota".into()), ..up(1) }, NodeStatus::Error, Some("quota")),
        ] {
            let view = snapshot(&pods, &BTreeMap::new(), &wish, Learned::default());
            assert_eq!((view.status, view.reason.as_deref()), (status, reason));
        }
    }

    #[test]
    fn what_was_deleted_while_no_daemon_ran_is_missed() {
        let absent = Pods { applied: false, absent: true, ..seen(vec![]) };
        let drift = |pods: &Pods, wish: Wish| snapshot(pods, &BTreeMap::new(), &wish, Learned::default()).drift;
        assert!(drift(&absent, up(1)).is_some_and(|drift| drift.contains("deleted by somebody else")));
        assert_eq!(drift(&absent, Wish { stopped: true, ..up(1) }), None, "never started, or stopped");
        assert_eq!(drift(&absent, Wish { ordered: true, ..up(1) }), None, "on its way");
        assert_eq!(drift(&Pods { known: false, ..absent.clone() }, up(1)), None);
        let told = Pods { drift: Some("edited".into()), ..absent };
        assert_eq!(drift(&told, up(1)).as_deref(), Some("edited"));
    }

    #[test]
    fn a_terminating_pod_is_not_ready_though_it_answers() {
        let pods = seen(vec![pod("a", PodPhase::Terminating, &[])]);
        let links = BTreeMap::from([("a".parse().unwrap(), ready_link())]);
        assert_eq!(snapshot(&pods, &links, &up(1), Learned::default()).ready, 0);
    }

    #[test]
    fn the_last_words_are_one_line_for_each_pod_that_is_not_ready() {
        let story = [StoryLine::plain("scheduled on node-a"), StoryLine::trouble("pull failed: not found")];
        let pods = seen(vec![
            pod("a", PodPhase::Pending, &story),
            pod("b", PodPhase::Pending, &story[..1]),
            pod("c", PodPhase::Running, &[]),
        ]);
        let links = BTreeMap::from([("c".parse().unwrap(), ready_link())]);
        let view = snapshot(&pods, &links, &up(3), Learned::default());
        assert_eq!(last_words(&view), ["a: pull failed: not found", "b: scheduled on node-a"]);
    }

    #[test]
    fn without_a_pod_the_last_words_are_the_nodes() {
        let mut pods = seen(vec![]);
        pods.notes.push(StoryLine::trouble("pods cannot be created: exceeded quota"));
        let view = snapshot(&pods, &BTreeMap::new(), &up(1), Learned::default());
        assert_eq!(last_words(&view), ["pods cannot be created: exceeded quota"]);
    }

    #[test]
    fn before_the_first_pod_the_given_platforms_are_expected() {
        let platforms = ["linux/arm64".parse().unwrap(), "linux/arm/v7".parse().unwrap()];
        let expected = expected_workers(&"kube0".parse().unwrap(), &platforms);
        let told: Vec<_> =
            expected.record[0].platforms.iter().map(|p| (p.architecture.as_str(), p.variant.as_str())).collect();
        assert_eq!(told, [("arm64", ""), ("arm", "v7")]);
    }
}
