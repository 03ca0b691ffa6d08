//! The program beside a docker buildx that records what it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::cli_daemon::{Machine, builder};

const OURS: &str = "Name:   kube\nDriver: remote\n\nNodes:\nName:     kube0\nEndpoint: unix://RUN/nodes/kube0.sock\n\nName:     kube1\nEndpoint: unix://RUN/nodes/kube1.sock\n";

const OTHER: &str = "Name:   kube\nDriver: docker-container\n\nNodes:\nName:     kube0\nEndpoint: default\n";

impl Machine {
    /// A buildx that says what it was told; `known` is what it has, by name, as `inspect` prints it.
    pub(crate) fn buildx(self, known: &[(&str, &str)], create_fails: bool) -> Self {
        let dir = Path::new(&self.home()).join("buildx");
        fs::create_dir(&dir).expect("ours");
        for (name, text) in known {
            fs::write(dir.join(name), text.replace("RUN", &self.run_dir())).expect("ours");
        }
        let create = if create_fails { "echo 'ERROR: the store is full' >&2; exit 1" } else { "exit 0" };
        let script = format!(
            "#!/bin/sh\ncd {dir}\n[ \"$1\" = buildx ] && shift\ncase $1 in\n\
             version) echo github.com/docker/buildx v0; exit 0;;\n\
             inspect) cat \"$2\" 2>/dev/null && exit 0; echo \"ERROR: no builder \\\"$2\\\" found\" >&2; exit 1;;\nesac\n\
             echo \"$@\" >>told\n[ -f \"on-$1\" ] && . \"./on-$1\"\ncase $1 in create) {create};; esac\n",
            dir = dir.display()
        );
        let program = Path::new(&self.home()).join("docker");
        fs::write(&program, script).expect("ours");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("ours");
        self
    }

    /// What buildx was told, one call per line, with `RUN` for the runtime directory.
    pub(crate) fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(Path::new(&self.home()).join("buildx/told")).unwrap_or_default();
        text.lines().map(|line| line.replace(&self.run_dir(), "RUN")).collect()
    }
}

#[tokio::test]
async fn create_registers_the_builder_and_each_further_node() {
    let machine = Machine::new().buildx(&[], false);
    let ended = machine.run("create --name kube --driver local --platform linux/amd64 --use").await;
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "kube\n", ""));
    assert_eq!(
        machine.told(),
        [
            "create --name kube --driver remote --node kube0 --platform linux/amd64 unix://RUN/nodes/kube0.sock",
            "use kube"
        ]
    );
    let machine = Machine::new().buildx(&[("kube", &OURS.replace("kube1", "gone"))], false);
    let run = machine.run_dir();
    let machine = machine.builder(builder(&run, "kube", "local", &["kube0"]));
    machine.run("create --name kube --append").await;
    assert_eq!(
        machine.told(),
        [
            "create --name kube --driver remote --node kube1 --append --platform linux/amd64 unix://RUN/nodes/kube1.sock",
            "create --leave --name kube --node gone"
        ]
    );
}

#[tokio::test]
async fn another_builder_of_that_name_in_buildx_is_an_error_before_anything_is_made() {
    let machine = Machine::new().buildx(&[("kube", OTHER)], false);
    let ended = machine.run("create --name kube --driver local").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(
        ended.stderr.starts_with(
            "error: failed to create builder kube: docker buildx has another builder of that name, with the docker-container driver\nhint: "
        ),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("`docker buildx rm kube`"), "{ended:?}");
    assert_eq!(machine.asked(), Vec::<String>::new());
    assert_eq!(machine.told(), Vec::<String>::new());
    let off = machine.run_with("create --name kube --driver local", "BUILDFLEET_BUILDX", "off").await;
    assert_eq!((off.code, off.stderr.as_str()), (Some(0), ""), "{off:?}");
    assert_eq!(machine.told(), Vec::<String>::new());
}

#[tokio::test]
async fn a_registration_that_fails_is_a_warning_with_the_command_to_run() {
    let machine = Machine::new().buildx(&[], true);
    let ended = machine.run("create --name kube --driver local --use").await;
    let run = machine.run_dir();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "kube\n"));
    assert_eq!(
        ended.stderr,
        format!(
            "warning: failed to register builder kube with docker buildx: the store is full\n\
             hint: run it by hand: docker buildx create --name kube --driver remote --node kube0 --platform linux/amd64 \
             unix://{run}/nodes/kube0.sock && docker buildx use kube\n"
        )
    );
}

#[tokio::test]
async fn without_buildx_a_builder_is_made_all_the_same() {
    let machine = Machine::new();
    let run = machine.run_dir();
    let ended = machine.run_with("create --name kube --driver local", "BUILDFLEET_BUILDX", "/nonexistent/buildx").await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stderr, "warning: BUILDFLEET_BUILDX is /nonexistent/buildx, which is no docker buildx\n");
    assert!(!run.is_empty());
}

#[tokio::test]
async fn leave_rm_and_use_keep_in_step_but_touch_no_other_builder() {
    for (inspected, wanted) in
        [(OURS, vec!["use kube", "create --leave --name kube --node kube1", "rm kube"]), (OTHER, vec![])]
    {
        let machine = Machine::new().buildx(&[("kube", inspected)], false);
        let run = machine.run_dir();
        let machine = machine.builder(builder(&run, "kube", "local", &["kube0", "kube1"]));
        for line in ["use kube", "create --leave --name kube --node kube1", "rm kube"] {
            let ended = machine.run(line).await;
            assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        }
        assert_eq!(machine.asked(), ["use kube", "leave kube kube1", "remove kube"]);
        assert_eq!(machine.told(), wanted);
    }
}
