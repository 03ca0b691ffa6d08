//! What works of what a node needs of its cluster, from the kubeconfig to the ways into a pod. Starts nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node as Machine;
use kube::Api;
use kube::api::ListParams;

use super::client::{Cluster, Connection};
use super::dial::{Dialer, Tried};
use super::errors::{ConnectError, RequestError, ask};
use super::{Target, kernel, rights};
use crate::backend::finding::span;
use crate::backend::{Finding, Transport, Verdict};
use crate::builder::{KubeContext, PodName};
use crate::options::TransportChoice;
use crate::report::chain;

/// A pod that runs, and where.
pub(super) type Running = (PodName, Option<IpAddr>);

/// Everything in the order in which one thing needs the other; what could not be looked at is left out.
pub(super) async fn examine(
    cluster: &Cluster,
    target: &Target,
    dialer: &Dialer,
    running: Option<Running>,
) -> Vec<Finding> {
    let (mut findings, connection) = reach(cluster).await;
    let Some(connection) = connection else { return findings };
    let namespace = format!("{}, where the pods and all else is made", connection.namespace);
    findings.push(Finding::new(Verdict::Note, "namespace", namespace));
    let (rights, machines) = tokio::join!(rights::look(&connection, target), machines(&connection, target));
    findings.extend(rights);
    findings.extend(machines);
    let works = match running {
        Some((pod, address)) => {
            let ways = dialer.try_each(cluster, target, &pod, address).await;
            let works = ways.iter().any(|(_, took)| took.is_ok());
            findings.extend(transports(target.options.transport, &pod, ways));
            works
        }
        None => {
            let text = "no pod runs: the ways into one are not tried, and none is started for that";
            findings.push(Finding::new(Verdict::Note, "transports", text));
            false
        }
    };
    if target.options.rootless {
        findings.push(user_namespaces(works));
    }
    findings
}

/// The kubeconfig and the API server; a connection where both work.
pub(super) async fn reach(cluster: &Cluster) -> (Vec<Finding>, Option<Connection>) {
    let source = match cluster.context() {
        KubeContext::File { paths, context } => {
            let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            format!("{}, context `{context}`", paths.join(", "))
        }
        KubeContext::InCluster => "none: the service account of this pod is used".to_owned(),
    };
    let connection = match cluster.connection().await {
        Ok(connection) => connection,
        Err(error) => return (vec![unusable(&source, &error)], None),
    };
    let mut findings = vec![Finding::new(Verdict::Works, "kubeconfig", source)];
    let server = api_server(&connection).await;
    let reached = server.verdict == Verdict::Works;
    findings.push(server);
    (findings, reached.then_some(connection))
}

fn unusable(source: &str, error: &ConnectError) -> Finding {
    let finding = Finding::new(Verdict::Fails, "kubeconfig", format!("{source}: {}", chain(error)));
    match error {
        ConnectError::Kubeconfig(_) | ConnectError::Context { .. } => finding
            .hint("the builder keeps the files and the context that it was created with; create it again for others"),
        _ => finding,
    }
}

/// Its version, and how long a request takes on a connection that stands.
async fn api_server(connection: &Connection) -> Finding {
    let fails = |error: RequestError| {
        let hint = match &error {
            RequestError::Refused { code: 401, .. } => "its credentials are refused: log in again, as for kubectl",
            RequestError::Refused { .. } => "`kubectl version` with the same context should say the same",
            _ => "is the network or the VPN up? `kubectl version` with the same context should say the same",
        };
        let text = format!("{}: {}", connection.server, chain(&error));
        Finding::new(Verdict::Fails, "API server", text).hint(hint)
    };
    if let Err(error) = ask(connection.client.apiserver_version()).await {
        return fails(error);
    }
    let begun = Instant::now();
    match ask(connection.client.apiserver_version()).await {
        Ok(version) => {
            let text = format!(
                "{}, Kubernetes {}, answers in {}",
                connection.server,
                version.git_version,
                span(begun.elapsed())
            );
            Finding::new(Verdict::Works, "API server", text)
        }
        Err(error) => fails(error),
    }
}

/// The architectures of the cluster's machines, whether the node's platforms are among them, and what its pods need there.
async fn machines(connection: &Connection, target: &Target) -> Vec<Finding> {
    let api: Api<Machine> = Api::all(connection.client.clone());
    let machines = match ask(api.list(&ListParams::default())).await {
        Ok(list) => list.items,
        Err(error) if error.is_forbidden() => {
            let text = "not known: these credentials may not list the cluster's nodes, which builds do not need";
            return vec![Finding::new(Verdict::Note, "machines", text)];
        }
        Err(error) => return vec![Finding::new(Verdict::Note, "machines", format!("not known: {}", chain(&error)))],
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for machine in &machines {
        // What pods are scheduled by.
        let arch = machine.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/arch"));
        *counts.entry(arch.cloned().unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
    }
    let wanted = target.node.platforms.iter().map(|platform| platform.arch().to_string()).collect();
    let mut findings = vec![covered(&counts, wanted, target.options.qemu_install)];
    findings.extend(kernel::needs(&machines, &target.options));
    findings
}

fn covered(counts: &BTreeMap<String, usize>, mut wanted: Vec<String>, emulated: bool) -> Finding {
    wanted.sort();
    wanted.dedup();
    let told: Vec<String> = counts.iter().map(|(arch, count)| format!("{count} × {arch}")).collect();
    let told = if told.is_empty() { "none".to_owned() } else { told.join(", ") };
    // 32-bit builds run on the 64-bit machines of the same family.
    let runs = |arch: &String| match arch.as_str() {
        "386" => counts.contains_key("amd64"),
        "arm" => counts.contains_key("arm64") || counts.contains_key("arm"),
        arch => counts.contains_key(arch),
    };
    let missing: Vec<String> = wanted.into_iter().filter(|arch| !runs(arch)).collect();
    if missing.is_empty() {
        return Finding::new(Verdict::Works, "machines", told);
    }
    let text = format!("{told}; none is {}, which the node's platforms ask for", missing.join(" or "));
    if emulated {
        return Finding::new(Verdict::Note, "machines", format!("{text}: QEMU emulates it"));
    }
    Finding::new(Verdict::Warning, "machines", text)
        .hint("such builds need --driver-opt qemu.install=true, or a node of that architecture")
}

/// One finding for each way; a slower one than the best is needed only where it is chosen.
pub(super) fn transports(choice: TransportChoice, pod: &PodName, ways: Vec<Tried>) -> Vec<Finding> {
    let some = ways.iter().any(|(_, took)| took.is_ok());
    let judged = |(way, took): (Transport, Result<Duration, String>)| match took {
        Ok(took) => Finding::new(Verdict::Works, way.to_string(), format!("to pod {pod} in {}", span(took))),
        Err(why) if some && choice == TransportChoice::Auto => {
            Finding::new(Verdict::Note, way.to_string(), format!("not from here, another way is taken: {why}"))
        }
        Err(why) => Finding::new(Verdict::Fails, way.to_string(), format!("to pod {pod}: {why}")).hint(
            "`buildfleet logs NODE` shows what the pod says; --driver-opt transport=auto takes whichever way works",
        ),
    };
    ways.into_iter().map(judged).collect()
}

fn user_namespaces(works: bool) -> Finding {
    if works {
        return Finding::new(Verdict::Works, "user namespaces", "a rootless pod runs and answers");
    }
    let text = "not known before a rootless pod runs: the cluster's machines decide it";
    Finding::new(Verdict::Note, "user namespaces", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_without_a_machine_are_told() {
        let counts = [("amd64".to_owned(), 2), ("arm64".to_owned(), 1)].into();
        for (wanted, emulated, verdict, part) in [
            (&[][..], false, Verdict::Works, "2 × amd64, 1 × arm64"),
            (&["amd64", "arm", "386"], false, Verdict::Works, "2 × amd64"),
            (&["s390x", "amd64", "s390x"], false, Verdict::Warning, "none is s390x, which"),
            (&["s390x", "riscv64"], true, Verdict::Note, "none is riscv64 or s390x, which"),
        ] {
            let wanted: Vec<String> = wanted.iter().map(|arch| (*arch).to_owned()).collect();
            let finding = covered(&counts, wanted.clone(), emulated);
            assert!(finding.verdict == verdict && finding.text.contains(part), "{wanted:?}: {finding:?}");
        }
    }

    #[test]
    fn a_way_that_is_chosen_has_to_work_and_of_several_one() {
        let pod: PodName = "kube0-a".parse().unwrap();
        let ways = |first: bool| {
            let took = if first { Ok(Duration::from_millis(3)) } else { Err("no route".to_owned()) };
            vec![(Transport::PodIp, took), (Transport::Exec, Err("forbidden".to_owned()))]
        };
        for (choice, first, wanted) in [
            (TransportChoice::Auto, true, [Verdict::Works, Verdict::Note]),
            (TransportChoice::Auto, false, [Verdict::Fails, Verdict::Fails]),
            (TransportChoice::PodIp, false, [Verdict::Fails, Verdict::Fails]),
        ] {
            let verdicts: Vec<Verdict> = transports(choice, &pod, ways(first)).iter().map(|it| it.verdict).collect();
            assert_eq!(verdicts, wanted, "{choice:?} {first}");
        }
    }
}
