//! Neighbours made for tests: each behaves as the real one does where a test looks.

mod api_discovery;
mod api_patches;
pub(crate) mod api_server;
pub(crate) mod api_streams;
pub(crate) mod buildkitd;
pub(crate) mod daemon;
pub(crate) mod ended;
pub(crate) mod fake_backend;
pub(crate) mod front;
pub(crate) mod handmade;
pub(crate) mod jobs;
pub(crate) mod pods;
pub(crate) mod records;
pub(crate) mod rows;
pub(crate) mod semantics;
pub(crate) mod user;
