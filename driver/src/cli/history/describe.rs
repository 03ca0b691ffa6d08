//! All that the record of a build tells, in buildx's order: pure.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::find::Record;
use super::name::{LocalState, name};
use crate::cli::table::{printable, tabbed};
use crate::cli::units;

/// As `docker buildx history inspect --format json` has it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Description {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    r#ref: String,
    node: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    context: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dockerfile: String,
    #[serde(rename = "VCSRepository", skip_serializing_if = "String::is_empty")]
    vcs_repository: String,
    #[serde(rename = "VCSRevision", skip_serializing_if = "String::is_empty")]
    vcs_revision: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    target: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    platform: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    named_contexts: Vec<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    /// Nanoseconds.
    duration: u64,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
    num_completed_steps: i32,
    num_total_steps: i32,
    num_cached_steps: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    build_args: Vec<Pair>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Pair>,
    config: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    materials: Vec<Material>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
    #[serde(skip)]
    started: Option<buildfleet_proto::Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorView {
    code: i32,
    message: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    name: String,
    value: String,
}

/// What went into a build.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Material {
    #[serde(rename = "URI")]
    pub(super) uri: String,
    pub(super) digests: Vec<String>,
}

/// What came out of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attachment {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) platform: String,
    pub(super) r#type: String,
    pub(super) digest: String,
}

/// The attribute, its name in JSON, and its name for people.
const CONFIG: [(&str, &str, &str); 18] = [
    ("force-network-mode", "Network", "Network"),
    ("hostname", "Hostname", "Hostname"),
    ("add-hosts", "ExtraHosts", "Extra Hosts"),
    ("cgroup-parent", "CgroupParent", "Cgroup Parent"),
    ("image-resolve-mode", "ImageResolveMode", "Image Resolve Mode"),
    ("multi-platform", "MultiPlatform", "Multi-Platform"),
    ("no-cache", "NoCache", "No Cache"),
    ("shm-size", "ShmSize", "Shm Size"),
    ("ulimit", "Ulimit", "Resource Limits"),
    ("memory", "Memory", "Memory"),
    ("memswap", "MemorySwap", "Memory Swap"),
    ("cpushares", "CPUShares", "CPU Shares"),
    ("cpuperiod", "CPUPeriod", "CPU Period"),
    ("cpuquota", "CPUQuota", "CPU Quota"),
    ("cpusetcpus", "CPUSetCPUs", "CPUSet CPUs"),
    ("cpusetmems", "CPUSetMems", "CPUSet Mems"),
    ("build-arg:BUILDKIT_CACHE_MOUNT_NS", "CacheMountNS", "Cache Mount Namespace"),
    ("build-arg:SOURCE_DATE_EPOCH", "SourceDateEpoch", "Source Date Epoch"),
];

/// gRPC's word for a build that its user has ended.
const CANCELED: i32 = 1;

/// What is told of a record; `now` is for a build that runs.
pub(super) fn describe(record: &Record, state: Option<&LocalState>, now: std::time::SystemTime) -> Description {
    let told = &record.told;
    let attrs = &told.frontend_attrs;
    let attr = |key: &str| attrs.get(key).cloned().unwrap_or_default();
    let local = |of: fn(&LocalState) -> &String| state.map(of).filter(|path| !path.is_empty()).cloned();
    let context = local(|state| &state.local_path).unwrap_or_else(|| attr("context"));
    let dockerfile = local(|state| &state.dockerfile_path).unwrap_or_else(|| {
        let dir = attr("vcs:localdir:dockerfile");
        if dir.is_empty() { attr("filename") } else { format!("{dir}/{}", attr("filename")) }
    });
    let below = |path: String| match path.strip_prefix(&format!("{}/", context.trim_end_matches('/'))) {
        Some(inside) => inside.to_owned(),
        None => path,
    };
    let is_url = attrs.contains_key("context");
    let duration = told.created_at.map_or(std::time::Duration::ZERO, |began| match &told.completed_at {
        Some(completed) => units::between(&began, completed),
        None => now.duration_since(units::time(&began)).unwrap_or_default(),
    });
    Description {
        name: name(attrs, state),
        r#ref: told.r#ref.clone(),
        node: record.node.clone(),
        dockerfile: below(dockerfile),
        vcs_repository: if is_url { String::new() } else { attr("vcs:source") },
        vcs_revision: if is_url { String::new() } else { attr("vcs:revision") },
        context,
        target: attr("target"),
        platform: attrs.get("platform").map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default(),
        named_contexts: pairs(attrs, "context:"),
        started_at: told.created_at.map(|at| at.to_string()),
        completed_at: told.completed_at.map(|at| at.to_string()),
        duration: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
        status: match (&told.completed_at, &told.error) {
            (_, Some(error)) if error.code == CANCELED => "canceled",
            (_, Some(_)) => "failed",
            (Some(_), None) => "completed",
            (None, None) => "running",
        },
        error: told.error.as_ref().map(|error| ErrorView { code: error.code, message: error.message.clone() }),
        num_completed_steps: told.num_completed_steps,
        num_total_steps: told.num_total_steps,
        num_cached_steps: told.num_cached_steps,
        build_args: pairs(attrs, "build-arg:").into_iter().filter(|pair| !is_config(&pair.name)).collect(),
        labels: pairs(attrs, "label:"),
        config: CONFIG.iter().filter_map(|(key, json, _)| Some((*json, setting(key, attrs.get(*key)?)))).collect(),
        materials: Vec::new(),
        attachments: Vec::new(),
        started: told.created_at,
    }
}

fn is_config(arg: &str) -> bool {
    CONFIG.iter().any(|(key, ..)| key.strip_prefix("build-arg:") == Some(arg))
}

/// Of a flag, that it is given.
fn setting(key: &str, value: &str) -> String {
    match (key, value) {
        ("no-cache", "") => "true".to_owned(),
        ("memory" | "memswap", bytes) => match bytes.parse() {
            Ok(bytes) if bytes >= 0 => units::binary_size(bytes),
            _ => bytes.to_owned(),
        },
        (_, value) => value.to_owned(),
    }
}

/// By name.
fn pairs(attrs: &HashMap<String, String>, prefix: &str) -> Vec<Pair> {
    let pair = |(key, value): (&String, &String)| {
        let name = key.strip_prefix(prefix)?.to_owned();
        Some(Pair { name, value: value.clone() })
    };
    let mut pairs: Vec<Pair> = attrs.iter().filter_map(pair).collect();
    pairs.sort_by(|a, b| a.name.cmp(&b.name));
    pairs
}

impl Description {
    pub(super) fn with(self, materials: Vec<Material>, attachments: Vec<Attachment>) -> Self {
        Self { materials, attachments, ..self }
    }

    /// buildx's layout. `with_ref`: the user has not named the build.
    pub(super) fn text(&self, with_ref: bool) -> String {
        let line = |name: &str, value: &str| vec![format!("{name}:"), printable(value)];
        let given = |lines: Vec<(&str, &str)>| -> String {
            let lines: Vec<_> = lines.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            tabbed(&lines.into_iter().map(|(name, value)| line(name, value)).collect::<Vec<_>>())
        };
        let mut text = given(vec![
            ("Name", &self.name),
            ("Ref", if with_ref { &self.r#ref } else { "" }),
            ("Context", &self.context),
            ("Dockerfile", &self.dockerfile),
            ("VCS Repository", &self.vcs_repository),
            ("VCS Revision", &self.vcs_revision),
            ("Target", &self.target),
            ("Platforms", &self.platform.join(", ")),
        ]);
        text.push('\n');
        text.push_str(&table("NAMED CONTEXT", &self.named_contexts));

        let started = self.started.map(|at| units::plain_time(&at)).unwrap_or_default();
        let took = units::took(std::time::Duration::from_nanos(self.duration));
        let took = if self.status == "running" { format!("{took} (running)") } else { took };
        let cached = f64::from(self.num_cached_steps) / f64::from(self.num_total_steps.max(1)) * 100.0;
        let steps = format!("{}/{} ({cached:.0}% cached)", self.num_completed_steps, self.num_total_steps);
        let error = self.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
        text.push_str(&given(vec![
            ("Started", &started),
            ("Duration", &took),
            ("Error", if self.status == "failed" { &error } else { "" }),
            ("Status", if self.status == "canceled" { "Canceled" } else { "" }),
            ("Build Steps", &steps),
        ]));
        text.push('\n');

        let config = CONFIG.iter().filter_map(|(_, json, name)| Some((*name, self.config.get(json)?.as_str())));
        let config = given(config.collect());
        if !config.is_empty() {
            text.push_str(&config);
            text.push('\n');
        }
        text.push_str(&table("BUILD ARG", &self.build_args));
        text.push_str(&table("LABEL", &self.labels));
        text.push_str(&section(
            "Materials:",
            &["URI", "DIGEST"],
            self.materials.iter().map(|material| vec![material.uri.clone(), material.digests.join(", ")]),
        ));
        text.push_str(&section(
            "Attachments:",
            &["DIGEST", "PLATFORM", "TYPE"],
            self.attachments.iter().map(|it| vec![it.digest.clone(), it.platform.clone(), it.r#type.clone()]),
        ));
        text
    }
}

fn table(header: &str, pairs: &[Pair]) -> String {
    section("", &[header, "VALUE"], pairs.iter().map(|pair| vec![pair.name.clone(), pair.value.clone()]))
}

/// Rows below a title and a header, and an empty line; nothing without rows.
fn section(title: &str, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut all = vec![header.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    all.extend(rows);
    if all.len() == 1 {
        return String::new();
    }
    let title = if title.is_empty() { String::new() } else { format!("{title}\n") };
    format!("{title}{}\n", tabbed(&all))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use buildfleet_proto::Timestamp;
    use buildfleet_proto::buildkit::{BuildHistoryRecord, RpcStatus};

    use super::super::find::tests::record;
    use super::*;

    fn told() -> BuildHistoryRecord {
        let attrs = [
            ("filename", "Dockerfile"),
            ("target", "app"),
            ("platform", "linux/amd64,linux/arm64"),
            ("context:base", "docker-image://alpine"),
            ("build-arg:VERSION", "1.2"),
            ("build-arg:SOURCE_DATE_EPOCH", "0"),
            ("label:team", "blue\u{1b}[2J"),
            ("no-cache", ""),
            ("memory", "1073741824"),
            ("vcs:source", "https://github.com/team/app.git"),
            ("vcs:revision", "0123456"),
        ];
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        BuildHistoryRecord {
            frontend_attrs: attrs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            created_at: at(1_795_259_773),
            completed_at: at(1_795_259_776),
            num_total_steps: 4,
            num_completed_steps: 4,
            num_cached_steps: 1,
            ..BuildHistoryRecord::default()
        }
    }

    #[test]
    fn the_layout_is_buildx_s() {
        let state =
            LocalState { local_path: "/home/u/app".into(), dockerfile_path: "/home/u/app/sub/Dockerfile".into() };
        let described = describe(&record("abc", "kube0", told()), Some(&state), SystemTime::UNIX_EPOCH).with(
            vec![Material { uri: "pkg:docker/alpine@3".into(), digests: vec!["sha256:0123".into()] }],
            vec![Attachment { platform: "linux/amd64".into(), r#type: "slsa".into(), digest: "sha256:4567".into() }],
        );
        assert_eq!(described.text(true), include_str!("../../../../testdata/cli/history-inspect.txt"));
        assert!(!described.text(false).contains("abc"));
        let json = crate::cli::output::json_line(&described).expect("it is JSON");
        assert_eq!(json, include_str!("../../../../testdata/cli/history-inspect.json"));
    }

    #[test]
    fn a_build_is_completed_running_failed_or_cancelled() {
        let failed = |code| Some(RpcStatus { code, message: "exit code: 1".into(), ..RpcStatus::default() });
        for (told, status, part) in [
            (told(), "completed", "Duration:\t3.0s\n"),
            (BuildHistoryRecord { completed_at: None, ..told() }, "running", "Duration:\t7.0s (running)\n"),
            (BuildHistoryRecord { error: failed(2), ..told() }, "failed", "Error:\t\texit code: 1\n"),
            (BuildHistoryRecord { error: failed(CANCELED), ..told() }, "canceled", "Status:\t\tCanceled\n"),
        ] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_259_780);
            let described = describe(&record("abc", "kube0", told), None, now);
            assert_eq!(described.status, status);
            assert!(described.text(false).contains(part), "{}", described.text(false));
        }
    }
}
