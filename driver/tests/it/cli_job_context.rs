//! What `buildfleet job run` uploads: directories, archives and Dockerfiles, whole or not at all.

use std::path::Path;
use std::process::{Command, Stdio};

use buildfleet_proto::fleet::JobState;
use tokio::io::AsyncWriteExt;

use crate::cli_daemon::{Ended, Machine, ended};
use crate::support::jobs::end;

fn machine() -> Machine {
    let machine = Machine::new().file(".kube/config", "");
    machine.jobs.tells([end(JobState::JobSucceeded, Some(0), "", "")]);
    machine
}

#[track_caller]
fn worked(ended: &Ended) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
}

/// The names in the uploaded archive, without directories, and the text of one.
fn unpacked(machine: &Machine, name: &str) -> (Vec<String>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let archive = dir.path().join("a.tar.gz");
    std::fs::write(&archive, machine.jobs.context()).expect("ours");
    let tar = |words: &[&str]| {
        let output = Command::new("tar").args(words).stderr(Stdio::inherit()).output().expect("there is a tar");
        assert!(output.status.success(), "tar {words:?}");
        String::from_utf8(output.stdout).expect("our names")
    };
    let archive = archive.to_str().expect("our name");
    let names = tar(&["-tzf", archive]).lines().filter(|name| !name.ends_with('/')).map(str::to_owned).collect();
    (names, tar(&["-xzOf", archive, name]))
}

fn locals(machine: &Machine) -> Vec<String> {
    let arguments = machine.jobs.spec().arguments.into_iter();
    arguments.filter(|argument| argument.starts_with("--local") || argument.starts_with("--opt")).collect()
}

#[tokio::test]
async fn a_directory_goes_without_what_dockerignore_leaves_out() {
    let machine = machine().file("app/Dockerfile", "FROM scratch\n").file("app/.dockerignore", "Dockerfile\n*.log\n");
    let machine =
        machine.file("app/a.log", "").file("app/src/main.c", "int main;\n").file("other/Dockerfile", "FROM x\n");
    let home = machine.home();
    worked(&machine.run(&format!("job run {home}/app")).await);
    assert!(machine.jobs.whole().await);
    let (names, text) = unpacked(&machine, "src/main.c");
    assert_eq!(
        (names, text.as_str()),
        (vec![".dockerignore".into(), "Dockerfile".into(), "src/main.c".into()], "int main;\n")
    );
    assert_eq!(locals(&machine), ["--local=context=/workspace/context", "--local=dockerfile=/workspace/context"]);

    let machine = machine.anew();
    worked(&machine.run(&format!("job run {home}/app -f {home}/other/Dockerfile")).await);
    let (names, text) = unpacked(machine, "dockerfile/Dockerfile");
    assert_eq!((names.len(), text.as_str()), (3, "FROM x\n"), "{names:?}");
    let wanted = ["--local=context=/workspace/context/context", "--local=dockerfile=/workspace/context/dockerfile"];
    assert_eq!(locals(machine), wanted);
}

#[tokio::test]
async fn stdin_is_an_archive_a_dockerfile_or_nothing() {
    async fn given(machine: &Machine, line: &str, bytes: &[u8]) -> Ended {
        let mut child = machine.start(line);
        let mut stdin = child.stdin.take().expect("it is piped");
        // One that fails at once does not read all of it.
        let _ = stdin.write_all(bytes).await;
        drop(stdin);
        ended(child).await
    }
    let machine = machine().file("app/sub/Dockerfile", "FROM scratch\n").file("app/x", &"x".repeat(100_000));
    let (app, home) = (format!("{}/app", machine.home()), machine.home());
    let tar =
        |flags: &str| Command::new("tar").args([flags, "-", "-C", &app, "."]).output().expect("there is a tar").stdout;
    for archive in [tar("-cf"), tar("-czf")] {
        let machine = machine.anew();
        worked(&given(machine, "job run - -f sub/Dockerfile", &archive).await);
        assert!(machine.jobs.whole().await);
        let (names, text) = unpacked(machine, "./x");
        assert!(names.contains(&"./sub/Dockerfile".to_owned()) && text.len() == 100_000, "{names:?}");
        assert_eq!(
            locals(machine),
            ["--local=context=/workspace/context", "--local=dockerfile=/workspace/context/sub"]
        );
    }
    let alone = machine.anew();
    worked(&given(alone, "job run -", b"FROM scratch\nLABEL a=b\n").await);
    assert_eq!(unpacked(alone, "Dockerfile"), (vec!["Dockerfile".into()], "FROM scratch\nLABEL a=b\n".into()));
    let beside = machine.anew();
    worked(&given(beside, &format!("job run {home}/app -f -"), b"FROM y\n").await);
    assert_eq!(unpacked(beside, "dockerfile/Dockerfile").1, "FROM y\n");
    for (line, bytes, told) in [
        ("job run -", &b""[..], "stdin has nothing"),
        ("job run -", b"BZh91AY", "stdin is compressed by bzip2: accepted are a tar archive"),
        ("job run - -f -", b"FROM x", "stdin cannot be both the context and the Dockerfile"),
        ("job run - -f x", b"FROM x", "--file names another one"),
        ("job run - -f ../x", &tar("-cf"), "--file ../x is not in the archive on stdin"),
    ] {
        let ended = given(&machine, line, bytes).await;
        assert!(ended.code == Some(2) && ended.stderr.contains(told), "{line}: {ended:?}");
    }
}

#[tokio::test]
async fn urls_upload_nothing_but_a_dockerfile_of_this_machine() {
    let machine = machine().file("Dockerfile", "FROM x\n");
    worked(&machine.run("job run https://git.example/a.git#main -f b/Dockerfile").await);
    assert!(machine.jobs.whole().await && !machine.jobs.spec().uploads_context && machine.jobs.context().is_empty());
    assert_eq!(locals(&machine), ["--opt=context=https://git.example/a.git#main", "--opt=filename=b/Dockerfile"]);
    let machine = machine.anew();
    worked(&machine.run(&format!("job run https://files.example/a.tar.gz -f {}/Dockerfile", machine.home())).await);
    assert_eq!(unpacked(machine, "Dockerfile").1, "FROM x\n");
}

/// Files of sysfs claim a page each, and have less: as if they were cut off while they are read.
#[tokio::test]
async fn half_a_context_does_not_pass_for_a_whole_one() {
    let machine = machine().file("Dockerfile", "FROM scratch\n");
    assert!(Path::new("/sys/class/net/lo/mtu").exists(), "there is no sysfs");
    let ended = machine.run(&format!("job run /sys/class/net/lo -f {}/Dockerfile", machine.home())).await;
    assert!(ended.code == Some(1) && ended.stderr.contains("error: failed to upload the context: /sys/"), "{ended:?}");
    assert!(ended.stderr.contains("changed while it was read\n"), "{ended:?}");
    assert!(!machine.jobs.whole().await);
}

#[tokio::test]
async fn a_client_that_is_killed_while_it_uploads_tells_no_end() {
    let machine = machine();
    let mut child = machine.start("job run -");
    let mut stdin = child.stdin.take().expect("it is piped");
    // The beginning of a gzipped archive, and no more.
    stdin.write_all(&[[0x1f, 0x8b].as_slice(), &[0; 300_000]].concat()).await.expect("it reads");
    machine.jobs.was_asked("run /").await;
    child.kill().await.expect("it runs");
    assert!(!machine.jobs.whole().await);
}
