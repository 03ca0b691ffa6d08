//! The `kubernetes` driver's options for objects that the user keeps by hand: what makes sense for which kind of them.

use std::fmt;
use std::str::FromStr;

use super::kubernetes::{self, KubernetesOptions};
use super::table;
use super::{Amount, Budget, OptionError, OptionErrors, TransportChoice, split};
use crate::builder::{Driver, DriverOpts};

/// The Secret with the certificates of `buildkitd`, as BuildKit's own examples name it.
const DAEMON_CERTIFICATES: &str = "buildkit-daemon-certs";

/// A kind of workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandKind {
    Pod,
    Deployment,
    StatefulSet,
    Job,
}

impl HandKind {
    pub const ALL: [Self; 4] = [Self::Pod, Self::Deployment, Self::StatefulSet, Self::Job];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::Job => "job",
        }
    }
}

/// With which rights `buildkitd` runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandMode {
    Privileged,
    Rootless,
    /// Privileged in a user namespace of the pod's own.
    Userns,
}

impl HandMode {
    pub const ALL: [Self; 3] = [Self::Privileged, Self::Rootless, Self::Userns];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Rootless => "rootless",
            Self::Userns => "userns",
        }
    }
}

/// A word that is none of those that there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not known")]
pub struct UnknownWord(String);

impl FromStr for HandKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

impl FromStr for HandMode {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

impl fmt::Display for HandKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the user says of a set of objects.
#[derive(Debug, Clone)]
pub struct HandGiven<'a> {
    pub kind: HandKind,
    /// Without it, `rootless` and `hostusers` say it.
    pub mode: Option<HandMode>,
    pub namespace: Option<&'a str>,
    /// A Secret with the certificates by which `buildkitd` listens.
    pub tls_secret: Option<&'a str>,
    /// In the grammar of `poddisruptionbudget`.
    pub budget: Option<&'a str>,
    pub driver_opts: &'a [String],
}

/// What follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct HandOptions {
    pub(crate) options: KubernetesOptions,
    /// Only where the user says it: otherwise it is `kubectl scale`'s to say.
    pub(crate) replicas: Option<u32>,
    /// Where it is `None`, `buildkitd` does not listen on TCP.
    pub(crate) tls_secret: Option<String>,
}

impl HandOptions {
    pub fn kubernetes(&self) -> &KubernetesOptions {
        &self.options
    }

    /// The Secret with the certificates of `buildkitd`, which is not one of the objects.
    pub fn tls_secret(&self) -> Option<&str> {
        self.tls_secret.as_deref()
    }
}

const OF_BUILDERS: &str = "it is for builders of `buildfleet create`, and nothing of it is in a manifest";
const OF_CLAIMS: &str = "only a statefulset has volumes that outlive its pods";

/// Keys that say nothing for some kinds, and why.
pub(super) const SENSELESS: [(&str, &[HandKind], &str); 15] = [
    ("loadbalance", &HandKind::ALL, OF_BUILDERS),
    ("retry", &HandKind::ALL, OF_BUILDERS),
    ("timeout", &HandKind::ALL, OF_BUILDERS),
    ("ttl", &HandKind::ALL, OF_BUILDERS),
    ("default-load", &HandKind::ALL, OF_BUILDERS),
    ("replicas", &[HandKind::Pod], "a pod is one; a deployment or a statefulset has several"),
    ("replicas", &[HandKind::Job], "a job runs one build in one pod"),
    ("persistent-volume-claim.requests.storage", &[HandKind::Pod, HandKind::Deployment, HandKind::Job], OF_CLAIMS),
    ("storageclass", &[HandKind::Pod, HandKind::Deployment, HandKind::Job], OF_CLAIMS),
    ("volume-access-mode", &[HandKind::Pod, HandKind::Deployment, HandKind::Job], OF_CLAIMS),
    ("poddisruptionbudget", &[HandKind::Job], "a job's pod is one that ends"),
    ("manifest-patch", &[HandKind::Pod], "it is for a workload with a template of pods"),
    ("manifest-patch", &[HandKind::Job], "`buildfleet job run` takes one"),
    ("transport", &[HandKind::Job], "the buildkitd of a job serves that build alone"),
    ("drain-timeout", &[HandKind::Job], "the pod of a job ends with its build"),
];

/// Types the options of a set of objects.
///
/// # Errors
/// All that is wrong with them together, in the order of the keys.
pub fn parse_by_hand(given: &HandGiven<'_>) -> Result<HandOptions, OptionErrors> {
    let (mut opts, mut errors) = split(given.driver_opts);
    also_by_flag(&mut opts, "namespace", "--namespace", given.namespace, &mut errors);
    also_by_flag(&mut opts, "poddisruptionbudget", "--pod-disruption-budget", given.budget, &mut errors);
    let kind = given.kind;
    for (key, kinds, why) in SENSELESS {
        if kinds.contains(&kind) && opts.remove(key).is_some() {
            errors.push(wrong(key, format!("it makes no sense for a {kind}: {why}")));
        }
    }
    let mut options: KubernetesOptions = table::read(Driver::Kubernetes, &kubernetes::KEYS, &opts, &mut errors);
    set_mode(&mut options, &opts, given.mode, &mut errors);
    options.check(kind == HandKind::StatefulSet, &mut errors);
    if kind == HandKind::Pod && !matches!(options.budget, None | Some(Budget::MinAvailable(Amount::Pods(_)))) {
        let why = "for a pod without a workload, Kubernetes knows only minAvailable with a number";
        errors.push(wrong("poddisruptionbudget", why.to_owned()));
    }
    let tls_secret = tls_secret(given, &options, &mut errors);
    options.transport = if tls_secret.is_some() { TransportChoice::Auto } else { TransportChoice::Exec };
    let replicas = opts.contains_key("replicas").then_some(options.replicas);
    OptionErrors::none_of(errors).map(|()| HandOptions { options, replicas, tls_secret })
}

fn wrong(key: &str, problem: String) -> OptionError {
    OptionError { key: key.to_owned(), problem }
}

/// A flag that is short for an option.
fn also_by_flag(opts: &mut DriverOpts, key: &str, flag: &str, value: Option<&str>, errors: &mut Vec<OptionError>) {
    let Some(value) = value else { return };
    match opts.get(key) {
        Some(other) if other != value => errors.push(wrong(key, format!("it is {other}, and {flag} is {value}"))),
        _ => {
            opts.insert(key.to_owned(), value.to_owned());
        }
    }
}

fn set_mode(options: &mut KubernetesOptions, opts: &DriverOpts, mode: Option<HandMode>, errors: &mut Vec<OptionError>) {
    let Some(mode) = mode else { return };
    let (rootless, host_users) = (mode == HandMode::Rootless, mode != HandMode::Userns);
    for (key, is, wanted) in [("rootless", options.rootless, rootless), ("hostusers", options.host_users, host_users)] {
        if opts.contains_key(key) && is != wanted {
            errors.push(wrong(key, format!("it is {is}, and --mode {} means {wanted}", mode.as_str())));
        }
    }
    (options.rootless, options.host_users) = (rootless, host_users);
}

/// A Deployment has a Service, whose clients need certificates.
fn tls_secret(given: &HandGiven<'_>, options: &KubernetesOptions, errors: &mut Vec<OptionError>) -> Option<String> {
    let default = (given.kind == HandKind::Deployment).then_some(DAEMON_CERTIFICATES);
    match (options.transport, given.tls_secret) {
        (TransportChoice::Exec, Some(secret)) => {
            errors.push(wrong("transport", format!("with exec, buildkitd has no use for --tls-secret {secret}")));
            None
        }
        (TransportChoice::Exec, None) => None,
        (TransportChoice::PodIp | TransportChoice::PortForward, None) if default.is_none() => {
            errors.push(wrong("transport", format!("the buildkitd of a {} needs --tls-secret for it", given.kind)));
            None
        }
        (_, secret) => secret.or(default).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: HandKind, mode: Option<HandMode>, tls: Option<&str>, opts: &str) -> Result<HandOptions, String> {
        let opts: Vec<String> = opts.split('|').filter(|opt| !opt.is_empty()).map(str::to_owned).collect();
        let given = HandGiven { kind, mode, namespace: None, tls_secret: tls, budget: None, driver_opts: &opts };
        parse_by_hand(&given).map_err(|errors| errors.to_string())
    }

    #[test]
    fn what_makes_no_sense_for_a_kind_is_an_error_that_says_why() {
        use HandKind::{Deployment, Job, Pod, StatefulSet};
        for (kind, opt, words) in [
            (Pod, "replicas=2", "`replicas`: it makes no sense for a pod: a pod is one"),
            (Job, "replicas=1", "`replicas`: it makes no sense for a job: a job runs one build"),
            (Pod, "loadbalance=random", "it is for builders of `buildfleet create`"),
            (StatefulSet, "ttl=24h", "it is for builders of `buildfleet create`"),
            (Deployment, "persistent-volume-claim.requests.storage=1Gi", "only a statefulset has volumes"),
            (Job, "storageclass=fast", "only a statefulset has volumes"),
            (Job, "drain-timeout=1h", "ends with its build"),
            (Job, "transport=exec", "serves that build alone"),
            (Pod, "manifest-patch={spec: {}}", "a workload with a template"),
            (Pod, "poddisruptionbudget=maxUnavailable=1", "only minAvailable with a number"),
            (Pod, "poddisruptionbudget=minAvailable=50%", "only minAvailable with a number"),
            (Pod, "transport=pod-ip", "needs --tls-secret"),
            (StatefulSet, "manifest-patch={spec: {strategy: {type: Recreate}}}", "`spec.strategy` is no field"),
            (Deployment, "rotless=true", "unknown"),
        ] {
            let error = parse(kind, None, None, opt).unwrap_err();
            assert!(error.contains(words) && error.lines().count() == 1, "{kind} {opt}: {error}");
        }
        for (kind, opt) in [
            (Pod, "poddisruptionbudget=minAvailable=1"),
            (StatefulSet, "replicas=3,persistent-volume-claim.requests.storage=1Gi,storageclass=fast"),
            (StatefulSet, "manifest-patch={spec: {updateStrategy: {type: OnDelete}}}"),
            (Deployment, "manifest-patch={spec: {strategy: {type: Recreate}}}"),
            (Deployment, "transport=exec"),
            (Job, "requests.cpu=1,nodeselector=disk=ssd,serviceaccount=builder"),
        ] {
            parse(kind, None, None, opt).unwrap();
        }
    }

    #[test]
    fn a_mode_is_what_the_options_mean() {
        for (mode, opts, wanted) in [
            (None, "", Ok((false, true))),
            (None, "rootless=true", Ok((true, true))),
            (None, "hostusers=false", Ok((false, false))),
            (Some(HandMode::Privileged), "", Ok((false, true))),
            (Some(HandMode::Rootless), "", Ok((true, true))),
            (Some(HandMode::Rootless), "rootless=true", Ok((true, true))),
            (Some(HandMode::Userns), "", Ok((false, false))),
            (Some(HandMode::Privileged), "rootless=true", Err("--mode privileged means false")),
            (Some(HandMode::Userns), "hostusers=true", Err("--mode userns means false")),
            (Some(HandMode::Userns), "qemu.install=true", Err("needs the machine's root")),
        ] {
            let parsed = parse(HandKind::Pod, mode, None, opts);
            match wanted {
                Ok(wanted) => {
                    let options = parsed.unwrap().options;
                    assert_eq!((options.rootless, options.host_users), wanted, "{mode:?} {opts}");
                }
                Err(words) => {
                    let error = parsed.unwrap_err();
                    assert!(error.contains(words), "{mode:?} {opts}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_deployment_listens_with_certificates_and_others_when_they_are_named() {
        for (kind, tls, opts, secret) in [
            (HandKind::Deployment, None, "", Some("buildkit-daemon-certs")),
            (HandKind::Deployment, Some("mine"), "transport=pod-ip", Some("mine")),
            (HandKind::Deployment, None, "transport=exec", None),
            (HandKind::Pod, None, "", None),
            (HandKind::Pod, Some("mine"), "", Some("mine")),
            (HandKind::StatefulSet, Some("mine"), "transport=port-forward", Some("mine")),
        ] {
            let parsed = parse(kind, None, tls, opts).unwrap();
            assert_eq!(parsed.tls_secret(), secret, "{kind} {opts}");
            assert_eq!(parsed.options.transport.needs_tls(), secret.is_some());
        }
        assert!(parse(HandKind::Pod, None, Some("mine"), "transport=exec").unwrap_err().contains("no use"));
    }

    #[test]
    fn a_flag_and_the_option_that_it_is_short_for_agree() {
        let opts = ["namespace=builds,poddisruptionbudget=minAvailable=1".to_owned()];
        let given = |namespace, budget| HandGiven {
            kind: HandKind::Deployment,
            mode: None,
            namespace: Some(namespace),
            tls_secret: None,
            budget: Some(budget),
            driver_opts: &opts,
        };
        assert!(parse_by_hand(&given("builds", "minAvailable=1")).is_ok());
        let errors = parse_by_hand(&given("other", "maxUnavailable=1")).unwrap_err().to_string();
        assert!(errors.contains("it is builds, and --namespace is other"), "{errors}");
        assert!(errors.contains("it is minAvailable=1, and --pod-disruption-budget is maxUnavailable=1"), "{errors}");
    }

    #[test]
    fn the_number_of_pods_is_said_only_when_it_is_given() {
        assert_eq!(parse(HandKind::Deployment, None, None, "").unwrap().replicas, None);
        assert_eq!(parse(HandKind::Deployment, None, None, "replicas=3").unwrap().replicas, Some(3));
    }

    #[test]
    fn every_key_without_sense_is_one_that_there_is() {
        for (key, ..) in SENSELESS {
            assert!(super::super::keys(Driver::Kubernetes).any(|known| known.name == key), "{key}");
        }
    }
}
