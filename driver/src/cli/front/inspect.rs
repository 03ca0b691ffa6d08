//! `docker buildx inspect` of a builder of ours.

use super::Call;
use super::pflag::Given;
use super::whose::Whose;
use crate::cli::failure::Failure;
use crate::cli::inspect;

pub(super) async fn run(call: Call, given: &Given) -> Result<u8, Failure> {
    let Whose::Ours(name) = call.whose(given)? else { return call.relay().await };
    if call.is_unknown(&name).await? {
        return call.relay().await;
    }
    let args = inspect::Args {
        name: Some(name),
        bootstrap: given.is("bootstrap"),
        placement: false,
        limit: call.limit(given),
    };
    inspect::run(args, &call.context).await.map(|()| 0)
}
