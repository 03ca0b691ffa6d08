//! Which room of the library may use which, and which crates belong to one room. ARCHITECTURE.md shows the same table.

use super::source::{Source, line_of, words};

/// A module directly below `driver/src`.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) name: &'static str,
    may_use: &'static [&'static str],
}

impl Room {
    /// As ARCHITECTURE.md shows it.
    pub(crate) fn row(&self) -> String {
        let used: Vec<String> = self.may_use.iter().map(|room| format!("`{room}`")).collect();
        format!("| `{}` | {} |", self.name, if used.is_empty() { "nothing".to_owned() } else { used.join(", ") })
    }
}

const fn room(name: &'static str, may_use: &'static [&'static str]) -> Room {
    Room { name, may_use }
}

/// From the top down: a room may use only what stands below it, and of that only what its job needs.
pub(crate) const ROOMS: [Room; 17] = [
    room(
        "cli",
        &["daemon", "placement", "manifest", "options", "settings", "builder", "certificates", "report", "shutdown"],
    ),
    room(
        "daemon",
        &["proxy", "fleet", "store", "backend", "options", "builder", "settings", "socket", "shutdown", "report"],
    ),
    room("store", &["proxy", "fleet", "builder", "socket", "report"]),
    room("proxy", &["fleet", "placement", "builder", "wire", "shutdown", "report"]),
    room("fleet", &["placement", "backend", "options", "builder", "wire", "shutdown", "report"]),
    room("placement", &["options", "builder", "fnv"]),
    room("backend", &["manifest", "options", "builder", "certificates", "report", "fnv"]),
    room("manifest", &["options", "builder", "fnv"]),
    room("options", &["builder"]),
    room("settings", &["builder"]),
    room("builder", &[]),
    room("certificates", &[]),
    room("socket", &["report"]),
    room("wire", &[]),
    room("shutdown", &[]),
    room("report", &[]),
    room("fnv", &[]),
];

/// A crate (or a module of one) and where it may be named. What is not listed may be used anywhere.
const OWNED: [(&str, &[&str]); 24] = [
    ("kube", &["backend/kubernetes"]),
    ("k8s_openapi", &["options", "manifest", "backend/kubernetes"]),
    ("tokio_tungstenite", &["backend/kubernetes"]),
    ("rcgen", &["certificates"]),
    ("x509_parser", &["certificates"]),
    ("tokio_rustls", &["backend", "certificates"]),
    ("rustls", &["backend", "certificates"]),
    ("md5", &["placement"]),
    ("serde_saphyr", &["options"]),
    ("toml_edit", &["builder"]),
    ("h2", &["wire", "fleet", "proxy"]),
    ("buildfleet_proto::buildkit", &["fleet", "proxy", "store", "daemon", "cli"]),
    ("buildfleet_proto::fleet", &["daemon", "cli"]),
    ("buildfleet_shim", &["cli", "settings"]),
    ("tonic", &["daemon", "cli"]),
    ("clap", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("flate2", &["cli"]),
    ("regex", &["cli"]),
    ("indicatif", &["cli"]),
    ("terminal_size", &["cli"]),
    ("listenfd", &["daemon", "settings", "socket", "main"]),
    ("tracing_subscriber", &["cli", "daemon", "main"]),
    (
        "tokio",
        &["cli", "daemon", "store", "proxy", "fleet", "backend", "certificates", "socket", "wire", "shutdown", "main"],
    ),
];

pub(crate) fn uses_only_rooms_below(source: &Source) -> Vec<String> {
    let Some(module) = source.module() else { return Vec::new() };
    let Some(here) = ROOMS.iter().find(|room| room.name == module[0]) else { return Vec::new() };
    let code = source.shipped();
    let rooms_named = named_after(code, "crate::").into_iter().chain(named_by_super(code, module.len()));
    rooms_named
        .filter(|(_, used)| *used != here.name && !here.may_use.contains(used) && ROOMS.iter().any(|r| r.name == *used))
        .map(|(at, used)| {
            let (path, line, name) = (&source.path, line_of(code, at), here.name);
            format!("{path}:{line}: `{name}` must not know of `{used}`; it may use: {}", here.may_use.join(", "))
        })
        .collect()
}

pub(crate) fn uses_only_its_crates(source: &Source) -> Vec<String> {
    let Some(module) = source.module() else { return Vec::new() };
    let here = module.join("/");
    let code = source.shipped();
    let inside = |room: &str| here == room || here.strip_prefix(room).is_some_and(|rest| rest.starts_with('/'));
    let strangers = OWNED.iter().filter(|(_, owners)| !owners.iter().any(|owner| inside(owner)));
    strangers
        .flat_map(|(name, owners)| {
            let path = format!("{name}::");
            let at: Vec<usize> = words(code, &path).filter(|at| !code[..*at].ends_with("::")).collect();
            at.into_iter().map(move |at| {
                let (file, line) = (&source.path, line_of(code, at));
                format!("{file}:{line}: `{name}` may be used only in {}", owners.join(", "))
            })
        })
        .collect()
}

/// The names directly behind `root`, also those of a group in braces.
fn named_after<'a>(code: &'a str, root: &'a str) -> Vec<(usize, &'a str)> {
    let mut named = Vec::new();
    for at in words(code, root) {
        let rest = &code[at + root.len()..];
        match rest.strip_prefix('{') {
            None => named.push((at, first_name(rest))),
            Some(group) => named.extend(members(group).into_iter().map(|member| (at, first_name(member)))),
        }
    }
    named
}

/// The names to which `super::super::…` leads, when it leads out of a room: `depth` is how deep the module lies.
fn named_by_super(code: &str, depth: usize) -> Vec<(usize, &str)> {
    let outwards = "super::".repeat(depth);
    let mut named = Vec::new();
    for (at, _) in code.match_indices(outwards.as_str()) {
        let rest = &code[at + outwards.len()..];
        // More of them would lead out of the crate, which does not compile outside of an inline module.
        if !code[..at].ends_with("super::") && !rest.starts_with("super::") {
            match rest.strip_prefix('{') {
                None => named.push((at, first_name(rest))),
                Some(group) => named.extend(members(group).into_iter().map(|member| (at, first_name(member)))),
            }
        }
    }
    named
}

/// The members of a group, up to its closing brace, without those of groups inside it.
fn members(group: &str) -> Vec<&str> {
    let (mut members, mut begin, mut depth) = (Vec::new(), 0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(&group[begin..at]);
                return members;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    members
}

fn first_name(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|character: char| !(character.is_alphanumeric() || character == '_'));
    &text[..end.unwrap_or(text.len())]
}

#[test]
fn no_two_rooms_use_each_other() {
    for (place, room) in ROOMS.iter().enumerate() {
        for used in room.may_use {
            let below = ROOMS.iter().skip(place + 1).any(|lower| lower.name == *used);
            assert!(below, "`{}` stands above `{used}` in the table, or `{used}` is no room", room.name);
        }
    }
}
