//! What a build belongs to, from all that its client shows of it: pure but for the look at the client's process.
//!
//! The order of the clues, and why it is this one, is in docs/placement.md.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use buildfleet_proto::buildkit::{SolveRequest, frontend};

use crate::placement::{Placing, StickyKey};

mod origin;
mod peer;
mod shared_key;
#[cfg(test)]
mod tests;

pub(super) use peer::Peer;
pub(super) use shared_key::SharedKey;

/// What buildx names a context that it sends itself from its standard input: another one in every run.
const UPLOADED: &str = "http://buildkit-session/";

/// A longer value of an option is data, and says nothing that a person chose.
const STEADY: usize = 64;

/// A git commit is shown by this many hexadecimal digits at least.
const COMMIT: usize = 7;

/// The keys by which a build is placed. `bridge` is the first call of a client that drives its build itself, and holds the
/// options that other clients put into `solve`.
pub(super) fn placing(
    peer: &Peer,
    shared_key: Option<&SharedKey>,
    solve: &SolveRequest,
    bridge: Option<&frontend::SolveRequest>,
) -> Placing {
    let options = Options { bridge: bridge.map(|bridge| &bridge.frontend_opt), solve: &solve.frontend_attrs };
    let names = image_names(solve);
    let name = shared_key.and_then(SharedKey::context);
    Placing {
        build_ref: solve.r#ref.clone(),
        project: project(peer, name, &options, &names).unwrap_or_default(),
        part: part(name, &options, &names, bridge.map_or(&solve.frontend, |bridge| &bridge.frontend)),
        internal: solve.internal,
        ..Placing::default()
    }
}

/// The frontend's options, wherever they are.
struct Options<'a> {
    bridge: Option<&'a HashMap<String, String>>,
    solve: &'a HashMap<String, String>,
}

impl<'a> Options<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let value = self.bridge.and_then(|options| options.get(name)).or_else(|| self.solve.get(name))?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// In the order of their names.
    fn all(&self) -> BTreeMap<&'a str, &'a str> {
        let both = self.solve.iter().chain(self.bridge.into_iter().flatten());
        both.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

/// The first clue that says something.
fn project(peer: &Peer, name: Option<&str>, options: &Options<'_>, images: &[&str]) -> Option<StickyKey> {
    let remote = ["context", "input:context"].into_iter().filter_map(|name| options.get(name));
    let remote = remote.filter(|context| !context.starts_with(UPLOADED)).find_map(origin::of_context);
    let checkout = || {
        let repository = origin::of_repository(options.get("vcs:source")?);
        Some(origin::below(&repository, options.get("vcs:localdir:context").unwrap_or_default()))
    };
    let image = || images.first().map(|name| origin::of_image(name).0.to_owned());
    let directory = || Some(peer.context(name)?.to_string_lossy().into_owned());
    let context = || name.map(str::to_owned);
    remote.or_else(checkout).or_else(image).or_else(directory).or_else(context).map(StickyKey::new)
}

/// All that a user chooses to tell one target from another, without what changes from run to run.
fn part(name: Option<&str>, options: &Options<'_>, images: &[&str], frontend: &str) -> StickyKey {
    let mut clues: Vec<(&str, &str)> = vec![("frontend", frontend), ("directory", name.unwrap_or_default())];
    for image in images {
        let (repository, tag) = origin::of_image(image);
        clues.push(("image", repository));
        clues.push(("tag", tag));
    }
    let chosen = |name: &str| {
        ["target", "filename", "platform", "source", "vcs:localdir:context", "vcs:localdir:dockerfile"].contains(&name)
            || ["build-arg:", "context:"].iter().any(|family| name.starts_with(family))
    };
    clues.extend(options.all().into_iter().filter(|(name, _)| chosen(name)));
    let clues = clues.into_iter().filter(|(_, value)| !value.is_empty() && is_steady(value));
    StickyKey::new(clues.map(|(name, value)| format!("{name}={value}\n")).collect::<String>())
}

/// The names of the images that come out, in the order in which they were given.
fn image_names(solve: &SolveRequest) -> Vec<&str> {
    let names = solve.exporters.iter().filter_map(|exporter| exporter.attrs.get("name"));
    names.flat_map(|names| names.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// Whether a value is likely to be the same in the next run: no commit, no number of a build, no date.
fn is_steady(value: &str) -> bool {
    let word = |c: char| !c.is_ascii_hexdigit();
    let is_hash = |run: &str| run.len() >= COMMIT && run.bytes().any(|byte| byte.is_ascii_digit());
    let is_date = value.as_bytes().windows(10).any(|text| {
        let form = text.iter().map(|byte| if byte.is_ascii_digit() { b'0' } else { *byte });
        form.eq(*b"0000-00-00")
    });
    value.len() <= STEADY && !is_date && !value.split(word).any(is_hash)
}

/// The last part of a path, when it has one.
fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}
