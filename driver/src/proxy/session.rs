//! The user's end of Control.Session, in which a second HTTP/2 runs with the roles swapped: the client is its server.
//!
//! The daemon greets that end at once, whose clock of 10 s for the greeting (`golang.org/x/net/http2`, preface timeout)
//! would run out while a pod starts. Which pods get the session is for the builds to say that name it.

mod call;
mod deframe;
mod end;
mod frames;
mod lane;
mod lines;
mod outbox;
mod switch;
mod tunnel;

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio_util::sync::CancellationToken;

use self::lines::Lines;
pub(super) use self::lines::Orders;
pub(super) use self::tunnel::{Ending, Tunnel};
use super::client::Client;
use super::forward;
use super::sessions::{Session, SessionId};
use crate::wire::{self, Code, Status};

/// Serves one Session call until the user's end leaves.
pub(super) async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, client: &Arc<Client>) {
    let (head, from_user) = request.into_parts();
    let Some(id) = SessionId::of(&head.headers) else {
        let status = Status::new(Code::InvalidArgument, "a session without x-docker-expose-session-uuid");
        return forward::refuse(&mut respond, &status);
    };
    let Ok(to_user) = respond.send_response(wire::headers(), false) else { return };
    let tunnel = Tunnel::new(from_user, to_user, Ending::Trailers);
    let (gone, left) = (CancellationToken::new(), CancellationToken::new());
    let (lines, orders) = Lines::new(tunnel, gone.clone(), left.clone());
    // It has to tell the pods when the client is gone, and this call with it.
    client.shutdown().spawn(lines);
    let _opened = client.node().sessions().open(Session { id, client: client.id(), head, orders, gone });
    left.cancelled().await;
}

#[cfg(test)]
mod tests;
