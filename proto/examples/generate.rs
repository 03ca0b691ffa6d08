//! Writes the Rust code made from `protos/` to the folder given as argument, `src/generated` by default.
//!
//! `cargo run -p buildfleet-proto --example generate`; `tests/fresh.rs` fails when the committed code is stale.

use std::path::PathBuf;

const PROTOS: [&str; 7] = [
    "moby/buildkit/control.proto",
    "moby/buildkit/gateway.proto",
    "containerd/content.proto",
    "grpc/health/health.proto",
    "buildfleet/fleet.proto",
    "buildfleet/jobs.proto",
    "buildfleet/objects.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let out = std::env::args_os().nth(1).map_or_else(|| root.join("src/generated"), PathBuf::from);
    std::fs::create_dir_all(&out)?;
    let files = protox::compile(PROTOS, [root.join("protos")])?;
    tonic_prost_build::configure().out_dir(&out).compile_fds(files)?;
    Ok(())
}
