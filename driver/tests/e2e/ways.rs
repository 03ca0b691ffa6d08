//! Every way in which stock clients use a builder of the cluster, and what comes out of each.
//!
//! Each file has one way, for any builder; the tests here say which pods it is shown on. One builder serves several ways: what
//! one of them leaves behind must not help another.

use std::fs;

use crate::support::builder::Builder;
use crate::support::scene::Scene;
use crate::support::service::Registry;
use crate::support::tools::cluster;

mod agent;
mod attestations;
mod bake;
mod cache;
mod calls;
mod contexts;
mod definition;
mod errors;
mod files;
mod frontend;
mod git;
pub(crate) mod load;
mod monitor;
mod pods;
mod policy;
mod push;
mod rights;
mod secrets;

/// A builder of one pod, which is ready.
fn one_pod<'a>(scene: &'a Scene, name: &'static str, more: &str) -> Builder<'a> {
    let namespace = scene.namespace().name();
    scene.create(name, &format!("--driver kubernetes --bootstrap --driver-opt namespace={namespace} {more}"))
}

/// The same, of a `buildkitd` that is told how to speak to registries: to the cluster's own, and to others.
fn one_pod_that_knows_registries<'a>(scene: &'a Scene, name: &'static str, others: &str, more: &str) -> Builder<'a> {
    let config = scene.path(&format!("{name}.toml"));
    let own = format!("[registry.\"{}\"]\n  http = true\n", cluster().registry);
    fs::write(&config, format!("{own}{others}")).expect("a file of our own");
    one_pod(scene, name, &format!("--buildkitd-config {} {more}", config.display()))
}

#[test]
fn steps_get_secrets_and_keys_and_show_neither() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    secrets::reach_the_step_alone(&scene, &builder);
    agent::signs_for_a_step(&scene, &builder);
}

#[test]
fn clients_are_asked_back_and_look_into_containers() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    policy::decide_about_sources(&scene, &builder);
    monitor::opens_a_shell_in_a_failed_step(&scene, &builder);
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
    contexts::are_archives_behind_a_url(&scene, &builder);
    git::is_cloned_by_the_pod(&scene, &builder);
    definition::runs_without_a_frontend(&scene, &builder);
}

#[test]
fn bakes_and_builds_tell_what_they_made() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    calls::are_answered_without_a_build(&scene, &builder);
    bake::links_targets(&scene, &builder);
    files::name_what_was_pushed(&scene, &builder);
    files::go_to_several_places(&scene, &builder);
    attestations::tell_how_it_came_to_be(&scene, &builder);
}

#[test]
fn errors_are_those_of_stock_buildx() {
    errors::are_told_as_by_stock_buildx(&Scene::local());
}

#[test]
fn images_are_loaded_into_an_engine() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    let by_default = one_pod(&scene, "loading", "--driver-opt default-load=true");
    load::reaches_an_engine(&scene, &builder, &by_default);
    load::fails_without_an_engine_as_in_stock_buildx(&scene);
}

#[test]
fn imagetools_look_at_what_was_pushed() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "");
    push::can_be_looked_at_without_tls(&scene, &builder);
}

#[test]
fn registries_are_spoken_to_as_the_configuration_says() {
    let scene = Scene::kube();
    let registry = Registry::start(&scene.path("registry"));
    let authority = registry.authority().display().to_string();
    let known = format!("[registry.\"{}\"]\n  ca = [\"{authority}\"]\n", registry.host());
    let builder = one_pod_that_knows_registries(&scene, "ways", &known, "");
    push::needs_the_password_and_the_authority(&scene, &builder, &registry);
    attestations::tell_what_is_in_it(&scene, &builder);
    frontend::comes_from_a_registry(&scene, &builder);
    let stranger = one_pod_that_knows_registries(&scene, "stranger", "", "");
    push::fails_without_the_authority(&scene, &stranger, &registry);
}

#[test]
fn two_nodes_push_one_image_to_a_registry_with_its_own_authority() {
    let scene = Scene::kube();
    let registry = Registry::start(&scene.path("registry"));
    let authority = registry.authority().display().to_string();
    let known = format!("[registry.\"{}\"]\n  ca = [\"{authority}\"]\n", registry.host());
    let builder = one_pod_that_knows_registries(&scene, "ways", &known, "--platform linux/amd64");
    one_pod_that_knows_registries(&scene, "ways", &known, "--append --platform linux/arm64");
    push::merges_what_two_nodes_built(&scene, &builder, &registry);
}

#[test]
fn rootless_pods_serve_the_same_ways() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "--driver-opt rootless=true,transport=exec");
    secrets::reach_the_step_alone(&scene, &builder);
    agent::signs_for_a_step(&scene, &builder);
    cache::survives_in_a_registry(&scene, &builder);
    contexts::are_layouts(&scene, &builder);
    git::is_cloned_by_the_pod(&scene, &builder);
    definition::runs_without_a_frontend(&scene, &builder);
    bake::links_targets(&scene, &builder);
    files::name_what_was_pushed(&scene, &builder);
}

#[test]
fn pods_with_users_of_their_own_serve_the_same_ways() {
    let scene = Scene::kube();
    let builder = one_pod(&scene, "ways", "--driver-opt hostusers=false,transport=port-forward");
    pods::have_users_of_their_own(&scene, &builder);
    secrets::reach_the_step_alone(&scene, &builder);
    cache::survives_in_a_registry(&scene, &builder);
    git::is_cloned_by_the_pod(&scene, &builder);
    files::name_what_was_pushed(&scene, &builder);
}

#[test]
fn a_cache_outlives_its_pod_on_a_volume_and_not_in_memory() {
    let scene = Scene::kube();
    pods::keep_their_cache_on_a_volume(&scene);
    pods::lose_their_cache_in_memory(&scene);
}
