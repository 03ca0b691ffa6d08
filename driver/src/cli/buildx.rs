//! Keeps the real docker buildx's store in step: one `remote` node there per node here.
//!
//! All of it happens in the command's own process, after the daemon has answered: buildx holds a lock on its store while
//! it talks to nodes, which are the daemon's sockets, so a daemon that called buildx could wait for itself.

use std::path::PathBuf;
use std::time::Duration;

use buildfleet_proto::fleet::{Builder, Node};
use tokio::time::Instant;

pub(super) use self::examine::examine;
use self::find::{Found, find};
use self::plan::{Known, Step};
use self::tool::{Tool, ToolError};
use super::Context;
use super::client::Client;
use super::failure::Failure;
use crate::builder::{BuilderName, Platform};
use crate::report;
use crate::settings::Process;

mod examine;
mod find;
mod plan;
mod tool;

/// How long all calls of one command may take together: buildx gives a node that does not answer 20 s.
const LIMIT: Duration = Duration::from_secs(30);

/// What buildx is told that a node builds for.
pub(super) fn platforms(node: &Node) -> Vec<String> {
    plan::platforms(node, plan::options(node).as_ref(), &Platform::host())
}

/// Whether buildx is there, and what it knows of a builder.
#[derive(Debug)]
pub(super) struct Ready {
    found: Found,
    known: Option<Known>,
}

/// Asks buildx whether the name is free, or is a builder that we registered.
///
/// # Errors
/// When buildx has another builder of that name.
pub(super) async fn ready_for(context: &Context, client: &mut Client, name: &str) -> Result<Ready, Failure> {
    let found = find(&context.settings, &Process).await;
    // Without a name the daemon invents one; what is no name the daemon refuses.
    let (Found::Tool(tool), Ok(name)) = (&found, name.parse::<BuilderName>()) else {
        return Ok(Ready { found, known: None });
    };
    let known = match look_up(tool, name.as_str(), Instant::now() + LIMIT).await {
        Ok(known) => known,
        Err(error) => {
            context.warning(&format!("failed to ask `{tool}` for builder {name}: {}", report::chain(&error)));
            None
        }
    };
    if let Some(known) = &known
        && !known.is_ours(&runtime_dir(client).await?)
    {
        return Err(Failure::other(format!(
            "docker buildx has another builder of that name, with the {} driver",
            known.driver
        ))
        .hint(format!(
            "take another --name, remove that builder with `{}`, or keep buildx out of it with BUILDFLEET_BUILDX=off",
            tool.line(&plan::forget(name.as_str())[0])
        )));
    }
    Ok(Ready { found, known })
}

/// Tells buildx of a builder; what fails is a warning with the command to run by hand.
pub(super) async fn register(
    context: &Context,
    client: &mut Client,
    ready: Ready,
    builder: &Builder,
    node: &str,
    use_it: bool,
) {
    let Ready { found, known } = ready;
    let tool = match found {
        Found::Tool(tool) => tool,
        Found::Off => return,
        Found::Missing => {
            context.info(&format!(
                "found no docker buildx to register {} with; buildctl reaches it at unix://{}",
                builder.name, builder.socket
            ));
            return;
        }
        Found::Wrong(path) => {
            context.warning(&format!("BUILDFLEET_BUILDX is {}, which is no docker buildx", path.display()));
            return;
        }
    };
    // Others may have added nodes while the pods started.
    let latest = client.inspect(&builder.name).await;
    let builder = latest.as_ref().unwrap_or(builder);
    let steps = plan::register(builder, known.as_ref(), node, use_it, &Platform::host());
    call_all(context, &tool, &steps, &format!("register builder {} with docker buildx", builder.name)).await;
}

/// Tells buildx that a node has left.
pub(super) async fn leave(context: &Context, client: &mut Client, builder: &str, node: &str) {
    if let Some((tool, known)) = ours(context, client, builder).await {
        let steps = plan::leave(builder, &known, node);
        call_all(context, &tool, &steps, &format!("remove node {node} from docker buildx")).await;
    }
}

/// Tells buildx that a builder was removed.
pub(super) async fn forget(context: &Context, client: &mut Client, builder: &str) {
    if let Some((tool, _)) = ours(context, client, builder).await {
        call_all(context, &tool, &plan::forget(builder), &format!("remove builder {builder} from docker buildx")).await;
    }
}

/// Makes it the current one in buildx as well.
pub(super) async fn select(context: &Context, client: &mut Client, builder: &str) {
    if let Some((tool, _)) = ours(context, client, builder).await {
        let step = vec!["use".to_owned(), builder.to_owned()];
        call_all(context, &tool, &[step], &format!("make {builder} the current builder of docker buildx")).await;
    }
}

/// The tool and what it knows, when it has a builder of that name and we registered it.
async fn ours(context: &Context, client: &mut Client, builder: &str) -> Option<(Tool, Known)> {
    let Found::Tool(tool) = find(&context.settings, &Process).await else { return None };
    match look_up(&tool, builder, Instant::now() + LIMIT).await {
        Ok(Some(known)) => {
            let dir = runtime_dir(client).await.ok()?;
            known.is_ours(&dir).then_some((tool, known))
        }
        Ok(None) => None,
        Err(error) => {
            context.warning(&format!("failed to ask `{tool}` for builder {builder}: {}", report::chain(&error)));
            None
        }
    }
}

async fn look_up(tool: &Tool, name: &str, deadline: Instant) -> Result<Option<Known>, ToolError> {
    match tool.call(&["inspect".to_owned(), name.to_owned()], deadline).await {
        Ok(text) => Ok(Some(Known::parse(&text))),
        Err(ToolError::Failed(said)) if said.starts_with("no builder") => Ok(None),
        Err(error) => Err(error),
    }
}

async fn runtime_dir(client: &mut Client) -> Result<PathBuf, Failure> {
    Ok(PathBuf::from(client.version().await?.runtime_dir))
}

async fn call_all(context: &Context, tool: &Tool, steps: &[Step], doing: &str) {
    let deadline = Instant::now() + LIMIT;
    for (i, step) in steps.iter().enumerate() {
        if let Err(error) = tool.call(step, deadline).await {
            context.warning(&format!("failed to {doing}: {}", report::chain(&error)));
            // A step builds on those before it.
            let by_hand: Vec<String> = steps[i..].iter().map(|step| tool.line(step)).collect();
            context.hint(&format!("run it by hand: {}", by_hand.join(" && ")));
            return;
        }
    }
}
