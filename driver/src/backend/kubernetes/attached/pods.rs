//! Which pods of somebody else there are, and where `buildkitd` is in them: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod as KubePod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use crate::backend::kubernetes::BUILDKITD;
use crate::manifest::Workload;

/// How `buildkitd` is reached in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Entrance {
    pub(in super::super) container: String,
    /// Where it listens, when its command says that.
    pub(in super::super) address: Option<String>,
}

/// What selects the pods of a workload, as a query has it.
pub(in super::super) fn selector(workload: &Workload) -> Option<String> {
    let selector = match workload {
        Workload::Deployment(it) => &it.spec.as_ref()?.selector,
        Workload::StatefulSet(it) => &it.spec.as_ref()?.selector,
    };
    Some(query(selector))
}

/// What selects the pods of a Service; `None` where others say which addresses it has.
pub(in super::super) fn of_service(service: &Service) -> Option<String> {
    let labels = service.spec.as_ref()?.selector.as_ref().filter(|labels| !labels.is_empty())?;
    Some(labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
}

/// Why there is nothing to build in.
pub(in super::super) fn without_pods(service: &Service) -> String {
    let name = service.name_any();
    match of_service(service) {
        Some(selector) => format!("service {name} has no pods: none has the labels {selector}"),
        None => format!("service {name} has no selector, by which its pods could be found"),
    }
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
/// `given` names it where that is not left to us.
pub(in super::super) fn as_ours(
    mut pod: KubePod,
    given: Option<&str>,
    entrances: &mut BTreeMap<String, Entrance>,
) -> KubePod {
    let name = pod.name_any();
    let Some(entrance) = entrance(&pod, given) else { return pod };
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

/// The container that is called so, runs it, is told where to listen, or has an image that contains it; else the first.
fn entrance(pod: &KubePod, given: Option<&str>) -> Option<Entrance> {
    let containers = &pod.spec.as_ref()?.containers;
    if let Some(given) = given {
        // Whether the pod has it is for the cluster to say.
        let address = containers.iter().find(|container| container.name == given).and_then(address);
        return Some(Entrance { container: given.to_owned(), address });
    }
    let runs = |container: &&Container| words(container).any(|word| word.ends_with("buildkitd"));
    let contains = |container: &&Container| container.image.as_deref().is_some_and(|image| image.contains("buildkit"));
    let found = containers
        .iter()
        .find(|container| container.name == BUILDKITD)
        .or_else(|| containers.iter().find(runs))
        .or_else(|| containers.iter().find(|container| address(container).is_some()))
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
            (
                json!([{"name": "a", "image": "moby/buildkit"}, {"name": "b", "args": ["--addr", socket]}]),
                "b",
                Some(socket),
            ),
        ] {
            let found = entrance(&pod(&containers), None).unwrap();
            assert_eq!((found.container.as_str(), found.address.as_deref()), (container, address));
        }
        assert_eq!(entrance(&KubePod::default(), None), None);
        let two = pod(&json!([{"name": "buildkitd"}, {"name": "b", "args": [format!("--addr={socket}")]}]));
        for (given, address) in [("b", Some(socket)), ("absent", None)] {
            let found = entrance(&two, Some(given)).unwrap();
            assert_eq!((found.container.as_str(), found.address.as_deref()), (given, address));
        }
    }

    #[test]
    fn its_container_has_our_name_in_spec_and_status() {
        let mut entrances = BTreeMap::new();
        let theirs = pod(&json!([{"name": "proxy"}, {"name": "builder", "image": "moby/buildkit"}]));
        let seen = as_ours(theirs, None, &mut entrances);
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

    #[test]
    fn a_service_without_pods_says_what_it_looks_for() {
        let service = |selector: serde_json::Value| -> Service {
            serde_json::from_value(json!({"metadata": {"name": "b"}, "spec": {"selector": selector}})).unwrap()
        };
        let labels = json!({"app": "buildkitd", "tier": "ci"});
        assert_eq!(of_service(&service(labels.clone())).as_deref(), Some("app=buildkitd,tier=ci"));
        assert_eq!(without_pods(&service(labels)), "service b has no pods: none has the labels app=buildkitd,tier=ci");
        for none in [json!(null), json!({})] {
            assert_eq!(of_service(&service(none.clone())), None);
            assert_eq!(without_pods(&service(none)), "service b has no selector, by which its pods could be found");
        }
    }
}
