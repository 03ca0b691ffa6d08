//! Which buildx and which plugins of ours docker would run.

use std::path::{Path, PathBuf};

use buildfleet_proto::fleet::finding::Verdict;
use buildfleet_shim::plugin::{BUILDFLEET, BUILDX};
use buildfleet_shim::real::{FILE, Remembered};
use tokio::time::Instant;

use super::find::{Found, VERSION, directories, find};
use crate::settings::{Environment, Settings};

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Seen {
    pub(in crate::cli) subject: &'static str,
    pub(in crate::cli) verdict: Verdict,
    pub(in crate::cli) text: String,
    pub(in crate::cli) hint: String,
}

impl Seen {
    fn new(verdict: Verdict, subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, verdict, text: text.into(), hint: String::new() }
    }
}

/// buildx and its version, and the order in which docker looks for plugins.
pub(in crate::cli) async fn examine(settings: &Settings, environment: &impl Environment) -> Vec<Seen> {
    let tool = match find(settings, environment).await {
        Found::Tool(tool) => {
            let said = tool.call(&["version".to_owned()], Instant::now() + VERSION).await.unwrap_or_default();
            // `github.com/docker/buildx v0.36.0 abcdef`
            let version = said.split_whitespace().nth(1).unwrap_or("of an unknown version");
            Seen::new(Verdict::Works, "docker buildx", format!("{version}, {tool}"))
        }
        Found::Off => Seen::new(Verdict::Note, "docker buildx", "kept out of it by BUILDFLEET_BUILDX=off"),
        Found::Missing => Seen {
            hint: "install docker's buildx, or use buildctl with `buildfleet socket`".to_owned(),
            ..Seen::new(Verdict::Warning, "docker buildx", "not found: builders are registered nowhere but here")
        },
        Found::Wrong(path) => Seen {
            hint: "set it to the path of a docker-buildx or docker, or to `off`".to_owned(),
            ..Seen::new(
                Verdict::Fails,
                "docker buildx",
                format!("BUILDFLEET_BUILDX is {}, which is none", path.display()),
            )
        },
    };
    let directories = directories(environment);
    vec![tool, order(&directories), ours(&directories)]
}

/// The first directory that has a plugin wins.
fn order(directories: &[PathBuf]) -> Seen {
    let having = having(directories, BUILDX);
    let our_dir = having.iter().find(|dir| is_our_plugin(&dir.join(BUILDX)));
    match (&having[..], our_dir) {
        ([], _) => Seen::new(Verdict::Note, "plugin order", "no directory for docker's plugins has docker-buildx"),
        ([first, ..], Some(ours)) if first == ours => before(first),
        ([first, ..], Some(ours)) => Seen {
            hint: "`buildfleet install` puts a directory before it".to_owned(),
            ..Seen::new(
                Verdict::Warning,
                "plugin order",
                format!(
                    "docker takes buildx from {}, which hides buildfleet's plugin in {}",
                    first.display(),
                    ours.display()
                ),
            )
        },
        ([one], None) => {
            Seen::new(Verdict::Works, "plugin order", format!("docker finds buildx in {} alone", one.display()))
        }
        ([first, hidden @ ..], None) => {
            let hidden: Vec<String> = hidden.iter().map(|dir| dir.display().to_string()).collect();
            let text =
                format!("docker takes buildx from {}, which hides that in {}", first.display(), hidden.join(", "));
            Seen::new(Verdict::Note, "plugin order", text)
        }
    }
}

/// What our plugin in `dir` hands commands on to, by what `install` has noted beside it.
fn before(dir: &Path) -> Seen {
    let plugin = format!("docker buildx is buildfleet's plugin in {}", dir.display());
    let (verdict, text) = match Remembered::read(dir) {
        Some(real) if real.fits() => {
            (Verdict::Works, format!("{plugin}, which stands before {} ({})", real.path().display(), real.version()))
        }
        Some(real) => (
            Verdict::Warning,
            format!(
                "{plugin}; {} is no longer what its {FILE} says: docker waits longer for the plugin's name",
                real.path().display()
            ),
        ),
        None => (Verdict::Warning, format!("{plugin}, without a {FILE}: it looks for the real one each time")),
    };
    let hint = if verdict == Verdict::Works { "" } else { "run `buildfleet install` again" };
    Seen { hint: hint.to_owned(), ..Seen::new(verdict, "plugin order", text) }
}

/// By the program's name, which a link leads to.
fn is_our_plugin(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|program| program.file_name().is_some_and(|name| name == BUILDFLEET))
}

fn ours(directories: &[PathBuf]) -> Seen {
    let having = having(directories, BUILDFLEET);
    match having.first() {
        Some(first) => Seen::new(Verdict::Works, "docker buildfleet", format!("by the plugin in {}", first.display())),
        None => {
            Seen::new(Verdict::Note, "docker buildfleet", "not installed as a plugin of docker, which nothing needs")
        }
    }
}

fn having<'a>(directories: &'a [PathBuf], plugin: &str) -> Vec<&'a Path> {
    directories.iter().filter(|dir| dir.join(plugin).is_file()).map(PathBuf::as_path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_plugin_hides_the_others() {
        let home = tempfile::tempdir().expect("a directory");
        let dirs: Vec<PathBuf> = ["a", "b", "c"].iter().map(|name| home.path().join(name)).collect();
        assert_eq!(order(&dirs).verdict, Verdict::Note);
        let put = |dir: &PathBuf, name: &str| {
            std::fs::create_dir_all(dir).expect("ours");
            std::fs::write(dir.join(name), "").expect("ours");
        };
        put(&dirs[1], "docker-buildx");
        assert_eq!((order(&dirs).verdict, ours(&dirs).verdict), (Verdict::Works, Verdict::Note));
        put(&dirs[0], "docker-buildx");
        put(&dirs[2], "docker-buildfleet");
        let text = order(&dirs).text;
        assert!(
            text.contains(&format!("from {}, which hides that in {}", dirs[0].display(), dirs[1].display())),
            "{text}"
        );
        assert_eq!(ours(&dirs).verdict, Verdict::Works);
    }
    #[test]
    fn our_plugin_is_told_by_where_it_stands_and_what_it_stands_before() {
        use std::os::unix::fs::symlink;
        let home = tempfile::tempdir().expect("a directory");
        let dirs: Vec<PathBuf> = ["first", "second"].iter().map(|name| home.path().join(name)).collect();
        dirs.iter().for_each(|dir| std::fs::create_dir(dir).expect("ours"));
        let (program, real) = (home.path().join(BUILDFLEET), dirs[1].join(BUILDX));
        std::fs::write(&program, "").expect("ours");
        std::fs::write(&real, "one").expect("ours");
        symlink(&program, dirs[0].join(BUILDX)).expect("ours");
        let told = |dirs: &[PathBuf]| {
            let seen = order(dirs);
            (seen.verdict, seen.text, seen.hint)
        };
        let (verdict, text, hint) = told(&dirs);
        assert!(verdict == Verdict::Warning && text.contains("without a buildfleet.json"), "{text}");
        assert_eq!(hint, "run `buildfleet install` again");
        let noted = Remembered::of(&real, "v0.36.0").expect("it is there").to_json().expect("text");
        std::fs::write(dirs[0].join(FILE), noted).expect("ours");
        let (verdict, text, hint) = told(&dirs);
        let wanted = format!("which stands before {} (v0.36.0)", real.display());
        assert!(verdict == Verdict::Works && text.ends_with(&wanted) && hint.is_empty(), "{text}");
        std::fs::write(&real, "another").expect("ours");
        let (verdict, text, _) = told(&dirs);
        assert!(verdict == Verdict::Warning && text.contains("is no longer what its buildfleet.json says"), "{text}");
        let (verdict, text, hint) = told(&[dirs[1].clone(), dirs[0].clone()]);
        assert!(verdict == Verdict::Warning && text.contains("which hides buildfleet's plugin in"), "{text}");
        assert!(hint.contains("buildfleet install"), "{hint}");
    }
}
