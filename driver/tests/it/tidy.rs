//! What is agreed about the shape of this repository, checked: each rule says what it found, where, and what to do instead.

mod rooms;
mod source;

use std::path::{Path, PathBuf};

use self::rooms::ROOMS;
use self::source::{Source, line_of, words};

/// Longer files are split by what their parts do.
const LONGEST: usize = 400;

type Rule = fn(&Source) -> Vec<String>;

const RULES: [(&str, Rule); 11] = [
    ("every module begins with `//!` and its one job", module_has_a_purpose),
    ("files stay short", file_is_short),
    ("modules are named for what they do", module_is_named_for_its_job),
    ("rooms use only the rooms below them", rooms::uses_only_rooms_below),
    ("crates stay in the rooms that own them", rooms::uses_only_its_crates),
    ("only the command line prints", only_cli_prints),
    ("only `main` ends the process", only_main_exits),
    ("only `settings` reads the environment", only_settings_reads_the_environment),
    ("nothing unfinished is committed", nothing_is_unfinished),
    ("nothing names one machine's folders", no_machine_is_named),
    ("merges are finished", merge_is_finished),
];

#[test]
fn every_rule_holds_for_every_file() {
    let sources = sources();
    assert!(sources.len() > 50, "only {} files were found: the search is broken", sources.len());
    let mut broken = Vec::new();
    for (name, rule) in RULES {
        let found: Vec<String> = sources.iter().flat_map(rule).collect();
        if !found.is_empty() {
            broken.push(format!("{name}:\n  {}", found.join("\n  ")));
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_room_is_in_the_table_and_every_row_is_a_room() {
    let library = std::fs::read_to_string(root().join("driver/src/lib.rs")).unwrap();
    let mut modules: Vec<&str> = library
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    let mut rows: Vec<&str> = ROOMS.iter().map(|room| room.name).collect();
    modules.sort_unstable();
    rows.sort_unstable();
    assert_eq!(modules, rows, "lib.rs and the table in tests/it/tidy/rooms.rs name different rooms");
}

#[test]
fn the_table_in_architecture_md_is_the_one_that_is_checked() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for room in &ROOMS {
        let row = room.row();
        assert!(text.lines().any(|line| line == row), "ARCHITECTURE.md lacks the line\n{row}");
    }
}

#[test]
fn every_dependency_has_its_reason_in_docs() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let reasons = std::fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let section = manifest.split("[workspace.dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let mut used: Vec<&str> = section.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    used.retain(|name| !name.starts_with("buildfleet-"));
    let mut told: Vec<&str> =
        reasons.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0)).collect();
    used.sort_unstable();
    told.sort_unstable();
    assert!(used.len() > 20, "{used:?}");
    assert_eq!(used, told, "Cargo.toml and the table in docs/dependencies.md name different crates");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All text of the repository that people write.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if let (true, Ok(text)) = (kind.is_file() && name != ".git", std::fs::read_to_string(&path)) {
                found.push(Source::new(path.strip_prefix(root()).unwrap().to_str().unwrap(), text));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn module_has_a_purpose(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let lacks = source.is_rust() && !source.is_generated() && first.strip_prefix("//! ").is_none_or(str::is_empty);
    lacks
        .then(|| format!("{}: the first line has to be `//! ` and what this file is for", source.path))
        .into_iter()
        .collect()
}

fn file_is_short(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let long = source.is_rust() && !source.is_generated() && lines > LONGEST;
    let told = || format!("{}: {lines} lines, {LONGEST} at most: split it by what its parts do", source.path);
    long.then(told).into_iter().collect()
}

fn module_is_named_for_its_job(source: &Source) -> Vec<String> {
    let forbidden = ["util", "utils", "common", "helper", "helpers", "manager", "misc", "mod"];
    let name = source.path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs"));
    let bad = name.filter(|name| forbidden.iter().any(|word| name.split('_').any(|part| part == *word)));
    let told =
        |name| format!("{}: `{name}` says nothing of the job (and no mod.rs: `foo.rs` beside `foo/`)", source.path);
    bad.map(told).into_iter().collect()
}

fn only_cli_prints(source: &Source) -> Vec<String> {
    let means = ["println!", "print!", "eprintln!", "eprint!", "stdout()", "stderr()"];
    let elsewhere = "output goes through `cli`; the rest returns values or uses `tracing`";
    if in_room(source, &["main", "cli"]) { Vec::new() } else { forbid(source, source.shipped(), &means, elsewhere) }
}

fn only_main_exits(source: &Source) -> Vec<String> {
    let means = ["process::exit", "process::abort"];
    let elsewhere = "return an error: only `main` and `cli` turn one into an exit code";
    if in_room(source, &["main", "cli"]) { Vec::new() } else { forbid(source, source.shipped(), &means, elsewhere) }
}

fn only_settings_reads_the_environment(source: &Source) -> Vec<String> {
    let means = [
        "env::var",
        "env::var_os",
        "env::vars",
        "env::vars_os",
        "env::set_var",
        "env::remove_var",
        "env::current_dir",
        "env::temp_dir",
        "env::home_dir",
        "env::args",
        "env::args_os",
    ];
    let elsewhere = "take the value from `settings`, which reads the environment once";
    // It looks for programs along PATH, as the kernel's callers do: no setting of ours.
    let excepted = source.path == "driver/src/backend/local/machine.rs";
    if excepted || in_room(source, &["main", "settings"]) {
        Vec::new()
    } else {
        forbid(source, source.shipped(), &means, elsewhere)
    }
}

fn nothing_is_unfinished(source: &Source) -> Vec<String> {
    let marks = ["TODO", "FIXME", "XXX", "HACK"];
    let code = ["unsafe", "dbg!", "todo!", "unimplemented!", "#[ignore", "#![allow(dead_code", "#[allow(dead_code"];
    if !source.is_rust() || source.is_generated() {
        return Vec::new();
    }
    let mut found = forbid(source, &source.said, &marks, "finish it, or leave it out");
    found.extend(forbid(source, &source.code, &code, "finish it, or leave it out"));
    found
}

fn no_machine_is_named(source: &Source) -> Vec<String> {
    // Put together here, so that this file keeps its own rule.
    let folders = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat()];
    // Behind a name or a variable it is a part of another path: `$image/root/`.
    let of_longer = |before: Option<char>| before.is_some_and(|c| c.is_alphanumeric() || "._-}~$\"*".contains(c));
    let found = folders.iter().flat_map(|folder| source.text.match_indices(folder.as_str()));
    found
        .filter(|(at, _)| !of_longer(source.text[..*at].chars().last()))
        .map(|(at, folder)| {
            format!("{}:{}: {folder} exists on one machine only", source.path, line_of(&source.text, at))
        })
        .collect()
}

fn merge_is_finished(source: &Source) -> Vec<String> {
    let sides = ["<<<<<<< ", ">>>>>>> "];
    let marks = source.text.lines().enumerate().filter(|(_, line)| sides.iter().any(|side| line.starts_with(side)));
    marks.map(|(at, _)| format!("{}:{}: the mark of a merge", source.path, at + 1)).collect()
}

fn in_room(source: &Source, rooms: &[&str]) -> bool {
    source.module().is_none_or(|module| rooms.contains(&module[0]))
}

fn forbid(source: &Source, view: &str, needles: &[&str], instead: &str) -> Vec<String> {
    let found = needles.iter().flat_map(|needle| words(view, needle).map(move |at| (at, needle)));
    found.map(|(at, needle)| format!("{}:{}: `{needle}`: {instead}", source.path, line_of(view, at))).collect()
}

#[test]
fn each_rule_finds_what_it_forbids_and_nothing_else() {
    let machine = ["see /wo", "rk/x"].concat();
    let long = "//! x\n".repeat(LONGEST + 1);
    let samples: [(Rule, &str, &str, usize); 33] = [
        (module_has_a_purpose, "shim/src/main.rs", "fn main() {}", 1),
        (module_has_a_purpose, "shim/src/main.rs", "//!\nfn main() {}", 1),
        (module_has_a_purpose, "shim/src/main.rs", "//! The plugin.\n", 0),
        (module_has_a_purpose, "proto/src/generated/x.rs", "fn main() {}", 0),
        (file_is_short, "driver/src/a.rs", &long, 1),
        (file_is_short, "driver/src/a.rs", &long[6..], 0),
        (module_is_named_for_its_job, "driver/src/fleet/utils.rs", "", 1),
        (module_is_named_for_its_job, "driver/src/fleet/mod.rs", "", 1),
        (module_is_named_for_its_job, "driver/src/fleet/string_util.rs", "", 1),
        (module_is_named_for_its_job, "driver/src/model.rs", "", 0),
        (only_cli_prints, "driver/src/fleet.rs", "println!(\"x\"); io::stderr().lock()", 2),
        (only_cli_prints, "driver/src/cli/ls.rs", "println!(\"x\");", 0),
        (only_cli_prints, "driver/src/fleet.rs", "// println!()\n\"println!()\"", 0),
        (only_cli_prints, "driver/src/fleet.rs", "#[cfg(test)]\nmod tests { println!() }", 0),
        (only_main_exits, "driver/src/daemon.rs", "std::process::exit(1)", 1),
        (only_main_exits, "driver/src/main.rs", "std::process::exit(1)", 0),
        (only_settings_reads_the_environment, "driver/src/store.rs", "std::env::var_os(\"HOME\")", 1),
        (only_settings_reads_the_environment, "driver/src/store.rs", "env!(\"X\"); std::env::split_paths(p)", 0),
        (only_settings_reads_the_environment, "driver/src/settings/environment.rs", "std::env::var(\"HOME\")", 0),
        (nothing_is_unfinished, "proto/src/lib.rs", "// TODO: more\ndbg!(x)", 2),
        (nothing_is_unfinished, "driver/tests/it/a.rs", "#[ignore = \"slow\"]\n#[test]\nfn a() {}", 1),
        (nothing_is_unfinished, "driver/src/a.rs", "unsafe { f() }", 1),
        (nothing_is_unfinished, "driver/src/a.rs", "// an unsafe path, in words\nfn todos() {}", 0),
        (no_machine_is_named, "README.md", &machine, 1),
        (no_machine_is_named, "README.md", "$dir/root/x and /root", 0),
        (merge_is_finished, "CHANGELOG.md", "a\n<<<<<<< ours\nb\n=======\nc\n>>>>>>> theirs\n", 2),
        (merge_is_finished, "README.md", "cat <<<<<<< x\n=======\n", 0),
        (rooms::uses_only_rooms_below, "driver/src/fleet/node.rs", "use crate::proxy::serve;", 1),
        (rooms::uses_only_rooms_below, "driver/src/fleet/node.rs", "use crate::{wire, proxy::{a, b}};", 1),
        (rooms::uses_only_rooms_below, "driver/src/fleet/node.rs", "super::super::cli::run()", 1),
        (rooms::uses_only_rooms_below, "driver/src/fleet/node.rs", "use super::view; use crate::backend::Pod;", 0),
        (rooms::uses_only_its_crates, "driver/src/backend/local.rs", "use kube::Client;", 1),
        (rooms::uses_only_its_crates, "driver/src/backend/kubernetes/dial.rs", "use kube::Client;", 0),
    ];
    for (rule, path, text, wanted) in samples {
        let found = rule(&Source::new(path, text));
        assert_eq!(found.len(), wanted, "{path}: {text}\n{found:?}");
    }
}
