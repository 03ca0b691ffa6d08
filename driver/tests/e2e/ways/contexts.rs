//! Contexts that are not the directory of the Dockerfile.

use std::fs;

use crate::support::builder::Builder;
use crate::support::call::Call;
use crate::support::oci::first_digest;
use crate::support::scene::Scene;
use crate::support::service::Web;

/// Beside the main one, by both clients.
pub(super) fn have_names(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.contexts().with("named", "COPY --from=other word /word\nRUN cat /word\n");
    let other = scene.path("other");
    fs::create_dir_all(&other).expect("a directory of our own");
    for word in ["first-word", "second-word"] {
        fs::write(other.join("word"), word).expect("a file of our own");
        let out = scene.path(&format!("named-{word}"));
        let words = format!("--build-context other={} --output type=local,dest={}", other.display(), out.display());
        builder.buildx(&context, &words).succeeds();
        assert_eq!(fs::read_to_string(out.join("word")).expect("the context's file"), word);
        let out = scene.path(&format!("named-by-buildctl-{word}"));
        let words = format!(
            "--local other={} --opt context:other=local:other --output type=local,dest={}",
            other.display(),
            out.display()
        );
        builder.buildctl(&context, &words).succeeds();
        assert_eq!(fs::read_to_string(out.join("word")).expect("the context's file"), word);
    }
    builder.buildx(&context, "").fails().says("other");
}

/// An image in a directory, which no registry has.
pub(super) fn are_layouts(scene: &Scene, builder: &Builder<'_>) {
    let layout = scene.path("base-layout");
    let base = scene.contexts().with("base", "RUN echo \"from a layout $((6 * 7))\" >/word\n");
    builder.buildx(&base, &format!("--output type=oci,tar=false,dest={}", layout.display())).succeeds();
    let digest = first_digest(&layout);

    let context = scene.contexts().with("on-layout", "");
    fs::write(context.join("Dockerfile"), "FROM base\nRUN cat /word && cp /word /copy\n").expect("a file of our own");
    let out = scene.path("on-layout-out");
    let words = format!(
        "--build-context base=oci-layout://{}@{digest} --output type=local,dest={}",
        layout.display(),
        out.display()
    );
    builder.buildx(&context, &words).succeeds();
    assert_eq!(fs::read_to_string(out.join("copy")).expect("the step's file"), "from a layout 42\n");

    let out = scene.path("on-layout-by-buildctl");
    let words = format!(
        "--oci-layout store={} --opt context:base=oci-layout://store@{digest} --output type=local,dest={}",
        layout.display(),
        out.display()
    );
    builder.buildctl(&context, &words).succeeds();
    assert_eq!(fs::read_to_string(out.join("copy")).expect("the step's file"), "from a layout 42\n");
}

/// An archive that the pod itself gets by HTTP.
pub(super) fn are_archives_behind_a_url(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.contexts().with("archived", "RUN echo \"from an archive $((6 * 7))\"\n");
    let served = scene.path("served");
    fs::create_dir_all(&served).expect("a directory of our own");
    Call::new("tar").arg("-cf").arg(served.join("context.tar")).arg("-C").arg(&context).arg(".").succeeds();
    let web = Web::serve(&served, &context.join("busybox-amd64"));
    let url = format!("{}/context.tar", web.url());
    let build = scene.buildx(&format!("build --builder {} --progress=plain --no-cache {url}", builder.name()));
    build.succeeds().says("from an archive 42");
    let build = scene.buildctl("--addr").arg(builder.address()).words("build --progress=plain --no-cache");
    build.words(&format!("--frontend dockerfile.v0 --opt context={url}")).succeeds().says("from an archive 42");
}

/// A Dockerfile, or a whole context, on the client's stdin.
pub(super) fn come_through_a_pipe(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.contexts().with("piped", "RUN echo \"through a pipe $((6 * 7))\"\n");
    let build = format!("docker buildx build --builder {} --progress plain --no-cache", builder.name());
    let path = context.display();
    scene.shell(&format!("tar -C {path} -c . | {build} -")).succeeds().says("through a pipe 42");
    scene.shell(&format!("{build} --file - {path} <{path}/Dockerfile")).succeeds().says("through a pipe 42");
    // docker's own command is buildx's, with the builder that is named or the one that is in use.
    let docker = |words: &str| scene.shell(&format!("docker build {words} --progress plain --no-cache {path}"));
    docker(&format!("--builder {}", builder.name())).succeeds().says("through a pipe 42");
    docker("").env("BUILDX_BUILDER", builder.name()).succeeds().says("through a pipe 42");
}
