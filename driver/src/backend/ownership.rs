//! Whose a node's objects are, and what an order would do to them.

/// Who this daemon is, where several may use the same objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installation {
    /// Tells it from all others, and stays over restarts.
    pub id: String,
    /// For people, as in `anna@laptop`.
    pub who: String,
}

/// How much [`super::Backend::delete`] takes away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removal {
    /// What the pods keep beyond their end stays.
    pub keep_state: bool,
    /// Also what others use.
    pub force: bool,
    /// Nothing at all: only our own use ends.
    pub let_go: bool,
}

/// What became of a node's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// They are gone or going, but for what was to be kept.
    Gone { kept: Vec<String> },
    /// They are somebody else's, or others use them, too, who are named: only our own use has ended.
    Released { users: Vec<String> },
    /// All of it stays, as it was asked for.
    LetGo,
}

impl Removed {
    /// Nothing is left.
    pub fn gone() -> Self {
        Self::Gone { kept: Vec::new() }
    }
}

/// What the next [`super::Backend::apply`] would do to what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    pub changes: Vec<Change>,
    /// Whether the node has anything there.
    pub exists: bool,
    /// Whether it takes up what pods have kept beyond their end.
    pub state: bool,
    /// Whose the objects are, when they are there and say so.
    pub sharing: Option<Sharing>,
    /// Whether the options may be given without taking anything from others.
    pub standing: Standing,
    /// What keeps it from being done.
    pub obstacles: Vec<Obstacle>,
}

/// What this daemon is to objects that are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// There are none, or it uses them already, or nobody does.
    #[default]
    Own,
    /// Others use them, with the same options.
    Joins,
    /// Others use them, with other options.
    Differs,
    /// Buildfleet did not make them.
    Foreign,
}

/// One object that would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As in `deployment kube0`.
    pub object: String,
    /// A unified diff of its YAML.
    pub diff: String,
}

/// Who made a node's objects, and who uses them beside us, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sharing {
    pub owner: String,
    pub others: Vec<String>,
}

/// Why an order cannot be carried out on what is there, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Obstacle {
    pub what: String,
    pub hint: String,
}
