//! Whole builds into their keys: which of them are one project, and which targets are told apart.

use std::ffi::OsString;

use buildfleet_proto::buildkit::Exporter;
use http::{HeaderMap, HeaderValue};

use super::*;

/// A build as its client shows it.
#[derive(Debug, Clone, Default)]
struct Shown {
    directory: &'static str,
    line: &'static str,
    shared_key: &'static str,
    /// Image names, one string for each exporter.
    names: Vec<&'static str>,
    options: Vec<(&'static str, &'static str)>,
}

impl Shown {
    fn placing(&self, driven_by_client: bool) -> Placing {
        let directory = Some(self.directory).filter(|path| !path.is_empty());
        let peer = Peer {
            directory: directory.map(Into::into),
            command_line: self.line.split_whitespace().map(OsString::from).collect(),
        };
        let mut metadata = HeaderMap::new();
        metadata.insert("x-docker-expose-session-sharedkey", HeaderValue::from_static(self.shared_key));
        let options = self.options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let exporter = |name: &&str| Exporter {
            r#type: "image".into(),
            attrs: [("name".to_owned(), (*name).to_owned()), ("push".to_owned(), "true".to_owned())].into(),
        };
        let mut solve = SolveRequest {
            r#ref: "ref".into(),
            exporters: self.names.iter().map(exporter).collect(),
            ..SolveRequest::default()
        };
        let mut bridge = frontend::SolveRequest { frontend: "dockerfile.v0".into(), ..Default::default() };
        if driven_by_client {
            bridge.frontend_opt = options;
            placing(&peer, SharedKey::of(&metadata).as_ref(), &solve, Some(&bridge))
        } else {
            (solve.frontend, solve.frontend_attrs) = (bridge.frontend, options);
            placing(&peer, SharedKey::of(&metadata).as_ref(), &solve, None)
        }
    }

    fn project(&self) -> String {
        let placings = [true, false].map(|driven| self.placing(driven));
        assert_eq!(placings[0], placings[1], "the keys depend on who drives the build");
        placings[0].project.to_string()
    }

    fn part(&self) -> StickyKey {
        self.placing(true).part
    }

    fn with(mut self, options: &[(&'static str, &'static str)]) -> Self {
        self.options.extend(options);
        self
    }

    fn named(mut self, names: &'static str) -> Self {
        self.names.push(names);
        self
    }
}

const KEY: &str = "app:0123456789abcdef";

fn buildx() -> Shown {
    Shown { directory: "/src/app", line: "docker-buildx buildx build .", shared_key: KEY, ..Shown::default() }
}

fn buildctl() -> Shown {
    Shown {
        directory: "/src/app",
        line: "buildctl build --frontend dockerfile.v0 --local context=. --local dockerfile=.",
        ..Shown::default()
    }
}

const CHECKOUT: [(&str, &str); 3] = [
    ("vcs:source", "https://github.com/team/app.git"),
    ("vcs:revision", "0123456789abcdef0123456789abcdef01234567"),
    ("vcs:localdir:context", "."),
];

#[test]
fn the_first_clue_in_order_names_the_project() {
    for (shown, wanted) in [
        // Where the sources are fetched from.
        (buildx().with(&[("context", "https://github.com/team/app.git#v1:web")]), "github.com/team/app/web"),
        (buildx().with(&[("input:context", "https://github.com/team/app.git#v1")]), "github.com/team/app"),
        (buildx().with(&[("context", "https://x/y.git")]).with(&CHECKOUT).named("r.example/z"), "x/y"),
        // The repository that a directory is a checkout of.
        (buildx().with(&CHECKOUT), "github.com/team/app"),
        (buildx().with(&CHECKOUT).named("r.example/team/app:1"), "github.com/team/app"),
        (
            buildx().with(&[("vcs:source", "git@github.com:team/mono.git"), ("vcs:localdir:context", "services/web")]),
            "github.com/team/mono/services/web",
        ),
        // What comes out.
        (buildx().named("r.example/team/app:1.2"), "r.example/team/app"),
        (buildx().named("app:1,r.example/team/app:1.2"), "app"),
        (buildx().named("").named("docker.io/library/app@sha256:0123"), "app"),
        (buildctl().named("r.example/team/app"), "r.example/team/app"),
        // Where it is.
        (buildx(), "/src/app"),
        (buildctl(), "/src/app"),
        (Shown { directory: "/src", line: "docker-buildx buildx build -f x app", ..buildx() }, "/src/app"),
        (Shown { directory: "/src/shop", line: "docker-buildx buildx bake", ..buildx() }, "/src/shop/app"),
        // What the session says.
        (Shown { directory: "", line: "", ..buildx() }, "app"),
        (Shown { directory: "/", line: "/usr/bin/service", ..buildx() }, "app"),
        // Standard input has another name in every run.
        (buildx().with(&[("context", "http://buildkit-session/abc123")]), "/src/app"),
        (Shown { directory: "", line: "", shared_key: "", ..Shown::default() }, ""),
        (Shown { directory: "/", line: "/usr/bin/service", ..Shown::default() }, ""),
    ] {
        assert_eq!(shown.project(), wanted, "{shown:?}");
    }
}

#[test]
fn a_project_is_the_same_in_its_next_run() {
    let random = |directory| Shown { directory, ..buildx() };
    for (one, other) in [
        // Another commit, tag, build argument, branch or token.
        (
            buildx().with(&CHECKOUT).named("r.example/app:0a1b2c3").with(&[("build-arg:GIT_SHA", "0a1b2c3")]),
            buildx()
                .with(&[("vcs:revision", "ffff"), CHECKOUT[0], CHECKOUT[2]])
                .named("r.example/app:7d6e5f4,r.example/app:latest")
                .with(&[("build-arg:GIT_SHA", "7d6e5f4"), ("build-arg:NEW", "1")]),
        ),
        (buildx().named("r.example/app:1"), buildx().named("r.example/app:2@sha256:0123,r.example/app:latest")),
        (
            buildx().with(&[("context", "https://token@h/app.git#0123456789abcdef")]),
            buildx().with(&[("context", "https://h/app.git?branch=fix")]),
        ),
        (
            buildx().with(&[("vcs:source", "https://ci-token:s3cret@h/team/app.git")]),
            buildx().with(&[("vcs:source", "git@h:team/app.git")]),
        ),
        // Another target, platform or Dockerfile of the same sources.
        (buildx(), buildx().with(&[("target", "test"), ("platform", "linux/arm64"), ("filename", "x.Dockerfile")])),
        // Tested without a name, then pushed.
        (buildx().with(&CHECKOUT), buildx().with(&CHECKOUT).named("r.example/app:1").with(&[("target", "release")])),
        // CI in a directory with a random name: the repository or the image tells.
        (random("/tmp/build-x7f3").with(&CHECKOUT), random("/tmp/build-k2m9").with(&CHECKOUT)),
        (random("/tmp/build-x7f3").named("r.example/app:1"), random("/tmp/build-k2m9").named("r.example/app:2")),
        // Two checkouts, two machines.
        (random("/src/app").with(&CHECKOUT), random("/src/app-hotfix").with(&CHECKOUT)),
        (
            Shown { directory: "", shared_key: KEY, ..Shown::default() },
            Shown { directory: "", shared_key: "app:fedcba9876543210", ..Shown::default() },
        ),
        // From a checkout, and from its URL.
        (buildx().with(&CHECKOUT), buildctl().with(&[("context", "https://github.com/team/app.git#main")])),
        // Both clients, one directory.
        (buildx(), buildctl()),
    ] {
        assert_eq!(one.project(), other.project(), "{one:?} {other:?}");
    }
}

#[test]
fn different_projects_have_different_keys() {
    let at = |directory| Shown { directory, ..buildx() };
    for (one, other) in [
        (at("/src/one/app"), at("/src/two/app")),
        (buildctl(), Shown { directory: "/src/other", ..buildctl() }),
        (buildx().named("r.example/one:1"), buildx().named("r.example/two:1")),
        (buildx().with(&[("context", "https://h/one.git")]), buildx().with(&[("context", "https://h/two.git")])),
        (buildx().with(&[("context", "https://h/a.git#:one")]), buildx().with(&[("context", "https://h/a.git#:two")])),
        (
            buildx().with(&[CHECKOUT[0], ("vcs:localdir:context", "one")]),
            buildx().with(&[CHECKOUT[0], ("vcs:localdir:context", "two")]),
        ),
    ] {
        assert_ne!(one.project(), other.project(), "{one:?} {other:?}");
    }
}

#[test]
fn targets_of_one_invocation_are_told_apart() {
    let base = || buildx().with(&CHECKOUT);
    let all = [
        base(),
        base().with(&[("target", "test")]),
        base().with(&[("filename", "web.Dockerfile")]),
        base().with(&[("platform", "linux/arm64")]),
        base().named("r.example/web:1"),
        base().named("r.example/web:2"),
        base().with(&[("build-arg:GO_VERSION", "1.24")]),
        base().with(&[("build-arg:GO_VERSION", "1.25")]),
        base().with(&[("context:base", "docker-image://alpine:3.20")]),
        base().with(&[("source", "docker/dockerfile:1")]),
        Shown { shared_key: "web:0123456789abcdef", ..base() },
    ];
    for (i, one) in all.iter().enumerate() {
        for other in &all[..i] {
            assert_ne!(one.part(), other.part(), "{one:?} {other:?}");
        }
    }
}

#[test]
fn a_target_is_the_same_in_its_next_run() {
    let base = || buildx().with(&CHECKOUT);
    for other in [
        base().with(&[("build-arg:GIT_SHA", "0a1b2c3")]),
        base().with(&[("build-arg:BUILD_DATE", "2026-11-21T14:00:00Z")]),
        base().with(&[("build-arg:SOURCE_DATE_EPOCH", "1795259773")]),
        base().with(&[("build-arg:NOTES", &"x".repeat(65).leak()[..])]),
        base().with(&[("vcs:revision", "ffff"), ("label:org.opencontainers.image.revision", "x")]),
        base().with(&[("local-sessionid:context", "x7k2"), ("no-cache", ""), ("attest:provenance", "mode=max")]),
        Shown { shared_key: "app:fedcba9876543210", directory: "/tmp/x", ..base() },
    ] {
        assert_eq!(base().part(), other.part(), "{other:?}");
    }
    let tagged = |name| base().named(name).part();
    assert_eq!(tagged("r.example/app:0a1b2c3"), tagged("r.example/app:7d6e5f4"));
    assert_eq!(tagged("r.example/app:v1-12-g0a1b2c3"), tagged("r.example/app@sha256:0123"));
    assert_ne!(tagged("r.example/app:debug"), tagged("r.example/app:slim"));
}

#[test]
fn a_probe_and_the_ref_are_passed_on() {
    let solve = SolveRequest { r#ref: "r1".into(), internal: true, ..SolveRequest::default() };
    let placing = placing(&Peer::default(), None, &solve, None);
    assert_eq!(placing, Placing { build_ref: "r1".into(), internal: true, ..Placing::default() });
}
