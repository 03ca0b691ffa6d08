//! A builder's pod for the build of a Job: chosen by placement, and kept busy as long as it is needed.

use std::sync::Arc;

use crate::backend::kubernetes::jobs::{JobError, Jobs, Wanted, at_pod};
use crate::builder::{BuilderName, Endpoint, Node, NodeName, Platform};
use crate::daemon::registry::{LookupError, Registry};
use crate::fleet::{Lease, StartError};
use crate::options::{DriverOptions, OptionErrors};

/// Why a builder gives no pod to a Job.
#[derive(Debug, thiserror::Error)]
pub(in crate::daemon) enum JobBuilderError {
    #[error(transparent)]
    Lookup(LookupError),
    #[error("builder {0} has no pods of its own in a cluster")]
    NoPods(BuilderName),
    #[error("the pods of node {0} have no certificates, by which a job could reach them")]
    NoCertificates(NodeName),
    #[error("the pods of node {node} are in namespace {theirs}, and the job would be in {ours}")]
    Elsewhere { node: NodeName, theirs: String, ours: String },
    #[error("the options of the builder cannot be read")]
    Options(#[source] OptionErrors),
    #[error(transparent)]
    Start(StartError),
    #[error(transparent)]
    Job(#[from] JobError),
}

impl JobBuilderError {
    pub(in crate::daemon) fn hint(&self) -> Option<String> {
        match self {
            Self::NoPods(_) => Some("without --builder the job has a buildkitd of its own".to_owned()),
            Self::NoCertificates(_) => Some("create the builder with another transport than exec".to_owned()),
            Self::Elsewhere { theirs, .. } => {
                Some(format!("certificates are not carried to other namespaces: use --namespace {theirs}"))
            }
            _ => None,
        }
    }
}

/// Where the Job goes, and what keeps its pod for it.
#[derive(Debug)]
pub(in crate::daemon) struct AtBuilder {
    pub(in crate::daemon) jobs: Jobs,
    pub(in crate::daemon) lease: Lease,
}

/// Starts the builder if need be, and lets `wanted` build in one of its pods.
pub(in crate::daemon) async fn at_builder(
    registry: &Registry,
    (builder, project): &(String, String),
    namespace: Option<String>,
    platforms: &[Platform],
    wanted: &mut Wanted,
) -> Result<AtBuilder, JobBuilderError> {
    let entry = registry.builder(builder).map_err(JobBuilderError::Lookup)?;
    let in_cluster = |node: &&Node| matches!(node.endpoint, Endpoint::Kubernetes(_));
    let nodes: Vec<&Node> = entry.builder.nodes.iter().filter(in_cluster).collect();
    let fits = |node: &&&Node| platforms.iter().all(|platform| node.platforms.contains(platform));
    let node = nodes.iter().find(fits).or(nodes.first()).copied();
    let no_pods = || JobBuilderError::NoPods(entry.builder.name.clone());
    let node = node.ok_or_else(no_pods)?;
    let fleet = Arc::clone(&entry.node(&node.name).ok_or_else(no_pods)?.fleet);
    let options = DriverOptions::parse(node.driver(), &node.driver_opts).map_err(JobBuilderError::Options)?;
    let (Endpoint::Kubernetes(context), DriverOptions::Kubernetes(options)) = (node.endpoint.clone(), options) else {
        return Err(no_pods());
    };
    if !options.has_certificates() {
        return Err(JobBuilderError::NoCertificates(node.name.clone()));
    }
    let jobs = registry.backends().jobs(context, options.namespace().map(str::to_owned));
    let theirs = jobs.namespace().await?;
    if let Some(ours) = namespace.filter(|ours| *ours != theirs) {
        return Err(JobBuilderError::Elsewhere { node: node.name.clone(), theirs, ours });
    }
    let lease = fleet.acquire_for(project, wanted.node.name.as_str()).await.map_err(JobBuilderError::Start)?;
    wanted.build.place = at_pod(node, jobs.address(lease.pod()).await?);
    Ok(AtBuilder { jobs, lease })
}
