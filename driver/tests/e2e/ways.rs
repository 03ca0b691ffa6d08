//! Every way in which stock clients use a builder of the cluster, and what comes out of each.
//!
//! Each file has one way, for any builder; the tests here say which pods it is shown on. One builder serves several ways: what
//! one of them leaves behind must not help another.

use crate::support::builder::Builder;
use crate::support::scene::Scene;

mod agent;
mod attestations;
mod bake;
mod cache;
mod contexts;
mod definition;
mod files;
mod git;
mod load;
mod push;
mod rights;
mod secrets;

/// A builder of one pod, which is ready.
fn one_pod<'a>(scene: &'a Scene, name: &'static str, more: &str) -> Builder<'a> {
    let namespace = scene.namespace().name();
    scene.create(
        name,
        &format!("--driver kubernetes --bootstrap --driver-opt namespace={namespace}")
            .replace("--driver-opt namespace", &format!("{more} --driver-opt namespace")),
    )
}

#[test]
fn steps_get_secrets_and_keys_and_show_neither() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    secrets::reach_the_step_alone(&scene, &builder);
    agent::signs_for_a_step(&scene, &builder);
}

#[test]
fn steps_get_rights_that_were_asked_for_and_allowed() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    rights::are_refused_unless_asked_for(&scene, &builder);
    let flags = "--buildkitd-flags --allow-insecure-entitlement=security.insecure";
    let generous = one_pod(&scene, "generous", flags);
    rights::are_given_when_the_daemon_allows_them(&scene, &generous);
}

#[test]
fn caches_are_written_and_read_in_a_registry_and_in_a_directory() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    cache::survives_in_a_registry(&scene, &builder);
    cache::survives_in_a_directory(&scene, &builder);
}

#[test]
fn contexts_come_from_directories_pipes_layouts_repositories_and_definitions() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    contexts::have_names(&scene, &builder);
    contexts::are_layouts(&scene, &builder);
    contexts::come_through_a_pipe(&scene, &builder);
    git::is_cloned_by_the_pod(&scene, &builder);
    definition::runs_without_a_frontend(&scene, &builder);
}

#[test]
fn bakes_and_builds_tell_what_they_made() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    bake::links_targets(&scene, &builder);
    files::name_what_was_pushed(&scene, &builder);
    attestations::tell_how_it_came_to_be(&scene, &builder);
}

#[test]
fn images_are_loaded_into_an_engine() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    load::reaches_an_engine(&scene, &builder);
    load::fails_without_an_engine_as_in_stock_buildx(&scene);
}

#[test]
fn imagetools_look_at_what_was_pushed() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    push::can_be_looked_at_without_tls(&scene, &builder);
}

#[test]
fn rootless_pods_serve_the_same_ways() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "--driver-opt rootless=true");
    secrets::reach_the_step_alone(&scene, &builder);
    agent::signs_for_a_step(&scene, &builder);
    rights::are_refused_unless_asked_for(&scene, &builder);
    cache::survives_in_a_registry(&scene, &builder);
    contexts::have_names(&scene, &builder);
    contexts::are_layouts(&scene, &builder);
    git::is_cloned_by_the_pod(&scene, &builder);
    definition::runs_without_a_frontend(&scene, &builder);
    bake::links_targets(&scene, &builder);
    files::name_what_was_pushed(&scene, &builder);
}
