//! Command lines of `buildkitd`, as tables.

use std::path::PathBuf;

use super::*;

fn places() -> Places {
    Places::new("lap-0".parse().unwrap(), 0, Path::new("/s/lap"), Path::new("/r/lap"))
}

fn programs(runtime: bool) -> Programs {
    let runtime = runtime.then(|| PathBuf::from("/b/runc"));
    Programs { buildkitd: "/b/buildkitd".into(), runtime, path: "/b".into() }
}

fn root() -> Launch {
    Launch::Root { unshare: "/b/unshare".into(), programs: programs(true) }
}

fn rootless() -> Launch {
    Launch::Rootless { rootlesskit: "/b/rootlesskit".into(), programs: programs(true) }
}

fn words(flags: &[&str]) -> Vec<String> {
    flags.iter().map(ToString::to_string).collect()
}

fn line(launch: &Launch, flags: &[&str]) -> String {
    let line = command_line(launch, &places(), &words(flags), &["/self".into(), "child".into()], 7);
    line.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
}

const OURS: &str = "/b/buildkitd --root /s/lap/0/root --addr unix:///r/lap/0.sock --otel-socket-path /r/lap/0.otel \
     --config /dev/null --oci-worker true --containerd-worker false --oci-cni-config-path /s/lap/0/cni.json \
     --cdi-spec-dir /etc/cdi --cdi-spec-dir /var/run/cdi --oci-worker-binary /b/runc";

#[test]
fn root_runs_buildkitd_in_namespaces_of_its_own() {
    let wanted = format!(
        "/self child --parent 7 -- /b/unshare --mount --propagation slave --pid --fork --kill-child=SIGKILL --mount-proc -- {OURS}"
    );
    assert_eq!(line(&root(), &[]), wanted);
}

#[test]
fn others_run_it_by_rootlesskit() {
    let wanted = format!(
        "/self child --parent 7 -- /b/rootlesskit --net=host --copy-up=/etc --pidns --state-dir=/r/lap/0.run/kit {OURS}"
    );
    assert_eq!(line(&rootless(), &[]), wanted);
    let no_sandbox = line(&rootless(), &["--oci-worker-no-process-sandbox"]);
    assert!(
        !no_sandbox.contains("--pidns") && no_sandbox.ends_with(" --oci-worker-no-process-sandbox"),
        "{no_sandbox}"
    );
}

#[test]
fn the_nodes_flags_come_last_and_take_the_place_of_ours() {
    assert_eq!(line(&root(), &["--debug"]), format!("{} --debug", line(&root(), &[])));
    for (flags, ours) in [
        (&["--config", "/etc/buildkit/buildkitd.toml"][..], "--config /dev/null"),
        (&["--config=/x"], "--config /dev/null"),
        (&["-config=/x"], "--config /dev/null"),
        (&["--containerd-worker=true"], "--containerd-worker false"),
        (&["--oci-worker=false"], "--oci-worker true"),
        (&["--oci-cni-config-path=/etc/buildkit/cni.json"], "--oci-cni-config-path /s"),
        (&["--oci-worker-binary", "crun"], "--oci-worker-binary /b/runc"),
        (&["--cdi-spec-dir", "/x"], "--cdi-spec-dir /etc/cdi"),
    ] {
        assert!(line(&root(), &[]).contains(ours), "{ours}");
        let line = line(&root(), flags);
        assert!(!line.contains(ours) && line.ends_with(&flags.join(" ")), "{line}");
    }
}

#[test]
fn a_flag_is_found_in_each_of_its_spellings() {
    for (flags, value) in [
        (&["--root", "/x"][..], Some("/x")),
        (&["--root=/x"], Some("/x")),
        (&["-root=/x"], Some("/x")),
        (&["--root=/x", "--root", "/y"], Some("/y")),
        (&["--root"], Some("")),
        (&["root", "/x"], None),
        (&["--rootless"], None),
        (&["--roo=t"], None),
        (&[], None),
    ] {
        assert_eq!(flag_value(&words(flags), "root"), value, "{flags:?}");
    }
}

#[test]
fn a_root_of_the_users_own_is_refused() {
    assert_eq!(check_flags(&words(&["--debug", "--addr", "tcp://127.0.0.1:1"])), Ok(()));
    let error = check_flags(&words(&["--root=/x"])).unwrap_err().to_string();
    assert_eq!(error, "buildkitd flag `--root` is set by the local driver and can't be given");
}
