//! Keeps the real docker buildx's store in step: one `remote` node there per node here.
//!
//! All of it happens in the command's own process, after the daemon has answered: buildx holds a lock on its store while
//! it talks to nodes, which are the daemon's sockets, so a daemon that called buildx could wait for itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use buildfleet_proto::fleet::{Builder, Node};
use buildfleet_shim::docker::Globals;
use buildfleet_shim::store::Store;
use tokio::time::Instant;

use self::aside::Aside;
pub(super) use self::aside::DEFAULT_CONFIG;
pub(super) use self::examine::examine;
use self::find::{Found, find};
use self::plan::{Known, Step};
pub(super) use self::tool::Tool;
use self::tool::ToolError;
use super::Context;
use super::client::Client;
use super::failure::Failure;
use crate::builder::{BuilderName, Platform};
use crate::report;
use crate::settings::Process;

mod aside;
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

/// Why buildx does not know a builder as it should.
#[derive(Debug)]
pub(super) enum Unregistered {
    Missing { builder: String, socket: String },
    Wrong(PathBuf),
    Failed { tool: Tool, doing: String, cause: String, left: Vec<Step>, undo: Vec<Step> },
}

impl Unregistered {
    /// For a command after which the builder is there all the same.
    pub(super) fn tell(&self, context: &Context) {
        match self {
            Self::Missing { builder, socket } => context.info(&format!(
                "found no docker buildx to register {builder} with; buildctl reaches it at unix://{socket}"
            )),
            Self::Wrong(path) => context.warning(&wrong(path)),
            Self::Failed { tool, doing, cause, left, .. } => {
                context.warning(&format!("failed to {doing}: {cause}"));
                context.hint(&format!("run it by hand: {}", by_hand(tool, left)));
            }
        }
    }

    /// For a command of buildx's, whose builder would be of no use. What buildx has of it already is taken back.
    pub(super) async fn undo(self) -> Failure {
        match self {
            Self::Missing { .. } => Failure::other("found no docker buildx"),
            Self::Wrong(path) => Failure::other(wrong(&path)),
            Self::Failed { tool, doing, cause, undo, .. } => {
                let deadline = Instant::now() + LIMIT;
                let mut failure = Failure::other(cause).doing(doing);
                for step in &undo {
                    if let Err(error) = tool.call(step, deadline).await {
                        let said = report::chain(&error);
                        failure = failure.hint(format!("`{}` failed, too: {said}", tool.line(step)));
                    }
                }
                failure
            }
        }
    }
}

fn wrong(path: &Path) -> String {
    format!("BUILDFLEET_BUILDX is {}, which is no docker buildx", path.display())
}

/// A step builds on those before it.
fn by_hand(tool: &Tool, steps: &[Step]) -> String {
    steps.iter().map(|step| tool.line(step)).collect::<Vec<_>>().join(" && ")
}

/// The buildx that was found; `None` when there is none, or none is wanted.
pub(super) async fn tool(context: &Context) -> Option<Tool> {
    match find(&context.settings, &Process).await {
        Found::Tool(tool) => Some(tool),
        Found::Off | Found::Missing | Found::Wrong(_) => None,
    }
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

/// How a node is told to buildx.
#[derive(Debug, Clone, Copy)]
pub(super) struct Telling<'a> {
    /// The one that this command made or changed.
    pub(super) node: &'a str,
    pub(super) use_it: bool,
    /// How long buildx itself may take to load the status of a node, when the user said so.
    pub(super) timeout: Option<&'a str>,
}

/// Tells buildx of a builder.
///
/// # Errors
/// When buildx does not know of it, or of all of it.
pub(super) async fn register(
    client: &mut Client,
    ready: Ready,
    builder: &Builder,
    telling: Telling<'_>,
) -> Result<(), Unregistered> {
    let Ready { found, known } = ready;
    let tool = match found {
        Found::Tool(tool) => tool,
        Found::Off => return Ok(()),
        Found::Missing => {
            return Err(Unregistered::Missing { builder: builder.name.clone(), socket: builder.socket.clone() });
        }
        Found::Wrong(path) => return Err(Unregistered::Wrong(path)),
    };
    // Others may have added nodes while the pods started.
    let latest = client.inspect(&builder.name).await;
    let builder = latest.as_ref().unwrap_or(builder);
    let mut steps = plan::register(builder, known.as_ref(), telling.node, telling.use_it, &Platform::host());
    if let Some(timeout) = telling.timeout {
        plan::bound(&mut steps, timeout);
    }
    let doing = format!("register builder {} with docker buildx", builder.name);
    let Err((done, error)) = call_all(&tool, &steps).await else { return Ok(()) };
    let undo = if done == 0 { Vec::new() } else { plan::undo(&builder.name, known.as_ref(), telling.node) };
    let left = steps.split_off(done);
    Err(Unregistered::Failed { tool, doing, cause: report::chain(&error), left, undo })
}

/// Tells buildx that a node has left.
pub(super) async fn leave(context: &Context, client: &mut Client, builder: &str, node: &str) {
    if let Some((tool, known)) = ours(context, client, builder).await {
        let steps = plan::leave(builder, &known, node);
        or_warn(context, &tool, &steps, &format!("remove node {node} from docker buildx")).await;
    }
}

/// Tells buildx that a builder was removed.
pub(super) async fn forget(context: &Context, client: &mut Client, builder: &str) {
    if let Some((tool, _)) = ours(context, client, builder).await {
        or_warn(context, &tool, &plan::forget(builder), &format!("remove builder {builder} from docker buildx")).await;
    }
}

/// Makes it the current one in buildx as well.
pub(super) async fn select(context: &Context, client: &mut Client, builder: &str) {
    if let Some((tool, _)) = ours(context, client, builder).await {
        let step = vec!["use".to_owned(), builder.to_owned()];
        or_warn(context, &tool, &[step], &format!("make {builder} the current builder of docker buildx")).await;
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

/// Where the daemon's sockets are.
pub(super) async fn runtime_dir(client: &mut Client) -> Result<PathBuf, Failure> {
    Ok(PathBuf::from(client.version().await?.runtime_dir))
}

/// How many calls succeeded, and why the next one did not.
async fn call_all(tool: &Tool, steps: &[Step]) -> Result<(), (usize, ToolError)> {
    let deadline = Instant::now() + LIMIT;
    let store = Store::find(&Process, &Globals::default());
    // Made when it is needed, and kept for all steps.
    let mut aside = None;
    for (done, step) in steps.iter().enumerate() {
        if aside.is_none() && plan::makes_a_node(step) {
            aside = store.as_ref().and_then(Aside::of);
        }
        let said = match &aside {
            Some(aside) if plan::makes_a_node(step) => tool.call_in(aside.dir(), step, deadline).await,
            _ => tool.call(step, deadline).await,
        };
        said.map_err(|error| (done, error))?;
    }
    Ok(())
}

/// The same; what fails is a warning with the command to run by hand.
async fn or_warn(context: &Context, tool: &Tool, steps: &[Step], doing: &str) {
    if let Err((done, error)) = call_all(tool, steps).await {
        context.warning(&format!("failed to {doing}: {}", report::chain(&error)));
        context.hint(&format!("run it by hand: {}", by_hand(tool, &steps[done..])));
    }
}
