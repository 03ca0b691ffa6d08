//! Finds the real docker buildx, which may be a plugin of docker or a program of its own.

use std::path::PathBuf;
use std::time::Duration;

use buildfleet_shim::docker::{self, Config, Globals};
use buildfleet_shim::plugins;

use super::tool::Tool;
use crate::settings::{Environment, Settings};

/// A path, or `off`.
const VARIABLE: &str = "BUILDFLEET_BUILDX";

/// How long one candidate may take to say its version.
pub(super) const VERSION: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The user does not want it.
    Off,
    Missing,
    /// `$BUILDFLEET_BUILDX` names what is no buildx.
    Wrong(PathBuf),
    Tool(Tool),
}

pub(super) async fn find(settings: &Settings, environment: &impl Environment) -> Found {
    if let Some(given) = environment.var(VARIABLE) {
        if given == "off" {
            return Found::Off;
        }
        let tool = Tool::at(PathBuf::from(given));
        return if tool.is_buildx(VERSION).await { Found::Tool(tool) } else { Found::Wrong(tool.program().to_owned()) };
    }
    let on_path = |name| settings.find_program(name);
    for tool in candidates(on_path("docker"), on_path("docker-buildx"), &directories(environment)) {
        if tool.is_buildx(VERSION).await {
            return Found::Tool(tool);
        }
    }
    Found::Missing
}

/// In the order in which they are tried: what the user's own `docker buildx` is comes first.
fn candidates(docker: Option<PathBuf>, buildx: Option<PathBuf>, directories: &[PathBuf]) -> Vec<Tool> {
    let plugins: Vec<PathBuf> = plugins::candidates(directories, "docker-buildx").collect();
    let known = docker.clone().zip(plugins.first().cloned()).map(|(docker, plugin)| Tool::with_plugin(docker, plugin));
    known.into_iter().chain(docker.into_iter().chain(buildx).chain(plugins).map(Tool::at)).collect()
}

/// Where docker looks for plugins, in its order.
pub(super) fn directories(environment: &impl Environment) -> Vec<PathBuf> {
    match docker::config_dir(environment, &Globals::default()) {
        // What docker says of a broken config.json, it says itself, and goes on without it.
        Some(dir) => plugins::directories(&Config::read(dir.clone()).unwrap_or_else(|_| Config::without_file(dir))),
        None => plugins::SYSTEM_DIRS.map(PathBuf::from).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_of_docker_comes_first_and_a_lone_plugin_is_found_too() {
        let dir = tempfile::tempdir().unwrap();
        let directories = ["home", "missing", "system"].map(|name| dir.path().join(name));
        let plugins = ["home", "system"].map(|name| dir.path().join(name).join("docker-buildx"));
        for plugin in &plugins {
            std::fs::create_dir(plugin.parent().unwrap()).unwrap();
            std::fs::write(plugin, "").unwrap();
        }
        let [docker, buildx] = ["/usr/bin/docker", "/usr/bin/docker-buildx"].map(PathBuf::from);
        let alone = || [buildx.clone(), plugins[0].clone(), plugins[1].clone()].map(Tool::at);
        let mut wanted = vec![Tool::with_plugin(docker.clone(), plugins[0].clone()), Tool::at(docker.clone())];
        wanted.extend(alone());
        assert_eq!(candidates(Some(docker.clone()), Some(buildx.clone()), &directories), wanted);
        assert_eq!(candidates(None, Some(buildx.clone()), &directories), alone());
        assert_eq!(candidates(Some(docker.clone()), None, &directories[1..2]), [Tool::at(docker)]);
    }
}
