//! Hermetic tests: no root, no network, no program but this one.

mod proxy;
mod support;
mod tidy;
