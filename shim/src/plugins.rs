//! Where docker looks for plugins, in its order.

use std::path::{Path, PathBuf};

use crate::docker::Config;

/// For all users of a machine.
pub const SYSTEM_DIRS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// The first of them that has a plugin wins. docker's own comments put the user's directory first; its code does not.
#[must_use]
pub fn directories(config: &Config) -> Vec<PathBuf> {
    let extra = config.extra_dirs().iter().cloned();
    extra.chain([user_dir(config.dir())]).chain(SYSTEM_DIRS.map(PathBuf::from)).collect()
}

/// The user's own plugins.
#[must_use]
pub fn user_dir(config_dir: &Path) -> PathBuf {
    config_dir.join("cli-plugins")
}

/// All files of that name in `directories`, the one that docker runs first. A link that leads nowhere is none.
pub fn candidates<'a>(directories: &'a [PathBuf], file: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    directories.iter().map(move |dir| dir.join(file)).filter(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn extra_directories_come_first_and_the_system_s_last() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("config.json"), r#"{"cliPluginsExtraDirs": ["/b", "/a"]}"#).expect("ours");
        let config = Config::read(dir.path().to_owned()).expect("it is sound");
        let user = dir.path().join("cli-plugins");
        let wanted = ["/b", "/a", user.to_str().expect("text")].into_iter().chain(SYSTEM_DIRS);
        assert_eq!(directories(&config), wanted.map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_link_that_leads_nowhere_wins_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let dirs: Vec<PathBuf> = ["a", "b", "c"].map(|name| dir.path().join(name)).into();
        dirs.iter().for_each(|dir| std::fs::create_dir(dir).expect("ours"));
        symlink("/nonexistent", dirs[0].join("docker-buildx")).expect("ours");
        std::fs::write(dirs[1].join("docker-buildx"), "").expect("ours");
        symlink(dirs[1].join("docker-buildx"), dirs[2].join("docker-buildx")).expect("ours");
        let found: Vec<PathBuf> = candidates(&dirs, "docker-buildx").collect();
        assert_eq!(found, [dirs[1].join("docker-buildx"), dirs[2].join("docker-buildx")]);
    }
}
