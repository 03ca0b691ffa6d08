//! `buildfleet certs`: the certificates of a `buildkitd` that is run by hand, in a directory and in the cluster.

use std::path::PathBuf;

use buildfleet_proto::fleet::put_objects_request::Action;

use super::Context;
use super::failure::Failure;
use super::objects::{self, Cluster};
use crate::manifest;

mod change;
mod create;
mod directory;
mod probe;
mod renew;
mod show;
mod verify;

use directory::{Directory, Held};

/// Make, show, renew and check the certificates of a buildkitd that is run by hand
///
/// They are files in the layout of BuildKit's own examples, and Secrets made of them. docs/certificates.md has it all.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(create::Args),
    Show(show::Args),
    Renew(renew::Args),
    Verify(verify::Args),
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.command {
        Command::Create(args) => create::run(args, context).await,
        Command::Show(args) => show::run(&args, context),
        Command::Renew(args) => renew::run(args, context).await,
        Command::Verify(args) => verify::run(&args, context).await,
    }
}

/// The files are written then, and `create` would refuse to write them again.
const UNAPPLIED: &str =
    "the files are written; `buildfleet certs renew --apply` puts the Secrets into the cluster as they are";

/// Where the files are.
#[derive(Debug, clap::Args)]
struct Place {
    /// The directory of the files
    #[arg(long, value_name = "DIR", default_value = ".certs")]
    dir: PathBuf,
}

/// What the Secrets are called, and whether they go into the cluster.
#[derive(Debug, clap::Args)]
struct Secrets {
    /// The Secrets are NAME-daemon-certs and NAME-client-certs
    #[arg(long, value_name = "NAME", default_value = "buildkit")]
    name: String,
    /// Also put the Secrets into the cluster, by server-side apply
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    cluster: Cluster,
}

impl Secrets {
    fn names(&self) -> [String; 2] {
        ["daemon", "client"].map(|side| format!("{}-{side}-certs", self.name))
    }

    /// That Kubernetes takes them.
    fn check(&self) -> Result<(), Failure> {
        let ends_well = |name: &str| !name.starts_with(['-', '.']) && !name.ends_with(['-', '.']);
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if self.name.is_empty() || !ends_well(&self.name) || !self.name.chars().all(allowed) || self.name.len() > 200 {
            return Err(Failure::usage(format!(
                "--name `{}` is no name of a Secret: accepted are lower-case letters, digits, `-` and `.`",
                self.name
            )));
        }
        Ok(())
    }

    /// The daemon's Secret and the clients'.
    fn objects(&self, held: &Held) -> Vec<serde_json::Value> {
        let sides = self.names().into_iter().zip([&held.daemon, &held.client]);
        let namespace = self.cluster.namespace.as_deref();
        sides.map(|(name, side)| manifest::files_secret(&name, namespace, &side.files())).collect()
    }

    /// Writes all, and applies the Secrets where that is asked for.
    async fn put(&self, context: &Context, directory: &Directory, held: &Held, force: bool) -> Result<(), Failure> {
        let objects = self.objects(held);
        let texts = self.names().into_iter().zip(&objects);
        let texts: Vec<(String, String)> = texts
            .map(|(name, object)| (format!("{name}.yaml"), manifest::yaml(std::slice::from_ref(object))))
            .collect();
        directory.write(held, &texts)?;
        if self.apply {
            let put = objects::put(context, &self.cluster, &objects, Action::Apply, force).await;
            put.map_err(|failure| failure.hint(UNAPPLIED))?;
        }
        Ok(())
    }
}
