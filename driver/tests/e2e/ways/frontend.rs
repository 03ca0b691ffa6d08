//! Dockerfiles that name the frontend they are written for.

use std::fs;

use crate::support::builder::Builder;
use crate::support::registry;
use crate::support::scene::Scene;
use crate::support::tools::on_path;

const IMAGE: &str = "FROM scratch
COPY dockerfile-frontend /bin/
LABEL moby.buildkit.frontend.caps=moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts
ENTRYPOINT [\"/bin/dockerfile-frontend\"]
";

/// For a builder that knows the cluster's registry, from which the frontend is pulled.
pub(super) fn comes_from_a_registry(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.path("frontend");
    fs::create_dir_all(&context).expect("a directory of our own");
    fs::write(context.join("Dockerfile"), IMAGE).expect("a file of our own");
    let program = on_path("dockerfile-frontend").expect("`scripts/cluster build buildkit` makes it");
    fs::copy(program, context.join("dockerfile-frontend")).expect("a file of our own");
    let frontend = registry::image(&format!("{}-frontend", scene.namespace().name()));
    builder.buildx(&context, &format!("--push -t {frontend}")).succeeds();

    let context = scene.contexts().with("with-syntax", "RUN echo \"by a frontend $((6 * 7))\"\n");
    let dockerfile = fs::read_to_string(context.join("Dockerfile")).expect("a file of our own");
    fs::write(context.join("Dockerfile"), format!("# syntax={frontend}\n{dockerfile}")).expect("a file of our own");
    let seen = format!("docker-image://{frontend}");
    builder.buildx(&context, "").succeeds().says(&seen).says("by a frontend 42");
    builder.buildctl(&context, "--no-cache").succeeds().says(&seen).says("by a frontend 42");
    // It reads secrets and named contexts like the one that is built in.
    let step =
        "RUN --mount=type=secret,id=word,env=WORD,required=true echo \"$WORD\" | md5sum\nCOPY --from=other word /\n";
    fs::write(context.join("Dockerfile"), format!("# syntax={frontend}\n{dockerfile}{step}"))
        .expect("a file of our own");
    fs::create_dir_all(scene.path("word")).expect("a directory of our own");
    fs::write(scene.path("word/word"), "word").expect("a file of our own");
    let words = format!("--secret id=word,env=WORD --build-context other={}", scene.path("word").display());
    let built = builder.buildx(&context, &words).env("WORD", "open-sesame").succeeds();
    built.says("e1cd152aa8bdf602b387563780c0361a");
}
