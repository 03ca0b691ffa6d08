//! Every flag that the real buildx's help has: known to ours, and with the effect that it has there.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::{installed, real};
use crate::support::scene::Scene;

/// The flags that `--help` lists.
fn flags(scene: &Scene, command: &str) -> BTreeSet<String> {
    let help = real(scene, &format!("{command} --help")).succeeds();
    let options = help.stdout.lines().skip_while(|line| *line != "Options:").skip(1);
    let name = |line: &str| {
        let long = line.split_whitespace().find(|word| word.starts_with("--"))?;
        // Text that goes on below a flag stands further to the right.
        (line.find("--")? <= 6).then(|| long.trim_start_matches('-').to_owned())
    };
    let found: BTreeSet<String> = options.filter_map(name).collect();
    assert!(found.contains("debug"), "{help}");
    found
}

#[test]
fn every_flag_of_the_real_help_is_known() {
    let scene = installed(Scene::local());
    let mut count = 0;
    for command in ["create", "ls", "inspect", "rm", "stop", "use", "du", "prune"] {
        for flag in flags(&scene, command) {
            // No flag is called so, and what is wrong is told in order.
            let line = scene.buildfleet(&format!("buildx {command} --{flag}=1 --no-such-flag")).fails().with_code(125);
            assert!(!line.stderr.contains(&format!("unknown flag: --{flag}\n")), "{line}");
            count += 1;
        }
        // What is wrong is said in the same words, and with the same code.
        for words in ["--no-such-flag", "--debug=perhaps", "-Dx", "--timeout", "--timeout=5", "a b c"] {
            let line = format!("{command} {words}");
            if command == "rm" && words == "a b c" {
                continue;
            }
            let (ours, theirs) = (scene.buildfleet(&format!("buildx {line}")).end(), real(&scene, &line).end());
            assert_eq!((&ours.stdout, &ours.stderr), (&theirs.stdout, &theirs.stderr), "{line}");
        }
    }
    assert!(count > 40, "only {count} flags were found");
}

/// `docker buildx create --help`, one by one.
#[test]
fn every_flag_of_create_has_its_effect() {
    let scene = installed(Scene::kube());
    let namespace = scene.namespace().name().to_owned();
    let config = scene.path("config.toml");
    fs::write(&config, "debug = true\n").expect("a file of our own");
    let opt = format!("--driver-opt namespace={namespace}");
    let node = |at: usize| -> Value { scene.builder("matrix").node(at) };
    let mut shown = BTreeSet::new();
    let mut shows = |flags: &[&str]| shown.extend(flags.iter().map(|flag| (*flag).to_owned()));

    // One builder with all that can be said at once.
    let line = format!(
        "create --debug --name matrix --driver kubernetes {opt} --driver-opt labels=team=a,replicas=1 --node first --platform linux/amd64 \
         --platform linux/386,linux/amd64/v2 --buildkitd-flags --debug --buildkitd-config {} --use --timeout 30s --bootstrap",
        config.display()
    );
    let created = scene.buildx(&line).succeeds();
    assert_eq!(created.stdout, "matrix\n", "{created}");
    let first = node(0);
    assert_eq!(first["Name"], "first", "{first:#}");
    assert_eq!(first["DriverOpts"]["labels"], "team=a", "{first:#}");
    let platforms = serde_json::json!(["linux/amd64", "linux/386", "linux/amd64/v2"]);
    assert_eq!(first["ExplicitPlatforms"], platforms, "{first:#}");
    let pod = scene.namespace().pod(first["Pods"][0]["Name"].as_str().expect("--bootstrap starts a pod"));
    let container = &pod["spec"]["containers"][0];
    assert!(container["args"].to_string().contains("\"--debug\""), "{container:#}");
    assert!(container["volumeMounts"].to_string().contains("/etc/buildkit"), "{container:#}");
    assert_eq!(pod["metadata"]["labels"]["team"], "a");
    scene.buildx("inspect").succeeds().says("matrix").says("debug = true");
    real(&scene, "inspect matrix").succeeds().says("first").says("linux/386*");
    shows(&["name", "driver", "driver-opt", "node", "platform", "buildkitd-flags", "buildkitd-config", "use"]);
    shows(&["timeout", "bootstrap", "debug"]);

    // Without --bootstrap nothing starts; without --node the name is buildx's; without --use the current one stays.
    scene.buildx(&format!("create --name Other --driver=kubernetes {opt} --config {}", config.display())).succeeds();
    let other = scene.builder("other").node(0);
    assert_eq!((other["Name"].as_str(), other["Status"].as_str()), (Some("other0"), Some("stopped")), "{other:#}");
    scene.buildx("inspect").succeeds().says("matrix");
    scene.buildx("inspect other").succeeds().says("debug = true");

    // --append and --leave.
    let append = format!("create --name matrix --driver kubernetes {opt} --platform linux/arm64");
    scene.buildx(&append).fails().with_code(1).says("but no append mode, specify the node name");
    scene.buildx(&format!("{append} --append --node second")).succeeds();
    assert_eq!(node(1)["Name"], "second");
    real(&scene, "inspect matrix").succeeds().says("second").says("linux/arm64*");
    let left = scene.buildx("create --leave --name matrix --node second").succeeds();
    assert_eq!((left.stdout.as_str(), left.stderr.as_str()), ("", ""));
    real(&scene, "inspect matrix").succeeds().says("first").says_nothing_of("second");
    scene.buildx("create --leave --name matrix --node first").fails().says("can not leave last node");
    shows(&["append", "leave"]);

    // Of a node that is there, what is given is changed and nothing else.
    scene.buildx("create --name matrix --node first --buildkitd-flags --trace").succeeds().says("matrix");
    assert_eq!(node(0)["ExplicitPlatforms"], platforms);
    assert!(node(0)["Flags"].to_string().contains("--trace"), "{:#}", node(0));

    what_the_environment_says(&scene, &opt);
    what_is_refused(&scene, &opt);
    assert_eq!(shown, flags(&scene, "create"), "a flag of the help is not shown here");

    for name in ["", "matrix"] {
        let keeps = scene.buildx(&format!("rm --keep-daemon --keep-state --timeout 20s {name}"));
        if name.is_empty() {
            // The current one.
            keeps.succeeds().says("matrix removed");
        } else {
            keeps.fails().says("no builder \"matrix\" found");
        }
    }
    assert!(scene.namespace().objects().contains(&"deployment/first".to_owned()), "--keep-daemon lets go and no more");
    scene.buildx("rm --all-inactive --force").succeeds().says("other removed");
    scene.has_no_builder();
}

/// DOCKER_CONTEXT, BUILDX_BUILDER, BUILDX_CONFIG and KUBECONFIG mean what they mean to buildx.
fn what_the_environment_says(scene: &Scene, opt: &str) {
    let nobody = scene.path("nobody.sock");
    scene.shell(&format!("docker context create elsewhere --docker host=unix://{}", nobody.display())).succeeds();
    let taken = scene.buildx(&format!("create --name elsewhere --driver kubernetes {opt}")).fails();
    taken.says("instance name \"elsewhere\" already exists as context builder");

    // The current builder is that of one context.
    let there = |words: &str| scene.buildx(words).env("DOCKER_CONTEXT", "elsewhere");
    there(&format!("create --name theirs --driver kubernetes {opt} --use")).succeeds();
    there("inspect").succeeds().says("theirs0");
    scene.shell("docker --context elsewhere buildx inspect").succeeds().says("theirs0");
    scene.buildx("inspect").env("BUILDX_BUILDER", "theirs").succeeds().says("theirs0");
    there("rm").succeeds().says("theirs removed");
    scene.buildx("inspect").succeeds().says("default");
    scene.buildx("use matrix").succeeds();
    scene.buildx("inspect").succeeds().says("first");

    // Another store has other builders; the daemon, which has one name for each, says so.
    let aside = |words: &str| scene.buildx(words).env("BUILDX_CONFIG", scene.path("aside"));
    aside(&format!("create --name aside --driver kubernetes {opt}")).succeeds();
    aside("ls").succeeds().says("aside").says_nothing_of("matrix");
    aside(&format!("create --name matrix --driver kubernetes {opt}")).fails().says("existing instance for \"matrix\"");
    scene.buildx("ls").succeeds().says("matrix").says_nothing_of("aside");
    aside("rm aside").succeeds().says("aside removed");

    let nowhere = scene.buildx(&format!("create --name nowhere --driver kubernetes {opt}"));
    nowhere.env("KUBECONFIG", scene.path("nothing")).fails().with_code(1).says("nothing");
}

/// Values that buildx refuses, too; and options that it does not know.
fn what_is_refused(scene: &Scene, opt: &str) {
    let before = scene.buildx_builders();
    for (words, said) in [
        ("--driver nope", "failed to find driver \"nope\""),
        ("--driver kubernetes --platform x/y/z/w", "x/y/z/w"),
        ("--driver kubernetes --name 1x", "1x"),
        ("--driver kubernetes --name default", "default is a reserved name"),
        ("--driver kubernetes endpoint", "kubernetes driver does not support endpoint args \"endpoint\""),
        ("--driver kubernetes --driver-opt rotless=true", "did you mean `rootless`?"),
        ("--driver kubernetes --driver-opt nope=1", "BUILDFLEET_SHIM=off"),
        ("--driver kubernetes --driver-opt replicas", "replicas"),
        ("--driver kubernetes --buildkitd-flags \"", "--buildkitd-flags"),
        ("--driver kubernetes --buildkitd-config /nonexistent", "/nonexistent"),
        ("--driver kubernetes --append", "append requires a builder name"),
    ] {
        let refused = scene.buildx(&format!("create {opt} {words}")).fails().with_code(1).says(said);
        assert!(refused.stdout.is_empty() && refused.stderr.contains("ERROR: "), "{refused}");
    }
    assert_eq!(scene.buildx_builders(), before);
}
