//! What the environment says, and what it may not say.

use std::collections::BTreeMap;

use super::*;

struct Fake {
    vars: BTreeMap<&'static str, &'static str>,
    uid: u32,
    files: &'static [&'static str],
}

impl Environment for Fake {
    fn var(&self, name: &str) -> Option<OsString> {
        self.vars.var(name)
    }

    fn uid(&self) -> u32 {
        self.uid
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.iter().any(|file| Path::new(file) == path)
    }

    fn current_dir(&self) -> Option<PathBuf> {
        Some(PathBuf::from("/work/here"))
    }
}

fn root<const N: usize>(vars: [(&'static str, &'static str); N]) -> Fake {
    Fake { vars: BTreeMap::from(vars), uid: 0, files: &[] }
}

fn user<const N: usize>(vars: [(&'static str, &'static str); N], files: &'static [&'static str]) -> Fake {
    Fake { vars: BTreeMap::from(vars), uid: 1000, files }
}

#[test]
fn sockets_live_where_the_first_of_three_says() {
    for (environment, wanted) in [
        (root([("HOME", "/root"), ("BUILDFLEET_RUNTIME_DIR", "/a"), ("XDG_RUNTIME_DIR", "/b")]), "/a"),
        (root([("HOME", "/root"), ("BUILDFLEET_RUNTIME_DIR", ""), ("XDG_RUNTIME_DIR", "/b")]), "/b/buildfleet"),
        (root([("HOME", "/root")]), "/run/buildfleet"),
        (root([("HOME", "/root"), ("XDG_RUNTIME_DIR", "relative")]), "/run/buildfleet"),
        (user([("HOME", "/home/u")], &["/run/user/1000"]), "/run/user/1000/buildfleet"),
    ] {
        assert_eq!(Settings::read(&environment).unwrap().runtime_dir(), Path::new(wanted));
    }
}

#[test]
fn a_pod_is_told_where_its_api_server_is() {
    for (host, port, wanted) in [
        ("10.96.0.1", "443", Some("https://10.96.0.1:443")),
        ("api.example", "6443", Some("https://api.example:6443")),
        ("fd00::1", "443", Some("https://[fd00::1]:443")),
        ("", "443", None),
        ("10.96.0.1", "", None),
    ] {
        let environment =
            root([("HOME", "/root"), ("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)]);
        assert_eq!(Settings::read(&environment).unwrap().kubernetes_service(), wanted);
    }
}

#[test]
fn state_lives_where_the_first_of_three_says() {
    for (environment, wanted) in [
        (root([("HOME", "/root"), ("BUILDFLEET_STATE_DIR", "/a"), ("XDG_STATE_HOME", "/b")]), "/a"),
        (root([("HOME", "/root"), ("XDG_STATE_HOME", "/b")]), "/b/buildfleet"),
        (root([("HOME", "/root")]), "/root/.local/state/buildfleet"),
    ] {
        assert_eq!(Settings::read(&environment).unwrap().state_dir(), Path::new(wanted));
    }
}

#[test]
fn an_environment_that_says_too_little_or_too_much_is_refused() {
    for (environment, wanted) in [
        (user([("HOME", "/home/u")], &[]), SettingsError::RuntimeDir(RuntimeDirError::None)),
        (root([]), SettingsError::NoStateDir),
        (
            root([("HOME", "/root"), ("BUILDFLEET_RUNTIME_DIR", "run")]),
            SettingsError::RuntimeDir(RuntimeDirError::Relative("run".into())),
        ),
        (
            root([("BUILDFLEET_STATE_DIR", "./state")]),
            SettingsError::Relative { variable: "BUILDFLEET_STATE_DIR", value: "./state".into() },
        ),
        (root([("HOME", "/root"), ("BUILDFLEET_LOG_FORMAT", "xml")]), SettingsError::LogFormat("xml".into())),
    ] {
        assert_eq!(Settings::read(&environment), Err(wanted));
    }
}

#[test]
fn no_two_names_share_a_socket() {
    let settings = Settings::read(&root([("HOME", "/root")])).unwrap();
    let (builder, node) = ("daemon".parse().unwrap(), "daemon".parse().unwrap());
    assert_eq!(settings.control_socket(), Path::new("/run/buildfleet/daemon.sock"));
    assert_eq!(settings.builder_socket(&builder).unwrap(), Path::new("/run/buildfleet/builders/daemon.sock"));
    assert_eq!(settings.node_socket(&node).unwrap(), Path::new("/run/buildfleet/nodes/daemon.sock"));
}

#[test]
fn a_socket_path_that_cannot_be_bound_is_an_error_that_says_what_to_set() {
    let dir: &'static str = Box::leak(format!("/{}", "d".repeat(60)).into_boxed_str());
    let settings = Settings::read(&root([("HOME", "/root"), ("BUILDFLEET_RUNTIME_DIR", dir)])).unwrap();
    let fits = "n".repeat(103 - dir.len() - "/nodes/.sock".len());
    assert_eq!(settings.node_socket(&fits.parse().unwrap()).unwrap().as_os_str().len(), 103);
    let error = settings.node_socket(&format!("{fits}n").parse().unwrap()).unwrap_err().to_string();
    let path = format!("{dir}/nodes/{fits}n.sock");
    assert_eq!(
        error,
        format!(
            "socket path {path} has 104 bytes, at most 103 can be bound: set BUILDFLEET_RUNTIME_DIR to a shorter directory"
        )
    );
}

#[test]
fn a_runtime_directory_too_long_for_the_control_socket_is_refused_at_once() {
    let dir: &'static str = Box::leak(format!("/{}", "d".repeat(100)).into_boxed_str());
    let error = Settings::read(&root([("HOME", "/root"), ("BUILDFLEET_RUNTIME_DIR", dir)])).unwrap_err();
    assert!(matches!(error, SettingsError::SocketPath(_)), "{error}");
}

#[test]
fn kubeconfig_is_absolute_and_in_order() {
    let read = |environment: Fake| Settings::read(&environment).unwrap().kubeconfig().to_vec();
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    let home = ["/run/user/1000", "/home/u/.kube/config"];
    let home: &'static [&'static str] = Box::leak(Box::new(home));
    assert_eq!(
        read(user([("HOME", "/home/u"), ("KUBECONFIG", "/a:b/c::d")], home)),
        paths(&["/a", "/work/here/b/c", "/work/here/d"])
    );
    assert_eq!(read(user([("HOME", "/home/u")], home)), paths(&["/home/u/.kube/config"]));
    assert_eq!(read(user([("HOME", "/home/u")], &["/run/user/1000"])), paths(&[]));
}

#[test]
fn a_program_is_the_first_executable_file_on_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    for place in [&first, &second] {
        std::fs::create_dir(place).unwrap();
        std::fs::write(place.join("tool"), "").unwrap();
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(second.join("tool"), mode).unwrap();
    let path = std::env::join_paths([&first, &second]).unwrap();
    let vars = BTreeMap::from([("HOME", OsString::from("/root")), ("PATH", path)]);
    let settings = Settings::read(&vars).unwrap();
    assert_eq!(settings.find_program("tool"), Some(second.join("tool")));
    assert_eq!(settings.find_program("other"), None);
}
