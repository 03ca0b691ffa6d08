//! `buildfleet create`: makes a builder, adds a node to one, changes a node, or removes one with `--leave`.

use std::path::{Path, PathBuf};

use buildfleet_proto::fleet::{Builder, Change, CreateRequest, LeaveRequest, RemoveRequest};

use super::buildx::Telling;
use super::choice::{Given, choose};
use super::client::{Client, called};
use super::failure::Failure;
use super::json::{BuilderView, Done};
use super::output::{Format, json_line, print};
use super::progress::{follow_or_interrupt, quietly};
use super::{Context, buildx, files, start};
use crate::builder::Driver;
use crate::options::with_files;

/// How manifests are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Manifests {
    Yaml,
}

/// Create a builder, add a node to it with --append, or remove a node with --leave
///
/// Prints the builder's name. Where docker buildx is installed, the builder is registered there too, with one `remote`
/// node per node.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Args {
    /// The builder's name; without it, one is invented
    #[arg(long, value_name = "NAME", required_if_eq_any([("append", "true"), ("leave", "true")]))]
    pub(super) name: Option<String>,
    /// kubernetes, local or remote; without it, kubernetes if there is a kubeconfig, else local
    #[arg(long)]
    pub(super) driver: Option<String>,
    /// Options of the driver, as in replicas=2,namespace=builds; may be repeated
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(super) driver_opt: Vec<String>,
    /// The node to create, change or remove; without it, NAME0, NAME1, ...
    #[arg(long, value_name = "NAME", required_if_eq("leave", "true"))]
    pub(super) node: Option<String>,
    /// Add a node to a builder that exists
    #[arg(long, conflicts_with = "leave")]
    pub(super) append: bool,
    /// Remove a node, with its pods, from a builder
    #[arg(long, conflicts_with_all = ["driver", "driver_opt", "platform", "buildkitd_flags", "buildkitd_config", "bootstrap", "use_it",
        "timeout", "kubeconfig", "context", "dry_run", "endpoint", "diff", "attach"])]
    pub(super) leave: bool,
    /// Platforms that builds of the node are for, as in linux/amd64,linux/arm64; may be repeated
    #[arg(long, value_name = "PLATFORM,...")]
    pub(super) platform: Vec<String>,
    /// Arguments of buildkitd, in a shell's quoting
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub(super) buildkitd_flags: Option<String>,
    /// buildkitd's configuration, a TOML file; the certificates and keys of registries that it names come along
    #[arg(long, value_name = "FILE", visible_alias = "config")]
    pub(super) buildkitd_config: Option<PathBuf>,
    /// Start the node's pods and wait until they are ready; what was created is removed again when they do not start
    #[arg(long)]
    pub(super) bootstrap: bool,
    /// Make the builder the current one
    #[arg(long = "use")]
    pub(super) use_it: bool,
    /// How long the node's pods may take to start, as in 90s or 5m: short for --driver-opt timeout=DURATION
    #[arg(long, value_name = "DURATION")]
    pub(super) timeout: Option<String>,
    /// The kubeconfig file to take the cluster from, instead of $KUBECONFIG and ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; without it, its current one at this moment
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// Only check what is given; with `--output yaml`, print the objects that would be made
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Only show what the node's next start would change in the cluster
    #[arg(long, conflicts_with_all = ["bootstrap", "output"])]
    pub(super) diff: bool,
    /// The shape of what `--dry-run` prints
    #[arg(long, short, value_enum, value_name = "FORMAT", requires = "dry_run")]
    pub(super) output: Option<Manifests>,
    /// Use pods that somebody else runs: deployment/NAME, statefulset/NAME or pod/NAME. They are never changed
    #[arg(long, value_name = "KIND/NAME")]
    pub(super) attach: Option<String>,
    /// Give these options to everybody who uses the node's pods, or take over what buildfleet did not make; with --leave as in
    /// `rm --force`
    #[arg(long)]
    pub(super) force: bool,
    /// With --leave: keep the volumes of the node's pods, which a later node of its name takes up again
    #[arg(long, requires = "leave")]
    pub(super) keep_state: bool,
    /// The address of a buildkitd for the remote driver: unix://, tcp://, ssh://, docker-container://, kube-pod:// or
    /// kube-service://, as docs/cli.md has them
    pub(super) endpoint: Option<String>,
    /// The command is buildx's: a builder that buildx does not know is none.
    #[arg(skip)]
    pub(super) as_buildx: bool,
    /// buildx's own `--timeout`.
    #[arg(skip)]
    pub(super) status_timeout: Option<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    if args.leave {
        return leave(args, context).await;
    }
    let mut client = context.client().await?;
    let name = args.name.clone().unwrap_or_default();
    let (bootstrap, dry_run, use_it) = (args.bootstrap, args.dry_run, args.use_it);
    let (diff, manifests) = (args.diff, args.output.is_some());
    let (as_buildx, status_timeout) = (args.as_buildx, args.status_timeout.clone());
    let before = match client.list().await?.into_iter().find(|builder| builder.name == name.to_ascii_lowercase()) {
        None if args.append => {
            client.inspect(&name).await?;
            None
        }
        before => before,
    };
    let (request, why) = request(args, before.as_ref(), context)?;
    let driver = request.driver.clone();
    let doing = if name.is_empty() { "create a builder".to_owned() } else { format!("create {}", called(&name)) };
    // Before anything is made: buildx may know another builder by this name.
    let tool = buildx::ready_for(context, &mut client, &name).await.map_err(|failure| failure.doing(doing.clone()))?;
    let created = client.create(request).await.map_err(|failure| failure.doing(doing))?;
    if let Some(why) = why {
        context.info(&format!("using the {driver} driver: {why}"));
    }
    created.warnings.iter().for_each(|warning| context.warning(warning));
    if diff {
        return print(differences(&created.changes));
    }
    if manifests {
        return print(created.manifests);
    }
    if !created.changes.is_empty() {
        context.said(differences(&created.changes).trim_end());
    }
    let Some(mut builder) = created.builder else {
        return Err(Failure::other("the daemon's answer has no builder"));
    };
    if dry_run {
        context.info("nothing was created: --dry-run is given");
        return Ok(());
    }
    let made = Made {
        builder: builder.name.clone(),
        node: created.node,
        whole: before.is_none(),
        takes_up_state: created.takes_up_state,
    };
    let is_new = before.as_ref().is_none_or(|old| old.nodes.iter().all(|node| node.name != made.node));
    let telling = Telling { node: &made.node, use_it, timeout: status_timeout.as_deref() };
    if bootstrap {
        if let Err(failure) = start::bootstrap(&mut client, context, &builder.name, &made.node).await {
            if failure.is_interrupted() || !is_new {
                // It stays, so that it can be followed or changed again, and buildx has to know it.
                if let Err(unregistered) = buildx::register(&mut client, tool, &builder, telling).await {
                    unregistered.tell(context);
                }
            } else {
                made.undo(&mut client, context, "its pods did not start").await;
            }
            return Err(failure);
        }
        builder = client.inspect(&builder.name).await?;
    }
    match buildx::register(&mut client, tool, &builder, telling).await {
        Ok(()) => {}
        Err(unregistered) if as_buildx => {
            let failure = unregistered.undo().await;
            if is_new {
                made.undo(&mut client, context, "docker buildx does not know it").await;
            }
            return Err(failure);
        }
        Err(unregistered) => unregistered.tell(context),
    }
    match context.format {
        Format::Text => print(format!("{}\n", builder.name)),
        Format::Json => print(json_line(&BuilderView::from(builder))?),
    }
}

fn request(
    args: Args,
    before: Option<&Builder>,
    context: &Context,
) -> Result<(CreateRequest, Option<String>), Failure> {
    let driver = match args.driver.as_deref().map(str::parse::<Driver>).transpose() {
        Ok(driver) => driver,
        Err(error) => return Err(Failure::usage(error.to_string())),
    };
    let kubeconfig = match args.kubeconfig.map(std::path::absolute).transpose() {
        Ok(path) => path,
        Err(error) => return Err(Failure::usage(format!("--kubeconfig is no path: {error}"))),
    };
    let existing = match (before, driver) {
        (Some(before), None) => Some(present(before, args.node.as_deref())?),
        _ => None,
    };
    let choice = choose(Given {
        driver,
        existing,
        endpoint: args.endpoint.as_deref(),
        kubeconfig,
        context: args.context,
        found: context.settings.kubeconfig(),
        in_cluster: context.in_cluster(),
    })?;
    let mut driver_opt = match with_files(&args.driver_opt, |path| files::text(Path::new(path))) {
        Ok(driver_opt) => driver_opt,
        Err(errors) => return Err(Failure::usage(errors.to_string())),
    };
    let buildkitd_config = args.buildkitd_config.map(|path| files::buildkitd_config(&path)).transpose();
    let buildkitd_config = buildkitd_config.map_err(Failure::usage)?;
    if let Some(timeout) = args.timeout {
        driver_opt.push(format!("timeout={timeout}"));
    }
    let request = CreateRequest {
        builder: args.name.unwrap_or_default(),
        node: args.node.unwrap_or_default(),
        driver: choice.driver.to_string(),
        append: args.append,
        driver_opt,
        platform: args.platform,
        buildkitd_flags: args.buildkitd_flags.unwrap_or_default(),
        endpoint: args.endpoint.unwrap_or_default(),
        kubeconfig: choice.kubeconfig,
        r#use: args.use_it,
        dry_run: args.dry_run || args.diff,
        attach: args.attach.unwrap_or_default(),
        diff: args.diff,
        manifests: args.output.is_some(),
        force: args.force,
        adopt: false,
        buildkitd_config,
    };
    Ok((request, choice.why))
}

/// The driver of a node that is there, else that of all nodes.
fn present(before: &Builder, node: Option<&str>) -> Result<Driver, Failure> {
    let named = node.and_then(|name| before.nodes.iter().find(|node| node.name == name.to_ascii_lowercase()));
    let driver = named.map_or(&before.driver, |node| &node.driver);
    driver.parse().map_err(|_| {
        let (name, drivers) = (&before.name, &before.driver);
        Failure::usage(format!(
            "builder {name} has nodes of several drivers ({drivers}): --driver says of which this one is"
        ))
    })
}

/// One diff after the other, each under the name of its object.
fn differences(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("{}:\n{}", change.object, change.unified_diff)).collect()
}

/// What this command made.
struct Made {
    builder: String,
    node: String,
    /// The node is the first of its builder.
    whole: bool,
    takes_up_state: bool,
}

impl Made {
    /// Takes it back, so that a `create` that failed leaves nothing behind.
    async fn undo(self, client: &mut Client, context: &Context, why: &str) {
        let Self { builder, node, whole, takes_up_state: keep_state } = self;
        let what = if whole { called(&builder) } else { format!("node {node}") };
        let stream = if whole {
            // By force would be to take it from others.
            client.remove(RemoveRequest { builder, keep_state, forget: true, ..RemoveRequest::default() }).await
        } else {
            client.leave(LeaveRequest { builder, node, keep_state, force: false }).await
        };
        match quietly(stream).await {
            Ok(()) => context.info(&format!("{what} was removed again, because {why}")),
            Err(failure) => context.failed(&failure.doing(format!("remove {what} again"))),
        }
    }
}

async fn leave(args: Args, context: &Context) -> Result<(), Failure> {
    // Both are required by the arguments' rules.
    let (name, node) = (args.name.unwrap_or_default(), args.node.unwrap_or_default());
    let mut client = context.client().await?;
    let (keep_state, force) = (args.keep_state, args.force);
    let request = LeaveRequest { builder: name.clone(), node: node.clone(), keep_state, force };
    let left = match client.leave(request).await {
        Ok(stream) => follow_or_interrupt(stream, context.progress).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = left {
        let failure = failure.doing(format!("remove node {node} from {}", called(&name)));
        return Err(client.with_what_there_is(failure).await);
    }
    buildx::leave(context, &mut client, &name, &node).await;
    match context.format {
        Format::Text => print(format!("{name}\n")),
        Format::Json => print(json_line(&Done { name: &name, result: "left" })?),
    }
}
