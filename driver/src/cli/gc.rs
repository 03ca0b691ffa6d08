//! `buildfleet gc`: removes builders from a cluster that nobody has used for long.

use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use super::choice::{Given, choose};
use super::failure::Failure;
use super::output::{Format, json_line, print};
use super::table::{columns, printable};
use crate::builder::Driver;
use crate::daemon::collect::{Fate, Found, Wanted, collect};
use crate::options::Ttl;
use crate::report;

/// Remove builders from a cluster that nobody has used for long, whoever made them
///
/// Also what is left of builders that are gone. A pod that is removed waits for the builds that run in it. It needs no daemon.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Of builders that say nothing themselves by the driver option ttl: after how long without a build one is removed, as in 24h
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// The namespace to look in; without it, that of the context
    #[arg(long, short, value_name = "NAME", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Look in all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Also accept a --ttl under 30 minutes, which can take builders from people who use them
    #[arg(long, short)]
    force: bool,
    /// Also remove volumes whose builder is gone: `rm --keep-state` leaves such
    #[arg(long)]
    volumes: bool,
    /// The kubeconfig file to take the cluster from, instead of $KUBECONFIG and ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; without it, its current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let ttl = match (&args.ttl, args.force) {
        (Some(text), true) => Some(text.parse::<Ttl>()),
        (Some(text), false) => Some(Ttl::safe(text)),
        (None, _) => None,
    };
    let ttl = ttl.transpose().map_err(|error| {
        Failure::usage(format!("--ttl: {error}; accepted is a duration of at least 30m, as in 24h, or never"))
    })?;
    let kubeconfig = match args.kubeconfig.map(std::path::absolute).transpose() {
        Ok(path) => path,
        Err(error) => return Err(Failure::usage(format!("--kubeconfig is no path: {error}"))),
    };
    let choice = choose(Given {
        driver: Some(Driver::Kubernetes),
        kubeconfig,
        context: args.context,
        found: context.settings.kubeconfig(),
        in_cluster: context.in_cluster(),
        ..Given::default()
    })?;
    let kubeconfig = choice.kubeconfig.unwrap_or_default();
    let wanted = Wanted {
        paths: kubeconfig.paths.into_iter().map(PathBuf::from).collect(),
        context: Some(kubeconfig.context).filter(|context| !context.is_empty()),
        namespace: args.namespace,
        all_namespaces: args.all_namespaces,
        ttl,
        dry_run: args.dry_run,
        volumes: args.volumes,
    };
    let found = collect(&context.settings, wanted).await.map_err(|error| {
        let failure = Failure::other(report::chain(&error)).doing("collect builders");
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    if args.dry_run {
        context.info("nothing was removed: --dry-run is given");
    }
    match context.format {
        Format::Json => {
            let lines: Result<String, Failure> =
                found.iter().map(|found| json_line(&View::of(found, args.dry_run))).collect();
            print(lines?)?;
        }
        Format::Text if found.is_empty() => context.info("found nothing that buildfleet has made there"),
        Format::Text => print(table(&found, args.dry_run))?,
    }
    let failed = found.iter().filter(|found| found.fate == Fate::Failed).count();
    match failed {
        0 => Ok(()),
        count => Err(Failure::other(format!("{count} of these could not be looked at or removed"))
            .hint("docs/rbac.md has the Role that gc needs")),
    }
}

fn result(fate: Fate, dry_run: bool) -> &'static str {
    match fate {
        Fate::Removed if dry_run => "due",
        Fate::Removed => "removed",
        Fate::Stays => "stays",
        Fate::Failed => "failed",
    }
}

fn table(found: &[Found], dry_run: bool) -> String {
    let mut rows = vec![["RESULT", "NAMESPACE", "OBJECT", "WHY"].map(str::to_owned).to_vec()];
    rows.extend(found.iter().map(|found| {
        let Found { namespace, object, fate, why } = found;
        [result(*fate, dry_run), namespace, object, &printable(why)].map(str::to_owned).to_vec()
    }));
    columns(&rows, 0, 3)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct View<'a> {
    namespace: &'a str,
    object: &'a str,
    result: &'static str,
    why: &'a str,
}

impl<'a> View<'a> {
    fn of(found: &'a Found, dry_run: bool) -> Self {
        let Found { namespace, object, fate, why } = found;
        Self { namespace, object, result: result(*fate, dry_run), why }
    }
}
