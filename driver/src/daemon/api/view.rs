//! Builders, nodes and pods as the API's messages have them: a pure function of what is known.

use std::path::Path;
use std::time::SystemTime;

use buildfleet_proto::fleet;

use crate::backend::Change;
use crate::builder::{Builder, BuilderName, Endpoint, KubeContext, Node};
use crate::daemon::entry::BuilderEntry;
use crate::fleet::{NodeSnapshot, NodeStatus, Placement, PodSnapshot, PodStatus};

pub(super) fn builder(entry: &BuilderEntry, current: bool) -> fleet::Builder {
    let name = &entry.builder.name;
    let nodes = entry.builder.nodes.iter().map(|stored| match entry.node(&stored.name) {
        Some(running) => node(name, stored, &running.fleet.watch().borrow(), Some(running.socket())),
        None => node(name, stored, &NodeSnapshot::default(), None),
    });
    fleet::Builder {
        name: name.to_string(),
        driver: entry.builder.drivers(),
        current,
        nodes: nodes.collect(),
        socket: entry.front.path().display().to_string(),
        created: Some(entry.created.into()),
        last_activity: entry.last_activity().map(Into::into),
    }
}

/// The same with where the builds of its nodes went.
pub(super) fn builder_with_placements(entry: &BuilderEntry, mut view: fleet::Builder) -> fleet::Builder {
    for (stored, shown) in entry.builder.nodes.iter().zip(&mut view.nodes) {
        shown.placement = entry.node(&stored.name).map(|running| fleet::Placement {
            policy: running.fleet.loadbalance().to_string(),
            latest: running.fleet.placements().into_iter().map(placed).collect(),
        });
    }
    view
}

pub(super) fn change(change: Change) -> fleet::Change {
    fleet::Change { object: change.object, unified_diff: change.diff }
}

fn placed(placement: Placement) -> fleet::Placed {
    let Placement { build_ref, pod, because, at } = placement;
    fleet::Placed { build_ref, pod: pod.to_string(), because, at: Some(at.into()) }
}

/// A builder that was only checked: it has no sockets.
pub(super) fn planned(builder: &Builder) -> fleet::Builder {
    let nodes = builder.nodes.iter().map(|stored| node(&builder.name, stored, &NodeSnapshot::default(), None));
    fleet::Builder {
        name: builder.name.to_string(),
        driver: builder.drivers(),
        nodes: nodes.collect(),
        ..fleet::Builder::default()
    }
}

fn node(builder: &BuilderName, node: &Node, known: &NodeSnapshot, socket: Option<&Path>) -> fleet::Node {
    let reported = known.remembered.reported();
    fleet::Node {
        name: node.name.to_string(),
        endpoint: endpoint(builder, node),
        socket: socket.map(|path| path.display().to_string()).unwrap_or_default(),
        status: match known.status {
            NodeStatus::Running => "running",
            NodeStatus::Starting => "starting",
            NodeStatus::Stopped => "stopped",
            NodeStatus::Inactive => "inactive",
            NodeStatus::Error => "error",
        }
        .to_owned(),
        reason: known.reason.clone().unwrap_or_default(),
        driver_opts: node.driver_opts.clone().into_iter().collect(),
        buildkitd_flags: node.buildkitd_flags.clone(),
        platforms: node.platforms.iter().map(ToString::to_string).collect(),
        worker_platforms: reported.platforms,
        buildkit_version: reported.versions.join(", "),
        wanted: known.wanted,
        pods: known.pods.iter().map(pod).collect(),
        worker_labels: reported.labels,
        placement: None,
        drift: known.drift.clone().unwrap_or_default(),
        owner: known.sharing.as_ref().map(|sharing| sharing.owner.clone()).unwrap_or_default(),
        users: known.sharing.as_ref().map(|sharing| sharing.others.clone()).unwrap_or_default(),
        driver: node.driver().to_string(),
        kubeconfig: kubeconfig(&node.endpoint),
        buildkitd_config: node.config.as_ref().map(|config| fleet::BuildkitdConfig {
            toml: config.toml().to_owned(),
            files: config.named().keys().map(|name| (name.clone(), String::new())).collect(),
        }),
    }
}

fn pod(pod: &PodSnapshot) -> fleet::Pod {
    fleet::Pod {
        name: pod.name.to_string(),
        status: match pod.status {
            PodStatus::Pending => "pending",
            PodStatus::Starting => "starting",
            PodStatus::Ready => "ready",
            PodStatus::Terminating => "terminating",
            PodStatus::Failed => "failed",
        }
        .to_owned(),
        reason: pod.reason.clone().unwrap_or_default(),
        host: pod.host.clone().unwrap_or_default(),
        started: pod.started.map(|started: SystemTime| started.into()),
        builds: pod.builds,
        transport: pod.transport.map(|transport| transport.to_string()).unwrap_or_default(),
    }
}

fn kubeconfig(endpoint: &Endpoint) -> Option<fleet::Kubeconfig> {
    match endpoint {
        Endpoint::Kubernetes(context) | Endpoint::Attached { context, .. } | Endpoint::Cluster { context, .. } => {
            Some(match context {
                KubeContext::File { paths, context } => fleet::Kubeconfig {
                    paths: paths.iter().map(|path| path.display().to_string()).collect(),
                    context: context.clone(),
                },
                KubeContext::InCluster => fleet::Kubeconfig::default(),
            })
        }
        Endpoint::Local | Endpoint::Remote(_) => None,
    }
}

/// As buildx writes it, with the context, which buildx leaves to the file.
fn endpoint(builder: &BuilderName, node: &Node) -> String {
    match &node.endpoint {
        Endpoint::Kubernetes(context) => {
            let deployment = node.name.object_name();
            let context = match context {
                KubeContext::File { context, .. } => format!("&context={context}"),
                KubeContext::InCluster => String::new(),
            };
            format!("kubernetes:///{builder}?deployment={deployment}{context}")
        }
        Endpoint::Attached { context, to } => {
            let context = match context {
                KubeContext::File { context, .. } => format!("&context={context}"),
                KubeContext::InCluster => String::new(),
            };
            format!("kubernetes:///{builder}?attach={to}{context}")
        }
        Endpoint::Local => "local://".to_owned(),
        Endpoint::Remote(address) => address.to_string(),
        Endpoint::Cluster { at, .. } => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_endpoint_names_the_deployment_and_the_context() {
        let node = |endpoint| Node {
            name: "kube_0".parse().unwrap(),
            endpoint,
            driver_opts: BTreeMap::new(),
            platforms: Vec::new(),
            buildkitd_flags: Vec::new(),
            config: None,
        };
        let context = KubeContext::File { paths: vec!["/k".into()], context: "prod".to_owned() };
        for (given, wanted) in [
            (Endpoint::Kubernetes(context), "kubernetes:///kube?deployment=kube-0&context=prod"),
            (Endpoint::Kubernetes(KubeContext::InCluster), "kubernetes:///kube?deployment=kube-0"),
            (Endpoint::Local, "local://"),
            (Endpoint::Remote("tcp://h:1".parse().unwrap()), "tcp://h:1"),
        ] {
            assert_eq!(endpoint(&"kube".parse().unwrap(), &node(given)), wanted);
        }
    }
}
