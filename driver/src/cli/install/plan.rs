//! What has to be done so that docker runs our plugins, or no longer does: looks, and changes nothing.

use std::path::{Path, PathBuf};

use buildfleet_shim::docker::Config;
use buildfleet_shim::plugin::{BUILDFLEET, BUILDX};
use buildfleet_shim::plugins::{candidates, directories, user_dir};
use buildfleet_shim::real::{FILE, Ourselves, Remembered};

/// Whose plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    User,
    System,
}

/// Why nothing is done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{} is a buildx that buildfleet did not install, and stays where it is", .0.display())]
    Taken(PathBuf),
    #[error("{} is there already, and no link that buildfleet made", .0.display())]
    NotALink(PathBuf),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Link { path: PathBuf, target: PathBuf },
    Remember { path: PathBuf, real: Remembered },
    PutFirst { config: PathBuf, dir: PathBuf },
    Remove { path: PathBuf },
    TakeOut { config: PathBuf, dir: PathBuf },
    RemoveDir { path: PathBuf },
}

/// Where things are on this machine.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub(super) config: &'a Config,
    /// For all users.
    pub(super) system_dir: PathBuf,
    pub(super) ourselves: &'a Ourselves,
}

impl Places<'_> {
    /// Put before other directories where the user's own plugins do not come first.
    pub(super) fn own_dir(&self) -> PathBuf {
        self.config.dir().join("buildfleet/cli-plugins")
    }

    fn user_dir(&self) -> PathBuf {
        user_dir(self.config.dir())
    }

    fn is_put_first(&self) -> bool {
        self.config.extra_dirs().contains(&self.own_dir())
    }

    /// Whether another's docker-buildx would be run before one in the user's own directory, or lies there.
    fn user_dir_is_hidden(&self) -> bool {
        let user_dir = self.user_dir();
        let others = self.config.extra_dirs().iter().filter(|dir| **dir != self.own_dir());
        others.chain([&user_dir]).map(|dir| dir.join(BUILDX)).any(|path| path.exists() && !self.is_our_link(&path))
    }

    /// A link to the plugin's program, of this or another version of it.
    pub(super) fn is_our_link(&self, path: &Path) -> bool {
        let target = path.read_link();
        target.is_ok_and(|target| target.file_name().is_some_and(|name| name == BUILDFLEET)) || {
            path.is_symlink() && self.ourselves.is(path)
        }
    }

    /// Where the links belong.
    fn dir(&self, scope: Scope) -> PathBuf {
        match scope {
            Scope::System => self.system_dir.clone(),
            Scope::User if self.is_put_first() || self.user_dir_is_hidden() => self.own_dir(),
            Scope::User => self.user_dir(),
        }
    }
}

/// Without a real buildx, `docker buildfleet` alone is installed.
pub(super) fn install(places: &Places<'_>, scope: Scope, real: Option<&Remembered>) -> Result<Vec<Step>, Refusal> {
    let mut steps = Vec::new();
    let dir = if real.is_some() || scope == Scope::System { places.dir(scope) } else { places.user_dir() };
    let is_own = dir == places.own_dir();
    // What an earlier one made elsewhere.
    if is_own {
        steps.extend(links(places, &places.user_dir()));
    }
    for name in [BUILDFLEET, BUILDX] {
        let path = dir.join(name);
        if name == BUILDX && real.is_none() {
            continue;
        }
        if path.is_symlink() || path.exists() {
            if !places.is_our_link(&path) {
                return Err(if name == BUILDX { Refusal::Taken(path) } else { Refusal::NotALink(path) });
            }
            if path.read_link().is_ok_and(|target| target == places.ourselves.program) {
                continue;
            }
        }
        steps.push(Step::Link { path, target: places.ourselves.program.clone() });
    }
    if let Some(real) = real
        && Remembered::read(&dir).as_ref() != Some(real)
    {
        steps.push(Step::Remember { path: dir.join(FILE), real: real.clone() });
    }
    if is_own && places.config.extra_dirs().first() != Some(&dir) {
        steps.push(Step::PutFirst { config: places.config.file(), dir });
    }
    Ok(steps)
}

pub(super) fn uninstall(places: &Places<'_>, scope: Scope) -> Vec<Step> {
    let dirs = match scope {
        Scope::User => vec![places.own_dir(), places.user_dir()],
        Scope::System => vec![places.system_dir.clone()],
    };
    let mut steps: Vec<Step> = Vec::new();
    // docker first looks elsewhere, then what it looked at goes.
    if scope == Scope::User && places.is_put_first() {
        steps.push(Step::TakeOut { config: places.config.file(), dir: places.own_dir() });
    }
    steps.extend(dirs.iter().flat_map(|dir| links(places, dir)));
    let own_dir = places.own_dir();
    if scope == Scope::User && own_dir.is_dir() {
        steps.push(Step::RemoveDir { path: own_dir.clone() });
        steps.extend(own_dir.parent().map(|path| Step::RemoveDir { path: path.to_owned() }));
    }
    steps
}

/// Takes away what is ours in a directory.
fn links(places: &Places<'_>, dir: &Path) -> Vec<Step> {
    let ours = [BUILDX, BUILDFLEET].map(|name| dir.join(name)).into_iter().filter(|path| places.is_our_link(path));
    let remembered = Remembered::read(dir).map(|_| dir.join(FILE));
    ours.chain(remembered).map(|path| Step::Remove { path }).collect()
}

/// The buildx that docker runs now.
pub(super) fn first(config: &Config) -> Option<PathBuf> {
    let directories = directories(config);
    candidates(&directories, BUILDX).next()
}
