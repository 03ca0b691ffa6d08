//! The store's JSON, each kind of file with its version. A version that this program does not know is an error, never a guess.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use buildfleet_proto::buildkit::ListWorkersResponse;
use prost::Message;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{StoredBuilder, StoredNode};
use crate::builder::{Builder, BuilderName, PodName};
use crate::fleet::{PingAnswer, Remembered};
use crate::proxy::FinishedBuilds;

/// Of the files of nodes, and of the current builder.
const VERSION: u64 = 1;

/// Of the files of builders. Version 1 had a driver for the whole builder, which all of its nodes had to have.
const BUILDER_VERSION: u64 = 2;

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct BuilderFile {
    version: u64,
    /// Seconds since 1970.
    created: u64,
    builder: Builder,
}

#[derive(Serialize, Deserialize)]
struct NodeFile {
    version: u64,
    /// A ListWorkersResponse, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workers: Option<String>,
    /// An answer to Ping, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ping: Option<String>,
    /// The BuildKit that gave it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    ping_version: String,
    stopped: bool,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_activity: Option<u64>,
    /// By pod and ref: when the build ended, in seconds since 1970.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    finished: BTreeMap<PodName, BTreeMap<String, u64>>,
}

#[derive(Serialize, Deserialize)]
struct CurrentFile {
    version: u64,
    builder: Option<BuilderName>,
}

pub(super) fn builder(stored: &StoredBuilder) -> String {
    text(&BuilderFile { version: BUILDER_VERSION, created: seconds(stored.created), builder: stored.builder.clone() })
}

pub(super) fn node(stored: &StoredNode) -> String {
    let mut finished: BTreeMap<PodName, BTreeMap<String, u64>> = BTreeMap::new();
    for (reference, pod, when) in stored.finished.iter() {
        finished.entry(pod.clone()).or_default().insert(reference.to_owned(), seconds(when));
    }
    text(&NodeFile {
        version: VERSION,
        workers: stored.remembered.workers.as_ref().map(|workers| STANDARD.encode(workers.encode_to_vec())),
        ping: stored.remembered.ping.as_ref().map(|ping| STANDARD.encode(&ping.answer)),
        ping_version: stored.remembered.ping.as_ref().map(|ping| ping.version.clone()).unwrap_or_default(),
        stopped: stored.remembered.stopped,
        last_activity: stored.last_activity.map(seconds),
        finished,
    })
}

pub(super) fn current(builder: Option<&BuilderName>) -> String {
    text(&CurrentFile { version: VERSION, builder: builder.cloned() })
}

/// `name` is what the file is called: a copy under another name would be two builders with the same pods.
pub(super) fn parse_builder(text: &str, name: &str) -> Result<StoredBuilder, String> {
    // What version 1 says of the driver, its nodes' endpoints say, too.
    let BuilderFile { version: _, created, builder } = parse(text, &[1, BUILDER_VERSION])?;
    if builder.name.as_str() != name {
        return Err(format!("it holds builder {}", builder.name));
    }
    if builder.nodes.is_empty() {
        return Err("it has no nodes".to_owned());
    }
    Ok(StoredBuilder { builder, created: time(created) })
}

pub(super) fn parse_node(text: &str) -> Result<StoredNode, String> {
    let NodeFile { version: _, workers, ping, ping_version, stopped, last_activity, finished } =
        parse(text, &[VERSION])?;
    let workers = workers
        .map(|encoded| {
            let bytes = STANDARD.decode(encoded).map_err(|error| format!("workers: {error}"))?;
            ListWorkersResponse::decode(bytes.as_slice()).map_err(|error| format!("workers: {error}"))
        })
        .transpose()?;
    let ping = ping.map(|encoded| STANDARD.decode(encoded).map_err(|error| format!("ping: {error}"))).transpose()?;
    let ping = ping.map(|answer| PingAnswer { answer: answer.into(), version: ping_version });
    let remembered = Remembered { workers, ping, stopped };
    let finished: FinishedBuilds = finished
        .iter()
        .flat_map(|(pod, builds)| builds.iter().map(|(name, when)| (name.as_str(), pod.clone(), time(*when))))
        .collect();
    Ok(StoredNode { remembered, last_activity: last_activity.map(time), finished })
}

pub(super) fn parse_current(text: &str) -> Result<Option<BuilderName>, String> {
    parse::<CurrentFile>(text, &[VERSION]).map(|file| file.builder)
}

fn parse<T: DeserializeOwned>(text: &str, versions: &[u64]) -> Result<T, String> {
    // The version first: a later one may have another shape.
    let Versioned { version } = serde_json::from_str(text).map_err(|error| format!("broken: {error}"))?;
    if !versions.contains(&version) {
        let known = versions.iter().map(u64::to_string).collect::<Vec<_>>().join(" and ");
        return Err(format!("written by another buildfleet: version {version}, this one reads version {known}"));
    }
    serde_json::from_str(text).map_err(|error| format!("broken: {error}"))
}

fn text<T: Serialize>(file: &T) -> String {
    // Serialising fails for maps with keys that are no strings and for types that refuse; these have neither.
    let mut text = serde_json::to_string_pretty(file).expect("the store's types are plain data");
    text.push('\n');
    text
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}
