//! What a build is called: by what it was told, and by what buildx remembers of it on this machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::find::Record;
use crate::settings::Environment;

/// What buildx writes down of a build: nobody else knows the path of a local context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct LocalState {
    pub(super) local_path: String,
    pub(super) dockerfile_path: String,
}

/// Where buildx keeps its store.
pub(super) fn store(environment: &impl Environment) -> Option<PathBuf> {
    if let Some(dir) = environment.var("BUILDX_CONFIG") {
        return Some(PathBuf::from(dir));
    }
    let docker = match environment.var("DOCKER_CONFIG") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(&environment.var("HOME")?).join(".docker"),
    };
    Some(docker.join("buildx"))
}

/// What is remembered of a build; nothing of one that another machine or another client has made.
pub(super) fn local_state(store: Option<&Path>, record: &Record) -> Option<LocalState> {
    // What a pod says is no path.
    let id = Some(&record.told.r#ref).filter(|id| !id.is_empty() && id.chars().all(char::is_alphanumeric))?;
    let file = store?.join("refs").join(&record.builder).join(&record.node).join(id);
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// buildx's name for a build.
pub(super) fn name(attrs: &HashMap<String, String>, state: Option<&LocalState>) -> String {
    let attr = |key: &str| attrs.get(key).map(String::as_str).filter(|value| !value.is_empty());
    if let Some(given) = attr("build-arg:BUILDKIT_BUILD_NAME") {
        return given.to_owned();
    }
    let context = attr("context").or_else(|| attr("vcs:localdir:context").filter(|dir| *dir != "."));
    let mut name = match context {
        Some(context) => context.to_owned(),
        None => of_files(attrs, state),
    };
    if let Some(target) = attr("target") {
        name = if name.is_empty() { target.to_owned() } else { format!("{name} ({target})") };
    }
    if name.is_empty() {
        let source = attr("vcs:source").or_else(|| attr("input:context").filter(|url| url.contains("://")));
        name = source.unwrap_or_default().to_owned();
    }
    name
}

/// By the directory of the context, or by a Dockerfile that is not where it usually is.
fn of_files(attrs: &HashMap<String, String>, state: Option<&LocalState>) -> String {
    let mut file = attrs.get("filename").filter(|name| *name != "Dockerfile").cloned().unwrap_or_default();
    if let Some(dir) = attrs.get("vcs:localdir:dockerfile").filter(|dir| *dir != ".") {
        file = if file.is_empty() { dir.clone() } else { format!("{}/{file}", dir.trim_end_matches('/')) };
    }
    let mut directory = "";
    if let Some(state) = state.filter(|state| !state.local_path.contains("://")) {
        let said = |text: &str| !matches!(text, "" | "-");
        if said(&state.local_path) {
            directory = &state.local_path;
        }
        if said(&state.dockerfile_path) && state.dockerfile_path != "Dockerfile" {
            file.clone_from(&state.dockerfile_path);
        }
    }
    let usual = file.is_empty() || file.ends_with("/Dockerfile");
    let file = file.strip_suffix("/Dockerfile").unwrap_or(&file);
    let after_slash = |text: &str| text.rfind('/').map_or(0, |at| at + 1);
    if file.starts_with(directory) && file.len() > directory.len() {
        return file[after_slash(directory)..].to_owned();
    }
    let path = if file.is_empty() { directory } else { file };
    let (parent, last) = path.split_at(after_slash(path));
    if usual || path.is_empty() {
        return last.to_owned();
    }
    let parent = parent.trim_end_matches('/');
    format!("{}/{last}", if parent.is_empty() { path } else { &parent[after_slash(parent)..] })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use buildfleet_proto::buildkit::BuildHistoryRecord;

    use super::super::find::tests::record;
    use super::*;

    #[test]
    fn names_are_buildx_s() {
        let state = |path: &str, file: &str| Some(LocalState { local_path: path.into(), dockerfile_path: file.into() });
        for (attrs, state, wanted) in [
            (&[][..], None, ""),
            (&[("build-arg:BUILDKIT_BUILD_NAME", "mine"), ("target", "x")], None, "mine"),
            (&[("target", "app")], None, "app"),
            (&[("context", "https://github.com/team/app.git")], None, "https://github.com/team/app.git"),
            (&[("vcs:source", "https://github.com/team/app.git")], None, "https://github.com/team/app.git"),
            (&[], state("/home/u/app", "/home/u/app/Dockerfile"), "app"),
            (&[("target", "test")], state("/home/u/app", "/home/u/app/Dockerfile"), "app (test)"),
            (&[], state("/home/u/app", "/home/u/app/sub/Dockerfile"), "app/sub"),
            (&[], state("/home/u/app", "/home/u/app/dev.Dockerfile"), "app/dev.Dockerfile"),
            (&[], state("/home/u/app", "/elsewhere/docker/dev.Dockerfile"), "docker/dev.Dockerfile"),
            (&[("vcs:localdir:context", "sub")], state("/home/u/app", ""), "sub"),
            (&[], state("https://x/y.git", ""), ""),
        ] {
            let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(name(&attrs, state.as_ref()), wanted, "{attrs:?} {state:?}");
        }
    }

    #[test]
    fn what_buildx_remembers_is_found_by_builder_node_and_id() {
        let home = tempfile::tempdir().expect("a directory");
        let environment: BTreeMap<&str, PathBuf> = [("DOCKER_CONFIG", home.path().join("docker"))].into();
        let store = store(&environment).expect("it is below docker's");
        let dir = store.join("refs/kube/kube0");
        std::fs::create_dir_all(&dir).expect("ours");
        std::fs::write(dir.join("abc"), r#"{"Target":"default","LocalPath":"/app","GroupRef":"g"}"#).expect("ours");
        let state = |id| local_state(Some(&store), &record(id, "kube0", BuildHistoryRecord::default()));
        assert_eq!(state("abc").expect("it is there").local_path, "/app");
        assert_eq!(state("../kube0/abc"), None);
        assert_eq!(state("abd"), None);
    }
}
