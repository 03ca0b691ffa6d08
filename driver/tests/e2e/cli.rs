//! The command line's own look at what pods keep, held against stock buildx's of the same pods.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::records::{buildctl, buildx, ids, two_builds};
use crate::support::builder::Builder;
use crate::support::call::{Call, Outcome};
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;
use crate::support::tools::BUILDFLEET;

fn two(scene: &Scene) -> Builder<'_> {
    let builder = scene.create("two", "--driver local --driver-opt replicas=2 --bootstrap");
    builder.has_ready(2);
    builder
}

/// The lines of both, in any order.
fn same_lines(scene: &Scene, builder: &Builder<'_>, words: &str, format: &str) {
    let lines = |outcome: &Outcome| outcome.stdout.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let theirs = scene.buildx(words).arg("--builder").arg(builder.name()).arg("--format").arg(format).succeeds();
    let ours = scene.buildfleet(words).arg("--builder").arg(builder.name()).arg("--format").arg(format).succeeds();
    assert!(lines(&theirs).len() > 1, "{theirs}");
    assert_eq!(lines(&ours), lines(&theirs), "{words} {format}");
}

#[test]
fn usage_and_history_are_told_as_buildx_tells_them() {
    let scene = Scene::local();
    let builder = two(&scene);
    let builds = two_builds(&scene, &builder);
    for format in [
        "{{.ID}} {{.Size}} {{.Reclaimable}} {{.Mutable}} {{.Shared}} {{.UsageCount}} {{.Type}} {{.CreatedAt}}",
        "table {{.ID}}\\t{{.Size}}\\t{{.Description}}",
    ] {
        same_lines(&scene, &builder, "du", format);
    }
    for format in ["{{.Ref}} {{.Name}} {{.Status}} {{.Duration}}", "table {{.Ref}}\\t{{.Name}}\\t{{.Duration}}"] {
        same_lines(&scene, &builder, "history ls", format);
    }
    // The layouts for people, without how long ago it was.
    let first = |outcome: Outcome| outcome.stdout.lines().next().expect("a header").trim_end().to_owned();
    for words in ["du", "history ls"] {
        let ours = scene.buildfleet(words).arg("--builder").arg(builder.name()).succeeds();
        assert_eq!(first(ours), first(buildx(&scene, &builder, words)), "{words}");
    }
    let sums = |outcome: Outcome| outcome.stdout.split_once("Reclaimable:").expect("a sum").1.to_owned();
    let ours = scene.buildfleet("du --builder two").succeeds();
    assert_eq!(sums(ours), sums(buildx(&scene, &builder, "du")));
    for filter in ["--filter=status=error", "--filter=status=completed", "--filter=duration<1ms"] {
        let refs = |call: Call| call.arg("--format").arg("{{.Ref}}").succeeds().stdout;
        let ours = refs(scene.buildfleet("history ls --builder two").arg(filter));
        assert_eq!(ours, refs(scene.buildx("history ls --builder two").arg(filter)), "{filter}");
    }
    for (name, build) in &builds {
        let ours = scene.buildfleet(&format!("history inspect --builder two {build} --format json")).succeeds().json();
        let theirs = buildx(&scene, &builder, &format!("history inspect {build} --format json")).json();
        for field in [
            "Name",
            "Ref",
            "Context",
            "Dockerfile",
            "Status",
            "NumTotalSteps",
            "NumCachedSteps",
            "Duration",
            "BuildArgs",
            "Materials",
        ] {
            assert_eq!(ours[field], theirs[field], "{field}: {ours:#} {theirs:#}");
        }
        let digests = |told: &Value| -> BTreeSet<String> {
            let attachments = told["Attachments"].as_array().cloned().unwrap_or_default();
            attachments.iter().map(|it| it["Digest"].as_str().expect("a digest").to_owned()).collect()
        };
        assert_eq!(digests(&ours), digests(&theirs), "{ours:#} {theirs:#}");
        let logs = scene.buildfleet(&format!("history logs --builder two {}", &build[..8])).succeeds();
        assert!(logs.stdout.contains(&format!(" this is 42 {name}\n")) && logs.stdout.contains(" DONE "), "{logs}");
    }
}

/// The files of a .dockerbuild archive.
fn unpacked(archive: &Path) -> PathBuf {
    let dir = archive.with_extension("unpacked");
    fs::create_dir(&dir).expect("a directory of our own");
    Call::new("tar").words("--extract --gzip --file").arg(archive).arg("--directory").arg(&dir).succeeds();
    dir
}

fn document(dir: &Path, digest: &Value) -> Value {
    let digest = digest.as_str().expect("a digest").replace(':', "/");
    serde_json::from_slice(&fs::read(dir.join("blobs").join(digest)).expect("it is there")).expect("JSON")
}

/// The record and the digests of all that goes with it, but of the trace, which each program writes anew.
fn exported(archive: &Path) -> (Value, BTreeSet<String>) {
    let dir = unpacked(archive);
    let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json")).expect("an index")).expect("JSON");
    let manifest = document(&dir, &index["manifests"][0]["digest"]);
    let mut record = document(&dir, &manifest["config"]["digest"]);
    let trace = record["trace"]["digest"].as_str().expect("a trace").to_owned();
    record["trace"] = Value::Null;
    // A clock of its own, and no part of the record.
    record.as_object_mut().expect("a record").remove("Generation");
    let layers = manifest["layers"].as_array().expect("layers").iter();
    let digests: BTreeSet<String> = layers.map(|it| it["digest"].as_str().expect("a digest").to_owned()).collect();
    assert!(digests.contains(&trace), "{manifest:#}");
    for digest in &digests {
        assert!(dir.join("blobs").join(digest.replace(':', "/")).exists(), "{digest} is not in the archive");
    }
    (record, digests.into_iter().filter(|digest| *digest != trace).collect())
}

#[test]
fn an_archive_has_what_buildx_s_has_and_a_removed_record_is_gone() {
    let scene = Scene::local();
    let builder = two(&scene);
    let builds = two_builds(&scene, &builder);
    for (name, build) in &builds {
        let (ours, theirs) = (scene.path(&format!("{name}-ours")), scene.path(&format!("{name}-theirs")));
        let words = format!("history export --builder two --finalize {build} --output");
        scene.buildfleet(&words).arg(&ours).succeeds();
        scene.buildx(&words).arg(&theirs).succeeds();
        assert_eq!(exported(&ours), exported(&theirs), "{name}");
    }
    let all = scene.path("all");
    scene
        .buildfleet("history export --builder two --all --output")
        .arg(&all)
        .succeeds()
        .says("the records of 2 builds");
    assert!(unpacked(&all).join("oci-layout").exists());

    scene.buildfleet("history rm --builder two").arg(&builds[0].1[..10]).succeeds();
    let left = buildx(&scene, &builder, "history ls --no-trunc");
    left.says(&builds[1].1).says_nothing_of(&builds[0].1);
    scene.buildfleet("history rm --builder two").arg(&builds[0].1).fails().says("has no record of a build");
    scene.buildfleet("history rm --builder two --all").succeeds();
    buildx(&scene, &builder, "history ls --no-trunc").says_nothing_of(&builds[1].1);
}

#[test]
fn prune_takes_from_all_pods_and_tells_what() {
    let scene = Scene::local();
    let builder = two(&scene);
    two_builds(&scene, &builder);
    let all = ids(&buildctl(&scene, &builder, "du"));
    assert!(all.len() > 4, "{all:?}");
    // More than there is may stay.
    let kept = scene.buildfleet("prune two --force --all --reserved-space 100gb").succeeds();
    assert_eq!(kept.stdout, "Total:\t0B\n");
    let pruned = scene.buildfleet("prune two --all --force").succeeds();
    assert_eq!(ids(&pruned), all);
    assert_eq!(ids(&buildctl(&scene, &builder, "du")), [""; 0]);
    scene.buildfleet("du two").succeeds().says("Total:\t\t0B");
}

#[test]
fn clients_that_run_a_helper_build_through_dial_stdio() {
    let mut scene = Scene::local();
    // What buildctl runs for addresses of this kind.
    let bin = scene.path("bin");
    fs::create_dir(&bin).expect("a directory of our own");
    fs::write(bin.join("kubectl"), format!("#!/bin/sh\nexec {BUILDFLEET} dial-stdio one --platform linux/amd64\n"))
        .expect("a file of our own");
    fs::set_permissions(bin.join("kubectl"), fs::Permissions::from_mode(0o755)).expect("a file of our own");
    let path = std::env::var("PATH").expect("a PATH");
    scene.set("PATH", format!("{}:{path}", bin.display()));
    let builder = scene.create("one", "--driver local --platform linux/amd64 --bootstrap");
    builder.has_ready(1);
    let hello = scene.contexts().hello();
    scene.buildctl("--addr kube-pod://any debug workers").succeeds().says("linux/amd64");
    let local = |name: &str| format!("{name}={}", hello.display());
    let call = scene.buildctl("--addr kube-pod://any build --progress=plain --frontend dockerfile.v0");
    call.arg("--local")
        .arg(local("context"))
        .arg("--local")
        .arg(local("dockerfile"))
        .succeeds()
        .says("machine: x86_64");
}

#[test]
fn top_shows_the_build_that_runs_and_what_it_uses() {
    let scene = Scene::local();
    let builder = scene.create("busy", "--driver local");
    scene.buildfleet("start busy").succeeds();
    builder.has_ready(1);
    let spinning = "RUN end=$(($(date +%s) + 15)); while [ $(date +%s) -lt $end ]; do :; done\n";
    let context = scene.contexts().with("spin", spinning);
    let mut running = builder.buildx(&context, "--no-cache").start();
    let pod = wait_for("a pod with a build that computes", seconds(30), || {
        let pods = scene.buildfleet("top busy --format json").succeeds().json_lines();
        pods.into_iter().find(|pod| pod["Builds"] == 1 && pod["CPUMillis"].as_u64().is_some_and(|cpu| cpu > 200))
    });
    assert!(pod["MemoryBytes"].as_u64().is_some_and(|bytes| bytes > 10 << 20), "{pod}");
    let shown = scene.buildfleet("top busy").succeeds();
    shown.says("POD ").says("BUILD ").says("spin").says("RUNS FOR");
    assert!(running.runs(), "the build has ended: {}", running.text());
    running.end().succeeded();
    scene.buildfleet("top busy").succeeds().says_nothing_of("RUNS FOR");
}

#[test]
fn doctor_finds_a_machine_fit_and_says_what_is_missing() {
    let mut scene = Scene::local();
    scene.buildfleet("doctor").succeeds().says("A new builder, by the local driver").says("buildkitd");
    scene.create("one", "--driver local --bootstrap").has_ready(1);
    let well = scene.buildfleet("doctor one").succeeds();
    well.says("docker buildx").says("socket").says("1 of 1 ready").says("BuildKit");
    let missing = scene.path("nobody/docker-buildx");
    scene.set("BUILDFLEET_BUILDX", missing);
    let ill = scene.buildfleet("doctor one").fails().with_code(1);
    ill.says("FAIL  docker buildx").says("-> set it to the path of a docker-buildx or docker,");
    scene.buildfleet("stop one").succeeds();
    scene.set("BUILDFLEET_BUILDX", "off");
    scene.buildfleet("doctor one").succeeds().says("none runs; the next build starts them");
    scene.buildfleet("rm --all-inactive").succeeds().says("one removed");
    assert_eq!(scene.builders(), Vec::<Value>::new());
}
