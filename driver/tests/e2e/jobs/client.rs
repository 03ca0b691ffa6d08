//! `buildfleet job` as its user types it: directories into the cluster, the build's exit code back, Ctrl-C, and coming back.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::sys::signal::Signal;

use crate::support::call::Call;
use crate::support::clock::seconds;
use crate::support::scene::Scene;
use crate::support::service::Registry;

/// `job WORDS` in the scene's namespace.
fn job(scene: &Scene, words: &str) -> Call {
    scene.buildfleet(&format!("job {words} --namespace {}", scene.namespace().name())).within(seconds(150))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a name of our own")
}

#[test]
fn a_directory_is_built_as_it_is_and_pushed_with_the_user_s_own_credentials() {
    let scene = Scene::kube();
    let registry = Registry::start(&scene.path("registry"));
    registry.log_in(&scene.path("docker"));
    let config = scene.path("buildkitd.toml");
    let text = format!("[registry.\"{}\"]\n  ca = [\"{}\"]\n", registry.host(), path(&registry.authority()));
    fs::write(&config, text).expect("a file of our own");
    // What a client could get wrong: modes, links, long names, what is left out, a Dockerfile beside the context.
    let context = scene.contexts().with("client", "");
    let head = fs::read_to_string(context.join("Dockerfile")).expect("it is there");
    let long = format!("{}/{}", "d".repeat(100), "f".repeat(150));
    fs::create_dir_all(context.join("d".repeat(100))).expect("a directory of our own");
    fs::write(context.join(&long), "deep").expect("a file of our own");
    fs::write(context.join("tool"), "#!/bin/sh\n").expect("a file of our own");
    fs::set_permissions(context.join("tool"), fs::Permissions::from_mode(0o750)).expect("a file of our own");
    symlink("tool", context.join("link")).expect("a link of our own");
    for name in ["debug.log", "keep.log", ".dockerignore"] {
        fs::write(context.join(name), "*.log\n!keep.log\n").expect("a file of our own");
    }
    let checks = format!(
        "ARG WORD\nCOPY . /all\nRUN --mount=type=secret,id=npm:token test \"$(cat /run/secrets/npm:token)\" = hu\"$(echo sh)\" && \
         test -e /all/keep.log && test ! -e /all/debug.log && test ! -e /all/Elsewhere && \
         test \"$(readlink /all/link)\" = tool && test \"$(stat -c %a /all/tool)\" = 750 && test \"$(cat /all/{long})\" = deep && \
         echo \"word is $WORD, $((6 * 7))\"\n"
    );
    let dockerfile = scene.path("Elsewhere");
    fs::write(&dockerfile, head + &checks).expect("a file of our own");
    fs::write(scene.path("secret"), "hush").expect("a file of our own");
    let image = registry.image("team/app");
    let given = format!(
        "run {} --file {} --name first --tag {image} --push --build-arg WORD=$(HOME)$$ --secret id=npm:token,src={} --buildkitd-config {}",
        path(&context),
        path(&dockerfile),
        path(&scene.path("secret")),
        path(&config)
    );
    let run = job(&scene, &given).succeeds();
    run.says(&format!("credentials for {} go to a Secret of the Job", registry.host()))
        .says("word is $(HOME)$$, 42")
        .says("DONE")
        .says_nothing_of("hush");
    // That it is there, another build shows, which is given the same credentials.
    let again = scene.path("again");
    fs::create_dir(&again).expect("a directory of our own");
    fs::write(again.join("Dockerfile"), format!("FROM {image}\nRUN test -e /all/keep.log\n"))
        .expect("a file of our own");
    let config = path(&config);
    let json = job(&scene, &format!("run {} --buildkitd-config {config} --format json", path(&again))).succeeds();
    let events = json.json_lines();
    let last = events.last().expect("there are events");
    assert_eq!((last["Event"].as_str(), last["ExitCode"].as_i64()), (Some("end"), Some(0)), "{last}");
    assert!(events.iter().any(|event| event["Event"] == "output"), "{events:?}");

    // What is left says what it was, until it is removed.
    let listed = job(&scene, "ls --format {{.Name}}:{{.Status}}:{{.Title}}").succeeds();
    listed.says(&format!("first:succeeded:{image}"));
    job(&scene, "logs first").succeeds().says("word is $(HOME)$$, 42");
    job(&scene, "wait first").succeeds();
    job(&scene, "attach first").succeeds().says("word is $(HOME)$$, 42");
    job(&scene, "cancel first").fails();
    let names = job(&scene, "ls --format {{.Name}}").succeeds();
    job(&scene, &format!("rm {}", names.stdout.replace('\n', " "))).succeeds();
    scene.namespace().empties();
}

#[test]
fn ctrl_c_cancels_and_a_client_that_was_killed_comes_back() {
    let scene = Scene::kube();
    let context = scene.contexts().slow("client-slow", 60);
    let run = job(&scene, &format!("run {} --name slow", path(&context))).start();
    run.says("begins 42");
    run.signal(Signal::SIGKILL);
    drop(run.end());
    // The same command finds the Job, and tells its output from the beginning.
    let again = job(&scene, &format!("run {} --name slow", path(&context))).start();
    again.says("job slow is running and was not made anew").says("begins 42");
    again.signal(Signal::SIGINT);
    again.end().with_code(130).says("job slow was canceled");
    scene.namespace().empties();

    // Another daemon knows of a detached one as well.
    let context = scene.contexts().with("client-fails", "RUN echo \"fails $((6 * 7))\" && false\n");
    let detached = job(&scene, &format!("run {} --name later --detach -q", path(&context))).succeeds();
    assert_eq!(detached.word(), "later");
    scene.kill_daemon();
    job(&scene, "attach later")
        .end()
        .with_code(1)
        .says("fails 42")
        .says("the build in job later failed with exit code 1");
    job(&scene, "wait later").end().with_code(1).says_nothing_of("fails 42");
    job(&scene, "logs later --tail 1").succeeds().says("failed to solve");
    let refused = job(&scene, &format!("run {} --name later", path(&context))).fails();
    refused.says("job later is there already, and failed");
    job(&scene, "rm later").succeeds();
    scene.namespace().empties();
}

/// The real `buildctl` reads every flag that a Job's manifest has: what it cannot do then is to reach a `buildkitd`.
#[test]
fn buildctl_understands_what_the_flags_become() {
    let scene = Scene::kube();
    let dir = scene.path("context");
    fs::create_dir(&dir).expect("a directory of our own");
    for name in ["Dockerfile", "npm", "secret-1"] {
        fs::write(dir.join(name), "FROM scratch\n").expect("a file of our own");
    }
    for flags in [
        "",
        "-t a.example/x:1 -t a.example/x:2 --push",
        "-t a.example/x -o type=registry,compression=zstd",
        "-o type=cacheonly --target t --no-cache",
        "--platform linux/amd64,linux/arm64 --build-arg A=b=c,d --label l=m",
        "--cache-from a.example/c --cache-to type=registry,ref=a.example/c,mode=max --cache-to type=inline",
        "--frontend gateway.v0 --opt source=a.example/frontend",
        "--secret id=npm,src=/etc/hostname --secret id=a:b,src=/etc/hostname",
    ] {
        let rendered = job(&scene, &format!("run {} --dry-run --name x {flags}", path(&dir))).succeeds();
        // This machine has none of the pod's paths.
        let here = |argument: String| {
            let argument = argument.replace("/workspace/context", path(&dir));
            argument.replace("/run/buildfleet/secrets", path(&dir))
        };
        let arguments = arguments(&rendered.stdout);
        assert_eq!(arguments[0], "build", "{rendered}");
        let call = scene.buildctl("--timeout 1 --addr unix:///nonexistent.sock");
        let call = arguments.into_iter().map(here).fold(call, Call::arg);
        call.fails().says("/nonexistent.sock").says_nothing_of("USAGE").says_nothing_of("invalid");
    }
    // One that it does not know is told apart.
    let unknown =
        scene.buildctl("--timeout 1 --addr unix:///nonexistent.sock build --frontend dockerfile.v0 --secret ids=x");
    unknown.fails().says_nothing_of("/nonexistent.sock");
    assert!(scene.namespace().objects().is_empty());
}

/// What a manifest's container is given.
fn arguments(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| line.trim() != "- args:").skip(1);
    let items = lines.map(str::trim).map_while(|line| line.strip_prefix("- "));
    items.map(|item| item.trim_matches('\'').replace("''", "'").replace("$$", "$")).collect()
}
