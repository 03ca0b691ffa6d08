//! Starting a builder's pods and waiting for them, for `create --bootstrap` and `inspect --bootstrap`.

use super::Context;
use super::client::{Client, called};
use super::failure::Failure;
use super::progress::follow_or_interrupt;

/// Starts the pods of `node`, or of every node when it is empty, and waits until all are ready.
pub(super) async fn bootstrap(
    client: &mut Client,
    context: &Context,
    builder: &str,
    node: &str,
) -> Result<(), Failure> {
    let result = match client.bootstrap(builder, node, 0).await {
        Ok(stream) => follow_or_interrupt(stream, context.progress).await,
        Err(failure) => Err(failure),
    };
    result.map_err(|failure| {
        let interrupted = failure.is_interrupted();
        let failure = failure.doing(format!("start {}", called(builder)));
        if interrupted {
            failure
                .hint(format!("its pods go on starting; follow them with `buildfleet inspect {builder} --bootstrap`"))
                .hint(format!("stop them with `buildfleet stop {builder}`"))
        } else {
            failure
        }
    })
}
