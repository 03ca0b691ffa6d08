//! One file of buildx's store in the place of another, while buildx waits: a command of its own would forget which builder is
//! the current one, and there would be a moment without it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use buildfleet_proto::fleet::{Builder, Node};
use buildfleet_shim::store::{Instance, Store, StoreError};
use serde_json::{Value, json};

use crate::cli::files;

/// buildx holds its lock while it asks nodes that may not answer, up to 20 s each.
const LOCK: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(50);

/// Why the store is as before.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ReplaceError {
    #[error("docker buildx has kept its store to itself for {} s", LOCK.as_secs())]
    Locked,
    #[error(transparent)]
    Read(StoreError),
    #[error("docker buildx has changed builder {0} meanwhile")]
    Changed(String),
    #[error("failed to write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What buildx is to know of a builder of ours.
pub(super) fn ours(builder: &Builder, platforms: impl Fn(&Node) -> Vec<String>) -> Value {
    let node = |node: &Node| {
        json!({
            "Name": node.name,
            "Endpoint": format!("unix://{}", node.socket),
            "Platforms": platforms(node).iter().map(|text| platform(text)).collect::<Vec<_>>(),
            "DriverOpts": null,
            "Flags": null,
            "Files": null,
        })
    };
    instance(&builder.name, "remote", &builder.nodes.iter().map(node).collect::<Vec<_>>())
}

pub(in crate::cli) fn instance(name: &str, driver: &str, nodes: &[Value]) -> Value {
    json!({"Name": name, "Driver": driver, "Nodes": nodes, "Dynamic": false})
}

/// `os/arch/variant` as OCI has it.
pub(in crate::cli) fn platform(text: &str) -> Value {
    let mut parts = text.split('/');
    let (os, architecture) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match parts.next() {
        Some(variant) => json!({"architecture": architecture, "os": os, "variant": variant}),
        None => json!({"architecture": architecture, "os": os}),
    }
}

/// Puts `ours` in the place of `instance`, of which the file is kept at `backup`.
pub(super) fn import(store: &Store, instance: &Instance, ours: &Value, backup: &Path) -> Result<(), ReplaceError> {
    let _lock = lock(store)?;
    let path = file(store, &instance.name);
    if store.instance(&instance.name).map_err(ReplaceError::Read)?.as_ref() != Some(instance) {
        return Err(ReplaceError::Changed(instance.name.clone()));
    }
    let wrong = |source| ReplaceError::Write { path: backup.to_owned(), source };
    let before = fs::read(&path).map_err(wrong)?;
    if let Some(dir) = backup.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(wrong)?;
        write(dir, backup, &before)?;
    }
    write(store.dir(), &path, ours.to_string().as_bytes())
}

/// Writes what buildx is to know of a builder; `None`: nothing. Returns what it knew before.
pub(in crate::cli) fn put(store: &Store, name: &str, text: Option<&[u8]>) -> Result<Option<Vec<u8>>, ReplaceError> {
    let _lock = lock(store)?;
    let path = file(store, name);
    let before = match fs::read(&path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(ReplaceError::Write { path, source }),
    };
    match (text, &before) {
        (Some(text), _) => write(store.dir(), &path, text)?,
        (None, Some(_)) => fs::remove_file(&path).map_err(|source| ReplaceError::Write { path, source })?,
        (None, None) => {}
    }
    Ok(before)
}

fn file(store: &Store, name: &str) -> PathBuf {
    store.dir().join("instances").join(name)
}

/// The lock that buildx takes for each command.
fn lock(store: &Store) -> Result<File, ReplaceError> {
    let path = store.dir().join(".lock");
    let failed = |source| ReplaceError::Write { path: path.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(store.dir().join("instances")).map_err(failed)?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    let until = Instant::now() + LOCK;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(ReplaceError::Locked),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

/// Written in `dir`, where buildx looks for no builders, and renamed from there.
fn write(dir: &Path, path: &Path, text: &[u8]) -> Result<(), ReplaceError> {
    let beside = dir.join(format!(".buildfleet-{}", std::process::id()));
    files::replace(path, &beside, text, 0o600).map_err(|source| ReplaceError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use buildfleet_shim::docker::Globals;

    use super::*;

    const THEIRS: &str =
        r#"{"Name":"kube","Driver":"kubernetes","Nodes":[{"Name":"kube0","Endpoint":"kubernetes:///kube"}]}"#;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("instances")).unwrap();
        fs::write(dir.path().join("instances/kube"), THEIRS).unwrap();
        let environment = BTreeMap::from([("BUILDX_CONFIG", dir.path().as_os_str().to_owned())]);
        let store = Store::find(&environment, &Globals::default()).unwrap();
        (dir, store)
    }

    fn builder() -> Builder {
        let node = Node { name: "kube0".into(), socket: "/run/buildfleet/nodes/kube0.sock".into(), ..Node::default() };
        Builder { name: "kube".into(), nodes: vec![node], ..Builder::default() }
    }

    #[test]
    fn what_was_there_is_kept_and_can_be_put_back() {
        let (dir, store) = store();
        let (theirs, backup) = (store.instance("kube").unwrap().unwrap(), dir.path().join("state/imported/kube.json"));
        let ours = ours(&builder(), |_| vec!["linux/arm/v7".to_owned()]);
        import(&store, &theirs, &ours, &backup).unwrap();
        let now = store.instance("kube").unwrap().unwrap();
        assert!(now.is_ours(Path::new("/run/buildfleet")), "{now:?}");
        assert_eq!(now.nodes[0].platforms, ["linux/arm/v7"]);
        assert_eq!(fs::read_to_string(&backup).unwrap(), THEIRS);
        let before = put(&store, "kube", Some(THEIRS.as_bytes())).unwrap().unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&before).unwrap(), ours);
        assert_eq!(store.instance("kube").unwrap().unwrap(), theirs);
        let hidden: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(hidden.iter().all(|name| !name.to_string_lossy().starts_with(".buildfleet")), "{hidden:?}");
    }

    #[test]
    fn what_buildx_has_changed_meanwhile_is_left_alone() {
        let (dir, store) = store();
        let theirs = store.instance("kube").unwrap().unwrap();
        fs::write(dir.path().join("instances/kube"), THEIRS.replace("kube0", "kube7")).unwrap();
        let backup = dir.path().join("kube.json");
        let error = import(&store, &theirs, &ours(&builder(), |_| Vec::new()), &backup).unwrap_err();
        assert!(matches!(&error, ReplaceError::Changed(name) if name == "kube"), "{error}");
        assert!(!backup.exists());
    }
}
