//! Images to a registry that wants TLS by an authority of its own, and a password; and what `imagetools` does with them there.

use serde_json::Value;

use crate::support::builder::Builder;
use crate::support::contexts::UNAME;
use crate::support::oci::platforms_of_index;
use crate::support::registry;
use crate::support::scene::Scene;
use crate::support::service::Registry;

/// The builder knows the authority; who the user is, the client says.
pub(super) fn needs_the_password_and_the_authority(scene: &Scene, builder: &Builder<'_>, registry: &Registry) {
    let docker = scene.path("docker");
    let context = scene.contexts().with("pushed", "RUN echo \"pushed $((6 * 7))\" >/word\n");
    let by_buildctl = |name: &str| format!("--output type=image,name={},push=true", registry.image(name));
    builder.buildx(&context, &format!("--push -t {}", registry.image("refused"))).fails().says("401");
    builder.buildctl(&context, &by_buildctl("refused")).fails().says("401");

    registry.log_in(&docker);
    builder.buildx(&context, &format!("--push -t {}", registry.image("by-buildx"))).succeeds();
    builder.buildctl(&context, &by_buildctl("by-buildctl")).succeeds();
    for name in ["by-buildx", "by-buildctl"] {
        let look = scene.buildx("imagetools inspect --format").arg("{{json .Image}}").arg(registry.image(name));
        let looked = look.env("SSL_CERT_FILE", registry.authority()).succeeds();
        looked.says("echo \\\"pushed $((6 * 7))\\\"");
    }
    // A base image is pulled with the same password.
    let on_it = scene.contexts().with("on-pushed", "");
    std::fs::write(on_it.join("Dockerfile"), format!("FROM {}\nRUN cat /word\n", registry.image("by-buildx")))
        .expect("a file of our own");
    builder.buildx(&on_it, "--pull --no-cache").succeeds().says("pushed 42");

    // Another name and an annotation for what is there already.
    let copy = registry.image("copy");
    imagetools(
        scene,
        registry,
        &format!("create --annotation index:org.example.word=copied -t {copy} {}", registry.image("by-buildx")),
    );
    let looked = imagetools(scene, registry, &format!("inspect --raw {copy}"));
    assert!(looked.contains("\"org.example.word\": \"copied\""), "{looked}");

    Registry::log_out(&docker);
    scene.buildx(&format!("imagetools inspect {copy}")).env("SSL_CERT_FILE", registry.authority()).fails().says("401");
}

/// Nobody but the builder's own configuration makes a stranger's certificate good.
pub(super) fn fails_without_the_authority(scene: &Scene, builder: &Builder<'_>, registry: &Registry) {
    registry.log_in(&scene.path("docker"));
    let words = format!("--push -t {}", registry.image("never"));
    builder.buildx(&scene.contexts().hello(), &words).fails().says("certificate");
    Registry::log_out(&scene.path("docker"));
}

/// What two nodes built, the client itself makes one image of, in the registry: it needs the authority too. buildx takes it from
/// the configuration of a builder that it made itself; of a `remote` one it has none.
pub(super) fn merges_what_two_nodes_built(scene: &Scene, builder: &Builder<'_>, registry: &Registry) {
    registry.log_in(&scene.path("docker"));
    let context = scene.contexts().with("merged", UNAME);
    let image = registry.image("merged");
    let facts = scene.path("merged.json");
    let words = format!("--platform linux/amd64,linux/arm64 --push -t {image} --metadata-file {}", facts.display());
    builder.buildx(&context, &words).fails().says("certificate");
    let built = builder.buildx(&context, &words).env("SSL_CERT_FILE", registry.authority()).succeeds();
    built.says("ing manifest list");
    let index = imagetools(scene, registry, &format!("inspect --raw {image}"));
    let index: Value = serde_json::from_str(&index).expect("an index");
    assert_eq!(platforms_of_index(&index), ["linux/amd64", "linux/arm64"]);
    let facts: Value = serde_json::from_slice(&std::fs::read(&facts).expect("buildx wrote it")).expect("JSON");
    let digest = facts["containerimage.digest"].as_str().expect("a digest");
    scene.buildx("imagetools inspect").arg(&image).env("SSL_CERT_FILE", registry.authority()).succeeds().says(digest);
    Registry::log_out(&scene.path("docker"));
}

/// `imagetools` runs in the client alone, which knows the authority by a variable of Go's.
fn imagetools(scene: &Scene, registry: &Registry, words: &str) -> String {
    scene.buildx("imagetools").words(words).env("SSL_CERT_FILE", registry.authority()).succeeds().stdout
}

/// The cluster's own registry has no TLS, and only the configuration of a builder can tell `imagetools` so. A `remote` builder, as
/// buildfleet registers it, has none, and any other, which need not even run, will do.
pub(super) fn can_be_looked_at_without_tls(scene: &Scene, builder: &Builder<'_>) {
    let image = registry::image(&format!("{}-looked-at", scene.namespace().name()));
    let output = format!("--output type=image,name={image},push=true,registry.insecure=true");
    builder.buildx(&scene.contexts().hello(), &output).succeeds();
    scene
        .buildx(&format!("imagetools inspect --builder {} {image}", builder.name()))
        .fails()
        .says("HTTP response to HTTPS client");

    let config = scene.path("registries.toml");
    let host = image.split('/').next().expect("an image in a registry");
    std::fs::write(&config, format!("[registry.\"{host}\"]\n  http = true\n")).expect("a file of our own");
    let create = format!("create --name registries --driver kubernetes --buildkitd-config {}", config.display());
    scene.buildx(&create).succeeds();
    let looked = scene.buildx(&format!("imagetools inspect --builder registries {image}")).succeeds();
    looked.says(&registry::digest(&image)).says("linux/amd64");
    let copy = image.replace("looked-at", "looked-at-again");
    scene.buildx(&format!("imagetools create --builder registries -t {copy} {image}")).succeeds();
    assert_eq!(
        registry::manifest(&copy)["manifests"][0]["digest"],
        registry::manifest(&image)["manifests"][0]["digest"]
    );
    // It made nothing in the cluster.
    let others: Vec<String> = scene.namespace().objects();
    assert!(others.iter().all(|object| !object.contains("registries")), "{others:?}");
}
