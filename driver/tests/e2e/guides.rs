//! Every command of the guides in docs/guides, typed as it stands there, and what it prints compared with what they show.
//!
//! docs/guides/README.md says what stands for what: the names that a reader has to replace by his own are replaced here by those
//! of the test cluster.

mod page;
mod shell;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use self::page::Command;
use self::shell::Shell;
use crate::package::archive;
use crate::support::clock::seconds;
use crate::support::scene::Scene;
use crate::support::service::{PASSWORD, Registry};
use crate::support::tools::cluster;

/// What the guide calls the registry that says how to speak to it.
const INTERNAL: &str = "registry.internal.example.com";

/// Each is the name of a page and has a test.
const GUIDES: [&str; 9] = [
    "first-build",
    "multi-arch",
    "ci",
    "shared-team-builder",
    "rootless",
    "private-registries",
    "troubleshooting",
    "builds-as-jobs",
    "buildkit-by-hand",
];

#[test]
fn the_readme() {
    let page = fs::read_to_string(repository().join("README.md")).expect("it is in the repository");
    type_in("README.md", &page);
}

#[test]
fn the_first_build() {
    follow("first-build");
}

#[test]
fn a_build_for_several_architectures() {
    follow("multi-arch");
}

#[test]
fn builds_in_ci() {
    follow("ci");
}

#[test]
fn one_builder_for_a_team() {
    follow("shared-team-builder");
}

#[test]
fn builds_without_root() {
    follow("rootless");
}

#[test]
fn pods_that_are_one_s_own() {
    follow("buildkit-by-hand");
}

#[test]
fn registries_that_want_a_password() {
    follow("private-registries");
}

#[test]
fn builds_as_jobs() {
    follow("builds-as-jobs");
}

#[test]
fn what_to_do_when_something_fails() {
    follow("troubleshooting");
}

#[test]
fn every_guide_has_a_test() {
    let mut pages: Vec<String> = fs::read_dir(guides())
        .expect("the guides are in the repository")
        .map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "README.md")
        .collect();
    let mut tested = GUIDES.map(|name| format!("{name}.md")).to_vec();
    pages.sort();
    tested.sort();
    assert_eq!(pages, tested);
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn guides() -> PathBuf {
    repository().join("docs/guides")
}

fn follow(name: &str) {
    assert!(GUIDES.contains(&name), "{name} is no guide");
    let file = guides().join(format!("{name}.md"));
    let page = fs::read_to_string(file).expect("the guide is in the repository");
    type_in(&format!("docs/guides/{name}.md"), &page);
}

/// All of a page, by one person in one shell, and by those that it names in theirs.
fn type_in(name: &str, page: &str) {
    let commands = page::commands(page).unwrap_or_else(|error| panic!("{name}: {error}"));
    base_image();
    let mut scene = Scene::kube();
    let registry = Registry::start(&scene.path("registry"));
    scene.set("SSL_CERT_FILE", registry.authority());
    let place = Place::make(&scene, &registry, page.contains(INTERNAL));
    let mut others: BTreeMap<String, (Scene, Shell)> = BTreeMap::new();
    let mut reader = Shell::open(&scene);
    place.furnish(&mut reader);
    // One guide is about this.
    if !page.contains("/install --user") {
        install(&mut reader);
    }
    for command in &commands {
        let shell = match &command.person {
            None => &mut reader,
            Some(person) => {
                let (_, shell) = others.entry(person.clone()).or_insert_with(|| {
                    let other = Scene::beside(&scene);
                    let mut shell = Shell::open(&other);
                    install(&mut shell);
                    (other, shell)
                });
                shell
            }
        };
        place.check(name, command, shell);
    }
    drop(reader);
    for (other, shell) in others.into_values() {
        drop(shell);
        other.has_no_builder();
    }
    // A guide ends with what takes away all that it made.
    scene.has_no_builder();
    scene.namespace().empties();
}

fn install(shell: &mut Shell) {
    let done = shell.run("buildfleet install --user");
    assert_eq!(done.code, 0, "{done:?}");
}

/// What stands for the reader's own cluster and registry.
#[derive(Debug)]
struct Place<'a> {
    names: Vec<(&'static str, String)>,
    registry: &'a Registry,
}

impl<'a> Place<'a> {
    fn make(scene: &Scene, registry: &'a Registry, the_guide_configures: bool) -> Self {
        // By this pods know the registry, and find in the cluster's own, which is plain HTTP, what docker's would have.
        let config = scene.path("buildkitd.toml");
        let (host, authority, mirror) = (registry.host(), registry.authority(), &cluster().registry);
        let text = format!(
            "[registry.\"{host}\"]\n  ca = [\"{}\"]\n[registry.\"{mirror}\"]\n  http = true\n\
             [registry.\"docker.io\"]\n  mirrors = [\"{mirror}\"]\n",
            authority.display()
        );
        fs::write(&config, text).expect("a file of our own");
        let config = format!("--buildkitd-config {}", config.display());
        let namespace = scene.namespace().name();
        let mut names = vec![
            ("registry.example.com", host.clone()),
            (INTERNAL, host),
            ("--namespace builds", format!("--namespace {namespace}")),
            ("?namespace=builds", format!("?namespace={namespace}")),
            ("--driver local", format!("--driver local {config}")),
            (
                "BUILDFLEET_CI_NAMESPACE=builds",
                format!("BUILDFLEET_CI_NAMESPACE={namespace} BUILDFLEET_CI_OPTIONS='{config}'"),
            ),
        ];
        let options = format!("--driver-opt namespace={namespace}");
        if the_guide_configures {
            names.push(("--driver-opt namespace=builds", options));
        } else {
            names.push(("--driver-opt namespace=builds", format!("{config} {options}")));
            registry.log_in(&scene.path("docker"));
        }
        Self { names, registry }
    }

    /// What the guides speak of, in the directory that they begin in.
    fn furnish(&self, shell: &mut Shell) {
        let package = archive();
        let package = package.parent().expect("it is in a folder").display();
        let examples = repository().join("examples");
        let authority = self.registry.authority();
        let done = shell.run(&format!(
            "ln -s {} {package}/*.tar.gz* . && cp {} ca.pem && echo {PASSWORD} >password.txt && \
             printf 'FROM scratch\\nCOPY ca.pem /\\n' >Dockerfile",
            examples.display(),
            authority.display()
        ));
        assert_eq!(done.code, 0, "{done:?}");
    }

    fn here(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, stands_for)| text.replace(name, stands_for))
    }

    fn check(&self, guide: &str, command: &Command, shell: &mut Shell) {
        let at = format!("{guide}:{}: `{}`", command.line, command.text);
        let done = shell.run(&self.here(&command.text));
        println!("{at}\n{}", done.said);
        assert_eq!(command.fails, done.code != 0, "{at} ended with {}:\n{}", done.code, done.said);
        let shown: Vec<String> = command.shown.iter().map(|line| self.here(line)).collect();
        let shown_text = shown.join("\n");
        assert!(page::is_what_was_said(&shown, &done.said), "{at} said\n{}\nand not\n{shown_text}", done.said);
    }
}

/// `busybox`, as docker's registry has it: for two architectures, with a shell.
fn base_image() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let scene = Scene::local();
        let registry = &cluster().registry;
        let config = scene.path("buildkitd.toml");
        fs::write(&config, format!("[registry.\"{registry}\"]\n  http = true\n")).expect("a file of our own");
        let builder = scene.create("base", &format!("--driver local --buildkitd-config {}", config.display()));
        let context = scene.contexts().with("base", "");
        let dockerfile =
            "FROM scratch\nARG TARGETARCH\nCOPY bin /bin\nCOPY busybox-${TARGETARCH} /bin/busybox\nCMD [\"sh\"]\n";
        fs::write(context.join("Dockerfile"), dockerfile).expect("a file of our own");
        let links =
            "mkdir bin && for tool in $(./busybox-amd64 --list); do ln -s busybox bin/$tool; done && rm bin/busybox";
        scene.shell(links).dir(&context).succeeds();
        let output = format!("type=image,name={registry}/library/busybox:latest,push=true");
        let platforms = "platform=linux/amd64,linux/arm64";
        let build = builder.buildctl(&context, &format!("--opt {platforms} --output {output}"));
        build.within(seconds(60)).succeeds();
        builder.remove();
    });
}
