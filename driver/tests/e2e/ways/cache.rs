//! Build caches that outlive what a pod has.

use std::path::Path;

use crate::records::buildx;
use crate::support::builder::Builder;
use crate::support::call::Call;
use crate::support::registry;
use crate::support::scene::Scene;

const CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";

type Client = for<'a> fn(&Builder<'a>, &Path, &str) -> Call;

/// Each client with its words for a cache to write and one to read.
fn clients() -> [(&'static str, Client, &'static str, &'static str); 2] {
    [
        ("buildx", |builder, context, words| builder.buildx(context, words), "--cache-to", "--cache-from"),
        ("buildctl", |builder, context, words| builder.buildctl(context, words), "--export-cache", "--import-cache"),
    ]
}

pub(super) fn survives_in_a_registry(scene: &Scene, builder: &Builder<'_>) {
    for (name, client, to, from) in clients() {
        let step = format!("RUN echo \"{name} in a registry: $((6 * 7))\" >/made && cat /made\n");
        let context = scene.contexts().with(&format!("cached-by-{name}"), &step);
        let said = format!("{name} in a registry: 42");
        let cache = registry::image(&format!("{}-cache-of-{name}", scene.namespace().name()));
        let place = format!("type=registry,ref={cache},registry.insecure=true");
        client(builder, &context, &format!("{to} {place},mode=max")).succeeds().says(&said);
        let kept = registry::manifest(&cache).to_string();
        assert!(kept.contains(CACHE), "no cache at {cache}: {kept}");
        is_all_that_is_left(
            scene,
            builder,
            &said,
            |words| client(builder, &context, words),
            &format!("{from} {place}"),
        );
    }
}

pub(super) fn survives_in_a_directory(scene: &Scene, builder: &Builder<'_>) {
    for (name, client, to, from) in clients() {
        let step = format!("RUN echo \"{name} in a directory: $((6 * 7))\" >/made && cat /made\n");
        let context = scene.contexts().with(&format!("kept-by-{name}"), &step);
        let said = format!("{name} in a directory: 42");
        let dir = scene.path(&format!("cache-of-{name}"));
        client(builder, &context, &format!("{to} type=local,dest={},mode=max", dir.display())).succeeds().says(&said);
        assert!(dir.join("index.json").is_file(), "no cache in {}", dir.display());
        let from = format!("{from} type=local,src={}", dir.display());
        is_all_that_is_left(scene, builder, &said, |words| client(builder, &context, words), &from);
    }
}

/// With the pod's own cache gone, the step runs again, unless there is the other one.
fn is_all_that_is_left(scene: &Scene, builder: &Builder<'_>, said: &str, build: impl Fn(&str) -> Call, from: &str) {
    buildx(scene, builder, "prune --all --force");
    build(from).succeeds().says("CACHED").says_nothing_of(said);
    buildx(scene, builder, "prune --all --force");
    build("").succeeds().says(said);
}
