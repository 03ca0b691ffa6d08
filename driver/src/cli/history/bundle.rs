//! The archive that Docker Desktop and build summaries read: an OCI layout of one manifest for each build, as a
//! compressed tar. Pure.

use std::collections::BTreeMap;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use buildfleet_proto::Timestamp;
use buildfleet_proto::buildkit::{BuildHistoryRecord, BuildResultInfo, Descriptor, RpcStatus};
use flate2::Compression;
use flate2::write::GzEncoder;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use crate::cli::tar::{self, Entry, Kind};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const RECORD: &str = "application/vnd.buildkit.historyrecord.v0";
/// Where the media type of a result goes, so that no reader looks for what the result lists.
const RESULT_TYPE: &str = "vnd.export-build.descriptor.mediatype";

/// Names whose values are nobody's business.
const SECRETS: [&str; 5] = ["ghtoken", "token", "access_key_id", "secret_access_key", "session_token"];

/// What is said of a build beside its record.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) default_platform: String,
    /// What buildx has written down.
    pub(super) local_state: Option<Value>,
    pub(super) state_group: Option<Value>,
}

/// The layout's contents, by digest.
#[derive(Debug, Default)]
pub(super) struct Layout {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: Vec<Value>,
}

/// What has to be read for a record, without what it has twice; true for a result.
pub(super) fn needed(record: &BuildHistoryRecord) -> Vec<(Descriptor, bool)> {
    let alone = record.logs.iter().map(|it| (it.clone(), false));
    let of_result = |result: &BuildResultInfo| {
        let attestations = result.attestations.iter().map(|it| (it.clone(), false));
        let mut results: Vec<_> = result.results.iter().map(|(at, it)| (*at, (it.clone(), true))).collect();
        results.sort_by_key(|(at, _)| *at);
        attestations.chain(results.into_iter().map(|(_, it)| it)).collect::<Vec<_>>()
    };
    let mut platforms: Vec<_> = record.results.iter().collect();
    platforms.sort_by(|a, b| a.0.cmp(b.0));
    let mut all: Vec<_> = alone.chain(record.result.iter().flat_map(of_result)).collect();
    all.extend(record.external_error.iter().map(|it| (it.clone(), false)));
    all.extend(platforms.into_iter().flat_map(|(_, result)| of_result(result)));
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|(it, _)| seen.insert(it.digest.clone()));
    all
}

impl Layout {
    /// Adds a record. `blobs` are those that it needs, in that order; `trace` is what its steps reported.
    pub(super) fn add(
        &mut self,
        record: &BuildHistoryRecord,
        blobs: Vec<Vec<u8>>,
        trace: Option<&[u8]>,
        beside: &Beside,
    ) {
        let mut record = record.clone();
        if let Some(imports) = record.frontend_attrs.get_mut("cache-imports") {
            *imports = without_credentials(imports);
        }
        let mut layers = Vec::new();
        match (record.trace.as_mut(), trace) {
            (Some(descriptor), Some(trace)) => {
                let bytes = without_secrets(trace);
                (descriptor.digest, descriptor.size) = (sum(&bytes), length(&bytes));
                layers.push(described(descriptor));
                self.blobs.insert(sum(&bytes), bytes);
            }
            _ => record.trace = None,
        }
        let config = self.document(RECORD, &of_record(&record, beside));
        for ((mut descriptor, is_result), bytes) in needed(&record).into_iter().zip(blobs) {
            if is_result {
                let kind = std::mem::replace(&mut descriptor.media_type, "application/json".to_owned());
                descriptor.annotations.insert(RESULT_TYPE.to_owned(), kind);
            }
            layers.push(described(&descriptor));
            self.blobs.insert(descriptor.digest, bytes);
        }
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let mut manifest = self.document(MANIFEST, &manifest);
        manifest["annotations"] = json!({ "vnd.buildkit.history.reference": record.r#ref });
        self.manifests.push(manifest);
    }

    /// The archive.
    pub(super) fn archive(mut self) -> std::io::Result<Vec<u8>> {
        let manifests = std::mem::take(&mut self.manifests);
        let top = match <[Value; 1]>::try_from(manifests) {
            Ok([mut manifest]) => {
                if let Some(fields) = manifest.as_object_mut() {
                    fields.remove("annotations");
                }
                manifest
            }
            Err(manifests) => {
                let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
                self.document(INDEX, &index)
            }
        };
        let index = json!({ "schemaVersion": 2, "manifests": [top] });
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        files.extend(
            self.blobs.into_iter().map(|(digest, bytes)| (format!("blobs/{}", digest.replace(':', "/")), bytes)),
        );
        files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        files.push(("oci-layout".to_owned(), json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes()));
        let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
        for directory in ["blobs/", "blobs/sha256/"] {
            compressed.write_all(&tar::entry(&Entry { mode: 0o755, ..Entry::new(directory, Kind::Directory) }))?;
        }
        for (name, bytes) in files {
            let entry = Entry { size: bytes.len() as u64, ..Entry::new(&name, Kind::File) };
            compressed.write_all(&tar::entry(&entry))?;
            compressed.write_all(&bytes)?;
            compressed.write_all(tar::padding(entry.size))?;
        }
        compressed.write_all(&tar::END)?;
        compressed.finish()
    }

    /// Adds a document and describes it.
    fn document(&mut self, kind: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        let descriptor = json!({ "mediaType": kind, "digest": sum(&bytes), "size": bytes.len() });
        self.blobs.insert(sum(&bytes), bytes);
        descriptor
    }
}

fn sum(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn length(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

/// As OCI writes a descriptor.
fn described(descriptor: &Descriptor) -> Value {
    object([
        ("mediaType", json!(descriptor.media_type)),
        ("digest", json!(descriptor.digest)),
        ("size", json!(descriptor.size)),
        ("annotations", json!(descriptor.annotations)),
    ])
}

/// A record as Go writes BuildKit's message, which is what readers of the archive expect.
fn of_record(record: &BuildHistoryRecord, beside: &Beside) -> Value {
    let exporters: Vec<Value> =
        record.exporters.iter().map(|it| object([("Type", json!(it.r#type)), ("Attrs", json!(it.attrs))])).collect();
    let results: Map<String, Value> =
        record.results.iter().map(|(platform, result)| (platform.clone(), of_result(result))).collect();
    object([
        ("Ref", json!(record.r#ref)),
        ("Frontend", json!(record.frontend)),
        ("FrontendAttrs", json!(record.frontend_attrs)),
        ("Exporters", json!(exporters)),
        ("error", record.error.as_ref().map_or(Value::Null, of_error)),
        ("CreatedAt", record.created_at.as_ref().map_or(Value::Null, of_time)),
        ("CompletedAt", record.completed_at.as_ref().map_or(Value::Null, of_time)),
        ("logs", record.logs.as_ref().map_or(Value::Null, of_descriptor)),
        ("ExporterResponse", json!(record.exporter_response)),
        ("Result", record.result.as_ref().map_or(Value::Null, of_result)),
        ("Results", Value::Object(results)),
        ("Generation", json!(record.generation)),
        ("trace", record.trace.as_ref().map_or(Value::Null, of_descriptor)),
        ("pinned", json!(record.pinned)),
        ("numCachedSteps", json!(record.num_cached_steps)),
        ("numTotalSteps", json!(record.num_total_steps)),
        ("numCompletedSteps", json!(record.num_completed_steps)),
        ("externalError", record.external_error.as_ref().map_or(Value::Null, of_descriptor)),
        ("numWarnings", json!(record.num_warnings)),
        ("DefaultPlatform", json!(beside.default_platform)),
        ("localState", beside.local_state.clone().unwrap_or_default()),
        ("stateGroup", beside.state_group.clone().unwrap_or_default()),
    ])
}

fn of_error(error: &RpcStatus) -> Value {
    let detail =
        |any: &buildfleet_proto::Any| json!({ "type_url": any.type_url, "value": STANDARD.encode(&any.value) });
    let details: Vec<Value> = error.details.iter().map(detail).collect();
    object([("code", json!(error.code)), ("message", json!(error.message)), ("details", json!(details))])
}

fn of_time(time: &Timestamp) -> Value {
    object([("seconds", json!(time.seconds)), ("nanos", json!(time.nanos))])
}

fn of_descriptor(descriptor: &Descriptor) -> Value {
    object([
        ("media_type", json!(descriptor.media_type)),
        ("digest", json!(descriptor.digest)),
        ("size", json!(descriptor.size)),
        ("annotations", json!(descriptor.annotations)),
    ])
}

fn of_result(result: &BuildResultInfo) -> Value {
    let results: Map<String, Value> =
        result.results.iter().map(|(at, descriptor)| (at.to_string(), of_descriptor(descriptor))).collect();
    object([
        ("ResultDeprecated", result.result_deprecated.as_ref().map_or(Value::Null, of_descriptor)),
        ("Attestations", json!(result.attestations.iter().map(of_descriptor).collect::<Vec<_>>())),
        ("Results", Value::Object(results)),
    ])
}

/// Without what is empty, as Go leaves it out.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let is_said = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) => true,
    };
    let said = fields.into_iter().filter(|(_, value)| is_said(value));
    Value::Object(said.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Cache imports may carry credentials: what says where they come from stays.
fn without_credentials(imports: &str) -> String {
    let Ok(Value::Array(mut imports)) = serde_json::from_str(imports) else { return String::new() };
    for import in &mut imports {
        if let Some(attrs) = import.get_mut("Attrs").and_then(Value::as_object_mut) {
            attrs.retain(|key, _| key == "scope" || key == "ref");
        }
    }
    Value::Array(imports).to_string()
}

/// The commands in a trace may have tokens in them.
fn without_secrets(trace: &[u8]) -> Vec<u8> {
    let mut cleared = Vec::new();
    for span in serde_json::Deserializer::from_slice(trace).into_iter::<Value>() {
        // What is no JSON is no trace, and could hold anything.
        let Ok(mut span) = span else { break };
        clear(&mut span);
        cleared.extend_from_slice(span.to_string().as_bytes());
        cleared.push(b'\n');
    }
    cleared
}

fn clear(value: &mut Value) {
    match value {
        Value::String(text) => *text = cleared(text),
        Value::Array(list) => list.iter_mut().for_each(clear),
        Value::Object(fields) => fields.values_mut().for_each(clear),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Replaces what stands after `token=` and the like, up to a space or comma.
fn cleared(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let (mut out, mut at) = (String::new(), 0);
    while let Some(equals) = lower[at..].find('=').map(|found| at + found) {
        let end = text[equals + 1..].find([' ', ',']).map_or(text.len(), |found| equals + 1 + found);
        let is_secret = SECRETS.iter().any(|name| lower[at..equals].ends_with(name)) && end > equals + 1;
        out.push_str(&text[at..=equals]);
        at = if is_secret {
            out.push_str("xxxxx");
            end
        } else {
            equals + 1
        };
    }
    out + &text[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_leave_commands_and_cache_imports() {
        for (text, wanted) in [
            ("build --build-arg TOKEN=abc,x=1 .", "build --build-arg TOKEN=xxxxx,x=1 ."),
            ("type=gha,ghtoken=ghs_1 --push", "type=gha,ghtoken=xxxxx --push"),
            ("a=b=c", "a=b=c"),
            ("token= x", "token= x"),
            ("ünïcode secret_access_key=ä", "ünïcode secret_access_key=xxxxx"),
        ] {
            assert_eq!(cleared(text), wanted);
        }
        let trace = br#"{"Attributes":[{"Key":"command","Value":{"Value":"x token=1"}}]} {"Name":"b"} no"#;
        let wanted =
            "{\"Attributes\":[{\"Key\":\"command\",\"Value\":{\"Value\":\"x token=xxxxx\"}}]}\n{\"Name\":\"b\"}\n";
        assert_eq!(String::from_utf8(without_secrets(trace)).expect("text"), wanted);
        let imports = r#"[{"Type":"s3","Attrs":{"ref":"r","access_key_id":"k"}}]"#;
        assert_eq!(without_credentials(imports), r#"[{"Attrs":{"ref":"r"},"Type":"s3"}]"#);
        assert_eq!(without_credentials("x"), "");
    }

    #[test]
    fn a_record_is_written_as_go_writes_it() {
        let descriptor = |digest: &str| Descriptor { digest: digest.into(), size: 3, ..Descriptor::default() };
        let record = BuildHistoryRecord {
            r#ref: "abc".into(),
            created_at: Some(Timestamp { seconds: 5, nanos: 0 }),
            logs: Some(descriptor("sha256:l")),
            result: Some(BuildResultInfo {
                results: [(0, descriptor("sha256:r"))].into(),
                ..BuildResultInfo::default()
            }),
            num_total_steps: 4,
            ..BuildHistoryRecord::default()
        };
        let beside = Beside { default_platform: "linux/amd64".into(), ..Beside::default() };
        assert_eq!(
            of_record(&record, &beside),
            json!({
                "Ref": "abc",
                "CreatedAt": { "seconds": 5 },
                "logs": { "digest": "sha256:l", "size": 3 },
                "Result": { "Results": { "0": { "digest": "sha256:r", "size": 3 } } },
                "numTotalSteps": 4,
                "DefaultPlatform": "linux/amd64",
            })
        );
        let needed: Vec<_> = needed(&record).into_iter().map(|(it, is_result)| (it.digest, is_result)).collect();
        assert_eq!(needed, [("sha256:l".to_owned(), false), ("sha256:r".to_owned(), true)]);
    }

    #[test]
    fn the_sum_of_nothing_is_known() {
        assert_eq!(sum(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
