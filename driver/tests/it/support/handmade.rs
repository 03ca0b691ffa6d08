//! A pod by hand: it answers one method with the very bytes that a test lays down, and keeps what it was asked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use buildfleet_proto::buildkit::{ListWorkersResponse, WorkerRecord};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tonic::Status;

use super::user::grpc;

/// A part of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// One DATA frame, whatever it cuts.
    Bytes(Bytes),
    End(Status),
    /// The stream ends without trailers.
    Stop,
    Reset,
}

/// What a call came with.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct HandmadePod {
    pub(crate) socket: PathBuf,
    asked: Arc<Mutex<Vec<Asked>>>,
    _serving: JoinSet<()>,
}

impl HandmadePod {
    pub(crate) fn start(name: &str, directory: &Path, method: &'static str, answer: Vec<Piece>) -> Self {
        let socket = directory.join(format!("{name}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (kept, mut serving) = (Arc::clone(&asked), JoinSet::new());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (kept, answer) = (Arc::clone(&kept), answer.clone());
                connections.spawn(async move {
                    let mut calls = JoinSet::new();
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        calls.spawn(answer_one(request, respond, method, answer.clone(), Arc::clone(&kept)));
                    }
                });
            }
        });
        Self { socket, asked, _serving: serving }
    }

    /// The calls of the method, in their order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer_one(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    method: &'static str,
    answer: Vec<Piece>,
    kept: Arc<Mutex<Vec<Asked>>>,
) {
    let (head, mut from) = request.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(chunk)) = from.data().await {
        let _ = from.flow_control().release_capacity(chunk.len());
        body.extend_from_slice(&chunk);
    }
    let Ok(mut to) = grpc::begin(&mut respond) else { return };
    let called = head.uri.path().rsplit('/').next().unwrap();
    let answer = match called {
        "ListWorkers" => {
            let workers = ListWorkersResponse { record: vec![WorkerRecord::default()] };
            vec![Piece::Bytes(grpc::framed(&workers.encode_to_vec())), Piece::End(Status::ok(""))]
        }
        _ if called == method => {
            kept.lock().unwrap().push(Asked { headers: head.headers, body: body.into() });
            answer
        }
        _ => vec![Piece::End(Status::unimplemented(""))],
    };
    for piece in answer {
        match piece {
            Piece::Bytes(bytes) => {
                if grpc::send(&mut to, bytes, |_| {}).await.is_err() {
                    return;
                }
            }
            Piece::End(status) => return grpc::finish(to, &status),
            Piece::Stop => return grpc::half_close(&mut to),
            Piece::Reset => return to.send_reset(h2::Reason::INTERNAL_ERROR),
        }
    }
    // It never ends by itself.
    std::future::pending::<()>().await;
}
