//! `buildfleet job` against a Jobs service that answers from a script.

use buildfleet_proto::fleet::job_spec::Where;
use buildfleet_proto::fleet::{JobAddress, JobState, Kubeconfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tonic::Status;

use crate::cli_daemon::{Ended, Machine, ended};
use crate::support::jobs::{end, job, news, output};

/// A machine with a cluster and a Dockerfile in its home directory, which is the argument to come.
fn machine() -> Machine {
    Machine::new().file(".kube/config", "").file("app/Dockerfile", "FROM r.example/base\n")
}

fn run(machine: &Machine, flags: &str) -> String {
    format!("job run {}/app{}{flags}", machine.home(), if flags.is_empty() { "" } else { " " })
}

#[track_caller]
fn succeeded(ended: &Ended, stdout: &str, stderr: &str) {
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), stdout, stderr));
}

#[track_caller]
fn failed(ended: &Ended, code: i32, part: &str) {
    assert!(ended.code == Some(code) && ended.stderr.contains(part), "{part}\n{ended:?}");
}

fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id().expect("it runs")).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
}

#[tokio::test]
async fn a_build_is_followed_to_its_end_as_the_pod_tells_it() {
    let machine = machine();
    machine.jobs.tells([
        news("x-1", "pulling image", false),
        news("x-1", "no room", true),
        output("#1 [1/1] FROM x\n#1 DO"),
        output("NE 0.1s\n"),
        end(JobState::JobSucceeded, Some(0), "", ""),
    ]);
    let told = "info: job x in namespace builds\n{UP}info: x-1: pulling image\nwarning: x-1: no room\n#1 [1/1] FROM x\n#1 DONE 0.1s\n";
    let plain = machine.run(&run(&machine, "--name x -n builds")).await;
    let stderr: String = plain
        .stderr
        .lines()
        .filter(|line| !line.contains("sending the context"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!((plain.code, plain.stdout.as_str(), stderr), (Some(0), "", told.replace("{UP}", "")));
    let quiet = machine.run(&run(&machine, "-q")).await;
    succeeded(&quiet, "", "warning: x-1: no room\n");
    let json = machine.run(&run(&machine, "--format json")).await;
    let lines: Vec<&str> = json.stdout.lines().filter(|line| !line.contains("uploaded")).collect();
    assert_eq!(
        lines,
        [
            r#"{"Event":"job","Job":{"Name":"invented","Namespace":"builds","Status":"preparing"}}"#,
            r#"{"Event":"news","Pod":"x-1","Text":"pulling image"}"#,
            r#"{"Event":"news","Pod":"x-1","Text":"no room","Trouble":true}"#,
            r##"{"Event":"output","Text":"#1 [1/1] FROM x"}"##,
            r##"{"Event":"output","Text":"#1 DONE 0.1s"}"##,
            r#"{"Event":"end","State":"succeeded","ExitCode":0}"#,
        ]
    );
    let tty = machine.run(&run(&machine, "--progress tty")).await;
    assert!(tty.code == Some(0) && tty.stderr.contains(" => [1/1] FROM x "), "{tty:?}");
    assert_eq!(machine.jobs.asked(), ["list builds", "run builds/x", "run /", "run /", "run /"]);
}

#[tokio::test]
async fn flags_arrive_as_what_the_pod_is_made_of() {
    let machine = machine().file("buildkitd.toml", "debug = true\n").file("npm", "from a file");
    machine.jobs.tells([end(JobState::JobSucceeded, Some(0), "", "")]);
    let home = machine.home();
    let flags = format!(
        "-t r.example/app:1 --push --platform linux/arm64 --secret id=npm,src={home}/npm --registry-secret regcred \
         --driver-opt namespace=builds,requests.cpu=1 --buildkitd-flags --debug --buildkitd-config {home}/buildkitd.toml \
         --timeout 10m --ttl 90s --retries 2 --context prod"
    );
    let ended = machine.run(&run(&machine, &flags)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let spec = machine.jobs.spec();
    let place = spec.place.expect("a place");
    assert_eq!(
        place.kubeconfig,
        Some(Kubeconfig { paths: vec![format!("{home}/.kube/config")], context: "prod".into() })
    );
    assert_eq!((place.namespace.as_str(), place.name.as_str()), ("builds", ""));
    assert_eq!(spec.arguments[0], "--frontend=dockerfile.v0");
    assert!(spec.arguments.contains(&"--output=type=image,name=r.example/app:1,push=true".to_owned()));
    assert!(spec.arguments.contains(&"--secret=id=npm,src=/run/buildfleet/secrets/npm".to_owned()));
    assert_eq!(spec.secrets["npm"], b"from a file");
    assert_eq!((spec.registry_secret.as_str(), spec.buildkitd_flags.as_str()), ("regcred", "--debug"));
    assert_eq!(spec.buildkitd_config.expect("one").toml, "debug = true\n");
    assert_eq!(spec.driver_opt, ["namespace=builds,requests.cpu=1"]);
    assert_eq!((spec.ttl, spec.timeout, spec.retries, spec.title.as_str()), (90, 600, 2, "r.example/app:1"));
    assert_eq!((spec.platform, spec.uploads_context, spec.r#where), (vec!["linux/arm64".to_owned()], true, None));

    machine.run(&run(&machine, "--builder kube")).await;
    assert_eq!(machine.jobs.spec().r#where, Some(Where::Builder("kube".into())));
    assert_eq!(machine.jobs.spec().title, format!("{home}/app"));
    machine.run(&run(&machine, "--address tcp://b:1234 --certificates s --server-name n")).await;
    let address = JobAddress { address: "tcp://b:1234".into(), certificates: "s".into(), server_name: "n".into() };
    assert_eq!(machine.jobs.spec().r#where, Some(Where::Address(address)));
}

#[tokio::test]
async fn all_that_is_wrong_is_told_before_anything_is_asked() {
    let machine = machine();
    let flags = "--ttl never --timeout soon --secret id=a,env=UNSET --builder b --buildkitd-flags x";
    let ended = machine.run(&run(&machine, flags)).await;
    failed(
        &ended,
        2,
        "error: --ttl `never` is no duration: accepted is a duration, as in 1h\n  --timeout `soon` is no duration: accepted is a duration, as in 30m, or never\n  --secret `id=a,env=UNSET`: the variable UNSET is not set\n  --buildkitd-flags is for a buildkitd in the Job's own pod",
    );
    let config = format!("{}/missing.toml", machine.home());
    let ended = machine.run(&run(&machine, &format!("--build-arg = --opt x --buildkitd-config {config}"))).await;
    failed(
        &ended,
        2,
        "error: --build-arg `=` has no name: accepted are NAME=VALUE and NAME\n  --opt `x` is not of the form KEY=VALUE\n  failed to read --buildkitd-config",
    );
    let ended = machine.run(&run(&machine, "--load --ssh default --opt x")).await;
    failed(&ended, 2, "error: --load is no flag of `job run`: the result would stay in the Job's pod, which goes");
    failed(&ended, 2, "\n  --ssh is no flag of `job run`: your SSH agent is not in the cluster");
    failed(&ended, 2, "\n  --opt `x` is not of the form KEY=VALUE");
    failed(&machine.run(&run(&machine, "--push -o type=local,dest=x")).await, 2, "would stay in the Job's pod");
    failed(&machine.run("job run /nonexistent").await, 2, "error: the context `/nonexistent` does not exist");
    failed(&machine.run(&run(&machine, "--address tcp://b:1")).await, 2, "--certificates <SECRET>");
    failed(&machine.run("job run git@git.example:a/b").await, 2, "needs your SSH agent");
    failed(&machine.run("job ls --format {{.Nmae}}").await, 2, "the fields are Name, Namespace, Status");
    assert!(machine.jobs.asked().iter().all(|asked| asked.starts_with("list")), "{:?}", machine.jobs.asked());
}

#[tokio::test]
async fn the_exit_code_is_the_build_s_and_other_ends_are_told() {
    let machine = machine();
    for (event, code, told) in [
        (
            end(JobState::JobFailed, Some(3), "exit code 3", ""),
            3,
            "error: the build in job invented failed with exit code 3\n",
        ),
        (
            end(JobState::JobFailed, None, "Evicted", "the node is low on memory"),
            1,
            "error: job invented failed: Evicted: the node is low on memory\n",
        ),
        (end(JobState::JobFailed, None, "DeadlineExceeded", ""), 1, "error: job invented failed: DeadlineExceeded\n"),
        (end(JobState::JobCanceled, None, "", ""), 1, "error: job invented was canceled\n"),
    ] {
        machine.jobs.tells([output("#1 x\n#1 ERROR: y\nerror: failed to solve: y\n"), event]);
        let ended = machine.run(&run(&machine, "")).await;
        assert!(ended.stderr.contains("error: failed to solve: y\n"), "{ended:?}");
        failed(&ended, code, told);
    }
    // A quiet build that fails says why.
    machine
        .jobs
        .tells([output("#1 x\n#1 DONE 1s\nerror: failed to solve: y\n"), end(JobState::JobFailed, Some(1), "", "")]);
    let quiet = machine.run(&run(&machine, "-q")).await;
    assert_eq!(quiet.stderr, "error: failed to solve: y\nerror: the build in job invented failed with exit code 1\n");
    machine.jobs.refuses(Status::deadline_exceeded("no pod within 5m"));
    failed(&machine.run(&run(&machine, "")).await, 4, "error: failed to make the job: no pod within 5m\n");
}

#[tokio::test]
async fn ctrl_c_cancels_the_job_and_a_second_one_leaves() {
    let machine = machine();
    machine.jobs.tells([output("#1 x\n")]);
    let child = machine.start(&run(&machine, "--name x -n builds"));
    machine.jobs.was_asked("run builds/x").await;
    assert!(machine.jobs.whole().await);
    interrupt(&child);
    let canceled = ended(child).await;
    failed(&canceled, 130, "info: canceling job x; Ctrl-C once more leaves it at once\n");
    failed(&canceled, 130, "error: failed to build: job x was canceled: interrupted\n");
    assert_eq!(machine.jobs.asked().last().map(String::as_str), Some("remove builds/x"));

    let machine = self::machine();
    machine.jobs.gets_stuck();
    let child = machine.start("job attach x");
    machine.jobs.was_asked("follow /x true 0").await;
    // The name comes by an event, before which there is nothing to cancel.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    interrupt(&child);
    machine.jobs.was_asked("remove builds/x").await;
    interrupt(&child);
    failed(&ended(child).await, 130, "job x may still be there: `buildfleet job ls`");

    // Who only waits lets go of nothing but the wait.
    let child = machine.start("job wait x");
    machine.jobs.was_asked("follow /x true 1").await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    interrupt(&child);
    failed(&ended(child).await, 130, "job x goes on: `buildfleet job attach x`");
}

#[tokio::test]
async fn a_job_that_is_not_over_is_attached_to_and_one_that_is_over_is_in_the_way() {
    let machine = machine();
    machine.jobs.has(job("x", JobState::JobRunning));
    machine.jobs.has(job("y", JobState::JobFailed));
    machine.jobs.tells([output("#1 x\n"), end(JobState::JobFailed, Some(2), "exit code 2", "")]);
    let attached = machine.run(&run(&machine, "--name x -n builds")).await;
    failed(
        &attached,
        2,
        "info: job x is running and was not made anew: this is the one\ninfo: job x in namespace builds\n#1 x\n",
    );
    let over = machine.run(&run(&machine, "--name y -n builds")).await;
    failed(
        &over,
        1,
        "error: job y is there already, and failed\nhint: `buildfleet job rm y` makes room for another one\n",
    );
    assert_eq!(machine.jobs.asked(), ["list builds", "follow builds/x true 0", "list builds"]);
}

#[tokio::test]
async fn a_detached_run_ends_with_the_upload_and_prints_the_name() {
    let machine = machine();
    let detached = machine.run(&run(&machine, "--detach -q")).await;
    succeeded(&detached, "invented\n", "");
    assert!(machine.jobs.whole().await && machine.jobs.spec().detach);
}

#[tokio::test]
async fn a_daemon_that_goes_leaves_the_job_and_says_how_to_come_back() {
    let machine = machine();
    machine.jobs.tells([output("#1 x\n")]);
    let child = machine.start(&run(&machine, "--name x"));
    assert!(machine.jobs.whole().await);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    machine.kill_daemon();
    let lost = ended(child).await;
    failed(&lost, 1, "error: failed to follow job x: ");
    failed(&lost, 1, "hint: the job goes on without this daemon: `buildfleet job attach x --namespace builds`\n");
}

#[tokio::test]
async fn a_dry_run_prints_manifests_and_takes_no_secret_along() {
    let machine =
        machine().file("npm", "hush").file(".docker/config.json", r#"{"auths":{"r.example":{"auth":"aHVzaA=="}}}"#);
    let flags = format!("--dry-run --name x --secret id=npm,src={}/npm", machine.home());
    succeeded(&machine.run(&run(&machine, &flags)).await, "kind: Job\n", "warning: it is privileged\n");
    let spec = machine.jobs.spec();
    assert_eq!((spec.secrets["npm"].as_slice(), spec.docker_config.as_slice()), (&b""[..], &b"{}"[..]));
    assert_eq!(machine.jobs.asked(), ["render"]);
}

#[tokio::test]
async fn credentials_of_the_registries_that_are_needed_go_along() {
    let config = r#"{"credHelpers":{"c.example":"home"},"auths":{"r.example":{"auth":"cg=="},"no.example":{"auth":"bm8="},"p.example":{"auth":"cA=="}}}"#;
    let machine = machine()
        .file(".docker/config.json", config)
        .file("docker-credential-home", "#!/bin/sh\necho '{\"Username\":\"u\",\"Secret\":\"s\"}'\n");
    let helper = format!("{}/docker-credential-home", machine.home());
    std::fs::set_permissions(helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    machine.jobs.tells([end(JobState::JobSucceeded, Some(0), "", "")]);
    let ended = machine.run(&run(&machine, "-t p.example/app --push --cache-from c.example/cache")).await;
    assert!(
        ended.stderr.starts_with("info: credentials for c.example, p.example, r.example go to a Secret of the Job\n"),
        "{ended:?}"
    );
    let given: serde_json::Value = serde_json::from_slice(&machine.jobs.spec().docker_config).expect("it is JSON");
    let wanted = serde_json::json!({ "auths": { "c.example": { "auth": "dTpz" }, "p.example": { "auth": "cA==" }, "r.example": { "auth": "cg==" } } });
    assert_eq!(given, wanted);
}

#[tokio::test]
async fn jobs_are_listed_read_waited_for_and_removed_by_their_names() {
    let machine = machine();
    machine.jobs.has(job("x", JobState::JobRunning));
    succeeded(
        &machine.run("job ls -n builds").await,
        "NAME      STATUS    CREATED AT   DURATION   BUILDS\nx         running\n",
        "",
    );
    succeeded(&machine.run("job ls --format {{.Name}}:{{.Status}}").await, "x:running\n", "");
    succeeded(
        &machine.run("job ls -A --format json").await,
        "{\"Name\":\"x\",\"Namespace\":\"builds\",\"Status\":\"running\"}\n",
        "",
    );
    machine.jobs.tells([
        news("p", "pulling", false),
        output("one\ntw"),
        output("o\n"),
        end(JobState::JobFailed, Some(5), "", ""),
    ]);
    succeeded(&machine.run("job logs x").await, "one\ntwo\n", "");
    succeeded(
        &machine.run("job logs x -f --tail 2 --format json").await,
        "{\"Line\":\"one\"}\n{\"Line\":\"two\"}\n",
        "",
    );
    let waited = machine.run("job wait x --format json").await;
    assert_eq!(waited.stdout, "{\"Name\":\"x\",\"Status\":\"failed\",\"ExitCode\":5}\n");
    failed(&waited, 5, "error: the build in job x failed with exit code 5\n");
    succeeded(&machine.run("job cancel x -n builds").await, "x\n", "");
    succeeded(&machine.run("job rm x y").await, "x\ny\n", "");
    machine.jobs.refuses(Status::not_found("there is no job `x` in namespace builds"));
    let ended = machine.run("job rm --force x y --format json").await;
    assert_eq!((ended.stdout.as_str(), ended.code), ("{\"Name\":\"y\",\"Result\":\"removed\"}\n", Some(1)));
    assert_eq!(ended.stderr, "error: failed to remove job x: there is no job `x` in namespace builds\n");
    assert_eq!(
        machine.jobs.asked(),
        [
            "list builds",
            "list ",
            "list *",
            "follow /x false 0",
            "follow /x true 2",
            "follow /x true 1",
            "remove builds/x that runs",
            "remove /x that is over",
            "remove /y that is over",
            "remove /x",
            "remove /y",
        ]
    );
}

#[tokio::test]
async fn bash_completes_the_names_of_jobs_where_one_is_meant() {
    let machine = machine();
    machine.jobs.has(job("first", JobState::JobRunning));
    machine.jobs.has(job("second", JobState::JobRunning));
    let script = machine.run("completion bash").await.stdout;
    let file = format!("{}/script", machine.home());
    std::fs::write(&file, script).expect("ours");
    let program = env!("CARGO_BIN_EXE_buildfleet");
    for (words, wanted) in [
        ("job logs fi", "first"),
        ("job rm --namespace builds first s", "second"),
        ("job attach x", ""),
        ("job att", "attach"),
        ("job logs --fol", "--follow"),
    ] {
        let count = words.split(' ').count();
        let asking = format!(
            "buildfleet() {{ {program} \"$@\"; }}; source {file}; COMP_WORDS=(buildfleet {words}); COMP_CWORD={count}; \
             $(complete -p buildfleet | sed 's/.*-F \\([a-z_]*\\).*/\\1/') buildfleet {} {}; echo ${{COMPREPLY[*]}}",
            words.rsplit(' ').next().unwrap_or_default(),
            words.rsplit(' ').nth(1).unwrap_or_default(),
        );
        let mut bash = tokio::process::Command::new("bash");
        bash.args(["-c", &asking]).env("HOME", machine.home()).env("BUILDFLEET_RUNTIME_DIR", machine.run_dir());
        let output = bash.env_remove("KUBECONFIG").output().await.expect("bash is there");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), wanted, "{words}: {output:?}");
    }
    assert_eq!(machine.jobs.asked(), ["list ", "list builds", "list "]);
}

#[tokio::test]
async fn other_shells_ask_for_the_names_as_well() {
    let machine = Machine::new();
    for (shell, wanted) in [("zsh", 5), ("fish", 1)] {
        let script = machine.run(&format!("completion {shell}")).await.stdout;
        assert!(script.contains("buildfleet -q job ls --format '{{.Name}}'"), "{shell}");
        let used =
            script.matches(if shell == "zsh" { ":_buildfleet_jobs'" } else { "from logs wait attach cancel rm\" -f" });
        assert_eq!(used.count(), wanted, "{shell}");
    }
}
