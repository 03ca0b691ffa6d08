//! Builds that fail: the user reads what stock buildx would show, and no later.

use crate::remote::Buildkitd;
use crate::support::builder::Builder;
use crate::support::scene::Scene;

/// What is asked for, after which lines of a Dockerfile.
const ROWS: [(&str, &str); 12] = [
    ("", "COPY nothing-here /\n"),
    ("", "BOGUS instruction\n"),
    ("", "RUN echo said && exit 3\n"),
    ("", "RUN --mount=type=secret,id=word,required=true true\n"),
    ("", "RUN --security=insecure true\n"),
    ("--file nowhere", ""),
    ("--target nowhere", ""),
    ("--platform linux/s390x", ""),
    ("--build-context other=oci-layout:///nowhere:1", ""),
    ("--output type=image,push=true,name=127.0.0.1:1/nobody", ""),
    ("--sbom=generator=127.0.0.1:1/nobody", ""),
    // This one is refused before there is a build.
    ("--output type=bogus", ""),
];

/// Beside a `remote` builder that buildx made itself, at the same `buildkitd`.
pub(super) fn are_told_as_by_stock_buildx(scene: &Scene) {
    let address = format!("unix://{}", scene.path("other.sock").display());
    let _other = Buildkitd::start(scene, &address, "");
    let ours = scene.create("ours", &format!("--driver remote {address}"));
    scene.buildx(&format!("create --name stock --driver remote {address}")).succeeds();
    let stock = scene.builder("stock");
    let mut differ = Vec::new();
    for (words, lines) in ROWS {
        let context = scene.contexts().with("failing", lines);
        let told = |builder: &Builder<'_>| {
            let failed = builder.buildx(&context, words).fails();
            let error: Vec<&str> = failed.stderr.lines().filter(|line| line.starts_with("ERROR:")).collect();
            assert!(!error.is_empty(), "no error: {failed}");
            (comparable(&error.join("\n")), failed.took)
        };
        let ((expected, took), (found, ours_took)) = (told(&stock), told(&ours));
        println!("{words} {lines:?}: {took:?}, here {ours_took:?}: {found}");
        if found != expected || ours_took > took + std::time::Duration::from_secs(2) {
            differ.push(format!("{words} {lines:?}\n  stock: {took:?} {expected}\n  here: {ours_took:?} {found}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// Without the names that each build gives to its own things.
fn comparable(error: &str) -> String {
    let of_chance = |word: &str| word.contains("::") || word.contains("sha256:");
    error.split(' ').map(|word| if of_chance(word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
}
