//! What a build has to be able to do, whichever backend it runs on.

use std::fs;

use crate::support::builder::Builder;
use crate::support::contexts::UNAME;
use crate::support::oci::{platforms_of_layout, unpack};
use crate::support::scene::Scene;

/// By each client at least one: an OCI layout, a directory, a tar file.
pub(crate) fn every_output_arrives(scene: &Scene, builder: &Builder<'_>) {
    let hello = scene.contexts().hello();

    let layout = scene.path("layout.tar");
    builder.buildx(&hello, &format!("--output type=oci,dest={}", layout.display())).succeeds();
    assert_eq!(platforms_of_layout(&layout), ["linux/amd64"]);
    let layout = scene.path("layout-by-buildctl.tar");
    builder.buildctl(&hello, &format!("--output type=oci,dest={}", layout.display())).succeeds();
    assert_eq!(platforms_of_layout(&layout), ["linux/amd64"]);

    let directory = scene.path("as-directory");
    builder.buildx(&hello, &format!("--output type=local,dest={}", directory.display())).succeeds();
    assert_eq!(fs::read_to_string(directory.join("machine")).expect("the step's file"), "machine: x86_64\n");

    let tar = scene.path("as.tar");
    builder.buildctl(&hello, &format!("--output type=tar,dest={}", tar.display())).succeeds();
    assert_eq!(fs::read_to_string(unpack(&tar).join("machine")).expect("the step's file"), "machine: x86_64\n");
}

/// One pod builds both platforms, one of them by qemu.
pub(crate) fn two_platforms_by_emulation(scene: &Scene, builder: &Builder<'_>) {
    let on_both = scene.contexts().with("on-both", UNAME);
    let both = scene.path("both.tar");
    let words = format!("--platform linux/amd64,linux/arm64 --output type=oci,dest={}", both.display());
    let built = builder.buildx(&on_both, &words).succeeds();
    built.says("this machine is: x86_64").says("this machine is: aarch64");
    assert_eq!(platforms_of_layout(&both), ["linux/amd64", "linux/arm64"]);

    let both = scene.path("both-by-buildctl.tar");
    let words = format!("--opt platform=linux/amd64,linux/arm64 --output type=oci,dest={}", both.display());
    builder.buildctl(&on_both, &words).succeeds();
    assert_eq!(platforms_of_layout(&both), ["linux/amd64", "linux/arm64"]);
}

/// A secret is read by the step that asks for it, and shown nowhere.
pub(crate) fn secrets_reach_the_step_alone(scene: &Scene, builder: &Builder<'_>) {
    let step = "RUN --mount=type=secret,id=word,required=true \\
    echo \"length: $(wc -c </run/secrets/word)\" && md5sum /run/secrets/word
";
    let context = scene.contexts().with("secret", step);
    let secret = scene.path("secret-word");
    fs::write(&secret, "swordfish\n").expect("a file of our own");
    let words = format!("--secret id=word,src={}", secret.display());

    builder.buildx(&context, "").fails().says("word");
    let built = builder.buildx(&context, &words).succeeds();
    built.says("length: 10").says("d8b74df393528d51cd19980ae0aa028e").says_nothing_of("swordfish");
    builder.buildctl(&context, &format!("{words} --no-cache")).succeeds().says("length: 10");
}
