//! The program as a client of BuildKit on the sockets of a builder's nodes: usage, prune, history, and plain bytes.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Status;

use crate::cli_daemon::{Ended, Machine, builder, ended};
use crate::support::buildkitd::FakeBuildkitd;

/// A builder of two nodes, and what answers on their sockets.
fn kube() -> (Machine, [FakeBuildkitd; 2]) {
    let machine = Machine::new();
    let run = machine.run_dir();
    let nodes = Path::new(&run).join("nodes");
    std::fs::create_dir(&nodes).expect("ours");
    let pods = ["kube0", "kube1"].map(|node| FakeBuildkitd::start(node, &nodes));
    (machine.builder(builder(&run, "kube", "kubernetes", &["kube0", "kube1"])), pods)
}

#[track_caller]
fn succeeded(ended: &Ended, stdout: &str) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), stdout), "{ended:?}");
}

#[tokio::test]
async fn du_is_one_table_of_all_nodes() {
    let (machine, [first, second]) = kube();
    first.records.uses("a1", 2_000);
    second.records.uses("b1", 1_000_000);
    let table = "ID        RECLAIMABLE   SIZE      LAST ACCESSED\na1        true          2kB\n\
                 b1        true          1MB\nReclaimable:\t1.002MB\nTotal:\t\t1.002MB\n";
    succeeded(&machine.run("du kube").await, table);
    succeeded(&machine.run("du --builder kube --format {{.Node}}={{.Size}}").await, "kube0=2kB\nkube1=1MB\n");
    let json = machine.run("du kube --format json --filter type=regular --filter until=1h").await;
    assert!(json.stdout.starts_with("{\"ID\":\"a1\",\"Parents\":[],") && json.stdout.lines().count() == 2, "{json:?}");
    assert_eq!(second.records.calls(), ["DiskUsage", "DiskUsage", "DiskUsage type==regular"]);
    let refused = machine.run("du kube --filter until=soon").await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
}

#[tokio::test]
async fn what_one_node_refuses_is_told_with_its_name() {
    let (machine, [_first, second]) = kube();
    second.records.refuses("DiskUsage", Status::internal("disk is gone"));
    let ended = machine.run("du kube").await;
    let told = "error: failed to ask node kube1 for its disk usage: disk is gone\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), told));

    // To prune goes on at the others, and tells what went.
    let (machine, [first, second]) = kube();
    first.records.refuses("Prune", Status::internal("disk is gone"));
    second.records.uses("b1", 1_000);
    let ended = machine.run("prune kube --force").await;
    assert_eq!(ended.stderr, "error: failed to prune node kube0: disk is gone\n");
    assert!(
        ended.code == Some(1) && ended.stdout.contains("b1 ") && ended.stdout.ends_with("Total:\t1kB\n"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn prune_has_to_be_confirmed_and_sums_up() {
    let (machine, [first, second]) = kube();
    first.records.uses("a1", 2_000);
    second.records.uses("b1", 1_000);
    let unasked = machine.run("prune kube").await;
    let wanted = "error: removing unused build cache of builder kube has to be confirmed\n\
                  hint: there is no terminal to ask at: give --force\n";
    assert_eq!((unasked.code, unasked.stderr.as_str()), (Some(2), wanted));
    assert_eq!(first.records.calls(), [""; 0]);

    let pruned = machine.run("prune kube -f -a --keep-storage 10gb --filter id=x").await;
    assert!(pruned.code == Some(0) && pruned.stdout.ends_with("Total:\t3kB\n"), "{pruned:?}");
    assert_eq!(first.records.calls(), ["Prune id~=x"]);
    succeeded(&machine.run("prune kube --force").await, "Total:\t0B\n");
    let wrong = machine.run("prune kube --force --max-used-space lots").await;
    assert!(wrong.code == Some(2) && wrong.stderr.contains("`lots` is no amount of space"), "{wrong:?}");
}

#[tokio::test]
async fn history_is_one_list_with_the_newest_first() {
    let (machine, [first, second]) = kube();
    first.records.built("aaaa1111", 300);
    second.records.built("bbbb2222", 60);
    second.records.begins("cccc3333");
    let listed = machine.run("history ls --builder kube --format {{.Ref}}:{{.Status}}:{{.Node}}").await;
    succeeded(&listed, "cccc3333:Running:kube1\nbbbb2222:Completed:kube1\naaaa1111:Completed:kube0\n");
    let table = machine.run("history --builder kube ls").await;
    assert!(table.stdout.starts_with("BUILD ID   NAME      STATUS      CREATED AT"), "{table:?}");
    let json = machine.run("history ls --builder kube --format json").await;
    assert!(json.stdout.contains("{\"ref\":\"kube/kube0/aaaa1111\","), "{json:?}");
    let inspected = machine.run("history inspect --builder kube aaaa").await;
    assert!(inspected.code == Some(0) && inspected.stdout.contains("\nStarted:\t"), "{inspected:?}");
    assert_eq!(inspected.stderr, "info: print its log with `buildfleet history logs aaaa1111`\n");
}

#[tokio::test]
async fn a_record_is_removed_by_the_beginning_of_its_id() {
    let (machine, [first, second]) = kube();
    first.records.built("abcd", 300);
    second.records.built("abef", 60);
    let unclear = machine.run("history rm --builder kube ab").await;
    let told = "error: failed to remove the record of build ab: `ab` is the beginning of several builds: abcd, abef\n";
    assert_eq!((unclear.code, unclear.stderr.as_str()), (Some(1), told));
    let removed = machine.run("history rm --builder kube abc nix").await;
    assert_eq!(removed.code, Some(1));
    assert!(
        removed.stderr.starts_with("abcd removed\nerror: failed to remove the record of build nix: "),
        "{removed:?}"
    );
    let rest = machine.run("history rm --builder kube --all --format json").await;
    succeeded(&rest, "{\"Name\":\"abef\",\"Result\":\"removed\"}\n");
    let empty = machine.run("history inspect --builder kube").await;
    assert_eq!(empty.stderr, "error: builder kube has no records of builds\n");
}

#[tokio::test]
async fn an_export_holds_the_record_and_its_log() {
    let (machine, [first, _second]) = kube();
    first.records.built("abcd", 300);
    let file = format!("{}/abcd.dockerbuild", machine.run_dir());
    let ended = machine.run(&format!("history export --builder kube abcd --output {file}")).await;
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), format!("{file} has the record of build abcd\n").as_str())
    );
    let mut archive = Vec::new();
    let packed = std::fs::File::open(&file).expect("it was written");
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut archive).expect("it is compressed");
    let text = String::from_utf8_lossy(&archive);
    for part in
        ["oci-layout", "index.json", "application/vnd.buildkit.historyrecord.v0", "log of abcd", "\"Ref\":\"abcd\""]
    {
        assert!(text.contains(part), "no {part} in {text}");
    }
    // Without a file, to whatever reads.
    let piped = machine.run("history export --builder kube").await;
    assert_eq!((piped.code, piped.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_node_that_nobody_serves_is_told_by_its_socket() {
    let machine = Machine::new();
    let run = machine.run_dir();
    let machine = machine.builder(builder(&run, "kube", "kubernetes", &["kube0"]));
    for line in ["du kube", "prune kube --force", "history ls --builder kube", "dial-stdio kube --node kube0"] {
        let ended = machine.run(line).await;
        let told = format!("error: failed to connect to {run}/nodes/kube0.sock: ");
        assert!(ended.code == Some(1) && ended.stderr.starts_with(&told), "{line}: {ended:?}");
    }
}

#[tokio::test]
async fn dial_stdio_passes_bytes_on_and_half_closes() {
    let machine = Machine::new();
    let run = machine.run_dir();
    std::fs::create_dir(format!("{run}/nodes")).expect("ours");
    let listener = tokio::net::UnixListener::bind(format!("{run}/nodes/kube0.sock")).expect("a short path");
    let machine = machine.builder(builder(&run, "kube", "kubernetes", &["kube0"]));
    let mut child = machine.start("dial-stdio kube --platform linux/amd64");
    let (mut stream, _) = listener.accept().await.expect("it connects");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(b"question").await.expect("it reads");
    drop(stdin);
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("it half-closes");
    assert_eq!(said, "question");
    stream.write_all(&vec![b'a'; 100_000]).await.expect("it still listens");
    drop(stream);
    let ended = ended(child).await;
    assert_eq!((ended.code, ended.stdout.len(), ended.stderr.as_str()), (Some(0), 100_000, ""));
}
