//! What wants little beside it: tests that measure, that hold the project to a time limit of a few seconds, or that take a
//! machine away from all others. Named so that they can be run apart, a few at a time.

mod deaths;
mod eviction;
mod memory;
mod plugin;
mod ready;
mod silence;
