//! Installed, installed again and uninstalled, in directories of our own.

use std::fs;
use std::os::unix::fs::symlink;

use buildfleet_shim::plugin::BUILDX;
use buildfleet_shim::plugins::user_dir;
use buildfleet_shim::real::FILE;
use tempfile::TempDir;

use super::*;

/// A user, a real buildx at `real`, and our program.
struct Machine {
    dir: TempDir,
    ourselves: Ourselves,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("lib/docker-buildfleet");
        for name in ["lib", "docker", "system"] {
            fs::create_dir(dir.path().join(name)).expect("ours");
        }
        fs::write(&program, "ours").expect("ours");
        Self { dir, ourselves: Ourselves { program, link_dir: None } }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is below")).expect("ours");
        fs::write(&path, text).expect("ours");
        path
    }

    fn config(&self) -> Config {
        Config::read(self.path("docker")).expect("it is sound")
    }

    /// All that is below docker's configuration and the system's plugins, with what it leads to or holds.
    fn files(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut dirs = vec![self.path("docker"), self.path("system")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).expect("ours") {
                let path = entry.expect("ours").path();
                let name = path.strip_prefix(self.dir.path()).expect("below").display().to_string();
                if let Ok(target) = path.read_link() {
                    found.push((name, target.display().to_string()));
                } else if path.is_dir() {
                    found.push((name, String::new()));
                    dirs.push(path);
                } else {
                    found.push((name, fs::read_to_string(path).expect("text")));
                }
            }
        }
        found.sort();
        found
    }

    fn install(&self, scope: Scope, real: Option<&Path>) -> Result<Vec<Step>, Refusal> {
        let config = self.config();
        let places = Places { config: &config, system_dir: self.path("system"), ourselves: &self.ourselves };
        let real = real.map(|path| Remembered::of(path, "v0.36.0").expect("it is there"));
        let steps = plan::install(&places, scope, real.as_ref())?;
        apply_all(&steps).expect("they can be done");
        Ok(steps)
    }

    fn uninstall(&self, scope: Scope) -> Vec<Step> {
        let config = self.config();
        let places = Places { config: &config, system_dir: self.path("system"), ourselves: &self.ourselves };
        let steps = plan::uninstall(&places, scope);
        apply_all(&steps).expect("they can be done");
        steps
    }

    fn is_first(&self) -> bool {
        plan::first(&self.config()).is_some_and(|first| self.ourselves.is(&first))
    }
}

#[test]
fn a_real_one_elsewhere_leaves_the_user_s_own_directory_to_us() {
    let machine = Machine::new();
    let real = machine.put("usr/docker-buildx", "real");
    machine.put("docker/config.json", "{\n\t\"auths\": {}\n}");
    let before = machine.files();
    machine.install(Scope::User, Some(&real)).expect("nothing is in the way");
    let user_dir = user_dir(&machine.path("docker"));
    assert_eq!(plan::first(&machine.config()), Some(user_dir.join(BUILDX)));
    assert!(machine.is_first() && machine.ourselves.is(&user_dir.join(BUILDFLEET)));
    assert!(Remembered::read(&user_dir).is_some_and(|noted| noted.path() == real && noted.fits()));
    assert_eq!(machine.install(Scope::User, Some(&real)).expect("once more"), []);
    // An upgrade of the real one is noted.
    fs::write(&real, "upgraded").expect("ours");
    let steps = machine.install(Scope::User, Some(&real)).expect("once more");
    assert!(matches!(&steps[..], [Step::Remember { .. }]), "{steps:?}");
    machine.uninstall(Scope::User);
    // docker's directory for plugins is docker's.
    let empty = ("docker/cli-plugins".to_owned(), String::new());
    assert_eq!(machine.files(), [vec![empty], before].concat());
    assert_eq!(machine.uninstall(Scope::User), []);
}

#[test]
fn a_real_one_that_would_win_gets_a_directory_before_it_and_stays_as_it_is() {
    for (real, config) in [
        ("docker/cli-plugins/docker-buildx", "{\n  \"n\": 1.0\n}\n"),
        ("extra/docker-buildx", r#"{"cliPluginsExtraDirs": ["EXTRA"]}"#),
        ("docker/cli-plugins/docker-buildx", ""),
    ] {
        let machine = Machine::new();
        let real = machine.put(real, "real");
        if !config.is_empty() {
            machine.put("docker/config.json", &config.replace("EXTRA", &machine.path("extra").display().to_string()));
        }
        let before = machine.files();
        machine.install(Scope::User, Some(&real)).expect("nothing is in the way");
        let own_dir = machine.path("docker/buildfleet/cli-plugins");
        assert_eq!(machine.config().extra_dirs().first(), Some(&own_dir));
        assert!(machine.is_first() && own_dir.join(BUILDFLEET).is_symlink() && own_dir.join(FILE).is_file());
        assert_eq!(fs::read_to_string(&real).expect("it is there"), "real");
        assert_eq!(machine.install(Scope::User, Some(&real)).expect("once more"), []);
        machine.uninstall(Scope::User);
        assert_eq!(machine.files(), before, "exactly that is taken away");
    }
}

#[test]
fn links_of_ours_move_when_another_directory_comes_to_win() {
    let machine = Machine::new();
    let real = machine.put("usr/docker-buildx", "real");
    machine.install(Scope::User, Some(&real)).expect("nothing is in the way");
    let extra = machine.put("extra/docker-buildx", "real");
    machine.put("docker/config.json", &format!(r#"{{"cliPluginsExtraDirs": [{:?}]}}"#, machine.path("extra")));
    assert!(!machine.is_first());
    machine.install(Scope::User, Some(&extra)).expect("nothing is in the way");
    assert!(machine.is_first() && !machine.path("docker/cli-plugins/docker-buildx").exists());
}

#[test]
fn without_a_real_one_docker_buildfleet_alone_is_installed() {
    let machine = Machine::new();
    machine.install(Scope::User, None).expect("nothing is in the way");
    let names: Vec<String> = machine.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["docker/cli-plugins", "docker/cli-plugins/docker-buildfleet"]);
}

#[test]
fn what_others_put_there_is_in_the_way_and_stays() {
    let machine = Machine::new();
    let real = machine.put("system/docker-buildx", "real");
    let before = machine.files();
    let refused = machine.install(Scope::System, Some(&real)).expect_err("it is taken");
    assert_eq!(
        refused.to_string(),
        format!("{} is a buildx that buildfleet did not install, and stays where it is", real.display())
    );
    assert_eq!(machine.files(), before);
    let file = machine.put("docker/cli-plugins/docker-buildfleet", "somebody's");
    let refused = machine.install(Scope::User, None).expect_err("it is taken");
    assert!(refused.to_string().starts_with(&file.display().to_string()), "{refused}");
    machine.uninstall(Scope::User);
    assert_eq!(fs::read_to_string(file).expect("it is there"), "somebody's");
}

#[test]
fn for_all_users_the_system_s_first_directory_is_taken() {
    let machine = Machine::new();
    let real = machine.put("usr/docker-buildx", "real");
    machine.install(Scope::System, Some(&real)).expect("nothing is in the way");
    assert!(machine.ourselves.is(&machine.path("system/docker-buildx")) && machine.path("system").join(FILE).is_file());
    // What is one user's is not taken away with it.
    machine.install(Scope::User, Some(&real)).expect("nothing is in the way");
    machine.uninstall(Scope::System);
    assert!(machine.is_first() && fs::read_dir(machine.path("system")).expect("ours").next().is_none());
}

#[test]
fn a_link_to_a_program_that_is_gone_is_still_ours() {
    let machine = Machine::new();
    let link = machine.path("docker/cli-plugins/docker-buildx");
    fs::create_dir_all(link.parent().expect("below")).expect("ours");
    symlink("/nonexistent/old/docker-buildfleet", &link).expect("ours");
    let real = machine.put("usr/docker-buildx", "real");
    machine.install(Scope::User, Some(&real)).expect("it is ours");
    assert!(machine.is_first());
    symlink("/nonexistent/other", machine.path("docker/other")).expect("ours");
    machine.uninstall(Scope::User);
    assert!(!link.is_symlink() && machine.path("docker/other").is_symlink());
}

#[test]
fn a_config_json_that_is_a_link_stays_one_with_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    let kept = machine.put("dotfiles/docker.json", "{}");
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o640)).expect("ours");
    symlink(&kept, machine.path("docker/config.json")).expect("ours");
    let real = machine.put("docker/cli-plugins/docker-buildx", "real");
    machine.install(Scope::User, Some(&real)).expect("nothing is in the way");
    assert!(machine.path("docker/config.json").is_symlink() && machine.is_first());
    assert_eq!(kept.metadata().expect("it is there").permissions().mode() & 0o777, 0o640);
    machine.uninstall(Scope::User);
    assert_eq!(fs::read_to_string(kept).expect("it is there"), "{}");
}
