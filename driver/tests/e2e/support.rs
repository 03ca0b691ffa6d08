//! What the end-to-end tests stand on: real programs, and a private place for each test that is empty again at its end.

pub(crate) mod account;
pub(crate) mod api;
pub(crate) mod builder;
pub(crate) mod call;
pub(crate) mod clock;
pub(crate) mod contexts;
pub(crate) mod jobs;
pub(crate) mod llb;
pub(crate) mod namespace;
pub(crate) mod oci;
pub(crate) mod pki;
pub(crate) mod processes;
pub(crate) mod registry;
pub(crate) mod relay;
pub(crate) mod scene;
pub(crate) mod service;
pub(crate) mod splice;
pub(crate) mod tools;
pub(crate) mod user;
pub(crate) mod volume;
