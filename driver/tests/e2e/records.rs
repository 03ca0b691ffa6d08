//! What pods keep of what they did, as stock clients ask for it: cache, records, logs and contents of a node with several pods.

use std::fs;

use serde_json::Value;

use crate::support::builder::Builder;
use crate::support::call::Outcome;
use crate::support::clock::seconds;
use crate::support::scene::Scene;

/// Two builds at the same time, which a bake spreads over two pods: target and ref of each.
pub(crate) fn two_builds(scene: &Scene, builder: &Builder<'_>) -> [(&'static str, String); 2] {
    let context = scene.contexts().with("two", "ARG TARGET\nRUN echo \"this is $((41 + 1)) $TARGET\" && sleep 1\n");
    let target = |name: &str| format!("target {name} {{\n  context = \".\"\n  args = {{ TARGET = \"{name}\" }}\n}}\n");
    let group = "group \"default\" { targets = [\"left\", \"right\"] }\n";
    fs::write(context.join("docker-bake.hcl"), format!("{group}{}{}", target("left"), target("right")))
        .expect("a file of our own");
    let facts = scene.path("facts.json");
    let bake = scene.buildx("bake --progress=plain --builder").arg(builder.name()).arg("--metadata-file").arg(&facts);
    bake.dir(&context).within(seconds(120)).succeeds();
    let facts: Value =
        serde_json::from_str(&fs::read_to_string(&facts).expect("buildx wrote it")).expect("buildx writes JSON");
    ["left", "right"].map(|name| {
        let path = facts[name]["buildx.build.ref"].as_str().unwrap_or_else(|| panic!("no ref: {facts}"));
        assert!(facts[name]["buildx.build.provenance"].is_object(), "no provenance: {facts}");
        (name, path.rsplit('/').next().expect("a ref").to_owned())
    })
}

pub(crate) fn buildx(scene: &Scene, builder: &Builder<'_>, words: &str) -> Outcome {
    scene.buildx(words).arg("--builder").arg(builder.name()).succeeds()
}

pub(crate) fn buildctl(scene: &Scene, builder: &Builder<'_>, words: &str) -> Outcome {
    scene.buildctl("--addr").arg(builder.address()).words(words).succeeds()
}

/// Both clients find both builds, from processes that did not build.
pub(crate) fn is_found(scene: &Scene, builder: &Builder<'_>, builds: &[(&str, String)]) {
    for listed in [buildx(scene, builder, "history ls --no-trunc"), buildctl(scene, builder, "debug histories")] {
        builds.iter().fold(listed, |listed, (_, build)| listed.says(build));
    }
    for (name, build) in builds {
        let inspected = buildx(scene, builder, &format!("history inspect {build} --format json")).json();
        assert_eq!(inspected["Ref"].as_str(), Some(build.as_str()), "{inspected}");
        assert_eq!(inspected["Status"].as_str(), Some("completed"), "{inspected}");
        let said = format!("this is 42 {name}");
        buildx(scene, builder, &format!("history logs {build}")).says(&said);
        buildctl(scene, builder, &format!("debug logs --progress=plain {build}")).says(&said);
        let provenance = format!("history inspect attachment {build} --type https://slsa.dev/provenance/v1");
        buildx(scene, builder, &provenance).says("buildDefinition").says(name);

        let bundle = scene.path(&format!("{name}.dockerbuild"));
        let _ = fs::remove_file(&bundle);
        buildx(scene, builder, &format!("history export --finalize {build} --output {}", bundle.display()));
        assert!(fs::metadata(&bundle).expect("a bundle").len() > 1000, "{} is empty", bundle.display());
    }
    contents_are_read(scene, builder, builds);
}

/// A content has a digest alone: nothing in the call tells whose it is.
fn contents_are_read(scene: &Scene, builder: &Builder<'_>, builds: &[(&str, String)]) {
    let call = scene.buildctl("--addr").arg(builder.address()).words("debug histories --format").arg("{{json .}}");
    let events = call.succeeds().json_lines();
    for (name, build) in builds {
        let event = events.iter().find(|event| event["record"]["Ref"] == build.as_str());
        let record = &event.unwrap_or_else(|| panic!("no record of {build}: {events:#?}"))["record"];
        let digest = record["logs"]["digest"].as_str().unwrap_or_else(|| panic!("no log: {record:#}"));
        buildctl(scene, builder, &format!("debug get {digest}")).says(&format!("this is 42 {name}"));
        // The trace is there because the record was finalised on its own pod.
        let digest = record["trace"]["digest"].as_str().unwrap_or_else(|| panic!("no trace: {record:#}"));
        buildctl(scene, builder, &format!("debug get {digest}")).says("SpanContext");
    }
}

/// Removes the first build's record, and nothing else.
pub(crate) fn is_removed(scene: &Scene, builder: &Builder<'_>, builds: &[(&str, String)]) {
    buildx(scene, builder, &format!("history rm {}", builds[0].1));
    let listed = buildx(scene, builder, "history ls --no-trunc");
    listed.says(&builds[1].1).says_nothing_of(&builds[0].1);
    // In the words of a pod.
    scene.buildx("history rm nobody --builder").arg(builder.name()).fails().says("not found");
    buildx(scene, builder, "history rm --all");
    buildx(scene, builder, "history ls --no-trunc").says_nothing_of(&builds[1].1);
}

/// The ids of cache records in a table of them, as buildctl and buildx print it.
pub(crate) fn ids(listed: &Outcome) -> Vec<String> {
    let of_record = |line: &str| {
        let id = line.split_whitespace().next()?.trim_end_matches('*');
        // Those of a result have 25 characters, sums and heads do not.
        (id.len() == 25).then(|| id.to_owned())
    };
    let mut ids: Vec<String> = listed.stdout.lines().filter_map(of_record).collect();
    ids.sort();
    ids
}
