//! What workers said of themselves, as one.

use std::collections::{BTreeMap, HashMap};

use buildfleet_proto::buildkit::{ListWorkersResponse, Platform};

use super::Remembered;

/// The workers of a node, as users see them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reported {
    /// Without repetition, in the order of the workers.
    pub platforms: Vec<String>,
    /// More than one only while pods are being replaced.
    pub versions: Vec<String>,
    /// Those on which all workers agree.
    pub labels: HashMap<String, String>,
}

impl Remembered {
    /// What the workers said when they were last seen; nothing, when they never were.
    pub fn reported(&self) -> Reported {
        self.workers.as_ref().map(reported).unwrap_or_default()
    }
}

fn reported(workers: &ListWorkersResponse) -> Reported {
    let mut platforms: Vec<String> = Vec::new();
    let mut versions: Vec<String> = Vec::new();
    let mut labels: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for worker in &workers.record {
        let said = worker.platforms.iter().map(platform);
        said.for_each(|platform| push_new(&mut platforms, platform));
        if let Some(version) = &worker.buildkit_version {
            push_new(&mut versions, version.version.clone());
        }
        for (key, value) in &worker.labels {
            let seen = labels.entry(key).or_insert(Some(value));
            *seen = seen.filter(|seen| seen == value);
        }
    }
    let labels = labels.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
    Reported { platforms, versions, labels: labels.collect() }
}

fn push_new(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

fn platform(platform: &Platform) -> String {
    let Platform { os, architecture, variant, .. } = platform;
    if variant.is_empty() { format!("{os}/{architecture}") } else { format!("{os}/{architecture}/{variant}") }
}

#[cfg(test)]
mod tests {
    use buildfleet_proto::buildkit::{BuildkitVersion, WorkerRecord};

    use super::*;

    fn worker(variant: &str, version: &str, host: &str) -> WorkerRecord {
        let of = |architecture: &str, variant: &str| Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..Platform::default()
        };
        let labels = [("executor", "oci"), ("hostname", host)];
        WorkerRecord {
            platforms: vec![of("amd64", ""), of("arm", variant)],
            buildkit_version: Some(BuildkitVersion { version: version.to_owned(), ..BuildkitVersion::default() }),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..WorkerRecord::default()
        }
    }

    #[test]
    fn several_workers_are_reported_as_one() {
        let record = vec![worker("v7", "v0.26.1", "a"), worker("v6", "v0.26.1", "b"), worker("v7", "v0.25.0", "c")];
        let workers = Some(ListWorkersResponse { record });
        let reported = Remembered { workers, ..Remembered::default() }.reported();
        assert_eq!(reported.platforms, ["linux/amd64", "linux/arm/v7", "linux/arm/v6"]);
        assert_eq!(reported.versions, ["v0.26.1", "v0.25.0"]);
        assert_eq!(reported.labels, HashMap::from([("executor".to_owned(), "oci".to_owned())]));
        assert_eq!(Remembered::default().reported(), Reported::default());
    }
}
