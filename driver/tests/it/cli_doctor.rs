//! `doctor`, `top`, `start`, `--format` and the pages, as the program prints them.

use buildfleet_proto::fleet::finding::Verdict;
use buildfleet_proto::fleet::{Finding, Pod, PodUsage, UsageResponse};

use crate::cli_daemon::{Machine, builder};
use crate::support::buildkitd::FakeBuildkitd;

fn finding(node: &str, subject: &str, verdict: Verdict, text: &str) -> Finding {
    let hint = if verdict == Verdict::Fails { "see docs/rbac.md" } else { "" };
    Finding {
        node: node.into(),
        subject: subject.into(),
        verdict: verdict.into(),
        text: text.into(),
        hint: hint.into(),
    }
}

/// A builder of one node whose socket answers.
fn kube(machine: Machine) -> (Machine, FakeBuildkitd) {
    let run = machine.run_dir();
    std::fs::create_dir(format!("{run}/nodes")).expect("ours");
    let pod = FakeBuildkitd::start("kube0", format!("{run}/nodes").as_ref());
    let mut builder = builder(&run, "kube", "kubernetes", &["kube0"]);
    builder.current = true;
    builder.nodes[0].pods = vec![Pod { name: "kube0-a".into(), status: "ready".into(), builds: 1, ..Pod::default() }];
    (machine.builder(builder), pod)
}

#[tokio::test]
async fn doctor_says_what_works_what_does_not_and_what_to_do() {
    let (machine, _pod) = kube(Machine::new());
    let machine = machine.findings(vec![finding("kube0", "API server", Verdict::Works, "v1.34.2, answers in 3 ms")]);
    let well = machine.run("doctor").await;
    assert_eq!((well.code, well.stderr.as_str()), (Some(0), ""), "{well:?}");
    assert!(well.stdout.starts_with("This machine\n  ok    buildfleet"), "{well:?}");
    let node = "\nNode kube0 of builder kube (kubernetes://kube0)\n  ok    API server         v1.34.2, answers in 3 ms\n  ok    socket             ";
    assert!(well.stdout.contains(node), "{well:?}");
    assert!(well.stdout.contains("  warn  daemon             9.9.9, pid 7"), "{well:?}");

    let machine = machine.findings(vec![finding("kube0", "secrets", Verdict::Fails, "not allowed to get secrets")]);
    let ill = machine.run("doctor kube").await;
    assert_eq!((ill.code, ill.stderr.as_str()), (Some(1), "error: one thing that is needed does not work\n"));
    let told =
        "  FAIL  secrets            not allowed to get secrets\n                           -> see docs/rbac.md\n";
    assert!(ill.stdout.contains(told), "{ill:?}");
    let json = machine.run("doctor kube --format json").await;
    let line = "{\"Builder\":\"kube\",\"Node\":\"kube0\",\"Subject\":\"secrets\",\"Verdict\":\"fails\",\"Text\":\"not allowed to get secrets\",\"Hint\":\"see docs/rbac.md\"}\n";
    assert!(json.code == Some(1) && json.stdout.contains(line), "{json:?}");
    assert_eq!(machine.asked(), ["examine kube ", "examine kube ", "examine kube "]);
}

#[tokio::test]
async fn doctor_without_a_builder_checks_what_a_create_would_need() {
    let machine = Machine::new().findings(vec![finding("", "buildkitd", Verdict::Works, "/usr/bin/buildkitd")]);
    let ended = machine.run("doctor").await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let wanted =
        "\nA new builder, by the local driver: found no kubeconfig\n  ok    buildkitd          /usr/bin/buildkitd\n";
    assert!(ended.stdout.ends_with(wanted), "{ended:?}");
    let machine = Machine::new().file(".kube/config", "");
    machine.run("doctor").await;
    assert_eq!(machine.asked(), ["examine  kubernetes"]);
}

#[tokio::test]
async fn a_socket_that_nobody_serves_fails() {
    let machine = Machine::new();
    let run = machine.run_dir();
    let machine = machine.builder(builder(&run, "kube", "kubernetes", &["kube0"]));
    let ended = machine.run("doctor kube").await;
    assert!(
        ended.code == Some(1) && ended.stdout.contains("  FAIL  socket             failed to connect to"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_daemon_that_does_not_know_the_question_is_told_among_the_rest() {
    let machine = Machine::new();
    let run = machine.run_dir();
    let machine = machine.builder(builder(&run, "old", "kubernetes", &["old0"]));
    let ended = machine.run("doctor old").await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), "error: 2 things that are needed do not work\n"));
    let told = "\nBuilder old\n  FAIL  daemon             failed to examine what the builder needs: Operation";
    assert!(ended.stdout.contains(told) && ended.stdout.contains("\nNode old0 of builder old"), "{ended:?}");
}

#[tokio::test]
async fn top_looks_once_where_there_is_no_terminal() {
    let (machine, pod) = kube(Machine::new());
    pod.records.begins("abcd");
    let used = PodUsage { pod: "kube0-a".into(), cpu_millis: 1500, memory_bytes: 1 << 30 };
    let machine = machine.usage(UsageResponse { pods: vec![used], unknown: vec!["node kube1: no metrics".into()] });
    let ended = machine.run("top").await;
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), "info: CPU and memory are not known: node kube1: no metrics\n")
    );
    assert!(ended.stdout.starts_with("POD      NODE   STATUS  BUILDS  CPU   MEMORY  HOST\nkube0-a  kube0  ready   1       1.50  1GiB\n\nBUILD  NAME  NODE   RUNS FOR\nabcd         kube0  0."), "{ended:?}");
    assert!(!ended.stdout.contains('\u{1b}'), "{ended:?}");
    let json = machine.run("-q top kube --format json").await;
    assert_eq!(
        json.stdout,
        "{\"Pod\":\"kube0-a\",\"Node\":\"kube0\",\"Status\":\"ready\",\"Builds\":1,\"CPUMillis\":1500,\"MemoryBytes\":1073741824}\n"
    );
    let fields = machine.run("-q top --format {{.Pod}}:{{.CPU}}").await;
    assert_eq!(fields.stdout, "kube0-a:1.50\n");
}

#[tokio::test]
async fn start_starts_and_waits() {
    let (machine, _pod) = kube(Machine::new());
    let ended = machine.run("start --format json").await;
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "{\"Name\":\"kube\",\"Result\":\"started\"}\n"),
        "{ended:?}"
    );
    machine.run("start kube --node kube0").await;
    assert_eq!(machine.asked(), ["bootstrap kube ", "bootstrap kube kube0"]);
}

#[tokio::test]
async fn inactive_builders_are_removed_and_the_others_stay() {
    let machine = Machine::new();
    let run = machine.run_dir();
    let mut busy = builder(&run, "busy", "kubernetes", &["busy0", "busy1"]);
    busy.nodes[1].status = "running".into();
    let mut lost = builder(&run, "lost", "kubernetes", &["lost0"]);
    lost.nodes[0].status = "error".into();
    let machine = machine.builder(busy).builder(lost).builder(builder(&run, "idle", "local", &["idle0"]));
    let ended = machine.run("rm --all-inactive").await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), "idle removed\n"));
    assert_eq!(machine.asked(), ["remove idle"]);
}

#[tokio::test]
async fn fields_are_for_lists_and_errors_say_what_is_accepted() {
    let (machine, _pod) = kube(Machine::new());
    let names = machine.run("ls --format {{.Name}}").await;
    assert_eq!((names.code, names.stdout.as_str()), (Some(0), "kube\nkube0\n"), "{names:?}");
    let refused = machine.run("rm kube --format {{.Name}}").await;
    let told = "error: this command lists nothing: its --format is text or json, and has no fields\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(2), told));
    let unknown = machine.run("ls --format {{.Size}}").await;
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.stderr.ends_with(
            "hint: the fields are Name, DriverEndpoint, LastActivity, Status, Buildkit, Platforms, Error, Socket\n"
        ),
        "{unknown:?}"
    );
    let wrong = machine.run("ls --format {{len.Name}}").await;
    assert!(
        wrong.code == Some(2) && wrong.stderr.contains("accepted are text, json, and for lists fields"),
        "{wrong:?}"
    );
    assert_eq!(machine.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn every_shell_completes_every_command_and_every_command_has_its_page() {
    let machine = Machine::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = machine.run(&format!("completion {shell}")).await;
        for word in ["history", "dial-stdio", "doctor", "prune", "--format"] {
            let part = if shell == "fish" { word.trim_start_matches("--") } else { word };
            assert!(script.code == Some(0) && script.stdout.contains(part), "{shell}: no {word}");
        }
    }
    let dir = format!("{}/man", machine.run_dir());
    let ended = machine.run(&format!("man {dir}")).await;
    assert_eq!(
        (ended.code, ended.stderr),
        (Some(0), format!("info: `man -l {dir}/buildfleet.1` shows the first page\n"))
    );
    let page = std::fs::read_to_string(format!("{dir}/buildfleet-history-ls.1")).expect("it was written");
    assert!(page.contains("List the builds that run"), "{page}");
}

#[tokio::test]
async fn a_script_for_bash_is_one_that_bash_takes() {
    let script = Machine::new().run("completion bash").await.stdout;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("buildfleet.bash");
    std::fs::write(&file, script).expect("ours");
    // As bash asks for what may follow `buildfleet his`.
    let asking = format!(
        "source {}; COMP_WORDS=(buildfleet his); COMP_CWORD=1; _buildfleet buildfleet his buildfleet; echo ${{COMPREPLY[*]}}",
        file.display()
    );
    let output = tokio::process::Command::new("bash").args(["-c", &asking]).output().await.expect("bash is there");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "history\n", "{output:?}");
}
