//! Builds as Jobs in a real cluster: what is built, what is told of those that fail, and that nothing is left of them.

mod builds;
mod client;
mod client_inputs;
mod elsewhere;
mod ends;
mod failures;
mod registries;
