//! What wants little beside it: tests that measure, that hold the project to a time limit of a few seconds, or that take a
//! machine away from all others; and one that does nothing but wait. Named so that they can be run apart.

mod alone;
mod deaths;
mod eviction;
mod hang;
mod memory;
mod plugin;
mod silence;
