//! Finds the real docker buildx, which may be a plugin of docker or a program of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tool::Tool;
use crate::settings::{Environment, Settings};

/// A path, or `off`.
const VARIABLE: &str = "BUILDFLEET_BUILDX";

/// How long one candidate may take to say its version.
pub(super) const VERSION: Duration = Duration::from_secs(5);

/// Where docker looks for plugins, after the user's own directory.
const PLUGIN_DIRS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

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
    for tool in candidates(on_path("docker"), on_path("docker-buildx"), user_plugins(environment)) {
        if tool.is_buildx(VERSION).await {
            return Found::Tool(tool);
        }
    }
    Found::Missing
}

/// In the order in which they are tried: what the user's own `docker buildx` is comes first.
fn candidates(docker: Option<PathBuf>, buildx: Option<PathBuf>, user_plugins: Option<PathBuf>) -> Vec<Tool> {
    let plugins = in_order(user_plugins).map(|dir| dir.join("docker-buildx"));
    docker.into_iter().chain(buildx).chain(plugins).map(Tool::at).collect()
}

/// Where docker looks for plugins, in its order.
pub(super) fn directories(environment: &impl Environment) -> Vec<PathBuf> {
    in_order(user_plugins(environment)).collect()
}

fn in_order(user_plugins: Option<PathBuf>) -> impl Iterator<Item = PathBuf> {
    user_plugins.into_iter().chain(PLUGIN_DIRS.map(PathBuf::from))
}

fn user_plugins(environment: &impl Environment) -> Option<PathBuf> {
    let config: Option<OsString> = environment.var("DOCKER_CONFIG");
    let dir = match config {
        Some(config) => PathBuf::from(config),
        None => Path::new(&environment.var("HOME")?).join(".docker"),
    };
    Some(dir.join("cli-plugins"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_plugin_of_docker_comes_first_and_a_lone_plugin_is_found_too() {
        let found: Vec<String> = candidates(
            Some("/usr/bin/docker".into()),
            Some("/usr/bin/docker-buildx".into()),
            Some("/home/u/.docker/cli-plugins".into()),
        )
        .iter()
        .map(Tool::to_string)
        .collect();
        assert_eq!(
            found[..4],
            [
                "/usr/bin/docker buildx",
                "/usr/bin/docker-buildx",
                "/home/u/.docker/cli-plugins/docker-buildx",
                "/usr/local/lib/docker/cli-plugins/docker-buildx"
            ]
        );
    }

    #[test]
    fn the_user_s_plugins_are_below_docker_s_configuration() {
        for (variables, wanted) in [
            (vec![("DOCKER_CONFIG", "/d"), ("HOME", "/h")], Some("/d/cli-plugins")),
            (vec![("HOME", "/h")], Some("/h/.docker/cli-plugins")),
            (vec![], None),
        ] {
            let environment: BTreeMap<&str, &str> = variables.into_iter().collect();
            assert_eq!(user_plugins(&environment), wanted.map(PathBuf::from));
        }
    }
}
