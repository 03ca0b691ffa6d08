//! LLB that no frontend made.

use std::fs;

use crate::support::builder::Builder;
use crate::support::llb;
use crate::support::scene::Scene;

pub(super) fn runs_without_a_frontend(scene: &Scene, builder: &Builder<'_>) {
    let (definition, out) = (scene.path("definition.pb"), scene.path("definition-out"));
    let step = "echo \"by hand $((6 * 7))\" | /busybox-amd64 tee /made";
    llb::write(&definition, &["/busybox-amd64", "sh", "-c", step]);
    let context = scene.contexts().hello();
    let build = format!(
        "buildctl --addr {} build --progress plain --local context={} --output type=local,dest={} <{}",
        builder.address(),
        context.display(),
        out.display(),
        definition.display()
    );
    scene.shell(&build).succeeds().says("by hand 42");
    assert_eq!(fs::read_to_string(out.join("made")).expect("the step's file"), "by hand 42\n");
    scene.shell(&build.replace("build --progress", "build --no-cache --progress")).succeeds().says("by hand 42");

    llb::write(&definition, &["/nothing-here"]);
    scene.shell(&build).fails().says("/nothing-here");
}
