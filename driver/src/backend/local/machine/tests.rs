//! What is found, and what is missing, on machines made for the tests.

use super::*;

fn options(rootless: Option<bool>, buildkitd: Option<PathBuf>) -> LocalOptions {
    LocalOptions { rootless, buildkitd, ..LocalOptions::default() }
}

/// A machine with `programs` in one directory of its PATH, where uid 1000, `user`, may have namespaces.
fn machine(programs: &[&str], root: bool) -> (tempfile::TempDir, Machine) {
    let files = tempfile::tempdir().unwrap();
    for program in programs {
        write(&files, &format!("bin/{program}"), "", 0o755);
    }
    for file in ["etc/subuid", "etc/subgid"] {
        write(&files, file, "other:1:2\nuser:100000:65536\n", 0o644);
    }
    let mut machine = Machine::this().with_programs(vec![files.path().join("bin")], root);
    (machine.uid, machine.user, machine.files) = (1000, Some("user".into()), files.path().to_owned());
    (files, machine)
}

fn write(files: &tempfile::TempDir, name: &str, text: &str, mode: u32) {
    let file = files.path().join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

const ALL: [&str; 6] = ["buildkitd", "runc", "unshare", "rootlesskit", "newuidmap", "newgidmap"];

fn text(error: &ApplyError) -> String {
    format!("{} ({})", crate::report::chain(error), error.hint().unwrap_or_default())
}

#[test]
fn root_gets_namespaces_and_others_get_rootlesskit() {
    let (_files, machine) = machine(&ALL, true);
    assert!(matches!(machine.launch(&options(None, None), &[]), Ok(Launch::Root { .. })));
    assert!(matches!(machine.launch(&options(Some(false), None), &[]), Ok(Launch::Root { .. })));
    let machine = Machine { root: false, ..machine };
    assert!(matches!(machine.launch(&options(None, None), &[]), Ok(Launch::Rootless { .. })));
    assert!(matches!(machine.launch(&options(Some(true), None), &[]), Ok(Launch::Rootless { .. })));
}

#[test]
fn a_wish_that_the_daemons_user_rules_out_is_refused() {
    for (rootless, root, words) in
        [(true, true, "needs a daemon that does not run as root"), (false, false, "it runs as uid 1000")]
    {
        let (_files, machine) = machine(&ALL, root);
        let error = machine.launch(&options(Some(rootless), None), &[]).unwrap_err();
        assert!(text(&error).contains(words), "{}", text(&error));
    }
}

#[test]
fn each_missing_program_is_named_with_a_way_to_get_it() {
    for (missing, root, words) in [
        ("buildkitd", true, "found no `buildkitd` on this machine (install the release archive of BuildKit"),
        ("buildkitd", false, "scripts/cluster build buildkit runc"),
        ("runc", true, "holds it as `buildkit-runc`"),
        ("unshare", true, "apt-get install util-linux"),
        ("rootlesskit", false, "apt-get install rootlesskit"),
        ("newuidmap", false, "apt-get install uidmap"),
        ("newgidmap", false, "found no `newgidmap`"),
    ] {
        let programs: Vec<_> = ALL.into_iter().filter(|program| *program != missing).collect();
        let (_files, machine) = machine(&programs, root);
        let error = machine.launch(&options(None, None), &[]).unwrap_err();
        assert!(text(&error).contains(words), "{}", text(&error));
    }
}

#[test]
fn the_runtime_beside_buildkitd_is_taken_first_and_none_when_the_flags_say_so() {
    let (files, machine) = machine(&ALL, true);
    write(&files, "opt/buildkitd", "", 0o755);
    write(&files, "opt/buildkit-runc", "", 0o755);
    let opt = files.path().join("opt");
    let runtime = |buildkitd: Option<PathBuf>, flags: &[&str]| {
        let flags: Vec<_> = flags.iter().map(ToString::to_string).collect();
        match machine.launch(&options(None, buildkitd), &flags).unwrap() {
            Launch::Root { programs, .. } | Launch::Rootless { programs, .. } => programs.runtime,
        }
    };
    assert_eq!(runtime(None, &[]), Some(files.path().join("bin/runc")));
    assert_eq!(runtime(Some(opt.join("buildkitd")), &[]), Some(opt.join("buildkit-runc")));
    assert_eq!(runtime(None, &["--oci-worker-binary=crun"]), None);
    assert_eq!(runtime(None, &["--oci-worker=false"]), None);
    assert!(runtime(None, &["--oci-worker=true"]).is_some());
}

#[test]
fn the_buildkitd_of_the_option_has_to_be_an_absolute_path_of_a_program() {
    let (files, machine) = machine(&ALL, true);
    write(&files, "plain", "", 0o644);
    for wrong in [files.path().join("plain"), files.path().join("none"), files.path().join("bin"), "buildkitd".into()] {
        let error = machine.launch(&options(None, Some(wrong.clone())), &[]).unwrap_err();
        assert!(text(&error).contains(&format!("got {}", wrong.display())), "{}", text(&error));
    }
}

#[test]
fn user_namespaces_that_are_switched_off_are_told_with_the_switch() {
    for (file, sysctl) in [
        ("proc/sys/kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone=1"),
        ("proc/sys/user/max_user_namespaces", "user.max_user_namespaces=63359"),
    ] {
        let (files, machine) = machine(&ALL, false);
        write(&files, file, "1\n", 0o644);
        assert!(machine.launch(&options(None, None), &[]).is_ok());
        write(&files, file, "0\n", 0o644);
        let error = machine.launch(&options(None, None), &[]).unwrap_err();
        assert!(text(&error).contains(sysctl), "{}", text(&error));
    }
}

#[test]
fn a_user_without_ids_of_its_own_is_told() {
    for (file, ids, fine) in [
        ("etc/subuid", "1000:1:2\n", true),
        ("etc/subuid", "other:1:2\n", false),
        ("etc/subgid", "username:1:2\n", false),
        ("etc/subgid", "", false),
    ] {
        let (files, machine) = machine(&ALL, false);
        write(&files, file, ids, 0o644);
        match machine.launch(&options(None, None), &[]) {
            Ok(_) => assert!(fine, "{ids:?}"),
            Err(error) => assert!(!fine && text(&error).contains(file) && text(&error).contains("usermod"), "{error}"),
        }
    }
}

#[test]
fn apparmors_restriction_is_a_suspect_only_where_it_is_on() {
    let (files, machine) = machine(&ALL, false);
    assert_eq!(machine.namespace_suspect(), None);
    for (value, suspect) in [("0\n", false), ("1\n", true)] {
        write(&files, "proc/sys/kernel/apparmor_restrict_unprivileged_userns", value, 0o644);
        assert_eq!(machine.namespace_suspect().is_some(), suspect);
    }
}
