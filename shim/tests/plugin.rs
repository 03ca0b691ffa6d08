//! The plugin as docker calls it, from a directory of plugins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;

const PLUGIN: &str = env!("CARGO_BIN_EXE_docker-buildfleet");

/// A program that is started inherits, until it runs, what other threads have open for writing; and what is open for writing
/// cannot be started.
static WRITES_OR_STARTS: Mutex<()> = Mutex::new(());

/// A directory with the plugin in `cli-plugins`, and beside it a `buildfleet` that prints its arguments, if wanted.
fn config(name: &str, with_program: bool) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let plugins = dir.join("cli-plugins");
    let _alone = WRITES_OR_STARTS.lock();
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&plugins).expect("the directory is ours");
    fs::copy(PLUGIN, plugins.join("docker-buildfleet")).expect("the plugin was built");
    if with_program {
        let program = plugins.join("buildfleet");
        fs::write(&program, "#!/bin/sh\nfor word in \"$@\"; do echo \"<$word>\"; done\nexit 7\n").expect("writable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    dir
}

fn run(dir: &Path, args: &[&str]) -> Output {
    let plugin = dir.join("cli-plugins/docker-buildfleet");
    let mut command = Command::new(plugin);
    command.args(args).env("PATH", "/nonexistent").stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = {
        let _alone = WRITES_OR_STARTS.lock();
        command.spawn()
    };
    started.and_then(Child::wait_with_output).expect("the plugin runs")
}

#[test]
fn metadata_needs_nothing_else() {
    let output = run(&config("metadata", false), &["docker-cli-plugin-metadata"]);
    assert!(output.status.success());
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(metadata["SchemaVersion"], "0.1.0");
}

#[test]
fn the_program_gets_the_words_after_the_plugin_s_name_and_its_exit_code_is_kept() {
    let output = run(&config("words", true), &["--debug", "buildfleet", "create", "--name", "a b"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "<create>\n<--name>\n<a b>\n");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_missing_program_is_an_error_with_a_hint() {
    let output = run(&config("missing", false), &["buildfleet", "ls"]);
    assert_eq!(output.status.code(), Some(127));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("found no `buildfleet`") && said.contains("hint: "), "{said}");
}
