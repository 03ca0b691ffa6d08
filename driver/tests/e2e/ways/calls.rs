//! Questions about a Dockerfile, which the frontend answers without a build.

use crate::support::builder::Builder;
use crate::support::scene::Scene;

/// The `from` in another case is what the check is about.
const REST: &str = "from scratch AS word
# COLOUR is what it is painted in
ARG COLOUR=green
COPY Dockerfile /word
";

pub(super) fn are_answered_without_a_build(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.contexts().with("asked", REST);
    builder.buildx(&context, "--call targets").succeeds().says("word");
    builder.buildx(&context, "--call outline --target word").succeeds().says("COLOUR").says("is what it is painted in");
    builder.buildx(&context, "--check").fails().says("ConsistentInstructionCasing").says("Dockerfile:5");
    // buildx calls none of them a build; buildctl has no word for such a thing.
    let listed = scene.buildx(&format!("history ls --builder {} --format {{{{.Ref}}}}", builder.name())).succeeds();
    assert_eq!(listed.word(), "", "{listed}");
    let asked = builder
        .buildctl(&context, "--opt requestid=frontend.lint --opt frontend.caps=moby.buildkit.frontend.subrequests");
    asked.succeeds().says("ConsistentInstructionCasing");
}
