//! Command lines, and what is seen in them.

use super::*;

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
}

fn standalone(line: &str) -> Option<Line> {
    Line::read(&words(line), false)
}

fn named(name: &str) -> Option<String> {
    Some(name.to_owned())
}

fn one(name: &str) -> Command {
    Command::OfOne { name: Some(name.to_owned()).filter(|name| !name.is_empty()) }
}

fn create(name: &str, driver: &str) -> Command {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Command::Create { name: some(name), driver: some(driver) }
}

fn rm(names: &str, all_inactive: bool) -> Command {
    Command::Rm { names: names.split_whitespace().map(str::to_owned).collect(), all_inactive }
}

#[test]
fn commands_and_their_builders() {
    for (line, command, builder) in [
        ("create --name kube --driver kubernetes", create("kube", "kubernetes"), None),
        ("create --driver=kubernetes --driver-opt=a=b --name=kube x", create("kube", "kubernetes"), None),
        ("create --name a --name kube --append --node n --leave", create("kube", ""), None),
        ("create --buildkitd-flags --debug --driver kubernetes", create("", "kubernetes"), None),
        // A value that looks like help is a value.
        ("create --driver kubernetes --name --help", create("--help", "kubernetes"), None),
        ("create --config f --buildkitd-config f --platform p --timeout 1s --bootstrap --use", create("", ""), None),
        ("inspect", one(""), None),
        ("inspect kube --bootstrap", one("kube"), None),
        ("inspect --bootstrap=0 kube", one("kube"), None),
        ("--builder kube inspect", one(""), Some("kube")),
        ("--builder=kube -D inspect", one(""), Some("kube")),
        ("inspect --builder kube", one(""), Some("kube")),
        ("--builder other inspect --builder kube", one(""), Some("kube")),
        ("inspect --builder= kube", one("kube"), Some("")),
        ("inspect -- kube", one("kube"), None),
        ("stop kube", one("kube"), None),
        ("du --verbose --filter type=regular --format json", one(""), None),
        ("prune -af --keep-storage 1gb --max-used-space=1gb", one(""), None),
        ("prune -a=false -D", one(""), None),
        ("use kube --default --global", Command::Use { name: named("kube") }, None),
        ("use", Command::Use { name: None }, None),
        ("rm kube other -f --keep-state", rm("kube other", false), None),
        ("rm --all-inactive", rm("", true), None),
        ("rm --all-inactive=false --builder kube", rm("", false), Some("kube")),
        ("ls --no-trunc --format json", Command::Ls, None),
        ("version", Command::Version, None),
        ("build . --builder kube", Command::Work, Some("kube")),
        ("--builder kube build --builder=other .", Command::Work, Some("other")),
        ("b . -- --builder kube", Command::Work, None),
        ("bake --builder", Command::Work, None),
        ("history ls", Command::Work, None),
        ("imagetools inspect --help", Command::Other, None),
        ("build -h", Command::Other, None),
        ("help create", Command::Other, None),
        ("__complete inspect ", Command::Other, None),
        ("install", Command::Other, None),
        ("", Command::Other, None),
        ("--builder kube", Command::Other, None),
    ] {
        let read = standalone(line).unwrap_or_else(|| panic!("{line}: not understood"));
        assert_eq!((read.command(), read.builder()), (&command, builder), "{line}");
        assert_eq!(read.words(), words(line), "{line}");
    }
}

#[test]
fn lines_that_buildx_has_to_make_sense_of() {
    for line in [
        "--help",
        "-h",
        "--nope ls",
        "ls --help",
        "ls -h",
        "create --help",
        "create --driver kubernetes -h",
        "create --driver kubernetes --nope",
        "create --driver kubernetes --name",
        "create a b",
        "inspect a b",
        "inspect --bootstrap=maybe",
        "inspect -x",
        "ls kube",
        "du kube",
        "version 1",
        "stop a b",
        "use a b",
        "rm -fx",
        "rm --all-inactive=",
    ] {
        assert_eq!(standalone(line), None, "{line}");
    }
}

#[test]
fn docker_s_own_flags_come_before_the_name_of_the_plugin() {
    for (line, wanted, globals) in [
        ("buildx ls", "ls", Globals::default()),
        ("buildx", "", Globals::default()),
        ("-D --log-level debug buildx inspect buildx", "inspect buildx", Globals::default()),
        (
            "--config /c --context ctx -H unix:///x buildx ls",
            "ls",
            Globals {
                config: Some("/c".into()),
                context: Some("ctx".into()),
                host: Some("unix:///x".into()),
                ..Globals::default()
            },
        ),
        ("-c buildx buildx ls", "ls", Globals { context: Some("buildx".into()), ..Globals::default() }),
        ("-cctx buildx ls", "ls", Globals { context: Some("ctx".into()), ..Globals::default() }),
        ("-c=ctx buildx ls", "ls", Globals { context: Some("ctx".into()), ..Globals::default() }),
        ("--tlsverify buildx ls", "ls", Globals { tls: true, ..Globals::default() }),
    ] {
        let read = Line::read(&words(line), true).unwrap_or_else(|| panic!("{line}: not understood"));
        assert_eq!((read.words(), read.globals()), (&words(wanted)[..], &globals), "{line}");
    }
    // What docker completes, and what no docker says.
    for line in ["__complete buildx ins", "ls", "", "--nope buildx ls", "--context buildx ls", "help buildx"] {
        assert_eq!(Line::read(&words(line), true), None, "{line}");
    }
}

#[test]
fn words_that_are_no_text_are_buildx_s() {
    use std::os::unix::ffi::OsStringExt;
    assert_eq!(Line::read(&["inspect".into(), OsString::from_vec(vec![0xff])], false), None);
}
