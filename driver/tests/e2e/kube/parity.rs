//! Stock buildx and buildfleet make the same builder of the same options: what both leave in the cluster is compared field
//! by field, and every difference is one that is meant, with its reason.
//!
//! No pod is ever started: a quota forbids them, and the objects are complete without.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::support::clock::{seconds, wait_for};
use crate::support::namespace::Namespace;
use crate::support::scene::Scene;

use cases::{CASES, CONFIG_FILES, Case};
use differences::{DIFFERENCES, Difference};

mod cases;
mod differences;
mod flat;

/// Of the objects in one namespace, by node: field by field.
type Builders = BTreeMap<String, BTreeMap<String, String>>;

#[test]
fn stock_buildx_and_buildfleet_make_the_same_builder_of_the_same_options() {
    let mut scene = Scene::kube();
    scene.set("BUILDFLEET_BUILDX", "off");
    for (name, content) in CONFIG_FILES {
        // The certificates are named from the working directory, which is this one.
        fs::write(scene.path("home").join(name), content).expect("a directory of our own");
    }
    let (ours, stock) = (scene.namespace(), Namespace::make());
    for namespace in [ours, &stock] {
        namespace.kubectl("create quota nothing-runs --hard=pods=0").succeeds();
    }
    let (by_ours, by_stock) = std::thread::scope(|threads| {
        let ours = threads.spawn(|| made_by_buildfleet(&scene, ours));
        let stock = threads.spawn(|| made_by_buildx(&scene, &stock));
        (ours.join().expect("buildfleet makes them"), stock.join().expect("buildx makes them"))
    });
    let mut unexpected = Vec::new();
    let mut occurred = BTreeSet::new();
    for case in &CASES {
        for (path, stock, ours) in differing(&by_stock[case.name], &by_ours[case.name]) {
            let place = DIFFERENCES.iter().position(|difference| difference.allows(case.name, &path, stock, ours));
            match place {
                Some(place) => drop(occurred.insert(place)),
                None => unexpected.push(format!("{}: {path}\n  stock: {stock:?}\n  ours:  {ours:?}", case.name)),
            }
        }
    }
    let gone: Vec<&Difference> =
        DIFFERENCES.iter().enumerate().filter(|(place, _)| !occurred.contains(place)).map(|(_, it)| it).collect();
    assert!(unexpected.is_empty(), "{} differences have no reason:\n{}", unexpected.len(), unexpected.join("\n"));
    assert!(gone.is_empty(), "differences that no longer occur: {gone:#?}");
    let page = include_str!("../../../../docs/compat.md");
    let untold: BTreeSet<&str> =
        DIFFERENCES.iter().map(|difference| difference.reason).filter(|reason| !page.contains(reason)).collect();
    assert!(untold.is_empty(), "docs/compat.md does not say: {untold:#?}");
    println!("{} option sets, {} kinds of differences", CASES.len(), DIFFERENCES.len());
}

/// Fields that only one has, or that differ.
fn differing<'a>(
    stock: &'a BTreeMap<String, String>,
    ours: &'a BTreeMap<String, String>,
) -> Vec<(String, Option<&'a str>, Option<&'a str>)> {
    let paths: BTreeSet<&String> = stock.keys().chain(ours.keys()).collect();
    let at = |map: &'a BTreeMap<String, String>, path: &String| map.get(path).map(String::as_str);
    let all = paths.into_iter().map(|path| (path.clone(), at(stock, path), at(ours, path)));
    all.filter(|(_, stock, ours)| stock != ours).collect()
}

/// The options of a case in a namespace, as words of either program.
fn words(case: &Case, namespace: &str, timeout: &str) -> Vec<String> {
    let mut words = vec!["--driver-opt".to_owned(), format!("namespace={namespace},timeout={timeout}")];
    for opt in case.opts {
        words.extend(["--driver-opt".to_owned(), (*opt).to_owned()]);
    }
    for (flag, value) in
        [("--platform", case.platform), ("--buildkitd-flags", case.flags), ("--buildkitd-config", case.config)]
    {
        if !value.is_empty() {
            words.extend([flag.to_owned(), value.to_owned()]);
        }
    }
    words
}

/// One builder for each case. buildx makes what it needs when it boots, and then waits no longer than it is told.
fn made_by_buildx(scene: &Scene, namespace: &Namespace) -> Builders {
    for case in &CASES {
        let call = scene.buildx("create --driver kubernetes --bootstrap --name").arg(format!("stock-{}", case.name));
        let call = call.arg("--node").arg(case.name);
        words(case, namespace.name(), "50ms").into_iter().fold(call, |call, word| call.arg(word)).end();
    }
    complete(namespace)
}

/// One builder with a node for each case, which are started together.
fn made_by_buildfleet(scene: &Scene, namespace: &Namespace) -> Builders {
    for (i, case) in CASES.iter().enumerate() {
        let call = scene.buildfleet("create --driver kubernetes --name ours --node").arg(case.name);
        let call = if i == 0 { call } else { call.arg("--append") };
        words(case, namespace.name(), "60s").into_iter().fold(call, |call, word| call.arg(word)).succeeds();
    }
    let _waits = scene.buildfleet("inspect ours --bootstrap").start();
    complete(namespace)
}

/// What is there once every case has its workload.
fn complete(namespace: &Namespace) -> Builders {
    wait_for("the workloads of all option sets", seconds(60), || {
        let list = namespace.kubectl("get deployments,statefulsets --output name").succeeds();
        (list.stdout.lines().count() == CASES.len()).then_some(())
    });
    let kinds = "deployments,statefulsets,configmaps,secrets,poddisruptionbudgets,services,serviceaccounts";
    let list: Value = namespace.kubectl("get --output json").arg(kinds).succeeds().json();
    let objects = list["items"].as_array().expect("a list");
    CASES.iter().map(|case| (case.name.to_owned(), flat::builder(case.name, namespace.name(), objects))).collect()
}
