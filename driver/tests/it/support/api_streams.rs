//! The WebSockets of exec and port-forward, as an API server and the pod behind it speak them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::api_server::Shared;

/// What is behind an exec or a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Script {
    /// It says `ready`, then repeats what it hears.
    #[default]
    Echo,
    /// It fails with this text.
    Fail(String),
    /// It takes blocks, each behind a line with its size, until a line `0`, and succeeds.
    Receive,
}

pub(crate) async fn upgrade(mut stream: TcpStream, key: &str, is_exec: bool, shared: &Shared) -> std::io::Result<()> {
    let protocol = if is_exec { "v5.channel.k8s.io" } else { "v4.channel.k8s.io" };
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {}\r\nsec-websocket-protocol: {protocol}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(head.as_bytes()).await?;
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let script = {
        let state = shared.state.lock().unwrap();
        if is_exec { state.exec.clone() } else { state.port.clone() }
    };
    match (is_exec, script) {
        (true, Script::Fail(text)) => {
            let status = br#"{"status":"Failure","message":"command terminated with exit code 1"}"#;
            say_all(socket, &[(2, text.as_bytes()), (3, status)]).await;
        }
        (false, Script::Fail(text)) => {
            let port = 1234u16.to_le_bytes();
            say_all(socket, &[(0, &port), (1, &port), (1, text.as_bytes())]).await;
        }
        (_, Script::Receive) => receive(socket, shared).await,
        (true, Script::Echo) => {
            let (pod, wire) = tokio::io::duplex(64 * 1024);
            let (input, output) = (0, 1);
            tokio::join!(echo(pod), carry(socket, wire, input, output, &[]));
        }
        (false, Script::Echo) => {
            let (pod, wire) = tokio::io::duplex(64 * 1024);
            let acceptor = acceptor(shared);
            let port = 1234u16.to_le_bytes();
            let secured = async {
                if let Ok(stream) = acceptor.accept(pod).await {
                    echo(stream).await;
                }
            };
            let first: [(u8, &[u8]); 2] = [(0, &port), (1, &port)];
            tokio::join!(secured, carry(socket, wire, 0, 0, &first));
        }
    }
    Ok(())
}

async fn say_all(mut socket: WebSocketStream<TcpStream>, said: &[(u8, &[u8])]) {
    for (channel, data) in said {
        let payload = [&[*channel], *data].concat();
        socket.send(Message::Binary(payload.into())).await.unwrap();
    }
    // The peer may close first.
    let _ = socket.close(None).await;
}

async fn receive(mut socket: WebSocketStream<TcpStream>, shared: &Shared) {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(payload) = message else { continue };
        let is_whole = {
            let received = &mut shared.state.lock().unwrap().received;
            received.extend_from_slice(&payload[1..]);
            received.ends_with(b"0\n")
        };
        if is_whole {
            return say_all(socket, &[(3, br#"{"status":"Success"}"#)]).await;
        }
    }
}

async fn echo(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    stream.write_all(b"ready").await.unwrap();
    stream.flush().await.unwrap();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// Moves bytes between the pod and the channels of a socket until one of them ends.
async fn carry(
    mut socket: WebSocketStream<TcpStream>,
    mut wire: DuplexStream,
    input: u8,
    output: u8,
    first: &[(u8, &[u8])],
) {
    for (channel, data) in first {
        let payload = [&[*channel], *data].concat();
        socket.send(Message::Binary(payload.into())).await.unwrap();
    }
    let mut buffer = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(payload))) if payload[0] == input => {
                    if wire.write_all(&payload[1..]).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Binary(payload))) if payload[..] == [255, input] => {
                    // Input has ended: the command ends with its output.
                    drop(wire);
                    let status = [&[3], &br#"{"status":"Success"}"#[..]].concat();
                    let _ = socket.send(Message::Binary(status.into())).await;
                    return;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            read = wire.read(&mut buffer) => match read {
                Ok(read @ 1..) => {
                    let payload = [&[output], &buffer[..read]].concat();
                    if socket.send(Message::Binary(payload.into())).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

/// What `buildkitd` makes of the Secret that it mounts.
fn acceptor(shared: &Shared) -> TlsAcceptor {
    let secret = shared.state.lock().unwrap().object("secrets").expect("a secret");
    let pem = |key: &str| STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem("ca.pem")).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(&pem("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pem("key.pem")).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
