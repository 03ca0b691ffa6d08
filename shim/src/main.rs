//! The docker CLI plugin: `docker buildfleet …` runs `buildfleet …`.
//!
//! One program for every plugin that buildfleet has; the name that it was called by says which. It answers docker's
//! question for metadata, which docker asks for every `docker help`, before it looks at anything else.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// docker's word for "who are you?".
const METADATA: &str = "docker-cli-plugin-metadata";

/// The program that does the work.
const PROGRAM: &str = "buildfleet";

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    let Some(plugin) = Plugin::called(&called) else {
        eprintln!("error: this program is called {}, and only knows itself as docker-buildfleet", called.display());
        return ExitCode::from(2);
    };
    if args.first().is_some_and(|arg| arg == METADATA) {
        println!("{}", plugin.metadata());
        return ExitCode::SUCCESS;
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(PROGRAM)));
    let Some(program) = beside.filter(|file| file.is_file()).or_else(|| on_path(std::env::var_os("PATH"))) else {
        eprintln!("error: found no `{PROGRAM}` beside this plugin or on PATH");
        eprintln!("hint: install it beside the plugin, or add its directory to PATH");
        return ExitCode::from(127);
    };
    // Only comes back when it failed.
    let error = Command::new(&program).args(plugin.arguments(args)).exec();
    eprintln!("error: failed to run {}: {error}", program.display());
    ExitCode::from(126)
}

/// What this program is, by the name that it was called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plugin {
    Buildfleet,
}

impl Plugin {
    fn called(argv0: &OsStr) -> Option<Self> {
        match Path::new(argv0).file_stem()?.to_str()? {
            "docker-buildfleet" => Some(Self::Buildfleet),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Buildfleet => "buildfleet",
        }
    }

    fn metadata(self) -> String {
        let description = match self {
            Self::Buildfleet => "Builds on a fleet of BuildKit pods",
        };
        serde_json::json!({
            "SchemaVersion": "0.1.0",
            "Vendor": "The buildfleet authors",
            "Version": concat!("v", env!("CARGO_PKG_VERSION")),
            "ShortDescription": description,
        })
        .to_string()
    }

    /// docker hands on its whole command line: its own global flags, the plugin's name, then what is meant for it. All
    /// is meant for it when the name is not there: then it was not docker who called.
    fn arguments(self, mut args: Vec<OsString>) -> Vec<OsString> {
        match args.iter().position(|arg| arg == self.name()) {
            Some(name) => args.split_off(name + 1),
            None => args,
        }
    }
}

fn on_path(path: Option<OsString>) -> Option<PathBuf> {
    std::env::split_paths(&path?).map(|dir| dir.join(PROGRAM)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_which_plugin_it_is() {
        for (argv0, wanted) in [
            ("docker-buildfleet", Some(Plugin::Buildfleet)),
            ("/root/.docker/cli-plugins/docker-buildfleet", Some(Plugin::Buildfleet)),
            ("docker-buildx", None),
            ("", None),
        ] {
            assert_eq!(Plugin::called(OsStr::new(argv0)), wanted, "{argv0}");
        }
    }

    #[test]
    fn metadata_is_what_docker_accepts() {
        let metadata: serde_json::Value = serde_json::from_str(&Plugin::Buildfleet.metadata()).expect("it is JSON");
        assert_eq!(metadata["SchemaVersion"], "0.1.0");
        assert_eq!(metadata["Vendor"], "The buildfleet authors");
        assert!(metadata["Version"].as_str().is_some_and(|version| version.starts_with('v')));
    }

    #[test]
    fn docker_s_own_words_are_not_handed_on() {
        for (given, wanted) in [
            ("buildfleet ls --no-trunc", "ls --no-trunc"),
            ("--context remote buildfleet ls", "ls"),
            ("buildfleet inspect buildfleet", "inspect buildfleet"),
            ("buildfleet", ""),
            ("ls", "ls"),
        ] {
            let given = given.split(' ').map(OsString::from).collect();
            let words: Vec<_> = wanted.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
            assert_eq!(Plugin::Buildfleet.arguments(given), words);
        }
    }
}
