//! Kubernetes quantities, kept in the user's spelling.

use std::fmt;

/// Why a quantity was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no quantity: a number with an optional suffix, as in 500m, 2, 1.5, 512Mi or 10Gi")]
pub struct QuantityError(pub(super) String);

/// A quantity as Kubernetes reads it (`resource.ParseQuantity`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity(pub(super) String);

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
