//! What pods use, as the cluster's metrics server measured it last.

use http::Request;
use serde::Deserialize;

use super::Target;
use super::client::Connection;
use super::errors::{RequestError, ask};
use crate::backend::{PodUsage, UsageError};
use crate::manifest;

#[derive(Debug, Deserialize)]
struct PodMetricsList {
    items: Vec<PodMetrics>,
}

#[derive(Debug, Deserialize)]
struct PodMetrics {
    metadata: Name,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
struct Name {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Container {
    usage: Amounts,
}

#[derive(Debug, Deserialize)]
struct Amounts {
    cpu: String,
    memory: String,
}

pub(super) async fn usage(connection: &Connection, target: &Target) -> Result<Vec<PodUsage>, UsageError> {
    let namespace = &connection.namespace;
    let selector = manifest::selector(&target.node).replace('=', "%3D");
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={selector}");
    let request = Request::get(path).body(Vec::new()).map_err(|error| UsageError::Failed(error.into()))?;
    let list: PodMetricsList = match ask(connection.client.request(request)).await {
        Ok(list) => list,
        Err(error) => return Err(UsageError::Failed(explained(error, namespace))),
    };
    Ok(list.items.iter().filter_map(of_pod).collect())
}

/// The API server knows of no such resource where nothing serves it.
fn explained(error: RequestError, namespace: &str) -> Box<dyn std::error::Error + Send + Sync> {
    if error.is_not_found() {
        return "the cluster serves no metrics.k8s.io".into();
    }
    if error.is_forbidden() {
        return format!("not allowed to list pods.metrics.k8s.io in namespace {namespace}").into();
    }
    error.into()
}

fn of_pod(metrics: &PodMetrics) -> Option<PodUsage> {
    let pod = metrics.metadata.name.parse().ok()?;
    let sum = |of: fn(&Amounts) -> &str, unit: f64| -> u64 {
        metrics.containers.iter().filter_map(|it| quantity(of(&it.usage))).map(|amount| (amount * unit) as u64).sum()
    };
    Some(PodUsage { pod, cpu_millis: sum(|it| &it.cpu, 1000.0), memory_bytes: sum(|it| &it.memory, 1.0) })
}

/// A Kubernetes quantity as a number; the metrics server writes `12345678n` and `1234Ki`.
fn quantity(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_of_a_pod_are_added_up() {
        let text = r#"{"metadata":{"name":"kube0-a"},"containers":[
            {"name":"a","usage":{"cpu":"1500000000n","memory":"2048Ki"}},
            {"name":"b","usage":{"cpu":"250m","memory":"1Mi"}}]}"#;
        let usage = of_pod(&serde_json::from_str(text).expect("it is JSON")).expect("a pod");
        assert_eq!((usage.pod.as_str(), usage.cpu_millis, usage.memory_bytes), ("kube0-a", 1750, 3 << 20));
        assert_eq!(quantity("1x"), None);
    }
}
