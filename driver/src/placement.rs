//! Which pod gets a connection: pure functions over a snapshot of the ready pods.
