//! BuildKit on Kubernetes by hand: sets that `buildfleet manifests` prints, used by stock `kubectl` and `buildctl` alone.

mod kinds;
mod rights;
mod sets;
