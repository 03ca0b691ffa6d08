//! Contexts that are no directory: an archive and a Dockerfile on stdin, a git repository, an archive on the web.

use std::fs;
use std::path::Path;

use crate::support::call::Call;
use crate::support::clock::seconds;
use crate::support::scene::Scene;
use crate::support::service::{Git, Web};

#[test]
fn archives_repositories_and_addresses_are_built_as_directories_are() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name().to_owned();
    let context = scene.contexts().with("inputs", "COPY word /\nRUN echo \"the word is $(cat /word), $((6 * 7))\"\n");
    fs::write(context.join("word"), "milk").expect("a file of our own");
    let archive = scene.path("web/inputs.tar.gz");
    fs::create_dir(scene.path("web")).expect("a directory of our own");
    Call::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&context).arg(".").succeeds();
    let busybox = context.join("busybox-amd64");
    let web = Web::serve(&scene.path("web"), &busybox);
    let git = Git::serve(&scene.path("git"), &context);
    let told = "the word is milk, 42";
    let run = |words: &str, stdin: &Path| {
        let line = format!("buildfleet job run {words} --namespace {namespace} <{}", stdin.display());
        scene.shell(&line).within(seconds(150)).succeeds()
    };
    run("- --name archive", &archive).says(told);
    run(&format!("{}/inputs.tar.gz --name web", web.url()), Path::new("/dev/null")).says(told);
    run(&format!("{} --name git", git.url()), Path::new("/dev/null")).says(told);
    // A Dockerfile of this machine for a context that is elsewhere.
    let dockerfile =
        fs::read_to_string(context.join("Dockerfile")).expect("it is there").replace("the word is", "it is");
    fs::write(scene.path("Other"), dockerfile).expect("a file of our own");
    let other = scene.path("Other");
    run(&format!("{} --file {} --name other", git.url(), other.display()), Path::new("/dev/null"))
        .says("it is milk, 42");
    run(&format!("{} --file - --name stdin", context.display()), &other).says("it is milk, 42");
    let all = "archive web git other stdin";
    scene.buildfleet(&format!("job rm {all} --namespace {namespace}")).succeeds();
    scene.namespace().empties();
}
