//! Policies of the user: the pod asks the client about each source.

use std::fs;

use crate::support::builder::Builder;
use crate::support::scene::Scene;

const POLICY: &str = r#"package docker

default allow = false

allow if input.env.target == "allowed"

decision := {"allow": allow}
"#;

pub(super) fn decide_about_sources(scene: &Scene, builder: &Builder<'_>) {
    let step = "RUN echo \"decided $((6 * 7))\"\n";
    let context = scene.contexts().with("policy", step);
    let dockerfile = fs::read_to_string(context.join("Dockerfile")).expect("a file of our own");
    let dockerfile = dockerfile.replace("FROM scratch", "FROM scratch AS allowed");
    fs::write(context.join("Dockerfile"), format!("{dockerfile}FROM allowed AS denied\n{step}"))
        .expect("a file of our own");
    fs::write(context.join("policy.rego"), POLICY).expect("a file of our own");
    // Its path may not lead out of the working directory.
    let build = |target: &str| {
        builder.buildx(&context, &format!("--policy filename=policy.rego --no-cache --target {target}")).dir(&context)
    };
    build("denied").fails().says("not allowed by policy").says_nothing_of("decided 42");
    build("allowed").succeeds().says("decided 42");
}
