//! Which backend a node gets, and where a cluster is found: the one place that tests replace.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::backend::SharedBackend;
use crate::backend::kubernetes::{KubernetesBackend, resolve_context};
use crate::backend::local::LocalBackend;
use crate::backend::remote::RemoteBackend;
use crate::builder::{Endpoint, KubeContext, Node};
use crate::options::DriverOptions;
use crate::report;
use crate::settings::Settings;

/// A context and the namespace that it names, or what is wrong with the files, for the user.
pub type Located = Result<(KubeContext, Option<String>), String>;

/// Makes backends.
pub trait Backends: fmt::Debug + Send + Sync + 'static {
    /// The backend of a node whose options were typed for its endpoint's driver. Starts no pod.
    fn start(&self, node: &Node, options: &DriverOptions) -> SharedBackend;

    /// Which context these kubeconfig files lead to now.
    fn locate(&self, paths: Vec<PathBuf>, context: Option<String>) -> Located;
}

/// The backends that there are.
#[derive(Debug)]
pub struct AllBackends {
    settings: Settings,
}

impl AllBackends {
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

impl Backends for AllBackends {
    fn start(&self, node: &Node, options: &DriverOptions) -> SharedBackend {
        match (node.endpoint.clone(), options.clone()) {
            (Endpoint::Kubernetes(context), DriverOptions::Kubernetes(options)) => {
                let api_server = self.settings.kubernetes_service().map(str::to_owned);
                Arc::new(KubernetesBackend::start(node.clone(), context, options, api_server))
            }
            (Endpoint::Local, DriverOptions::Local(options)) => {
                let (state, run) = (self.settings.local_state(&node.name), self.settings.local_run(&node.name));
                Arc::new(LocalBackend::start(node.clone(), options, state, run))
            }
            (Endpoint::Remote(address), DriverOptions::Remote(options)) => {
                Arc::new(RemoteBackend::start(node.clone(), address, options))
            }
            (endpoint, _) => unreachable!("options are parsed for the driver of the endpoint, {}", endpoint.driver()),
        }
    }

    fn locate(&self, paths: Vec<PathBuf>, context: Option<String>) -> Located {
        resolve_context(paths, context).map_err(|error| report::chain(&error))
    }
}
