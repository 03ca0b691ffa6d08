//! What this program is as a plugin of docker: its names, and what it answers when docker asks who it is.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use serde_json::{Value, json};

/// docker's word for "who are you?".
pub const METADATA: &str = "docker-cli-plugin-metadata";

/// docker sets it for its plugins, and buildx takes itself for a program of its own without it.
pub const BY_DOCKER: &str = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND";

/// By which copies of this program know each other, of whatever version.
pub const VENDOR: &str = "The buildfleet authors";

/// The plugin that stands before docker's own.
pub const BUILDX: &str = "docker-buildx";

/// `buildfleet`, as a word of docker's.
pub const BUILDFLEET: &str = "docker-buildfleet";

/// What this program is, by the name that it was called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    Buildfleet,
    Buildx,
}

impl Plugin {
    #[must_use]
    pub fn called(argv0: &OsStr) -> Option<Self> {
        match Path::new(argv0).file_stem()?.to_str()? {
            BUILDFLEET => Some(Self::Buildfleet),
            BUILDX => Some(Self::Buildx),
            _ => None,
        }
    }

    /// One line of JSON, which says that it has `version`.
    #[must_use]
    pub fn metadata(self, version: &str) -> String {
        let description = match self {
            Self::Buildfleet => "Builds on a fleet of BuildKit pods",
            // docker's own, whose place it takes in lists.
            Self::Buildx => "Docker Buildx",
        };
        json!({
            "SchemaVersion": "0.1.0",
            "Vendor": VENDOR,
            "Version": version,
            "ShortDescription": description,
        })
        .to_string()
    }
}

/// Our own.
pub const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// What a plugin says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    pub vendor: String,
    pub version: String,
}

impl Metadata {
    /// `None` for what is no answer of a plugin.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(text).ok()?;
        let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let metadata = Self { vendor: text("Vendor"), version: text("Version") };
        (!metadata.vendor.is_empty()).then_some(metadata)
    }

    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.vendor == VENDOR
    }
}

/// Commands that buildx has and `buildfleet` has not.
const BUILDX_ALONE: [&str; 8] = ["build", "b", "bake", "f", "dap", "debug", "imagetools", "policy"];

/// docker hands on its whole command line: its own global flags, the plugin's name, then what is meant for it. All is
/// meant for it when the name is not there: then it was not docker who called.
#[must_use]
pub fn buildfleet_s(mut args: Vec<OsString>) -> Vec<OsString> {
    match name_in(&args) {
        Some(name) => args.split_off(name + 1),
        None => args,
    }
}

/// The command line for buildx, when `docker buildfleet` is given a command that only buildx has: so that it can be
/// docker's builder, to which `docker build` goes.
#[must_use]
pub fn buildx_s(args: &[OsString]) -> Option<Vec<OsString>> {
    let name = name_in(args);
    let command = args.get(name.map_or(0, |name| name + 1))?;
    BUILDX_ALONE.iter().any(|known| command == known).then(|| {
        let mut args = args.to_vec();
        if let Some(name) = name {
            args[name] = "buildx".into();
        }
        args
    })
}

fn name_in(args: &[OsString]) -> Option<usize> {
    args.iter().position(|arg| arg == "buildfleet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_which_plugin_it_is() {
        for (argv0, wanted) in [
            ("docker-buildfleet", Some(Plugin::Buildfleet)),
            ("/home/u/.docker/cli-plugins/docker-buildfleet", Some(Plugin::Buildfleet)),
            ("docker-buildx", Some(Plugin::Buildx)),
            ("/home/u/.docker/cli-plugins/docker-buildx", Some(Plugin::Buildx)),
            ("docker-compose", None),
            ("", None),
        ] {
            assert_eq!(Plugin::called(OsStr::new(argv0)), wanted, "{argv0}");
        }
    }

    #[test]
    fn metadata_is_what_docker_accepts() {
        for plugin in [Plugin::Buildfleet, Plugin::Buildx] {
            let text = plugin.metadata("v0.36.0");
            let metadata: Value = serde_json::from_str(&text).expect("it is JSON");
            assert_eq!(metadata["SchemaVersion"], "0.1.0");
            let read = Metadata::parse(text.as_bytes()).expect("it is an answer");
            assert!(read.is_ours() && read.version == "v0.36.0", "{read:?}");
        }
        let docker_s = br#"{"SchemaVersion":"0.1.0","Vendor":"Docker Inc.","Version":"v0.36.0"}"#;
        assert!(Metadata::parse(docker_s).is_some_and(|read| !read.is_ours()));
        for text in ["", "usage: …", "{}", r#"{"Version":"v1"}"#] {
            assert_eq!(Metadata::parse(text.as_bytes()), None, "{text}");
        }
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
            assert_eq!(buildfleet_s(given), words);
        }
    }
    #[test]
    fn what_only_buildx_has_is_handed_to_it() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (given, wanted) in [
            ("buildfleet build .", Some("buildx build .")),
            ("--context c buildfleet bake buildfleet", Some("--context c buildx bake buildfleet")),
            ("build .", Some("build .")),
            ("buildfleet history ls", None),
            ("buildfleet ls build", None),
            ("buildfleet", None),
            ("ls", None),
        ] {
            assert_eq!(buildx_s(&words(given)), wanted.map(words), "{given}");
        }
    }
}
