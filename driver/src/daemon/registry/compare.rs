//! A node that is about to be created or changed, beside what is in its cluster: before anything is stored.

use std::time::Duration;

use super::Registry;
use super::create::CreateError;
use crate::backend::{Change as ObjectChange, Preview, Standing};
use crate::builder::AttachTarget;
use crate::daemon::plan::{Change, Plan};
use crate::report;

/// What a cluster may take for it. One that cannot be asked keeps nobody from creating: the next start says what is wrong.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same for a user who asks for the comparison itself: longer than each of its requests.
const PATIENCE_OF_DIFF: Duration = Duration::from_secs(40);

/// What the user asks of the comparison.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes {
    /// It has to be made.
    pub(super) diff: bool,
    /// Others are given the same options, and what is not ours is taken over.
    pub(super) force: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) changes: Vec<ObjectChange>,
    /// Whether the node has anything there.
    pub(super) exists: bool,
    /// Whether it takes up what an earlier one has kept.
    pub(super) state: bool,
}

impl Registry {
    /// Compares, and refuses what could not be done later or would take something from others.
    pub(super) async fn compare(
        &self,
        plan: &Plan,
        wishes: Wishes,
        warnings: &mut Vec<String>,
    ) -> Result<Compared, CreateError> {
        let patience = if wishes.diff { PATIENCE_OF_DIFF } else { PATIENCE };
        let previewing = self.around.backends.preview(&plan.node, &plan.options, &self.around.us);
        let previewed = match tokio::time::timeout(patience, previewing).await {
            Ok(Ok(None)) => return Ok(Compared::default()),
            Ok(Ok(Some(preview))) => Ok(preview),
            Ok(Err(error)) if wishes.diff => return Err(CreateError::Compare(error)),
            Ok(Err(error)) => Err(report::chain(&error)),
            Err(_) if wishes.diff => return Err(CreateError::Slow(patience)),
            Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
        };
        match previewed {
            Ok(preview) => judge(plan, preview, wishes, warnings),
            Err(why) => {
                tracing::debug!(node = %plan.node.name, why, "the node is not compared with its cluster");
                if plan.change == Change::Update {
                    warnings.push(format!("node {} could not be compared with its cluster: {why}", plan.node.name));
                }
                Ok(Compared::default())
            }
        }
    }
}

impl Registry {
    /// What has the node's name in its cluster and was not made by buildfleet.
    pub(super) async fn of_others(&self, plan: &Plan) -> Result<Option<AttachTarget>, CreateError> {
        let looking = self.around.backends.of_others(&plan.node, &plan.options);
        let looked = tokio::time::timeout(PATIENCE_OF_DIFF, looking).await;
        looked.map_err(|_| CreateError::Slow(PATIENCE_OF_DIFF))?.map_err(CreateError::Compare)
    }
}

fn judge(plan: &Plan, preview: Preview, wishes: Wishes, warnings: &mut Vec<String>) -> Result<Compared, CreateError> {
    let Preview { changes, exists, state, sharing, standing, mut obstacles } = preview;
    if matches!(standing, Standing::Differs | Standing::Foreign) && wishes.force {
        obstacles.remove(0);
    }
    if !obstacles.is_empty() {
        return Err(CreateError::Obstructed { obstacles, changes });
    }
    let sharing = sharing.unwrap_or_default();
    let (node, others) = (&plan.node.name, sharing.others.join(", "));
    match standing {
        Standing::Joins => warnings.push(format!("node {node} is shared: {} made it, used by {others}", sharing.owner)),
        Standing::Own | Standing::Differs if !others.is_empty() && !changes.is_empty() => {
            warnings.push(format!("the new options of node {node} are also those of {others}"));
        }
        _ => {}
    }
    Ok(Compared { changes, exists, state })
}
