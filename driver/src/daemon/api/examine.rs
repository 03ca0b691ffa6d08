//! What works of what a builder needs: the backends' findings, and what is known of the pods.

use std::path::PathBuf;
use std::time::Duration;

use buildfleet_proto::fleet::finding::Verdict as Told;
use buildfleet_proto::fleet::{self, ExamineRequest, ExamineResponse};
use futures::future::join_all;
use tonic::Status;

use super::status;
use crate::backend::{Finding, Installation, SharedBackend, Verdict};
use crate::builder::{Driver, Endpoint, Node};
use crate::daemon::entry::NodeEntry;
use crate::daemon::registry::Registry;
use crate::fleet::NodeSnapshot;
use crate::options::parse_driver_opts;

/// A cluster that does not answer costs one request's time, each way into a pod as much as it may.
const LOOK: Duration = Duration::from_secs(45);

/// Stands for the node that would be created; its name is in no object, because nothing is made.
const PLANNED: &str = "buildfleet-doctor";

pub(super) async fn examine(registry: &Registry, request: ExamineRequest) -> Result<ExamineResponse, Status> {
    if request.builder.is_empty() {
        return planned(registry, request).await;
    }
    let entry = registry.builder(&request.builder).map_err(|error| status::lookup(&error))?;
    let looks = entry.nodes.iter().map(|node| of_node(node));
    Ok(ExamineResponse { findings: join_all(looks).await.concat() })
}

/// What a new builder would need.
async fn planned(registry: &Registry, request: ExamineRequest) -> Result<ExamineResponse, Status> {
    let driver: Driver =
        request.driver.parse().map_err(|error| Status::invalid_argument(crate::report::chain(&error)))?;
    let endpoint = match driver {
        Driver::Local => Endpoint::Local,
        Driver::Remote => return Err(Status::invalid_argument("the remote driver needs an address: name a builder")),
        Driver::Kubernetes => {
            let kubeconfig = request.kubeconfig.unwrap_or_default();
            let paths = kubeconfig.paths.into_iter().map(PathBuf::from).collect();
            let context = Some(kubeconfig.context).filter(|context| !context.is_empty());
            match registry.backends().locate(paths, context) {
                Ok((context, _)) => Endpoint::Kubernetes(context),
                Err(problem) => {
                    let finding = Finding::new(Verdict::Fails, "kubeconfig", problem)
                        .hint("`kubectl config get-contexts` lists the contexts; --context of `create` names one");
                    return Ok(ExamineResponse { findings: vec![told("", finding)] });
                }
            }
        }
    };
    let name = PLANNED.parse().map_err(|error| Status::internal(crate::report::chain(&error)))?;
    let (given, options) = parse_driver_opts(driver, &request.driver_opt)
        .map_err(|errors| Status::invalid_argument(errors.to_string()))?;
    let node =
        Node { name, endpoint, driver_opts: given, platforms: Vec::new(), buildkitd_flags: Vec::new(), config: None };
    // It makes nothing that could be noted to be somebody's.
    let backend = registry.backends().start(&node, &options, &Installation::default());
    let findings = look(&backend).await;
    Ok(ExamineResponse { findings: findings.into_iter().map(|finding| told("", finding)).collect() })
}

async fn look(backend: &SharedBackend) -> Vec<Finding> {
    let looked = tokio::time::timeout(LOOK, backend.examine()).await;
    looked.unwrap_or_else(|_| {
        vec![Finding::new(Verdict::Fails, "backend", format!("not all of it answered within {} s", LOOK.as_secs()))]
    })
}

async fn of_node(node: &NodeEntry) -> Vec<fleet::Finding> {
    let mut findings = look(node.fleet.backend()).await;
    findings.extend(of_snapshot(&node.fleet.watch().borrow()));
    findings.into_iter().map(|finding| told(node.name.as_str(), finding)).collect()
}

/// What the fleet knows without asking.
fn of_snapshot(known: &NodeSnapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ready = format!("{} of {} ready", known.ready, known.wanted);
    findings.push(match &known.reason {
        Some(reason) => Finding::new(Verdict::Fails, "pods", format!("{ready}: {}", reason.trim().replace('\n', "; "))),
        None if known.pods.is_empty() => Finding::new(Verdict::Note, "pods", "none runs; the next build starts them"),
        None if known.ready < known.wanted => Finding::new(Verdict::Warning, "pods", ready),
        None => Finding::new(Verdict::Works, "pods", ready),
    });
    let versions = known.remembered.reported().versions;
    findings.push(match &versions[..] {
        [] => Finding::new(Verdict::Note, "BuildKit", "its version is not known before a pod has answered"),
        [one] => Finding::new(Verdict::Works, "BuildKit", one.clone()),
        several => Finding::new(Verdict::Warning, "BuildKit", format!("several versions: {}", several.join(", ")))
            .hint("`buildfleet stop` and the next build give all pods the same image"),
    });
    findings
}

fn told(node: &str, finding: Finding) -> fleet::Finding {
    let verdict = match finding.verdict {
        Verdict::Works => Told::Works,
        Verdict::Note => Told::Note,
        Verdict::Warning => Told::Warning,
        Verdict::Fails => Told::Fails,
    };
    fleet::Finding {
        node: node.to_owned(),
        subject: finding.subject,
        verdict: verdict.into(),
        text: finding.text,
        hint: finding.hint.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_are_not_all_ready_are_told() {
        let known = |ready, wanted, reason: Option<&str>| {
            let reason = reason.map(str::to_owned);
            of_snapshot(&NodeSnapshot { ready, wanted, reason, ..NodeSnapshot::default() }).remove(0)
        };
        let failing = known(0, 2, Some("a: pull failed\nb: pull failed"));
        assert_eq!(
            (failing.verdict, failing.text.as_str()),
            (Verdict::Fails, "0 of 2 ready: a: pull failed; b: pull failed")
        );
        assert_eq!(known(0, 2, None).verdict, Verdict::Note);
    }
}
