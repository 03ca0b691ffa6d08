//! Secrets from files and from the environment.

use std::fs;

use crate::records::buildx;
use crate::support::builder::Builder;
use crate::support::oci::{has_words, unpack};
use crate::support::scene::Scene;

/// The sums of both secrets and a word that is none, into a layer and on the screen.
const STEP: &str =
    "RUN --mount=type=secret,id=file-word,required=true --mount=type=secret,id=env-word,env=WORD,required=true \\
    (md5sum </run/secrets/file-word && echo \"$WORD\" | md5sum && echo known-word) | tee /sums
";
const FILE_WORD: &str = "swordfish";
const ENV_WORD: &str = "open-sesame";
const SUMS: [&str; 2] = ["d8b74df393528d51cd19980ae0aa028e", "e1cd152aa8bdf602b387563780c0361a"];

pub(super) fn reach_the_step_alone(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.contexts().with("secrets", STEP);
    let file = scene.path("file-word");
    fs::write(&file, format!("{FILE_WORD}\n")).expect("a file of our own");
    let file_only = format!("--secret id=file-word,src={}", file.display());
    let both = format!("{file_only} --secret id=env-word,env=ENV_WORD --no-cache");
    builder.buildx(&context, &file_only).fails().says("env-word");
    builder.buildctl(&context, &file_only).fails().says("env-word");

    for client in ["buildx", "buildctl"] {
        let image = scene.path(&format!("secrets-by-{client}.tar"));
        let output = format!("--output type=oci,dest={}", image.display());
        let words = format!("{both} {output}");
        let call = match client {
            // The most that a provenance can have.
            "buildx" => builder.buildx(&context, &format!("{words} --provenance=mode=max")),
            _ => builder.buildctl(&context, &format!("{words} --opt attest:provenance=mode=max")),
        };
        let built = call.env("ENV_WORD", ENV_WORD).succeeds();
        let built = SUMS.iter().fold(built, |built, sum| built.says(sum));
        built.says_nothing_of(FILE_WORD).says_nothing_of(ENV_WORD);
        let layout = unpack(&image);
        // What the search finds when there is something: in a layer, in the history, in the provenance.
        for known in ["known-word", "tee /sums", "slsa.dev/provenance"] {
            assert!(has_words(&layout, known), "{client}: no {known:?} in {}", layout.display());
        }
        for secret in [FILE_WORD, ENV_WORD] {
            assert!(!has_words(&layout, secret), "{client}: {secret:?} is in {}", layout.display());
        }
    }
    let logs = buildx(scene, builder, "history logs").says(SUMS[1]);
    let records = scene.buildctl("--addr").arg(builder.address()).words("debug histories --format").arg("{{json .}}");
    for said in [logs, records.succeeds()] {
        said.says_nothing_of(FILE_WORD).says_nothing_of(ENV_WORD);
    }
}
