//! What a request for a Job asks for, with all that is wrong said at once, and which pod of a builder gets its build.

use std::collections::BTreeMap;

use buildfleet_proto::fleet::job_spec::Where;
use buildfleet_proto::fleet::{JobAddress, JobPlace, JobSpec, Kubeconfig};
use serde_json::Value;

use super::{given, invent};
use crate::backend::kubernetes::jobs::{BuildPlace, JobBuild, RegistrySecret, Wanted};
use crate::builder::{Endpoint, KubeContext, Node, NodeName, Platform};
use crate::options::{KubernetesOptions, parse_for_job};

mod builder;
#[cfg(test)]
mod tests;

pub(super) use builder::{JobBuilderError, at_builder};

/// What a Secret of Kubernetes holds at most.
const SECRET_MAX: usize = 1024 * 1024;

/// `buildctl-daemonless.sh` splits the flags of `buildkitd` at blanks, and takes these for patterns.
const OF_THE_SHELL: [char; 3] = ['*', '?', '['];

/// A request that makes sense by itself.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) wanted: Wanted,
    pub(super) kubeconfig: Kubeconfig,
    pub(super) namespace: Option<String>,
    /// A builder and the project by which its pod is chosen.
    pub(super) builder: Option<(String, String)>,
    pub(super) platforms: Vec<Platform>,
}

impl Asked {
    /// # Errors
    /// All that is wrong with it.
    pub(super) fn parse(spec: JobSpec) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let place = spec.place.clone().unwrap_or_default();
        let name = name(&place, &mut problems);
        let options = parse_for_job(&spec.driver_opt);
        let options = options.unwrap_or_else(|errors| {
            problems.extend(errors.to_string().lines().map(str::to_owned));
            KubernetesOptions::default()
        });
        let namespace = namespace(&place, &options, &mut problems);
        let (where_, builder) = where_(&spec, &mut problems);
        let is_daemonless = where_ == BuildPlace::Daemonless && builder.is_none();
        let platforms = given::platforms(&spec.platform, &mut |problem| problems.push(problem));
        let node = node(&spec, name, is_daemonless, &platforms, &mut problems);
        let build = JobBuild {
            secrets: secrets(&spec, &mut problems),
            registry: registry(&spec, &mut problems),
            uploads_context: spec.uploads_context,
            place: where_,
            ttl: Some(spec.ttl),
            timeout: Some(spec.timeout).filter(|timeout| *timeout > 0),
            retries: spec.retries,
            title: given::some(spec.title),
            arguments: spec.arguments,
        };
        if build.arguments.iter().any(|argument| argument == "--progress" || argument.starts_with("--progress=")) {
            problems
                .push("argument `--progress`: the progress of a job is plain, as `kubectl logs` shows it".to_owned());
        }
        if build.uploads_context && build.retries > 0 {
            let why = "a context that is uploaded is gone with its pod; give one that can be fetched again";
            problems.push(format!("--retries: {why}"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let docker_config = Some(spec.docker_config).filter(|config| !config.is_empty());
        let wanted = Wanted { node, options, build, docker_config, detach: spec.detach };
        Ok(Self { wanted, kubeconfig: place.kubeconfig.unwrap_or_default(), namespace, builder, platforms })
    }
}

fn name(place: &JobPlace, problems: &mut Vec<String>) -> NodeName {
    match place.name.parse::<NodeName>() {
        _ if place.name.is_empty() => invent::job_name(),
        Ok(name) => name,
        Err(error) => {
            problems.push(error.to_string());
            invent::job_name()
        }
    }
}

fn namespace(place: &JobPlace, options: &KubernetesOptions, problems: &mut Vec<String>) -> Option<String> {
    let (given, option) = (given::some(place.namespace.clone()), options.namespace().map(str::to_owned));
    if let (Some(given), Some(option)) = (&given, &option)
        && given != option
    {
        problems.push(format!("driver option `namespace`: it is {option}, and --namespace is {given}"));
    }
    given.or(option)
}

/// Where the build takes place, as far as it can be said without the builder.
fn where_(spec: &JobSpec, problems: &mut Vec<String>) -> (BuildPlace, Option<(String, String)>) {
    match &spec.r#where {
        None => (BuildPlace::Daemonless, None),
        Some(Where::Builder(builder)) => (BuildPlace::Daemonless, Some((builder.clone(), spec.project.clone()))),
        Some(Where::Address(JobAddress { address, certificates, server_name })) => {
            let port = address.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':'));
            if !port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
                problems.push(format!("--address `{address}`: accepted is tcp://HOST:PORT"));
            }
            if certificates.is_empty() {
                let why = "needs a Secret with ca.pem, cert.pem and key.pem: jobs speak to no buildkitd without mTLS";
                problems.push(format!("--address `{address}` {why}"));
            }
            let place = BuildPlace::Address {
                address: address.clone(),
                server_name: server_name.clone(),
                secret: certificates.clone(),
                keys: ["ca.pem", "cert.pem", "key.pem"].map(str::to_owned),
            };
            (place, None)
        }
    }
}

/// What the Job's own `buildkitd` is made of.
fn node(
    spec: &JobSpec,
    name: NodeName,
    is_daemonless: bool,
    platforms: &[Platform],
    problems: &mut Vec<String>,
) -> Node {
    let flags = given::flags(&spec.buildkitd_flags, &mut |problem| problems.push(problem));
    let is_split = |flag: &&String| flag.contains(|c: char| c.is_whitespace() || OF_THE_SHELL.contains(&c));
    for flag in flags.iter().filter(is_split) {
        let why = "buildctl-daemonless.sh passes on no flag with blanks, `*`, `?` or `[`";
        problems.push(format!("--buildkitd-flags `{flag}`: {why}"));
    }
    let config = given::config(spec.buildkitd_config.clone(), &mut |problem| problems.push(problem));
    if !is_daemonless {
        for (flag, is_given) in [("--buildkitd-flags", !flags.is_empty()), ("--buildkitd-config", config.is_some())] {
            if is_given {
                problems.push(format!("{flag}: the buildkitd that builds is not the job's own"));
            }
        }
    }
    Node {
        name,
        endpoint: Endpoint::Kubernetes(KubeContext::InCluster),
        driver_opts: BTreeMap::new(),
        // Only a build in the Job's own pod needs a machine for them.
        platforms: if is_daemonless { platforms.to_owned() } else { Vec::new() },
        buildkitd_flags: flags,
        config,
    }
}

fn secrets(spec: &JobSpec, problems: &mut Vec<String>) -> BTreeMap<String, Vec<u8>> {
    for id in spec.secrets.keys() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        // They are keys of a Secret, and then files.
        if id.is_empty() || id.len() > 253 || id.starts_with("..") || id == "." || !id.chars().all(is_name) {
            problems.push(format!("--secret `{id}`: an id may hold letters, digits, `-`, `_` and `.`"));
        }
    }
    let total: usize = spec.secrets.values().map(Vec::len).sum();
    if total > SECRET_MAX {
        problems.push(format!("--secret: they have {total} bytes together, and {SECRET_MAX} is what a Secret holds"));
    }
    spec.secrets.clone().into_iter().collect()
}

fn registry(spec: &JobSpec, problems: &mut Vec<String>) -> RegistrySecret {
    let config = &spec.docker_config;
    if !config.is_empty() && !serde_json::from_slice::<Value>(config).is_ok_and(|config| config.is_object()) {
        problems.push("the credentials for registries are no config.json".to_owned());
    }
    match (spec.registry_secret.as_str(), config.is_empty()) {
        ("", true) => RegistrySecret::None,
        ("", false) => RegistrySecret::Own(config.clone()),
        (name, _) => RegistrySecret::Named { name: name.to_owned(), key: RegistrySecret::KEY.to_owned() },
    }
}
