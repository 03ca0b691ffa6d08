//! Options of the `kubernetes` driver.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Affinity, TopologySpreadConstraint};

use super::table::Entry;
use super::value::ValueError;
use super::{Budget, LoadBalance, ManifestPatch, OptionError, Quantity, Toleration, TransportChoice, Ttl};

mod machines;
mod pods;
mod service;
mod volumes;

/// All keys, by what they are about.
pub(super) static KEYS: [&[Entry<KubernetesOptions>]; 4] =
    [&pods::KEYS, &machines::KEYS, &volumes::KEYS, &service::KEYS];

/// Options of the `kubernetes` driver.
#[derive(Debug, Clone, PartialEq)]
pub struct KubernetesOptions {
    pub(crate) namespace: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) replicas: u32,
    pub(crate) requests: Resources,
    pub(crate) limits: Resources,
    pub(crate) nodeselector: BTreeMap<String, String>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) rootless: bool,
    /// Whether root in a pod is root on the machine.
    pub(crate) host_users: bool,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) serviceaccount: Option<String>,
    pub(crate) imagepullsecrets: Vec<String>,
    pub(crate) budget: Option<Budget>,
    pub(crate) manifest_patch: Option<ManifestPatch>,
    pub(crate) affinity: Option<Affinity>,
    pub(crate) topology_spread: Vec<TopologySpreadConstraint>,
    pub(crate) schedulername: Option<String>,
    pub(crate) priorityclass: Option<String>,
    pub(crate) runtimeclass: Option<String>,
    /// The state directory is in memory, and so large.
    pub(crate) memory_volume: Option<Quantity>,
    pub(crate) claim: Claim,
    pub(crate) qemu_install: bool,
    pub(crate) qemu_image: Option<String>,
    pub(crate) loadbalance: LoadBalance,
    pub(crate) retry: bool,
    pub(crate) timeout: Duration,
    /// How long a pod that is told to go waits for its builds.
    pub(crate) drain_timeout: Duration,
    pub(crate) transport: TransportChoice,
    /// When `gc` may take it, if that is for the builder to say.
    pub(crate) ttl: Option<Ttl>,
    /// Whether buildx loads what has no output.
    pub(crate) default_load: bool,
}

/// The persistent volume of each pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// `None`: there is no such volume.
    pub(crate) storage: Option<Quantity>,
    /// `None`: the cluster's default class. Empty: no class.
    pub(crate) class: Option<String>,
    pub(crate) access: Option<AccessMode>,
}

/// How a persistent volume is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    ReadWriteOnce,
    ReadWriteOncePod,
    ReadWriteMany,
}

impl AccessMode {
    const ALL: [Self; 3] = [Self::ReadWriteOnce, Self::ReadWriteOncePod, Self::ReadWriteMany];

    fn parse(text: &str) -> Result<Self, ValueError> {
        let named = Self::ALL.into_iter().find(|mode| mode.as_str() == text);
        named.ok_or_else(|| ValueError::Word(text.to_owned()))
    }

    /// In Kubernetes' words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
            Self::ReadWriteMany => "ReadWriteMany",
        }
    }
}

/// CPU, memory and disk, for requests or for limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    pub(crate) cpu: Option<Quantity>,
    pub(crate) memory: Option<Quantity>,
    pub(crate) ephemeral_storage: Option<Quantity>,
}

impl Default for KubernetesOptions {
    fn default() -> Self {
        Self {
            namespace: None,
            image: None,
            replicas: 1,
            requests: Resources::default(),
            limits: Resources::default(),
            nodeselector: BTreeMap::new(),
            tolerations: Vec::new(),
            rootless: false,
            host_users: true,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            serviceaccount: None,
            imagepullsecrets: Vec::new(),
            budget: None,
            manifest_patch: None,
            affinity: None,
            topology_spread: Vec::new(),
            schedulername: None,
            priorityclass: None,
            runtimeclass: None,
            memory_volume: None,
            claim: Claim::default(),
            qemu_install: false,
            qemu_image: None,
            loadbalance: LoadBalance::default(),
            retry: true,
            timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(3600),
            transport: TransportChoice::default(),
            ttl: None,
            default_load: false,
        }
    }
}

impl KubernetesOptions {
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Whether the pods are reached by certificates.
    pub fn has_certificates(&self) -> bool {
        self.transport.needs_tls()
    }

    /// Whether each pod has a volume that outlives it.
    pub fn is_stateful(&self) -> bool {
        self.claim.storage.is_some()
    }

    /// What is wrong with keys taken together, for pods of a StatefulSet or of a Deployment.
    pub(super) fn check(&self, of_stateful_set: bool, errors: &mut Vec<OptionError>) {
        let mut wrong = |key: &str, problem: String| errors.push(OptionError { key: key.to_owned(), problem });
        let (requests, limits) = (&self.requests, &self.limits);
        for (request, limit, what) in [
            (&requests.cpu, &limits.cpu, "cpu"),
            (&requests.memory, &limits.memory, "memory"),
            (&requests.ephemeral_storage, &limits.ephemeral_storage, "ephemeral-storage"),
        ] {
            if let (Some(request), Some(limit)) = (request, limit)
                && request.exceeds(limit)
            {
                let problem = format!("{request} is more than `limits.{what}`, which is {limit}");
                wrong(&format!("requests.{what}"), problem);
            }
        }
        for (key, is_given) in
            [("storageclass", self.claim.class.is_some()), ("volume-access-mode", self.claim.access.is_some())]
        {
            if is_given && !self.is_stateful() {
                wrong(key, format!("needs `{STORAGE}` beside it"));
            }
        }
        if self.memory_volume.is_some() && self.is_stateful() {
            let problem = format!("the state is either in memory or on the volume of `{STORAGE}`");
            wrong("buildkit-root-volume-memory", problem);
        }
        if !self.host_users && self.rootless {
            // Its ids would have to be ids of the pod's namespace, which has 65536 of them and not those of /etc/subuid.
            wrong("hostusers", "rootlesskit needs user ids that a pod without the machine's users lacks".to_owned());
        }
        if !self.host_users && self.qemu_install {
            wrong("hostusers", "the container of `qemu.install` needs the machine's root".to_owned());
        }
        if self.rootless && self.annotations.get(APPARMOR).is_some_and(|profile| profile != "unconfined") {
            wrong("annotations", format!("`{APPARMOR}` has to be unconfined with `rootless`"));
        }
        if let Some(Err(error)) = self.manifest_patch.as_ref().map(|patch| patch.check(of_stateful_set)) {
            wrong("manifest-patch", error.to_string());
        }
    }
}

const STORAGE: &str = "persistent-volume-claim.requests.storage";

/// The older way to say what `securityContext` says now; the API server wants both to be the same.
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/buildkitd";
