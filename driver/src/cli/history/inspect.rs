//! `buildfleet history inspect`: one build, with what went into it and what came out.

use std::collections::BTreeMap;
use std::time::SystemTime;

use buildfleet_proto::buildkit::Descriptor;
use buildfleet_proto::content::{ReadContentRequest, ReadContentResponse};
use serde::Deserialize;

use super::describe::{Attachment, Material, describe};
use super::find::{Record, of_build, records};
use super::name::{local_state, store};
use crate::cli::Context;
use crate::cli::buildkit::{self, NodeApi};
use crate::cli::failure::Failure;
use crate::cli::output::{Format, json_line, print};
use crate::settings::Process;

/// A manifest or a provenance; larger ones are none.
const DOCUMENT_MAX: usize = 16 << 20;

/// What says which kind of statement a blob is.
const PREDICATE: &str = "in-toto.io/predicate-type";

const PROVENANCE: &str = "https://slsa.dev/provenance/";

/// Show all that is known of a build
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build; without it, the latest
    build: Option<String>,
}

pub(super) async fn run(args: Args, builder: Option<String>, context: &Context) -> Result<(), Failure> {
    let (builder, nodes) = buildkit::connect(context, builder).await?;
    let records = records(context, &nodes, &[]).await?;
    let store = store(&Process);
    for (at, record) in of_build(&records, &builder.name, args.build.as_deref())?.iter().enumerate() {
        let node = &nodes[record.at];
        let found = attachments(context, node, record).await?;
        let materials = materials(context, node, &found).await?;
        let state = local_state(store.as_deref(), record);
        let described = describe(record, state.as_ref(), SystemTime::now());
        let described = described.with(materials, found.into_iter().map(|(attachment, _)| attachment).collect());
        match context.format {
            Format::Text => {
                // One below the other: a build for several platforms has a record on each of its nodes.
                let gap = if at > 0 { "\n" } else { "" };
                print(format!("{gap}{}", described.text(args.build.is_none())))?;
            }
            Format::Json => print(json_line(&described)?)?,
        }
        context.info(&format!("print its log with `buildfleet history logs {}`", record.told.r#ref));
    }
    Ok(())
}

/// All of a blob.
pub(super) async fn blob(context: &Context, node: &NodeApi, digest: &str, most: usize) -> Result<Vec<u8>, Failure> {
    let doing = |failure: Failure| failure.doing(format!("read {digest} on node {}", node.node()));
    let request = ReadContentRequest { digest: digest.to_owned(), ..ReadContentRequest::default() };
    let stream = node.content().read(request).await;
    let mut stream = stream.map_err(Failure::refused).map_err(doing)?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = buildkit::next::<ReadContentResponse>(context, &mut stream).await.map_err(doing)? {
        bytes.extend_from_slice(&piece.data);
        if bytes.len() > most {
            return Err(doing(Failure::other(format!("it is larger than {most} bytes"))));
        }
    }
    Ok(bytes)
}

/// An attachment and where it is.
type Found = (Attachment, Descriptor);

async fn attachments(context: &Context, node: &NodeApi, record: &Record) -> Result<Vec<Found>, Failure> {
    let told = &record.told;
    let alone = told.result.iter().map(|result| (String::new(), result));
    let by_platform = told.results.iter().map(|(platform, result)| (platform.clone(), result));
    let mut found = Vec::new();
    for (platform, result) in alone.chain(by_platform) {
        found.extend(result.attestations.iter().map(|it| attachment(&platform, it.clone())));
        for descriptor in result.results.values() {
            found.extend(below(context, node, &platform, descriptor.clone()).await);
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.dedup_by(|(a, _), (b, _)| a == b);
    Ok(found)
}

fn attachment(platform: &str, descriptor: Descriptor) -> Found {
    let kind = descriptor.annotations.get(PREDICATE).unwrap_or(&descriptor.media_type).clone();
    (Attachment { platform: platform.to_owned(), r#type: kind, digest: descriptor.digest.clone() }, descriptor)
}

#[derive(Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<IndexEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    media_type: String,
    digest: String,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    annotations: std::collections::HashMap<String, String>,
    platform: Option<IndexPlatform>,
}

#[derive(Debug, Deserialize)]
struct IndexPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

/// A result and, of an index, what it lists. A pod keeps what it has made only until it is pushed or collected: what is
/// not there any more is not shown.
async fn below(context: &Context, node: &NodeApi, platform: &str, result: Descriptor) -> Vec<Found> {
    let is_index = matches!(
        result.media_type.as_str(),
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json"
    );
    let Ok(bytes) = blob(context, node, &result.digest, DOCUMENT_MAX).await else { return Vec::new() };
    let index = is_index.then(|| serde_json::from_slice::<Index>(&bytes).ok()).flatten();
    let mut found = vec![attachment(platform, result)];
    for entry in index.into_iter().flat_map(|index| index.manifests) {
        if entry.annotations.get("vnd.docker.reference.type").is_some_and(|kind| kind == "attestation-manifest") {
            continue;
        }
        let platform = entry.platform.as_ref().map_or_else(|| platform.to_owned(), IndexPlatform::text);
        let IndexEntry { media_type, digest, size, annotations, .. } = entry;
        found.push(attachment(&platform, Descriptor { media_type, digest, size, annotations }));
    }
    found
}

impl IndexPlatform {
    fn text(&self) -> String {
        let parts = [&self.os, &self.architecture, &self.variant];
        parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("/")
    }
}

/// What a provenance names, in either version of the predicate.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Provenance {
    build_definition: Definition,
    materials: Vec<Source>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Definition {
    resolved_dependencies: Vec<Source>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    uri: String,
    digest: BTreeMap<String, String>,
}

async fn materials(context: &Context, node: &NodeApi, found: &[Found]) -> Result<Vec<Material>, Failure> {
    let Some((_, descriptor)) = found.iter().find(|(attachment, _)| attachment.r#type.starts_with(PROVENANCE)) else {
        return Ok(Vec::new());
    };
    let bytes = blob(context, node, &descriptor.digest, DOCUMENT_MAX).await?;
    Ok(of_provenance(&bytes))
}

fn of_provenance(bytes: &[u8]) -> Vec<Material> {
    let provenance: Provenance = serde_json::from_slice(bytes).unwrap_or_default();
    let sources = provenance.build_definition.resolved_dependencies.into_iter().chain(provenance.materials);
    let digests = |digest: BTreeMap<String, String>| digest.into_iter().map(|(kind, hex)| format!("{kind}:{hex}"));
    sources.map(|source| Material { uri: source.uri, digests: digests(source.digest).collect() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn materials_are_found_in_both_versions_of_a_provenance() {
        for text in [
            r#"{"buildDefinition":{"resolvedDependencies":[{"uri":"pkg:docker/a","digest":{"sha256":"01"}}]}}"#,
            r#"{"materials":[{"uri":"pkg:docker/a","digest":{"sha256":"01"}}]}"#,
        ] {
            let found = of_provenance(text.as_bytes());
            assert!(
                found.len() == 1 && found[0].uri == "pkg:docker/a" && found[0].digests == ["sha256:01"],
                "{found:?}"
            );
        }
        assert!(of_provenance(b"no JSON").is_empty());
    }

    #[test]
    fn an_attachment_is_what_it_says_it_is() {
        let annotations = [(PREDICATE.to_owned(), "https://slsa.dev/provenance/v1".to_owned())].into();
        let statement = Descriptor { media_type: "application/json".into(), annotations, ..Descriptor::default() };
        assert_eq!(attachment("linux/amd64", statement).0.r#type, "https://slsa.dev/provenance/v1");
        let image = Descriptor { media_type: "image".into(), ..Descriptor::default() };
        assert_eq!(attachment("", image).0.r#type, "image");
        let platform = IndexPlatform { os: "linux".into(), architecture: "arm".into(), variant: "v7".into() };
        assert_eq!(platform.text(), "linux/arm/v7");
    }
}
