//! The fake `buildkitd` of these tests, against what a real one was seen to do (`tests/e2e/local/semantics.rs`).

use crate::support::buildkitd::{Clocks, FakeBuildkitd};
use crate::support::semantics;

#[tokio::test]
async fn the_fake_buildkitd_does_what_a_real_one_does() {
    let directory = tempfile::tempdir().unwrap();
    let buildkitd = FakeBuildkitd::start_with("pod", directory.path(), Clocks::REAL);
    semantics::all_hold(&buildkitd.socket).await;
}
