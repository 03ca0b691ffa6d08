//! The BuildKit messages that buildfleet reads or writes, and the API of its daemon.
//!
//! The code below `generated/` is made from `protos/` by `cargo run -p buildfleet-proto --example generate`, committed,
//! and checked for freshness by a test.

/// A point in time, as all of the messages below tell it.
pub use prost_types::Timestamp;

/// A message of a type that it names itself.
pub use prost_types::Any;

/// BuildKit's control API (`moby.buildkit.v1`), cut down to the fields that are read or written here.
pub mod buildkit {
    #![allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
    include!("generated/moby.buildkit.v1.rs");

    /// BuildKit's gateway API (`moby.buildkit.v1.frontend`), cut down likewise.
    pub mod frontend {
        include!("generated/moby.buildkit.v1.frontend.rs");
    }
}

/// containerd's content store (`containerd.services.content.v1`), cut down likewise.
pub mod content {
    #![allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
    include!("generated/containerd.services.content.v1.rs");
}

/// gRPC's health protocol (`grpc.health.v1`).
pub mod health {
    #![allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
    include!("generated/grpc.health.v1.rs");
}

/// The daemon's own API (`buildfleet.v1`).
pub mod fleet {
    #![allow(missing_debug_implementations, unreachable_pub, unused_qualifications, clippy::all)]
    include!("generated/buildfleet.v1.rs");
}
