//! A stream that carries much, as a session does.

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::Request;

use crate::fleet::Lease;
use crate::fleet::bulk::Bulk;

#[derive(Debug)]
pub(super) struct Stream {
    _place: Bulk,
    _to: SendStream<Bytes>,
    pub(super) from: RecvStream,
}

pub(super) async fn stream(lease: &Lease) -> Stream {
    let mut place = lease.bulk().await.unwrap();
    let request = Request::post("http://localhost/moby.buildkit.v1.Control/Session").body(()).unwrap();
    let (response, to) = place.requests().send_request(request, false).unwrap();
    let from = response.await.unwrap().into_body();
    Stream { _place: place, _to: to, from }
}
