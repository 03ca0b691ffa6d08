//! Pods that somebody else runs: found by the workload's own selector, reached by exec, never changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod as KubePod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::follow::{Followed, Shared, follow};
use super::view::View;
use super::{BUILDKITD, client, dial, errors, logs};
use crate::backend::{
    ApplyError, Backend, DeleteError, DialError, Dialed, LogStream, LogsError, LogsWanted, Pods, Removal, Removed,
};
use crate::builder::{AttachKind, AttachTarget, KubeContext, NodeName, PodName};
use crate::manifest::{Workload, WorkloadKind};

/// How long a first look is waited for before an order is believed to find its pods.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// The pods of a workload, or a pod, that somebody else runs.
#[derive(Debug)]
pub struct AttachedBackend {
    to: AttachTarget,
    cluster: Arc<client::Cluster>,
    shared: Arc<Shared>,
    /// The watches, ended with the backend.
    _follow: AbortOnDropHandle<()>,
}

/// How `buildkitd` is reached in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entrance {
    container: String,
    /// Where it listens, when its command says that.
    address: Option<String>,
}

impl AttachedBackend {
    /// Starts to watch; the cluster is contacted in the background and again whenever that fails.
    pub fn start(
        node: NodeName,
        to: AttachTarget,
        context: KubeContext,
        namespace: Option<String>,
        api_server: Option<String>,
    ) -> Self {
        let cluster = Arc::new(client::Cluster::new(context, namespace, api_server));
        let kind = match to.kind() {
            AttachKind::Deployment => Some(WorkloadKind::Deployment),
            AttachKind::StatefulSet => Some(WorkloadKind::StatefulSet),
            AttachKind::Pod => None,
        };
        let shared = Arc::new(Shared::new(View::theirs(kind.is_none())));
        let followed = Followed { node, kind, name: to.name().to_owned(), selector: None, target: None };
        let follow = follow(Arc::clone(&cluster), followed, Arc::clone(&shared));
        let follow = AbortOnDropHandle::new(tokio::spawn(follow));
        Self { to, cluster, shared, _follow: follow }
    }

    fn entrance(&self, pod: &PodName) -> Option<Entrance> {
        self.shared.read(|view| view.entrance(pod))
    }
}

#[async_trait::async_trait]
impl Backend for AttachedBackend {
    async fn apply(&self, replicas: u32) -> Result<(), ApplyError> {
        self.shared.change(|view| view.detach(replicas == 0));
        if replicas == 0 {
            return Ok(());
        }
        let _ = tokio::time::timeout(FIRST_LOOK, self.shared.subscribe().wait_for(|pods| pods.known)).await;
        if self.shared.read(View::is_there) != Some(false) {
            return Ok(());
        }
        let connection = self.cluster.connection().await?;
        Err(ApplyError::Refused {
            verb: "attach to",
            object: self.to.to_string(),
            source: format!("it is not there in namespace {}", connection.namespace).into(),
        })
    }

    fn pods(&self) -> watch::Receiver<Pods> {
        self.shared.subscribe()
    }

    async fn dial(&self, pod: &PodName) -> Result<Dialed, DialError> {
        let Some(Entrance { container, address }) = self.entrance(pod) else {
            return Err(DialError::Gone(pod.clone()));
        };
        dial::by_exec(&self.cluster, pod, &container, address.as_deref()).await
    }

    async fn logs(&self, pod: &PodName, wanted: LogsWanted) -> Result<LogStream, LogsError> {
        let Some(entrance) = self.entrance(pod) else { return Err(LogsError::Gone(pod.clone())) };
        let failed = |source: errors::ConnectError| LogsError::Failed { pod: pod.clone(), source: source.into() };
        let connection = self.cluster.connection().await.map_err(failed)?;
        logs::stream(&connection, pod, &entrance.container, wanted).await
    }

    async fn delete(&self, _removal: Removal) -> Result<Removed, DeleteError> {
        self.shared.change(|view| view.detach(true));
        Ok(Removed::Released { users: Vec::new() })
    }
}

/// What selects the pods of a workload, as a query has it.
pub(super) fn selector(workload: &Workload) -> Option<String> {
    let selector = match workload {
        Workload::Deployment(it) => &it.spec.as_ref()?.selector,
        Workload::StatefulSet(it) => &it.spec.as_ref()?.selector,
    };
    Some(query(selector))
}

fn query(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let (key, values) = (&expression.key, expression.values.clone().unwrap_or_default().join(","));
        match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            // `Exists`: there are no others.
            _ => key.clone(),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

/// The pod as if it were one of ours: the container that runs `buildkitd` has the name that ours has. How it is really called
/// is entered into `entrances`.
pub(super) fn as_ours(mut pod: KubePod, entrances: &mut BTreeMap<String, Entrance>) -> KubePod {
    let name = pod.name_any();
    let Some(entrance) = entrance(&pod) else { return pod };
    if let Some(spec) = &mut pod.spec {
        rename(spec.containers.iter_mut().map(|container| &mut container.name), &entrance.container);
    }
    if let Some(statuses) = pod.status.as_mut().and_then(|status| status.container_statuses.as_mut()) {
        rename(statuses.iter_mut().map(|status| &mut status.name), &entrance.container);
    }
    entrances.insert(name, entrance);
    pod
}

fn rename<'a>(names: impl Iterator<Item = &'a mut String>, from: &str) {
    for name in names.filter(|name| name.as_str() == from) {
        BUILDKITD.clone_into(name);
    }
}

/// The container that is called so, runs it, or has an image that does; else the first.
fn entrance(pod: &KubePod) -> Option<Entrance> {
    let containers = &pod.spec.as_ref()?.containers;
    let runs = |container: &&Container| words(container).any(|word| word.ends_with("buildkitd"));
    let contains = |container: &&Container| container.image.as_deref().is_some_and(|image| image.contains("buildkit"));
    let found = containers
        .iter()
        .find(|container| container.name == BUILDKITD)
        .or_else(|| containers.iter().find(runs))
        .or_else(|| containers.iter().find(contains))
        .or_else(|| containers.first())?;
    Some(Entrance { container: found.name.clone(), address: address(found) })
}

fn words(container: &Container) -> impl Iterator<Item = &String> {
    container.command.iter().flatten().chain(container.args.iter().flatten())
}

/// The first unix socket among `--addr ADDRESS` and `--addr=ADDRESS`.
fn address(container: &Container) -> Option<String> {
    let words: Vec<&String> = words(container).collect();
    let after = words.windows(2).filter(|pair| pair[0] == "--addr").map(|pair| pair[1].as_str());
    let joined = words.iter().filter_map(|word| word.strip_prefix("--addr="));
    after.chain(joined).find(|address| address.starts_with("unix://")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: &serde_json::Value) -> KubePod {
        let statuses = containers.as_array().unwrap().iter().map(|container| {
            json!({"name": container["name"], "image": "", "imageID": "", "ready": true, "restartCount": 0})
        });
        let statuses: Vec<_> = statuses.collect();
        let pod = json!({
            "metadata": {"name": "p"}, "spec": {"containers": containers},
            "status": {"containerStatuses": statuses},
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn the_container_with_buildkitd_is_found_and_where_it_listens() {
        let socket = "unix:///run/user/1000/buildkit/buildkitd.sock";
        for (containers, container, address) in [
            (json!([{"name": "a"}, {"name": "b"}]), "a", None),
            (json!([{"name": "a"}, {"name": "buildkitd"}]), "buildkitd", None),
            (json!([{"name": "a"}, {"name": "b", "command": ["/usr/bin/buildkitd"]}]), "b", None),
            (json!([{"name": "a", "image": "envoy"}, {"name": "b", "image": "moby/buildkit:rootless"}]), "b", None),
            (json!([{"name": "b", "args": ["--addr", "tcp://0.0.0.0:1234", "--addr", socket]}]), "b", Some(socket)),
            (json!([{"name": "b", "args": [format!("--addr={socket}"), "--debug"]}]), "b", Some(socket)),
        ] {
            let found = entrance(&pod(&containers)).unwrap();
            assert_eq!((found.container.as_str(), found.address.as_deref()), (container, address));
        }
        assert_eq!(entrance(&KubePod::default()), None);
    }

    #[test]
    fn its_container_has_our_name_in_spec_and_status() {
        let mut entrances = BTreeMap::new();
        let seen =
            as_ours(pod(&json!([{"name": "proxy"}, {"name": "builder", "image": "moby/buildkit"}])), &mut entrances);
        let names: Vec<String> = seen.spec.unwrap().containers.into_iter().map(|container| container.name).collect();
        assert_eq!(names, ["proxy", "buildkitd"]);
        assert_eq!(seen.status.unwrap().container_statuses.unwrap()[1].name, "buildkitd");
        assert_eq!(entrances["p"].container, "builder");
    }

    #[test]
    fn a_selector_becomes_a_query() {
        let selector: LabelSelector = serde_json::from_value(json!({
            "matchLabels": {"app": "buildkitd", "team": "a"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["x", "y"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "new", "operator": "Exists"},
                {"key": "zone", "operator": "NotIn", "values": ["z"]},
            ],
        }))
        .unwrap();
        assert_eq!(query(&selector), "app=buildkitd,team=a,tier in (x,y),!old,new,zone notin (z)");
    }
}
