//! `docker buildx rm` and `stop`, when builders of ours are among those that are meant.

use buildfleet_proto::fleet::RemoveRequest;

use super::cache::confirmed;
use super::pflag::Given;
use super::whose::{Whose, store, unreadable};
use super::{Call, others, real};
use crate::cli::client::within;
use crate::cli::failure::Failure;
use crate::cli::output::say;
use crate::cli::progress::{Style, follow_or_interrupt};
use crate::cli::rm;

/// buildx's words for the end of an `rm` that did not remove everything.
const SOME_FAILED: &str = "failed to remove one or more builders";

/// What is removed, and how.
struct Wanted {
    ours: Vec<String>,
    theirs: Vec<String>,
    keep_state: bool,
    keep_daemon: bool,
    /// Also what others use, and what cannot be reached.
    force: bool,
}

pub(super) async fn run(mut call: Call, given: &Given) -> Result<u8, Failure> {
    // What becomes of each builder is one line, as in buildx; warnings are said all the same.
    call.context.progress = Style::Quiet;
    let everything = given.is("all-inactive");
    if everything && !given.words.is_empty() {
        return Err(Failure::other("cannot specify builder name when --all-inactive is set"));
    }
    let mut wanted = Wanted {
        ours: Vec::new(),
        theirs: Vec::new(),
        keep_state: given.is("keep-state"),
        keep_daemon: given.is("keep-daemon"),
        // With --all-inactive it is the answer to a question, and takes nothing from others.
        force: given.is("force") && !everything,
    };
    if everything {
        let warning =
            "WARNING! This will remove all builders that are not in running state. Are you sure you want to continue?";
        if !given.is("force") && !confirmed(warning)? {
            return Ok(0);
        }
        inactive(&call, given, &mut wanted).await?;
    } else if given.words.is_empty() {
        let Whose::Ours(name) = call.whose(given)? else { return call.relay().await };
        wanted.ours.push(name);
    } else {
        for word in &given.words {
            match Whose::named(word, call.context.settings.runtime_dir())? {
                Whose::Ours(name) => wanted.ours.push(name),
                Whose::Theirs => wanted.theirs.push(word.clone()),
            }
        }
    }
    if remove(&call, given, wanted).await? { Ok(0) } else { Err(Failure::other(SOME_FAILED)) }
}

/// As buildx tells them: without a node that runs, and none of docker's contexts, which no store has.
async fn inactive(call: &Call, given: &Given, wanted: &mut Wanted) -> Result<(), Failure> {
    let limit = call.limit(given);
    let known = within(limit, async { call.client().await?.list().await }).await?;
    for builder in others::ask(&call.real().await?, given, limit).await? {
        if !builder.is_ours(call.context.settings.runtime_dir()) {
            if builder.is_inactive() && is_stored(&builder.name)? {
                wanted.theirs.push(builder.name);
            }
        } else if known.iter().any(|known| known.name == builder.name && rm::is_inactive(known)) {
            wanted.ours.push(builder.name);
        }
    }
    Ok(())
}

fn is_stored(name: &str) -> Result<bool, Failure> {
    let Some(store) = store() else { return Ok(false) };
    store.instance(name).map(|found| found.is_some()).map_err(|error| unreadable(&error))
}

/// Whether all are gone.
async fn remove(call: &Call, given: &Given, wanted: Wanted) -> Result<bool, Failure> {
    let Wanted { ours, mut theirs, keep_state, keep_daemon, force } = wanted;
    let mut all = true;
    if !ours.is_empty() {
        let mut client = call.client().await?;
        for name in ours {
            let request = RemoveRequest { builder: name.clone(), force, keep_state, forget: force, keep_daemon };
            match rm::take_away(&mut client, &call.context, request).await {
                Ok(()) => say(&format!("{name} removed")),
                // What buildx has of it, buildx removes.
                Err(failure) if failure.is_not_found() => theirs.push(name),
                Err(failure) if failure.is_interrupted() => return Err(failure),
                Err(failure) => {
                    all = false;
                    let told = failure.render();
                    say(&format!("failed to remove {name}:{}", told.trim_start_matches("error:").trim_end()));
                }
            }
        }
    }
    if !theirs.is_empty() {
        let flags = [("keep-state", keep_state), ("keep-daemon", keep_daemon), ("force", given.is("force"))];
        let flags = flags.into_iter().filter(|(_, given)| *given).map(|(name, _)| format!("--{name}"));
        let timeout = given.text("timeout").map(|timeout| format!("--timeout={timeout}"));
        let words = std::iter::once("rm".to_owned()).chain(flags).chain(timeout).chain(theirs);
        let arguments: Vec<String> = words.collect();
        let last = format!("ERROR: {SOME_FAILED}");
        all &= real::pass_lines(&call.real().await?, &arguments, |line| line == last).await? == 0;
    }
    Ok(all)
}

pub(super) async fn stop(mut call: Call, given: &Given) -> Result<u8, Failure> {
    let Whose::Ours(name) = call.whose(given)? else { return call.relay().await };
    call.context.progress = Style::Quiet;
    let mut client = call.client().await?;
    match client.stop(&name).await {
        Ok(stream) => follow_or_interrupt(stream, call.context.progress).await.map(|()| 0),
        Err(failure) if failure.is_not_found() => call.relay().await,
        Err(failure) => Err(failure),
    }
}
