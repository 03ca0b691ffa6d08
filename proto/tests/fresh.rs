//! The committed code is what the generator makes of the committed protos.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

fn files(dir: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[test]
fn generated_code_is_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    // Cargo builds examples before it runs integration tests and puts them next to this binary's folder.
    let generator = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/generate");
    let status = Command::new(&generator).arg(out.path()).status().expect("failed to run the generator");
    assert!(status.success(), "{}: {status}", generator.display());

    let (committed, made) = (files(&root.join("src/generated")), files(out.path()));
    for (name, text) in &made {
        assert!(
            committed.get(name) == Some(text),
            "{name} is stale: run `cargo run -p buildfleet-proto --example generate` and commit the result"
        );
    }
    assert_eq!(committed.len(), made.len(), "a file in src/generated belongs to no proto");
}
