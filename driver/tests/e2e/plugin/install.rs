//! `buildfleet install` and `uninstall`, and what docker makes of it.

use std::fs;

use serde_json::Value;

use super::{DIR, program};
use crate::support::call::Outcome;
use crate::support::scene::Scene;
use crate::support::tools::tools;

/// What docker says of its plugin buildx; there need not be an engine.
fn plugin(scene: &Scene) -> Value {
    let info = scene.shell("docker info --format '{{json .ClientInfo.Plugins}}'").end();
    let plugins: Value = serde_json::from_str(info.stdout.lines().next().unwrap_or_default())
        .unwrap_or_else(|error| panic!("no JSON ({error}): {info}"));
    let plugins = plugins.as_array().cloned().unwrap_or_default();
    plugins.into_iter().find(|plugin| plugin["Name"] == "buildx").unwrap_or_else(|| panic!("no buildx: {info}"))
}

/// What doctor says of the order in which docker looks for plugins.
fn plugin_order(scene: &Scene) -> Value {
    let lines = scene.buildfleet("doctor --format json").end().json_lines();
    lines.into_iter().find(|line| line["Subject"] == "plugin order").expect("it is looked at")
}

fn says_first(outcome: Outcome, scene: &Scene, dir: &str) {
    let link = scene.path(dir).join("docker-buildx");
    outcome.says(&format!("docker buildx is {}, which stands before ", link.display()));
}

#[test]
fn a_real_buildx_among_the_user_s_plugins_gets_a_directory_before_it() {
    let scene = Scene::local();
    let config = scene.path("docker/config.json");
    let written = "{\n\t\"auths\": {},\n\t\"aliases\": {\n\t\t\"builder\": \"buildx\"\n\t}\n}";
    fs::write(&config, written).expect("ours");
    let real = scene.shell("docker buildx version").succeeds();
    let before = plugin(&scene);
    let link = scene.path(DIR).join("docker-buildx");

    scene.buildfleet("install --dry-run").succeeds().says("would: link ").says("would: put ");
    assert_eq!((fs::read_to_string(&config).expect("there").as_str(), link.exists()), (written, false));
    says_first(scene.buildfleet("install").succeeds(), &scene, DIR);
    assert!(fs::read_to_string(&config).expect("there").contains("\"aliases\": {\n\t\t\"builder\": \"buildx\"\n\t}"));

    // docker runs ours, with the version of the real one, which stays where it is.
    let now = plugin(&scene);
    assert_eq!((&now["Path"], &now["Version"]), (&Value::from(link.to_str()), &before["Version"]), "{now}");
    assert_eq!(now["Vendor"], "The buildfleet authors", "{now}");
    assert_eq!(now["ShadowedPaths"][0], before["Path"], "{now}");
    let version = scene.shell("docker buildx version").succeeds();
    assert_eq!(version.stdout, real.stdout);
    assert!(version.stderr.contains("stands before docker buildx") && version.stderr.lines().count() == 1, "{version}");
    scene.shell("docker buildfleet version").succeeds();
    scene.buildfleet("install").succeeds().says("nothing to do");
    let seen = plugin_order(&scene);
    let text = seen["Text"].as_str().expect("a text");
    assert!(seen["Verdict"] == "works" && text.contains(DIR) && text.contains("which stands before"), "{seen}");
    // Noted of a file that is another now: docker is told by the real one, and doctor says what to do.
    let noted = scene.path(DIR).join("buildfleet.json");
    let stale = fs::read_to_string(&noted).expect("there").replace("\"size\": ", "\"size\": 1");
    fs::write(&noted, stale).expect("ours");
    assert_eq!(plugin(&scene)["Vendor"], before["Vendor"]);
    let seen = plugin_order(&scene);
    assert!(seen["Verdict"] == "warning" && seen["Hint"] == "run `buildfleet install` again", "{seen}");
    scene.buildfleet("install").succeeds().says("done: note ");
    assert_eq!(plugin_order(&scene)["Verdict"], "works");

    scene.buildfleet("uninstall").succeeds().says("done: take ");
    assert_eq!(fs::read_to_string(&config).expect("there"), written);
    assert!(!scene.path("docker/buildfleet").exists());
    assert_eq!(plugin(&scene), before);
    scene.buildfleet("uninstall").succeeds().says("nothing to do");
}

#[test]
fn a_directory_that_docker_searches_first_does_not_win() {
    let scene = Scene::local();
    let (config, own) = (scene.path("docker/config.json"), scene.path("docker/cli-plugins/docker-buildx"));
    fs::remove_file(&own).expect("ours");
    // Alone among the user's plugins when the real one is elsewhere.
    says_first(scene.buildfleet("install").succeeds(), &scene, "docker/cli-plugins");
    assert!(!config.exists() && plugin(&scene)["Path"] == own.to_str().expect("text"));
    // As a package manager has it that brings docker's plugins along.
    let extra = scene.path("extra");
    fs::create_dir(&extra).expect("ours");
    std::os::unix::fs::symlink(&tools().docker_buildx, extra.join("docker-buildx")).expect("ours");
    fs::write(&config, format!(r#"{{"cliPluginsExtraDirs": ["{}"], "n": 1.0}}"#, extra.display())).expect("ours");
    assert_eq!(plugin(&scene)["Path"], extra.join("docker-buildx").to_str().expect("text"));
    let order = plugin_order(&scene);
    assert!(order["Verdict"] == "warning" && order["Text"].to_string().contains("which hides buildfleet's plugin in"));
    let done = scene.buildfleet("install --format json").succeeds().json();
    let link = scene.path(DIR).join("docker-buildx");
    assert_eq!((&done["Result"], &done["DryRun"]), (&Value::from("installed"), &Value::from(false)));
    assert_eq!(
        (&done["Plugin"], &done["Buildx"]),
        (&Value::from(link.to_str()), &Value::from(extra.join("docker-buildx").to_str()))
    );
    assert_eq!(plugin(&scene)["Path"], link.to_str().expect("text"));
    scene.buildfleet("uninstall").succeeds();
    assert_eq!(
        fs::read_to_string(&config).expect("there"),
        format!(r#"{{"cliPluginsExtraDirs": ["{}"], "n": 1.0}}"#, extra.display())
    );
    assert!(program().is_file(), "the program itself stays");
    // What docker itself could not read is not written over.
    fs::write(&config, "{").expect("ours");
    for command in ["install", "uninstall"] {
        let said = scene.buildfleet(command).fails().with_code(1);
        assert!(said.stderr.contains(&format!("{} is no JSON", config.display())), "{said}");
    }
    assert_eq!(fs::read_to_string(&config).expect("there"), "{");
}
