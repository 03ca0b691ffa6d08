//! Which buildx and which plugins of ours docker would run.

use std::path::{Path, PathBuf};

use buildfleet_proto::fleet::finding::Verdict;
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
    let having = having(directories, "docker-buildx");
    match &having[..] {
        [] => Seen::new(Verdict::Note, "plugin order", "no directory for docker's plugins has docker-buildx"),
        [one] => Seen::new(Verdict::Works, "plugin order", format!("docker finds buildx in {} alone", one.display())),
        [first, hidden @ ..] => {
            let hidden: Vec<String> = hidden.iter().map(|dir| dir.display().to_string()).collect();
            let text =
                format!("docker takes buildx from {}, which hides that in {}", first.display(), hidden.join(", "));
            Seen::new(Verdict::Note, "plugin order", text)
        }
    }
}

fn ours(directories: &[PathBuf]) -> Seen {
    let having = having(directories, "docker-buildfleet");
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
}
