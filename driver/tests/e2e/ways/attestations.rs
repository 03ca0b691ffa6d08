//! Attestations: how an image came to be, and what is in it.

use serde_json::Value;

use crate::support::builder::Builder;
use crate::support::registry;
use crate::support::scene::Scene;

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const CONTENTS: &str = "https://spdx.dev/Document";

/// A generator of lists of contents: BuildKit runs the image, and takes what it leaves in a directory.
const GENERATOR: &str = r#"COPY generate /generate
ENTRYPOINT ["/bin/sh", "/generate"]
"#;
const GENERATE: &str = r#"files=$(cd "$BUILDKIT_SCAN_SOURCE" && find . -type f -name 'word*' | sed 's/.*/{"fileName": "&"}/' | paste -sd,)
cat >"$BUILDKIT_SCAN_DESTINATION/list.spdx.json" <<END
{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document",
 "predicate": {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "list", "files": [$files]}}
END
"#;

/// What is attested of an image in the registry: predicate types, and the documents.
fn attested(image: &str) -> Vec<(String, Value)> {
    let index = registry::index(image);
    let manifests = index["manifests"].as_array().expect("an index has manifests");
    let attestation =
        manifests.iter().find(|one| one["annotations"]["vnd.docker.reference.type"] == "attestation-manifest");
    let attestation = attestation.unwrap_or_else(|| panic!("no attestation: {index:#}"));
    let built = manifests.iter().find(|one| one["platform"]["os"] == "linux").expect("an image");
    assert_eq!(attestation["annotations"]["vnd.docker.reference.digest"], built["digest"], "{index:#}");
    let manifest = registry::manifest_at(image, attestation["digest"].as_str().expect("a digest"));
    let layers = manifest["layers"].as_array().expect("a manifest has layers");
    let document = |layer: &Value| {
        let kind = layer["annotations"]["in-toto.io/predicate-type"].as_str().expect("a kind");
        (kind.to_owned(), registry::blob(image, layer["digest"].as_str().expect("a digest")))
    };
    layers.iter().map(document).collect()
}

fn of_kind<'a>(attested: &'a [(String, Value)], kind: &str) -> &'a Value {
    let found = attested.iter().find(|(other, _)| other == kind);
    &found.unwrap_or_else(|| panic!("no {kind}: {attested:#?}")).1["predicate"]
}

pub(super) fn tell_how_it_came_to_be(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.contexts().with("attested", "ARG COLOUR\nRUN echo $COLOUR >/word\n");
    let output = |image: &str| format!("--output type=image,name={image},push=true,registry.insecure=true");
    let image = registry::image(&format!("{}-attested", scene.namespace().name()));
    let words = format!("--provenance=mode=max --build-arg COLOUR=green {}", output(&image));
    builder.buildx(&context, &words).succeeds();
    let found = attested(&image);
    let told = of_kind(&found, PROVENANCE).to_string();
    assert!(told.contains("\"build-arg:COLOUR\":\"green\"") && told.contains("echo $COLOUR"), "{told}");

    let image = registry::image(&format!("{}-attested-by-buildctl", scene.namespace().name()));
    builder.buildctl(&context, &format!("--opt attest:provenance=mode=min {}", output(&image))).succeeds();
    let found = attested(&image);
    let told = of_kind(&found, PROVENANCE).to_string();
    assert!(!told.contains("echo $COLOUR"), "{told}");

    let image = registry::image(&format!("{}-not-attested", scene.namespace().name()));
    builder.buildx(&context, &format!("--provenance=false {}", output(&image))).succeeds();
    let manifest = registry::manifest(&image);
    assert!(manifest["layers"].is_array(), "an image alone was asked for: {manifest:#}");
}

/// For a builder that knows the cluster's registry, from which the generator is pulled.
pub(super) fn tell_what_is_in_it(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.contexts().with("generator", GENERATOR);
    std::fs::write(context.join("generate"), GENERATE).expect("a file of our own");
    let generator = registry::image(&format!("{}-generator", scene.namespace().name()));
    builder.buildx(&context, &format!("--push --provenance=false -t {generator}")).succeeds();

    let context = scene.contexts().with("listed", "RUN echo listed >/word-in-the-list\n");
    let image = registry::image(&format!("{}-listed", scene.namespace().name()));
    builder.buildx(&context, &format!("--attest type=sbom,generator={generator} --push -t {image}")).succeeds();
    let found = attested(&image);
    let files = of_kind(&found, CONTENTS)["files"].to_string();
    assert!(files.contains("./word-in-the-list"), "{files}");
    of_kind(&found, PROVENANCE);

    let image = registry::image(&format!("{}-listed-by-buildctl", scene.namespace().name()));
    let words = format!("--opt attest:sbom=generator={generator} --output type=image,name={image},push=true");
    builder.buildctl(&context, &words).succeeds();
    of_kind(&attested(&image), CONTENTS);
}
