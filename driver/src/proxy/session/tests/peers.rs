//! Peers of `h2`'s own, and peers that say anything at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinSet;

use super::*;
use crate::proxy::forward;

#[test]
fn nothing_that_a_peer_says_makes_it_panic() {
    let mut seed = 1_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize
    };
    let mut broken = 0;
    for _ in 0..3_000 {
        let mut table = Table::new();
        table.raw(Side::User, &settings(CALLS_AT_A_TIME, 2));
        for stream in [1, 3, 5] {
            table.pod.say_head(stream, asks(FILES, false));
            table.data(POD, stream, random() % 100, random() % 2 == 0);
        }
        table.at_user();
        for stream in [1, 3] {
            table.user.say_head(stream, answers(false));
            table.data(Side::User, stream, random() % 100, false);
            table.user.open(stream, 1 + random() as u32 % 9);
            table.pod.open(stream, 1 + random() as u32 % 9);
        }
        for side in [Side::User, POD] {
            let mut said = carried(&mut table.end(side).outbox).to_vec();
            for _ in 0..1 + random() % 3 {
                let at = random() % said.len();
                said[at] = random() as u8;
            }
            for piece in said.chunks(1 + random() % 50) {
                if table.switch.hear(side, &mut Bytes::copy_from_slice(piece)).is_err() {
                    broken += 1;
                    table.switch.lose(side);
                    break;
                }
            }
            for side in [Side::User, POD] {
                table.switch.fill(side);
                table.switch.outbox(side).map(carried);
            }
        }
    }
    assert!(broken > 100, "{broken}");
}

/// Moves bytes between a switch and streams, in pieces of odd sizes, until all of them end.
async fn carry(mut switch: Switch, streams: Vec<(Side, DuplexStream)>) {
    let mut readers = JoinSet::new();
    let mut writers: HashMap<u64, (Side, WriteHalf<DuplexStream>)> = HashMap::new();
    let read = |number: u64, mut from: ReadHalf<DuplexStream>| async move {
        let mut piece = vec![0; 7_001];
        let length = from.read(&mut piece).await.unwrap_or(0);
        piece.truncate(length);
        (number, from, Bytes::from(piece))
    };
    for (number, (side, stream)) in streams.into_iter().enumerate() {
        let (from, to) = split(stream);
        writers.insert(number as u64, (side, to));
        readers.spawn(read(number as u64, from));
    }
    loop {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for (side, to) in writers.values_mut() {
                switch.fill(*side);
                let bytes = switch.outbox(*side).map(carried).unwrap_or_default();
                moved |= !bytes.is_empty();
                let _ = to.write_all(&bytes).await;
            }
        }
        let Some(heard) = readers.join_next().await else { return };
        let (number, from, mut bytes) = heard.unwrap();
        let side = writers[&number].0;
        if bytes.is_empty() {
            switch.lose(side);
            writers.remove(&number);
            continue;
        }
        switch.hear(side, &mut bytes).unwrap();
        readers.spawn(read(number, from));
    }
}

/// A body whose every byte says where it stands.
fn body(length: usize) -> Bytes {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect::<Vec<u8>>().into()
}

async fn send(to: &mut h2::SendStream<Bytes>, bytes: Bytes, trailers: Option<HeaderMap>) {
    forward::send(to, bytes).await.unwrap();
    match trailers {
        Some(trailers) => to.send_trailers(trailers).unwrap(),
        None => to.send_data(Bytes::new(), true).unwrap(),
    }
}

async fn all(mut from: h2::RecvStream) -> (BytesMut, Option<HeaderMap>) {
    let mut whole = BytesMut::new();
    while let Some(piece) = from.data().await {
        let piece = piece.unwrap();
        from.flow_control().release_capacity(piece.len()).unwrap();
        whole.extend_from_slice(&piece);
    }
    (whole, from.trailers().await.unwrap())
}

/// Calls from two pods at a time, whose bodies and heads go both ways, with such windows and frames.
async fn both_ways(window: u32, frame: u32, length: usize, head: usize) {
    let mut switch = Switch::new();
    let (user, at_user) = duplex(64 * KIB);
    let mut streams = vec![(Side::User, at_user)];
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut server = h2::server::Builder::new();
        server.initial_window_size(window).initial_connection_window_size(window.max(65_535)).max_frame_size(frame);
        server.max_concurrent_streams(3).max_header_list_size(16 << 20);
        let mut connection = server.handshake::<_, Bytes>(user).await.unwrap();
        let mut calls = JoinSet::new();
        loop {
            tokio::select! {
                accepted = connection.accept() => {
                    let Some(Ok((request, mut respond))) = accepted else { break };
                    calls.spawn(async move {
                        let said = request.headers()["said"].clone();
                        let mut response = Response::new(());
                        response.headers_mut().insert("said", said.clone());
                        let mut to = respond.send_response(response, false).unwrap();
                        let (asked, _) = all(request.into_body()).await;
                        send(&mut to, asked.freeze(), Some(HeaderMap::from_iter([("said".parse().unwrap(), said)]))).await;
                    });
                }
                Some(call) = calls.join_next() => call.unwrap(),
            }
        }
    });
    let mut pods = JoinSet::new();
    for pod in 0..2 {
        let (stream, at_pod) = duplex(64 * KIB);
        switch.join(pod, Arc::default());
        streams.push((Side::Pod(pod), at_pod));
        pods.spawn(async move {
            let mut client = h2::client::Builder::new();
            client.initial_window_size(window).initial_connection_window_size(window.max(65_535)).max_frame_size(frame);
            client.max_header_list_size(16 << 20);
            let (requests, connection) = client.handshake::<_, Bytes>(stream).await.unwrap();
            let mut calls = JoinSet::new();
            for number in 0..4 {
                let mut requests = requests.clone().ready().await.unwrap();
                let said = HeaderValue::try_from(format!("{pod} {number} {}", "x".repeat(head))).unwrap();
                calls.spawn(async move {
                    let mut request = Request::post("http://localhost/some.Service/Echo").body(()).unwrap();
                    request.headers_mut().insert("said", said.clone());
                    let (response, mut to) = requests.send_request(request, false).unwrap();
                    let asked = body(length + number);
                    let answered = async {
                        let response = response.await.unwrap();
                        assert_eq!(response.headers()["said"], said);
                        all(response.into_body()).await
                    };
                    let ((), (answer, trailers)) = tokio::join!(send(&mut to, asked.clone(), None), answered);
                    assert!(answer == asked, "{} bytes came back of {}", answer.len(), asked.len());
                    assert_eq!(trailers.unwrap()["said"], said);
                });
            }
            let all = async { while calls.join_next().await.transpose().unwrap().is_some() {} };
            tokio::select! {
                ended = connection => panic!("{ended:?}"),
                () = all => drop(requests),
            }
        });
    }
    tasks.spawn(carry(switch, streams));
    while !pods.is_empty() {
        tokio::select! {
            Some(pod) = pods.join_next() => pod.unwrap(),
            Some(ended) = tasks.join_next() => panic!("{ended:?}"),
        }
    }
}

#[tokio::test]
async fn bodies_and_heads_pass_whole_whatever_the_windows_and_frames() {
    for (window, frame, length, head) in [
        (65_535, 16_384, 1, 0),
        (65_535, 16_384, 300 * KIB, 10),
        (1, 16_384, 20, 10),
        (1_000, 16_384, 20 * KIB, 100 * KIB),
        (1 << 20, 1 << 20, 3 << 20, 1 << 20),
        (100_000, 20_000, 1 << 20, 50),
    ] {
        let passed = tokio::time::timeout(Duration::from_secs(60), both_ways(window, frame, length, head)).await;
        assert!(passed.is_ok(), "window {window}, frames of {frame}, {length} bytes, heads of {head}");
    }
}
