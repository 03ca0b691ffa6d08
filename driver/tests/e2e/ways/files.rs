//! The files in which clients note what they built.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::builder::Builder;
use crate::support::oci::platforms_of_layout;
use crate::support::registry;
use crate::support::scene::Scene;

/// Both clients' metadata, buildx's image id and buildctl's ref name what the registry and the history have.
pub(super) fn name_what_was_pushed(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.contexts().with("described", "RUN echo described >/word\n");
    let read = |name: &str| fs::read_to_string(scene.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let json = |name: &str| -> Value { serde_json::from_str(&read(name)).expect("clients write JSON") };
    let output = |image: &str| format!("--output type=image,name={image},push=true,registry.insecure=true");
    let path = |name: &str| scene.path(name).display().to_string();

    let image = registry::image(&format!("{}-described", scene.namespace().name()));
    let words = format!("--metadata-file {} --iidfile {} {}", path("by-buildx.json"), path("image-id"), output(&image));
    builder.buildx(&context, &words).succeeds();
    let (facts, digest) = (json("by-buildx.json"), registry::digest(&image));
    assert_eq!(facts["containerimage.digest"].as_str(), Some(digest.as_str()), "{facts:#}");
    assert_eq!(facts["image.name"].as_str(), Some(image.as_str()), "{facts:#}");
    assert_eq!(read("image-id"), digest);
    assert!(facts["buildx.build.provenance"].is_object(), "{facts:#}");
    let build = facts["buildx.build.ref"].as_str().and_then(|path| path.rsplit('/').next()).expect("a ref");
    let listed = scene.buildx(&format!("history ls --no-trunc --builder {}", builder.name())).succeeds();
    listed.says(build);

    let image = registry::image(&format!("{}-described-by-buildctl", scene.namespace().name()));
    let words = format!("--metadata-file {} --ref-file {} {}", path("by-buildctl.json"), path("ref"), output(&image));
    builder.buildctl(&context, &words).succeeds();
    let (facts, digest) = (json("by-buildctl.json"), registry::digest(&image));
    assert_eq!(facts["containerimage.digest"].as_str(), Some(digest.as_str()), "{facts:#}");
    let listed = scene.buildctl("--addr").arg(builder.address()).words("debug histories").succeeds();
    listed.says(read("ref").trim());
}

/// One build, several outputs; and one of them is a pipe.
pub(super) fn go_to_several_places(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.contexts().with("several", "RUN echo \"several $((6 * 7))\" >/word\n");
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for client in ["buildx", "buildctl"] {
        let at = |name: &str| scene.path(&format!("several-{name}-by-{client}"));
        let image = registry::image(&format!("{}-several-by-{client}", scene.namespace().name()));
        let (dir, tar) = (at("dir"), at("layout").with_extension("tar"));
        let words = format!(
            "--output type=local,dest={} --output type=oci,dest={} --output type=image,name={image},push=true,registry.insecure=true",
            dir.display(),
            tar.display()
        );
        match client {
            "buildx" => builder.buildx(&context, &words).succeeds(),
            _ => builder.buildctl(&context, &words).succeeds(),
        };
        assert_eq!(read(&dir.join("word")), "several 42\n");
        assert_eq!(platforms_of_layout(&tar), ["linux/amd64"]);
        registry::digest(&image);
    }
    let piped = scene.path("piped-out");
    let pipe = format!(
        "docker buildx build --builder {} --output - {} | tar -xf - -C {}",
        builder.name(),
        context.display(),
        piped.display()
    );
    fs::create_dir_all(&piped).expect("a directory of our own");
    scene.shell(&pipe).succeeds();
    assert_eq!(read(&piped.join("word")), "several 42\n");
}
