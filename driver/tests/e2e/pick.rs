//! `buildfleet pick --algorithm ketama` beside the library that it promises to agree with.

use std::io::Write;
use std::process::{Command, Stdio};

use buildfleet::placement::ketama;

use crate::support::tools::program;

/// What the library itself says for each key.
fn library(nodes: &[&str], keys: &[String]) -> Vec<String> {
    let mut child = Command::new(program("hashring"))
        .args(nodes)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the rig's hashring runs");
    let lines = keys.iter().map(|key| format!("{key}\n")).collect::<String>();
    let mut stdin = child.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let ended = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads all keys");
    assert!(ended.status.success());
    String::from_utf8(ended.stdout).expect("names").lines().map(str::to_owned).collect()
}

#[test]
fn ketama_agrees_with_the_library_on_20_000_keys_and_many_rings() {
    let keys: Vec<String> =
        (0..2000).map(|n| format!("github.com/team-{}/app-{n}:{}", n % 7, "sub/".repeat(n % 40))).collect();
    for count in [1, 2, 3, 4, 5, 10, 11, 50, 300] {
        let pods: Vec<String> = (0..count).map(|pod| format!("builder-{}-{pod:x}", count * 7919)).collect();
        let nodes: Vec<&str> = pods.iter().map(String::as_str).collect();
        let wanted = library(&nodes, &keys);
        assert_eq!(wanted.len(), keys.len());
        for (key, wanted) in keys.iter().zip(&wanted) {
            assert_eq!(ketama::pick(key, &nodes), Some(wanted.as_str()), "{key} among {count}");
        }
    }
}
