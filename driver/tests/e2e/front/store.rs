//! One store of buildx's, used by many commands at a time.

use std::collections::BTreeSet;

use super::{installed, real};
use crate::support::call::Running;
use crate::support::scene::Scene;

/// Whether the real buildx knows these builders, each with its one node, and no other but docker's own.
fn has(scene: &Scene, names: &BTreeSet<String>) {
    let known: BTreeSet<String> = scene.buildx_builders().into_iter().collect();
    assert_eq!(&known, names);
    for name in names {
        real(scene, &format!("inspect {name}")).succeeds().says(&format!("{name}0"));
    }
}

#[test]
fn eight_creates_and_removes_at_a_time_keep_all_builders_of_a_store() {
    let scene = installed(Scene::kube());
    let namespace = scene.namespace().name();
    let name = |kind: &str, at: usize| format!("{kind}{at}-");
    let create = |kind: &str, at: usize| -> Running {
        let name = name(kind, at);
        match kind {
            "ours" => {
                scene.buildx(&format!("create --name {name} --driver kubernetes --driver-opt namespace={namespace}"))
            }
            _ => scene.buildx(&format!("create --name {name} --driver remote unix://{}", scene.path(&name).display())),
        }
        .start()
    };
    let end = |running: Vec<Running>| running.into_iter().for_each(|running| drop(running.end().succeeded()));
    let names = |places: &[usize]| -> BTreeSet<String> {
        places.iter().flat_map(|at| [name("ours", *at), name("theirs", *at)]).collect()
    };

    end((0..4).flat_map(|at| [create("ours", at), create("theirs", at)]).collect());
    has(&scene, &names(&[0, 1, 2, 3]));

    // Half of them go while others come.
    let remove = |at: usize| {
        let both = format!("rm {} {}", name("ours", at), name("theirs", at));
        scene.buildx(&both).start()
    };
    let come = (4..6).flat_map(|at| [create("ours", at), create("theirs", at)]);
    end((0..2).map(remove).chain(come).chain((2..3).map(remove)).collect());
    has(&scene, &names(&[3, 4, 5]));

    // Some of each kind in one list, and a name that nobody knows.
    let mixed = scene.buildx("rm ours3- theirs4- nix theirs3- ours4-").fails().with_code(1);
    for gone in ["ours3-", "theirs4-", "theirs3-", "ours4-"] {
        assert!(mixed.stderr.contains(&format!("{gone} removed\n")), "{mixed}");
    }
    let mixed = mixed.says("failed to remove nix: no builder \"nix\" found");
    assert!(mixed.stderr.ends_with("ERROR: failed to remove one or more builders\n"), "{mixed}");
    assert_eq!(mixed.stderr.matches("ERROR:").count(), 1, "{mixed}");
    has(&scene, &names(&[5]));

    lists_are_as_before(&scene);
    scene.buildx("rm ours5- theirs5-").succeeds();
    scene.has_no_builder();
}

/// Of other builders, `ls` says byte for byte what the real one says; of ours, what they are.
fn lists_are_as_before(scene: &Scene) {
    let ls = |words: &str| (scene.buildx(words).succeeds(), real(scene, words).succeeds());
    for words in ["ls --format json", "ls --format {{.Name}}|{{.DriverEndpoint}}|{{.Status}}|{{.Platforms}}|{{.Error}}"]
    {
        let (ours, theirs) = ls(words);
        let others = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.contains("ours5-")).map(str::to_owned).collect()
        };
        assert!(others(&ours.stdout).len() >= 2, "{ours}");
        assert_eq!(others(&ours.stdout), others(&theirs.stdout));
    }
    let (ours, theirs) = ls("ls");
    assert_eq!(ours.stderr, theirs.stderr);
    // Columns are as wide as their widest cell; cells are the same.
    let cells = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let others =
        |text: &str| -> Vec<String> { cells(text).into_iter().filter(|line| !line.contains("ours5-")).collect() };
    assert_eq!(others(&ours.stdout), others(&theirs.stdout));
    let (ours, theirs) = (cells(&ours.stdout), cells(&theirs.stdout));
    assert!(ours.contains(&"ours5- kubernetes".to_owned()) && theirs.contains(&"ours5- remote".to_owned()), "{ours:?}");
    // And without one of ours the plugin hands the command on: also the spaces are the same.
    let alone = scene.buildx("ls").env("BUILDX_CONFIG", scene.path("empty")).succeeds();
    assert_eq!(alone.stdout, real(scene, "ls").env("BUILDX_CONFIG", scene.path("empty")).succeeds().stdout);
}
