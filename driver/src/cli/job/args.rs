//! The command line of `buildfleet job`.

use std::path::PathBuf;

use super::theirs::Theirs;
use crate::cli::objects::Cluster;

/// What to build, how, and what becomes of it: the words are those of `docker buildx build`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct RunArgs {
    /// A directory, a git or https URL, or `-` for a tar archive or a Dockerfile on stdin
    #[arg(value_name = "CONTEXT|URL|-")]
    pub(super) source: String,
    #[command(flatten)]
    pub(super) build: BuildArgs,
    /// The Job's name; without it, one is invented. A Job of this name that is not over is attached to
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) cluster: Cluster,
    /// The dockerconfigjson Secret with credentials for registries; made from docker's own configuration when it is not there
    #[arg(long, value_name = "NAME")]
    pub(super) registry_secret: Option<String>,
    /// A registry whose credentials the build needs and nothing else tells; may be repeated
    #[arg(long, value_name = "HOST")]
    pub(super) registry: Vec<String>,
    /// Build on a pod of this builder, of the kubernetes driver, instead of in the Job's own pod
    #[arg(long, value_name = "NAME", conflicts_with = "address")]
    pub(super) builder: Option<String>,
    /// Build on the buildkitd at this address, over mTLS, as in tcp://buildkitd:1234
    #[arg(long, value_name = "ADDRESS", requires = "certificates")]
    pub(super) address: Option<String>,
    /// The Secret with ca.pem, cert.pem and key.pem for --address
    #[arg(long, value_name = "SECRET", requires = "address")]
    pub(super) certificates: Option<String>,
    /// The name in the certificate of --address; without it, the address's host
    #[arg(long, value_name = "NAME", requires = "address")]
    pub(super) server_name: Option<String>,
    /// Options of the Job's pod, as in requests.memory=2Gi,nodeselector=disk=ssd: those of the kubernetes driver; may be repeated
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(super) driver_opt: Vec<String>,
    /// Arguments of the buildkitd in the Job's pod, in a shell's quoting
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub(super) buildkitd_flags: Option<String>,
    /// The configuration of the buildkitd in the Job's pod, a TOML file
    #[arg(long, value_name = "FILE")]
    pub(super) buildkitd_config: Option<PathBuf>,
    /// Go as soon as the context is uploaded, and print the Job's name
    #[arg(long, short)]
    pub(super) detach: bool,
    /// How long the Job may take, as in 30m; without it, as long as it likes
    #[arg(long, value_name = "DURATION")]
    pub(super) timeout: Option<String>,
    /// How long the Job stays when it is over
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub(super) ttl: String,
    /// How often a build that failed is tried again
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) retries: u32,
    /// Print the Job's manifests and make nothing
    #[arg(long, conflicts_with = "detach")]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) view: View,
    #[command(flatten)]
    pub(super) theirs: Theirs,
}

/// What goes to `buildctl build`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct BuildArgs {
    /// The Dockerfile, here, or in the context when that is a URL or an archive; `-` reads it from stdin
    #[arg(long, short, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// A name for the image; may be repeated
    #[arg(long, short, value_name = "NAME")]
    pub(super) tag: Vec<String>,
    /// Push the image by its names
    #[arg(long)]
    pub(super) push: bool,
    /// What becomes of the result, as in type=image,name=NAME,push=true; may be repeated
    #[arg(long, short, value_name = "TYPE,...")]
    pub(super) output: Vec<String>,
    /// The frontend that reads the Dockerfile
    #[arg(long, value_name = "NAME", default_value = "dockerfile.v0")]
    pub(super) frontend: String,
    /// An option of the frontend; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) opt: Vec<String>,
    /// A build argument; without a value, that of the environment; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(super) build_arg: Vec<String>,
    /// A secret for the build, as in id=npm,src=FILE or id=npm,env=NAME; may be repeated
    #[arg(long, value_name = "id=ID,...")]
    pub(super) secret: Vec<String>,
    /// Platforms to build for, as in linux/amd64,linux/arm64; may be repeated
    #[arg(long, value_name = "PLATFORM,...")]
    pub(super) platform: Vec<String>,
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// A label of the image; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) label: Vec<String>,
    /// Take nothing from the build cache
    #[arg(long)]
    pub(super) no_cache: bool,
    /// A cache to take from, as in type=registry,ref=NAME or NAME; may be repeated
    #[arg(long, value_name = "TYPE,...")]
    pub(super) cache_from: Vec<String>,
    /// Where to put the build cache, as in type=registry,ref=NAME,mode=max; may be repeated
    #[arg(long, value_name = "TYPE,...")]
    pub(super) cache_to: Vec<String>,
}

/// How a build is shown.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct View {
    /// How progress is shown: auto is tty on a terminal, else plain
    #[arg(long, value_enum, value_name = "KIND", default_value_t = ProgressKind::Auto)]
    pub(super) progress: ProgressKind,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ProgressKind {
    #[default]
    Auto,
    Plain,
    Tty,
}

/// One Job.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct OneArgs {
    /// The Job's name
    pub(super) name: String,
    #[command(flatten)]
    pub(super) cluster: Cluster,
}
