//! `docker buildx du` and `prune` of a builder of ours.

use std::io::{BufRead, Write};

use super::pflag::Given;
use super::whose::Whose;
use super::{Call, TO_THE_REAL_ONE, docker};
use crate::cli::buildkit::Chosen;
use crate::cli::failure::Failure;
use crate::cli::fields::Shape;
use crate::cli::output::{Format, print, say};
use crate::cli::{du, prune as pruning};

pub(super) async fn du(mut call: Call, given: &Given) -> Result<u8, Failure> {
    let Whose::Ours(name) = call.whose(given)? else { return call.relay().await };
    let format = given.text("format").unwrap_or_default();
    let mut verbose = given.is("verbose");
    if verbose && !format.is_empty() {
        return Err(Failure::other("--format and --verbose cannot be used together"));
    }
    // The socket of a builder answers the real buildx, too.
    if call.is_unknown(&name).await? {
        return call.relay().await;
    }
    match format.parse() {
        Ok(Shape::Json) => call.context.format = Format::Json,
        Ok(Shape::Fields(template)) => call.context.fields = Some(template),
        Ok(Shape::Text) => verbose = format == "pretty",
        Err(_) if format.is_empty() => {}
        Err(_) => {
            call.warning("docker's own buildx answers: its templates know no warnings of single pods");
            return call.relay().await;
        }
    }
    let args =
        du::Args { builder: Chosen::by_name(name), filter: given.list("filter"), verbose, limit: call.limit(given) };
    du::run(args, &call.context).await.map(|()| 0)
}

pub(super) async fn prune(call: Call, given: &Given) -> Result<u8, Failure> {
    let Whose::Ours(name) = call.whose(given)? else { return call.relay().await };
    if given.spells("keep-storage") {
        say("Flag --keep-storage has been deprecated, keep-storage flag has been changed to reserved-space");
    }
    let what = if given.is("all") { "all build cache" } else { "all dangling build cache" };
    if !given.is("force")
        && !confirmed(&format!("WARNING! This will remove {what}. Are you sure you want to continue?"))?
    {
        return Ok(0);
    }
    if call.is_unknown(&name).await? {
        return Err(unknown(&name));
    }
    let args = pruning::Args {
        builder: Chosen::by_name(name),
        all: given.is("all"),
        filter: docker::with_defaults(given.list("filter"), docker::prune_filters()),
        reserved_space: given.size("reserved-space"),
        max_used_space: given.size("max-used-space"),
        min_free_space: given.size("min-free-space"),
        force: true,
        verbose: given.is("verbose"),
        limit: call.limit(given),
    };
    pruning::run(args, &call.context).await.map(|()| 0)
}

/// Of a builder that buildx's store has at our sockets, and the daemon has not.
pub(super) fn unknown(name: &str) -> Failure {
    Failure::other(format!("buildfleet does not know builder {name} any more"))
        .hint(format!("`docker buildx rm {name}` removes what is left of it; {TO_THE_REAL_ONE}"))
}

/// Asks as buildx asks: on stdout, and the end of stdin is a no.
pub(super) fn confirmed(warning: &str) -> Result<bool, Failure> {
    print(format!("{warning} [y/N] "))?;
    std::io::stdout().flush().map_err(Failure::output)?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::other(format!("failed to read the answer: {error}")))?;
    Ok(answer.trim_end_matches(['\n', '\r']).eq_ignore_ascii_case("y"))
}
