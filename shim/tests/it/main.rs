//! The plugins as docker calls them, before a stand-in for the real buildx and one for `buildfleet`.

mod buildfleet;
mod metadata;
mod place;
mod relayed;
mod routed;
mod search;
