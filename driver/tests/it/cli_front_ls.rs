//! `docker buildx ls` with builders of ours among the others.

use std::time::{Duration, Instant};

use buildfleet_proto::fleet::Pod;

use crate::cli_daemon::{Machine, builder};
use crate::cli_front::{expect, registered};

/// The real one's list: two of ours, one of them unknown to the daemon; one of docker's with a node that is slow to tell, and one
/// that cannot be loaded.
fn machine() -> Machine {
    let machine = Machine::new().buildx(&[], false);
    let run = machine.run_dir();
    let row = |fields: [&str; 10]| listed(&fields);
    let socket = |node: &str| format!("unix://{run}/nodes/{node}.sock");
    let theirs = r#"{"Current":false,"Driver":"docker-container","Name":"theirs"}"#;
    let rows = [
        row(["gone", "false", "gone", "remote", "", "", "", "", "", "{\"Name\":\"gone\"}"]),
        row(["gone", "false", "gone0", &socket("gone0"), "", "inactive", "", "", "", "{\"Name\":\"gone\"}"]),
        row(["kube", "true", "kube", "remote", "2026-11-21T20:37:19Z", "", "", "", "", "{\"Name\":\"kube\"}"]),
        row([
            "kube",
            "true",
            "kube0",
            &socket("kube0"),
            "",
            "running",
            "v0.1",
            "linux/amd64*",
            "",
            "{\"Name\":\"kube\"}",
        ]),
        row(["theirs", "false", "theirs", "docker-container", "2026-11-21T20:37:19Z", "", "", "", "", theirs]),
        row([
            "theirs",
            "false",
            "theirs0",
            "unix:///var/run/docker.sock",
            "",
            "running",
            "v0.33.1",
            "linux/amd64*, linux/amd64/v2, linux/amd64/v3, linux/386, linux/arm64, linux/riscv64, linux/s390x",
            "",
            theirs,
        ]),
        row(["theirs", "false", "theirs1", "tcp://h:1", "", "error", "", "", "no way\n", theirs]),
        row([
            "default",
            "false",
            "default",
            "",
            "",
            "error",
            "",
            "",
            "no engine",
            "{\"Err\":\"no engine\",\"Name\":\"default\"}",
        ]),
    ];
    let mut kube = builder(&run, "kube", "kubernetes", &["kube0", "kube1"]);
    let pod = |name: &str, status: &str| Pod { name: name.into(), status: status.into(), ..Pod::default() };
    kube.nodes[0].pods = vec![pod("kube0-a", "ready"), pod("kube0-b", "starting"), pod("kube0-c", "terminating")];
    kube.nodes[0].status = "running".into();
    kube.nodes[0].buildkit_version = "v0.33.1".into();
    kube.nodes[1].pods = vec![pod("kube1-a", "pending")];
    kube.nodes[1].status = "error".into();
    kube.nodes[1].reason = "the image cannot be pulled".into();
    let machine = machine.file("buildx/on-ls", &rows.concat()).builder(kube);
    registered(registered(machine, "kube", &["kube0"]), "gone", &["gone0"])
}

/// A row as the real one prints it by our template.
pub(crate) fn listed(fields: &[&str; 10]) -> String {
    format!("printf '%s\\n' '{}\u{1e}'\n", fields.join("\u{1f}"))
}

/// Columns are as wide as their widest cell, which a path is: here with one space for many.
const TABLE: &[&str] = &[
    "NAME/NODE DRIVER/ENDPOINT STATUS BUILDKIT PLATFORMS",
    "gone remote",
    "\\_ gone0 \\_ unix://RUN/nodes/gone0.sock inactive",
    "kube* kubernetes",
    "\\_ kube0-a \\_ kubernetes://kube0 running v0.33.1 linux/amd64*",
    "\\_ kube0-b \\_ kubernetes://kube0 starting v0.33.1 linux/amd64*",
    "\\_ kube1 \\_ kubernetes://kube1 error linux/amd64*",
    "theirs docker-container",
    "\\_ theirs0 \\_ unix:///var/run/docker.sock running v0.33.1 linux/amd64* (+3), linux/arm64, linux/s390x, linux/riscv64, (1 more)",
    "\\_ theirs1 \\_ tcp://h:1 error",
    "default error",
];

const BELOW: &str = "\nFailed to get status for kube (kube1): the image cannot be pulled\n\
                     Failed to get status for theirs (theirs1): no way\nCannot load builder default: no engine\n";

#[tokio::test]
async fn ours_are_told_as_they_are_and_the_others_as_before() {
    let machine = machine();
    let table: Vec<String> = TABLE.iter().map(|line| line.replace("RUN", &machine.run_dir())).collect();
    let squeezed =
        |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    let ended = machine.run("buildx ls").await;
    assert_eq!(squeezed(&ended.stdout), table, "{}", ended.stdout);
    assert_eq!((ended.stderr.as_str(), ended.code), (BELOW, Some(0)));
    let whole = machine.run("buildx ls --no-trunc").await;
    assert!(
        whole.stdout.contains("linux/amd64*, linux/amd64/v2, linux/amd64/v3, linux/386, linux/arm64,"),
        "{whole:?}"
    );
    assert!(machine.told()[0].starts_with("ls --format"), "{:?}", machine.told());
    let timed = machine.run("buildx ls --timeout 3s").await;
    assert_eq!(timed.code, Some(0));
    assert!(machine.told().iter().any(|line| line.ends_with("--timeout=3s")), "{:?}", machine.told());
}

#[tokio::test]
async fn json_and_fields_have_buildx_s_names() {
    let machine = machine();
    let json = machine.run("buildx ls --format json").await;
    let lines: Vec<&str> = json.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{json:?}");
    assert_eq!(lines[2], r#"{"Current":false,"Driver":"docker-container","Name":"theirs"}"#, "as buildx wrote it");
    let ours: serde_json::Value = serde_json::from_str(lines[1]).expect("JSON");
    assert_eq!((ours["Driver"].as_str(), ours["Current"].as_bool()), (Some("kubernetes"), Some(true)));
    assert_eq!(ours["Nodes"][0]["Pods"][0]["Name"].as_str(), Some("kube0-a"));
    let fields = machine.run("buildx ls --format {{.Name}}:{{.Status}}").await;
    let wanted = "gone:\ngone0:inactive\nkube:\nkube0-a:running\nkube0-b:starting\nkube1:error\ntheirs:\ntheirs0:running\ntheirs1:error\ndefault:error\n";
    expect(&fields, 0, wanted, "");
}

#[tokio::test]
async fn a_template_for_go_is_filled_in_by_the_real_one_which_is_said() {
    let machine = machine();
    let ended = machine.run("buildx ls --format {{range.Builder.Nodes}}x{{end}}").await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(
        ended.stderr,
        "warning: docker's own buildx fills in this template: to it, builders of buildfleet are `remote` ones\n"
    );
    assert_eq!(machine.told(), ["ls --format {{range.Builder.Nodes}}x{{end}}"]);
}

#[tokio::test]
async fn a_buildx_that_hangs_is_ended() {
    let machine = machine().file("buildx/on-ls", "exec sleep 60\n");
    let began = Instant::now();
    let ended = machine.run("buildx ls --timeout 1ms").await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("gave no answer in time"), "{ended:?}");
}
