//! `buildfleet manifests`: BuildKit on Kubernetes by hand, as YAML that the user keeps.

use std::path::{Path, PathBuf};

use buildfleet_proto::fleet::put_objects_request::Action;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};

use super::failure::Failure;
use super::objects::{self, Cluster};
use super::output::{Format, json_line, print};
use super::{Context, files};
use crate::builder::NodeName;
use crate::manifest::{self, ByHand, JobBuild, RegistrySecret};
use crate::options::{HandGiven, HandKind, HandMode, HandOptions, parse_by_hand, with_files};

/// The shape in which they are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Shape {
    #[default]
    Yaml,
    Json,
    Kustomize,
}

/// Print the objects of BuildKit on Kubernetes as plain YAML, or apply, compare or delete them
///
/// A set for one kind of workload, with the same pods and the same options as `create --driver kubernetes`, but nobody's than
/// yours: no daemon starts, stops or collects it. `create --driver remote kube-pod://POD` builds in it, and so does buildctl.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(value_parser = PossibleValuesParser::new(HandKind::ALL.map(HandKind::as_str)).try_map(|kind| kind.parse::<HandKind>()))]
    kind: HandKind,
    /// With which rights buildkitd runs; userns is privileged in a user namespace of the pod's own. Without it,
    /// --driver-opt rootless and hostusers say it
    #[arg(long, value_parser = PossibleValuesParser::new(HandMode::ALL.map(HandMode::as_str)).try_map(|mode| mode.parse::<HandMode>()))]
    mode: Option<HandMode>,
    /// The name of the objects; without it buildkitd, of a job buildkit
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    cluster: Cluster,
    /// Options of the kubernetes driver, as in replicas=2,requests.cpu=4; may be repeated
    #[arg(long, value_name = "KEY=VALUE,...")]
    driver_opt: Vec<String>,
    /// The Secret with ca.pem, cert.pem and key.pem by which buildkitd listens on port 1234, with a Service; a deployment has
    /// buildkit-daemon-certs without it
    #[arg(long, value_name = "NAME")]
    tls_secret: Option<String>,
    /// A NetworkPolicy that lets nobody in but who has to
    #[arg(long)]
    network_policy: bool,
    /// A PodDisruptionBudget; without a value maxUnavailable=1, of a pod minAvailable=1
    #[arg(long, value_name = "AMOUNT", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pod_disruption_budget: Option<String>,
    /// Let buildkitd serve its metrics on port 6060, and let Prometheus find them by annotations
    #[arg(long)]
    prometheus: bool,
    /// Of a job: the Secret of type kubernetes.io/dockerconfigjson with credentials for registries
    #[arg(long, value_name = "NAME")]
    registry_secret: Option<String>,
    /// The shape of what is printed; kustomize writes files into a directory
    #[arg(long, short, value_enum, value_name = "FORMAT", conflicts_with_all = ["apply", "diff", "delete"])]
    output: Option<Shape>,
    /// The directory for `--output kustomize`
    #[arg(long, value_name = "DIR", requires = "output")]
    into: Option<PathBuf>,
    /// Apply them (server-side)
    #[arg(long, conflicts_with_all = ["diff", "delete"])]
    apply: bool,
    /// Only show what --apply would change in the cluster
    #[arg(long, conflicts_with = "delete")]
    diff: bool,
    /// Delete them; volumes of a statefulset stay
    #[arg(long)]
    delete: bool,
    /// With --apply or --diff: take fields over that somebody else has set; with --output kustomize: replace files
    #[arg(long, conflicts_with = "delete")]
    force: bool,
    /// Of a job: what it builds, by the arguments of `buildctl build`
    #[arg(last = true, value_name = "ARGUMENTS")]
    build: Vec<String>,
}

impl Args {
    fn action(&self) -> Option<Action> {
        let of = |given: bool, action| given.then_some(action);
        of(self.apply, Action::Apply).or(of(self.diff, Action::Diff)).or(of(self.delete, Action::Delete))
    }

    /// What flags say that have no sense together.
    fn wrong(&self) -> Vec<String> {
        let is_job = self.kind == HandKind::Job;
        // What is deleted is found by its name.
        let needs_build = is_job && self.build.is_empty() && !self.delete;
        let without_cluster = self.action().is_none();
        let rules = [
            (is_job && self.prometheus, "--prometheus makes no sense for a job: it is over before it is scraped"),
            (
                is_job && self.tls_secret.is_some(),
                "--tls-secret makes no sense for a job: its buildkitd serves nobody else",
            ),
            (
                !is_job && self.registry_secret.is_some(),
                "--registry-secret is for a job: others get credentials from their clients",
            ),
            (!is_job && !self.build.is_empty(), "what is built is for a job to know: others are told by their clients"),
            (
                needs_build,
                "a job needs what it builds, by the arguments of `buildctl build` after `--`, as in -- --frontend dockerfile.v0 \
                 --opt context=https://github.com/moby/buildkit.git",
            ),
            (
                without_cluster && self.cluster.is_named(),
                "--kubeconfig and --context are for --apply, --diff and --delete",
            ),
            (
                without_cluster && self.force && self.output != Some(Shape::Kustomize),
                "--force is for --apply, --diff and --output kustomize",
            ),
            (self.output == Some(Shape::Kustomize) && self.into.is_none(), "--output kustomize needs --into DIR"),
            (self.output != Some(Shape::Kustomize) && self.into.is_some(), "--into is for --output kustomize"),
        ];
        rules.into_iter().filter(|(wrong, _)| *wrong).map(|(_, why)| why.to_owned()).collect()
    }

    fn options(&self) -> Result<HandOptions, String> {
        let driver_opts =
            with_files(&self.driver_opt, |path| files::text(Path::new(path))).map_err(|errors| errors.to_string())?;
        let budget = self.pod_disruption_budget.as_deref().map(|given| match (given, self.kind) {
            ("", HandKind::Pod) => "minAvailable=1",
            ("", _) => "maxUnavailable=1",
            (given, _) => given,
        });
        let given = HandGiven {
            kind: self.kind,
            mode: self.mode,
            namespace: self.cluster.namespace.as_deref(),
            tls_secret: self.tls_secret.as_deref(),
            budget,
            driver_opts: &driver_opts,
        };
        parse_by_hand(&given).map_err(|errors| errors.to_string())
    }
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let (objects, options) = rendered(&args)?;
    if args.prometheus {
        context.warning(
            "port 6060 also serves Go's profiles and the cache's records, to whoever reaches it, RUN steps among them; \
             --network-policy lets only pods in",
        );
    }
    let Some(action) = args.action() else { return printed(&args, &objects, context) };
    let mut cluster = args.cluster;
    cluster.namespace = options.kubernetes().namespace().map(str::to_owned);
    objects::put(context, &cluster, &objects, action, args.force).await?;
    if let (Action::Apply, Some(secret)) = (action, options.tls_secret()) {
        context.info(&format!(
            "its pods wait for Secret {secret}, unless it is there: `buildfleet certs create` makes it"
        ));
    }
    Ok(())
}

/// All that is wrong with the flags and options comes at once.
fn rendered(args: &Args) -> Result<(Vec<Value>, HandOptions), Failure> {
    let mut wrong = args.wrong();
    let name = args.name.as_deref().unwrap_or(if args.kind == HandKind::Job { "buildkit" } else { "buildkitd" });
    let name = name.parse::<NodeName>().map_err(|error| wrong.push(format!("--name: {error}"))).ok();
    let options = args.options().map_err(|errors| wrong.push(errors)).ok();
    let (Some(name), Some(options), true) = (name, options, wrong.is_empty()) else {
        return Err(Failure::usage(wrong.join("\n")));
    };
    let registry = args
        .registry_secret
        .clone()
        .map_or(RegistrySecret::None, |name| RegistrySecret::Named { name, key: RegistrySecret::KEY.to_owned() });
    let build = JobBuild { arguments: args.build.clone(), registry, ..JobBuild::default() };
    let objects = manifest::by_hand(&ByHand {
        kind: args.kind,
        name: &name,
        options: &options,
        network_policy: args.network_policy,
        prometheus: args.prometheus,
        build: &build,
    });
    Ok((objects, options))
}

fn printed(args: &Args, objects: &[Value], context: &Context) -> Result<(), Failure> {
    match (args.output, context.format) {
        (None, Format::Json) => print(objects.iter().map(json_line).collect::<Result<String, Failure>>()?),
        (Some(Shape::Yaml) | None, _) => print(manifest::yaml(objects)),
        (Some(Shape::Json), _) => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            print(format!("{list:#}\n"))
        }
        (Some(Shape::Kustomize), _) => {
            let directory = args.into.clone().unwrap_or_default();
            print(written(&directory, &manifest::kustomization(objects), args.force)?)
        }
    }
}

/// The paths of the files. One that is there and says something else is somebody's work.
fn written(directory: &Path, files: &[(String, String)], replace: bool) -> Result<String, Failure> {
    let failed =
        |path: &Path, error: std::io::Error| Failure::other(format!("failed to write {}: {error}", path.display()));
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| directory.join(name)).collect();
    let others = paths
        .iter()
        .zip(files)
        .filter(|(path, (_, text))| std::fs::read(path).is_ok_and(|found| found != text.as_bytes()));
    let others: Vec<String> =
        others.map(|(path, _)| format!("{} is there and says something else", path.display())).collect();
    if !others.is_empty() && !replace {
        return Err(Failure::other(others.join("\n")).hint("--force replaces it; nothing was written"));
    }
    for (path, (_, text)) in paths.iter().zip(files) {
        std::fs::write(path, text).map_err(|error| failed(path, error))?;
    }
    Ok(paths.iter().map(|path| format!("{}\n", path.display())).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::error::ErrorKind> {
        let words = std::iter::once("manifests").chain(line.split(' '));
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.kind())
    }

    #[test]
    fn what_has_no_sense_together_is_told_at_once_with_wrong_options() {
        let told = |line: &str| rendered(&parse(line).unwrap()).unwrap_err().render();
        for (line, words) in [
            ("job", "a job needs what it builds"),
            ("job --prometheus -- --frontend x", "--prometheus makes no sense for a job"),
            ("job --tls-secret s -- --frontend x", "--tls-secret makes no sense for a job"),
            ("pod --registry-secret s", "--registry-secret is for a job"),
            ("pod -- --frontend x", "what is built is for a job to know"),
            ("pod --context c", "--kubeconfig and --context are for --apply"),
            ("pod --force", "--force is for --apply"),
            ("pod -o kustomize", "needs --into DIR"),
            ("pod -o json --into x", "--into is for --output kustomize"),
            ("pod --name 9lives", "--name: name `9lives`"),
            ("pod --mode rootless --driver-opt hostusers=false", "--mode rootless means true"),
        ] {
            let error = told(line);
            assert!(error.contains(words) && error.lines().count() == 1, "{line}: {error}");
        }
        let error = told("job --prometheus --name 9lives --driver-opt replicas=2,rotless=true");
        for words in
            ["a job needs", "--prometheus makes", "--name: name", "`replicas`: it makes", "did you mean `rootless`?"]
        {
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn lines_that_are_refused_and_accepted() {
        for line in [
            "pod --apply --diff",
            "pod --delete --force",
            "pod --apply -o yaml",
            "replicaset",
            "pod --mode root",
            "pod --into x",
            "pod --pod-disruption-budget 1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in [
            "pod",
            "deployment --apply --force --kubeconfig k --context c -n builds",
            "deployment --pod-disruption-budget=minAvailable=1 --prometheus --network-policy",
            "job --delete",
            "job --registry-secret s -- --frontend dockerfile.v0 --opt context=https://example.com/a.git",
        ] {
            assert!(rendered(&parse(line).unwrap()).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_budget_without_a_value_is_what_each_kind_knows() {
        for (line, field) in [
            ("pod --pod-disruption-budget", "minAvailable"),
            ("statefulset --pod-disruption-budget", "maxUnavailable"),
            ("deployment --driver-opt poddisruptionbudget=maxUnavailable=1", "maxUnavailable"),
        ] {
            let (objects, _) = rendered(&parse(line).unwrap()).unwrap();
            let budget = objects.last().unwrap();
            assert_eq!((&budget["kind"], &budget["spec"][field]), (&json!("PodDisruptionBudget"), &json!(1)), "{line}");
        }
    }
}
