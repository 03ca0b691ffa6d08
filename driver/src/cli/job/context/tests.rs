//! A context packed and unpacked by the `tar` of this machine.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::*;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("below a directory")).expect("ours");
    fs::write(path, text).expect("ours");
}

fn packed(directory: Directory) -> Result<Vec<u8>, PackError> {
    let mut bytes = Vec::new();
    Content::Tree(Tree { directory: Some(directory), files: Vec::new() }).pack(&mut bytes).map(|()| bytes)
}

fn directory(root: &Path, ignore: &str) -> Directory {
    let patterns = Patterns::parse(ignore).expect("they are patterns");
    Directory { root: root.to_owned(), place: String::new(), patterns, always: Vec::new() }
}

/// What `tar` finds in an archive.
fn listed(archive: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("a.tar.gz");
    fs::write(&file, archive).expect("ours");
    let output = Command::new("tar").arg("-tzf").arg(&file).output().expect("there is a tar");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("our names").lines().map(str::to_owned).collect()
}

#[test]
fn names_modes_links_and_contents_arrive() {
    let (from, to) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(120));
    write(&from.path().join("run.sh"), "#!/bin/sh\n");
    write(&from.path().join(&long), "deep");
    write(&from.path().join("ä ö"), &"x".repeat(300_000));
    fs::create_dir(from.path().join("empty")).expect("ours");
    fs::set_permissions(from.path().join("run.sh"), fs::Permissions::from_mode(0o751)).expect("ours");
    fs::set_permissions(from.path().join("empty"), fs::Permissions::from_mode(0o700)).expect("ours");
    symlink("nowhere", from.path().join("broken")).expect("ours");
    symlink(&long, from.path().join("link")).expect("ours");
    let _socket = std::os::unix::net::UnixListener::bind(from.path().join("socket")).expect("ours");

    let file = to.path().join("a.tar.gz");
    fs::write(&file, packed(directory(from.path(), "")).expect("it is packed")).expect("ours");
    let status = Command::new("tar").arg("-xpzf").arg(&file).arg("-C").arg(to.path()).status().expect("there is a tar");
    assert!(status.success());
    let read = |name: &str| fs::read_to_string(to.path().join(name)).expect(name);
    assert_eq!((read("run.sh"), read(&long), read("ä ö").len()), ("#!/bin/sh\n".into(), "deep".into(), 300_000));
    let mode = |name: &str| fs::metadata(to.path().join(name)).expect(name).permissions().mode() & 0o7777;
    assert_eq!((mode("run.sh"), mode("empty")), (0o751, 0o700));
    assert_eq!(fs::read_link(to.path().join("broken")).expect("a link"), Path::new("nowhere"));
    assert_eq!(fs::read_link(to.path().join("link")).expect("a link"), Path::new(&long));
    assert!(!to.path().join("socket").exists());
}

#[test]
fn what_is_left_out_is_not_sent_and_directories_of_exceptions_are() {
    let from = tempfile::tempdir().expect("a directory");
    for name in ["Dockerfile", ".dockerignore", "a/keep/x", "a/drop", "b/c/d", "src/main.c", "src/main.o"] {
        write(&from.path().join(name), name);
    }
    let ignore = "Dockerfile\n.dockerignore\na\n!a/keep\nb\n**/*.o\n";
    let mut wanted = vec!["a/", "a/keep/", "a/keep/x", "src/", "src/main.c"];
    assert_eq!(listed(&packed(directory(from.path(), ignore)).expect("it is packed")), wanted);
    // Once each, wherever they are.
    let always = ["Dockerfile", ".dockerignore", "src/main.c", "b/c/d", "missing"].map(PathBuf::from).to_vec();
    let all = Directory { always, ..directory(from.path(), ignore) };
    wanted.splice(0..0, [".dockerignore", "Dockerfile"]);
    wanted.push("b/c/d");
    assert_eq!(listed(&packed(all).expect("it is packed")), wanted);
    let placed = Directory { place: "context/".into(), ..directory(from.path(), "*\n!b\n") };
    assert_eq!(listed(&packed(placed).expect("it is packed")), ["context/b/", "context/b/c/", "context/b/c/d"]);
}

#[test]
fn the_same_context_is_the_same_archive() {
    let from = tempfile::tempdir().expect("a directory");
    for name in ["b", "a", "c/d"] {
        write(&from.path().join(name), name);
    }
    assert_eq!(packed(directory(from.path(), "")).ok(), packed(directory(from.path(), "")).ok());
}

#[test]
fn a_context_that_is_not_there_is_told() {
    let error = packed(directory(Path::new("/nonexistent/context"), "")).expect_err("it is not there");
    assert_eq!(error.to_string(), "failed to read /nonexistent/context");
}

#[test]
fn nobody_who_reads_is_told_apart() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let tree = Tree { directory: None, files: vec![("x".into(), vec![7; 100_000])] };
    assert!(matches!(Content::Tree(tree).pack(Gone), Err(PackError::Unwanted(_))));
}
