//! Contexts that the pod itself fetches from a git server.

use std::fs;

use crate::support::builder::Builder;
use crate::support::scene::Scene;
use crate::support::service::Git;

const STEP: &str = "ARG SAID=nothing
RUN cat /etc/word && echo \" $SAID\"
";

pub(super) fn is_cloned_by_the_pod(scene: &Scene, builder: &Builder<'_>) {
    let contents = scene.contexts().with("in-git", &format!("COPY word /etc/word\n{STEP}"));
    fs::write(contents.join("word"), "kept in git").expect("a file of our own");
    let below = contents.join("below");
    fs::create_dir_all(&below).expect("a directory of our own");
    fs::write(below.join("word"), "kept below").expect("a file of our own");
    let bake = "target \"default\" {\n  args = { SAID = \"baked from git\" }\n}\n";
    fs::write(contents.join("docker-bake.hcl"), bake).expect("a file of our own");
    let git = Git::serve(&scene.path("git"), &contents);
    let (url, commit) = (git.url(), git.commit());

    let build = |words: &str| {
        scene.buildx(&format!("build --builder {} --progress=plain --no-cache", builder.name())).words(words)
    };
    build(&format!("{url}#main")).succeeds().says("kept in git").says(&commit);
    let buildctl = scene.buildctl("--addr").arg(builder.address());
    let words = format!("build --progress=plain --no-cache --frontend dockerfile.v0 --opt context={url}#{commit}");
    buildctl.words(&words).succeeds().says("kept in git");
    build(&format!("{url}#nowhere")).fails().says("nowhere");

    // The client reads a bake file through the pod, which alone is near to the server.
    let bake = scene.buildx(&format!("bake --builder {} --progress=plain", builder.name())).arg(format!("{url}#main"));
    bake.succeeds().says("kept in git").says("baked from git");

    // One directory of it, as a named context of a local one.
    let context = scene.contexts().with("beside-git", &format!("COPY --from=project word /etc/word\n{STEP}"));
    build(&format!("--build-context project={url}#main:below")).arg(&context).succeeds().says("kept below");
}
