//! Which pod a key has, seen over many keys and through the program; docs/placement.md shows how many keys move.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use buildfleet::options::LoadBalance;
use buildfleet::placement::{Candidate, Placing, StickyKey, choose, ketama};

const KEYS: usize = 10_000;

type Pick = fn(&str, usize) -> String;

fn pods(count: usize) -> Vec<String> {
    (0..count).map(|ordinal| format!("buildkitd-{ordinal}")).collect()
}

/// As the proxy asks.
fn rendezvous(key: &str, count: usize) -> String {
    let ready: Vec<Candidate> =
        pods(count).iter().map(|pod| Candidate { pod: pod.parse().unwrap(), running: 0 }).collect();
    let placing = Placing { project: StickyKey::new(key), ..Placing::default() };
    choose(LoadBalance::Sticky, &placing, 0, &ready).unwrap().pod.to_string()
}

fn by_ketama(key: &str, count: usize) -> String {
    let pods = pods(count);
    let names: Vec<&str> = pods.iter().map(String::as_str).collect();
    ketama::pick(key, &names).unwrap().to_owned()
}

fn all(pick: Pick, count: usize) -> Vec<String> {
    (0..KEYS).map(|key| pick(&format!("github.com/team/app-{key}:."), count)).collect()
}

fn moved(from: &[String], to: &[String]) -> usize {
    from.iter().zip(to).filter(|(from, to)| from != to).count()
}

/// The keys of the pod with the most, and of the one with the fewest.
fn extremes(picked: &[String], count: usize) -> (usize, usize) {
    let mut held: BTreeMap<String, usize> = pods(count).into_iter().map(|pod| (pod, 0)).collect();
    picked.iter().for_each(|pod| *held.get_mut(pod).unwrap() += 1);
    (*held.values().max().unwrap(), *held.values().min().unwrap())
}

#[test]
fn the_table_in_docs_says_how_many_keys_move() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/placement.md");
    let text = std::fs::read_to_string(path).unwrap();
    let algorithms: [(&str, Pick); 2] = [("rendezvous", rendezvous), ("ketama", by_ketama)];
    for (name, pick) in algorithms {
        let [three, four, ten, eleven] = [3, 4, 10, 11].map(|count| all(pick, count));
        let (most, fewest) = extremes(&ten, 10);
        let row = format!(
            "| `{name}` | {} | {} | {} | {} | {most} | {fewest} |",
            moved(&three, &four),
            moved(&four, &three),
            moved(&ten, &eleven),
            moved(&eleven, &ten),
        );
        assert!(text.lines().any(|line| line == row), "docs/placement.md lacks the row\n{row}");
        // What makes both of them consistent: nobody moves but to the pod that came.
        for (before, after, new) in [(&three, &four, "buildkitd-3"), (&ten, &eleven, "buildkitd-10")] {
            assert!(before.iter().zip(after).all(|(before, after)| before == after || after == new), "{name}");
        }
    }
}

fn program(words: &str, stdin: &str) -> (String, String, i32) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_buildfleet"))
        .args(words.split(' '))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without a look at them.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let ended = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(ended.stdout), text(ended.stderr), ended.status.code().unwrap())
}

#[test]
fn pods_are_arguments_or_lines_of_stdin_and_no_daemon_is_asked() {
    let key = "github.com/team/app-7:.";
    for (algorithm, wanted) in [("rendezvous", rendezvous(key, 3)), ("ketama", by_ketama(key, 3))] {
        let pick = format!("pick --key {key} --algorithm {algorithm}");
        let named = program(&format!("{pick} buildkitd-0 buildkitd-1 buildkitd-2"), "ignored");
        assert_eq!(named, (format!("{wanted}\n"), String::new(), 0));
        let piped = program(&pick, "buildkitd-2\n\n  buildkitd-0 \nbuildkitd-1");
        assert_eq!(piped, named);
        let json = program(&format!("{pick} --format json buildkitd-0 buildkitd-1 buildkitd-2"), "");
        let line = format!("{{\"Key\":\"{key}\",\"Algorithm\":\"{algorithm}\",\"Pod\":\"{wanted}\"}}\n");
        assert_eq!(json, (line, String::new(), 0));
    }
    let (out, err, code) = program("pick --key k", "\n");
    assert_eq!((out.as_str(), code), ("", 2), "{err}");
    assert!(err.contains("no pods are given"), "{err}");
}
