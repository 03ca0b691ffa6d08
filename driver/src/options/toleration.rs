//! Tolerations in buildx's syntax: `;` between entries, `,` between fields, `=` inside.

/// Why a toleration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TolerationError(pub(super) String);

/// One toleration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toleration {
    pub(crate) key: Option<String>,
    pub(crate) operator: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) effect: Option<String>,
    pub(crate) toleration_seconds: Option<i64>,
}
