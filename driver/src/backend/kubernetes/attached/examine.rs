//! What works of what pods of somebody else need: the cluster, the rights, and the ways into one that runs.

use futures::future::join_all;

use super::{AttachedBackend, Way, pods};
use crate::backend::kubernetes::dial;
use crate::backend::kubernetes::examine::{reach, transports};
use crate::backend::kubernetes::follow::Lead;
use crate::backend::kubernetes::rights::{Asked, Weight};
use crate::backend::{Backend, Finding, PodPhase, Transport, Verdict};
use crate::builder::PodName;
use crate::manifest::WorkloadKind;
use crate::options::TransportChoice;

/// What to do without the right to run commands in pods.
pub(in super::super) const WITHOUT_EXEC: &str = "where pods/exec is not allowed, kube-service://NAME:PORT reaches the pods of a Service \
     by mTLS with the right to create pods/portforward, or in the cluster with none";

pub(super) async fn examine(backend: &AttachedBackend) -> Vec<Finding> {
    let (mut findings, connection) = reach(&backend.cluster).await;
    let Some(connection) = connection else { return findings };
    let where_to = format!("{}, where {} is", connection.namespace, backend.to);
    findings.push(Finding::new(Verdict::Note, "namespace", where_to));
    let rights = rights(backend.lead, &backend.way);
    let connection = &connection;
    let asked = rights.into_iter().map(|right| async move {
        let finding = right.look(connection, None).await;
        match right.resource {
            "pods/exec" if finding.verdict == Verdict::Fails => finding.hint(WITHOUT_EXEC),
            _ => finding,
        }
    });
    findings.extend(join_all(asked).await);
    let pods = backend.pods().borrow().clone();
    match pods.pods.iter().find(|pod| pod.phase == PodPhase::Running) {
        Some(pod) => findings.extend(ways(backend, &pod.name).await),
        None => {
            let text = "no pod runs: the ways into one are not tried";
            findings.push(Finding::new(Verdict::Note, "transports", text));
        }
    }
    findings
}

/// What docs/rbac.md lists for pods that others run.
fn rights(lead: Lead, way: &Way) -> Vec<Asked> {
    const LOOK: &[&str] = &["list", "watch"];
    const ENTER: &[&str] = &["get", "create"];
    let asked = |group, resource, verbs, weight| Asked { group, resource, verbs, weight };
    let lead = match lead {
        Lead::Workload(WorkloadKind::Deployment) => Some(("apps", "deployments")),
        Lead::Workload(WorkloadKind::StatefulSet) => Some(("apps", "statefulsets")),
        Lead::Service => Some(("", "services")),
        Lead::Pod => None,
    };
    let mut rights: Vec<Asked> = lead.into_iter().map(|(group, it)| asked(group, it, LOOK, Weight::Needed)).collect();
    rights.extend([
        asked("", "pods", LOOK, Weight::Needed),
        asked("", "pods/log", &["get"], Weight::Lost("`logs` and the last lines of a crashed pod")),
        asked("", "events", LOOK, Weight::Lost("why a pod does not start")),
    ]);
    rights.extend(match way {
        Way::Exec => Some(asked("", "pods/exec", ENTER, Weight::Needed)),
        Way::Port { dialer, .. } => match dialer.choice() {
            TransportChoice::PortForward => Some(asked("", "pods/portforward", ENTER, Weight::Needed)),
            TransportChoice::Auto => {
                Some(asked("", "pods/portforward", ENTER, Weight::Lost("the way by port-forward")))
            }
            TransportChoice::PodIp | TransportChoice::Exec => None,
        },
    });
    rights
}

async fn ways(backend: &AttachedBackend, pod: &PodName) -> Vec<Finding> {
    match &backend.way {
        Way::Exec => {
            let Some(pods::Entrance { container, address }) = backend.shared.read(|view| view.entrance(pod)) else {
                return Vec::new();
            };
            let tried = dial::try_exec(&backend.cluster, pod, &container, address.as_deref()).await;
            let hint = "`buildfleet logs NODE` shows what the pod says";
            transports(TransportChoice::Exec, pod, vec![tried]).into_iter().map(|finding| finding.hint(hint)).collect()
        }
        Way::Port { wanted, dialer } => match backend.door(pod, wanted.as_ref(), Transport::PortForward) {
            Ok(door) => transports(dialer.choice(), pod, dialer.try_each(&backend.cluster, pod, &door).await),
            Err(error) => vec![Finding::new(Verdict::Fails, "port", crate::report::chain(&error))],
        },
    }
}
