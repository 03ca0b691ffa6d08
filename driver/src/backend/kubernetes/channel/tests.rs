//! The stream over a WebSocket in memory, with the test as the API server.

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::*;

/// Both ends have the same type.
type Server = WebSocketStream<DuplexStream>;

const V5: Wire = Wire::Exec { close_signal: true };
const V4: Wire = Wire::Exec { close_signal: false };

/// A stream and the API server at its other end; `pipe` bytes fit in between.
async fn connected(wire: Wire, pipe: usize) -> (ChannelStream<Server>, Server) {
    let (ours, theirs) = tokio::io::duplex(pipe);
    let ours = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    let theirs = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
    (ChannelStream::open(ours, wire), theirs)
}

async fn say(server: &mut Server, channel: u8, data: impl AsRef<[u8]>) {
    let mut payload = vec![channel];
    payload.extend_from_slice(data.as_ref());
    server.send(Message::Binary(payload.into())).await.unwrap();
}

/// The next message that is no ping.
async fn heard(server: &mut Server) -> Vec<u8> {
    loop {
        match server.next().await.unwrap().unwrap() {
            Message::Binary(payload) => return payload.into(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn bytes_go_both_ways_on_their_channels() {
    let (mut stream, mut server) = connected(V5, 1 << 20).await;
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(heard(&mut server).await, b"\0hello");
    say(&mut server, 1, b"wor").await;
    say(&mut server, 1, b"ld").await;
    let mut data = [0; 5];
    stream.first_data().await.unwrap();
    stream.read_exact(&mut data).await.unwrap();
    assert_eq!(&data, b"world");
}

#[tokio::test]
async fn small_writes_under_pressure_become_large_messages() {
    const TOTAL: usize = 4 << 20;
    let (mut stream, mut server) = connected(V5, 64 * 1024).await;
    let writer = tokio::spawn(async move {
        for at in 0..TOTAL / 1024 {
            stream.write_all(&[u8::try_from(at % 251).unwrap(); 1024]).await.unwrap();
            // As a connection does: told to leave, and not waited for.
            poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_flush(cx).is_ready())).await;
        }
        stream.flush().await.unwrap();
        stream
    });
    let (mut received, mut messages, mut largest) = (Vec::new(), 0, 0);
    while received.len() < TOTAL {
        let message = heard(&mut server).await;
        assert_eq!(message[0], 0);
        received.extend_from_slice(&message[1..]);
        messages += 1;
        largest = largest.max(message.len());
    }
    let expected: Vec<u8> = (0..TOTAL).map(|at| u8::try_from((at / 1024) % 251).unwrap()).collect();
    assert!(received == expected);
    assert!(messages <= TOTAL / (32 * 1024), "{messages} messages");
    assert!(largest <= MESSAGE_MAX + 1, "{largest}");
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn an_end_of_input_is_signalled_where_the_protocol_can() {
    let (mut stream, mut server) = connected(V5, 1 << 16).await;
    stream.write_all(b"last").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(heard(&mut server).await, b"\0last");
    assert_eq!(heard(&mut server).await, [255, 0]);
    // The other direction stays open.
    say(&mut server, 1, b"answer").await;
    say(&mut server, 3, br#"{"metadata":{},"status":"Success"}"#).await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"answer");
    for wire in [V4, Wire::PortForward] {
        let (mut stream, mut server) = connected(wire, 1 << 16).await;
        stream.shutdown().await.unwrap();
        server.send(Message::Ping(Bytes::new())).await.unwrap();
        let reader = tokio::spawn(async move { stream.read(&mut [0; 8]).await });
        // Nothing but the answer to the ping.
        assert!(matches!(server.next().await, Some(Ok(Message::Pong(_)))), "{wire:?}");
        reader.abort();
    }
}

#[tokio::test]
async fn a_command_that_fails_is_explained_by_what_it_said() {
    let status = br#"{"status":"Failure","message":"command terminated with exit code 1","reason":"NonZeroExitCode"}"#;
    for (stderr, close, expected) in [
        (Some("error: no such file\n"), false, "error: no such file"),
        (None, false, "command terminated with exit code 1"),
        (Some("bash: not found"), true, "bash: not found"),
        (None, true, "the connection ended before the command"),
    ] {
        let (mut stream, mut server) = connected(V5, 1 << 16).await;
        if let Some(stderr) = stderr {
            say(&mut server, 2, stderr).await;
        }
        match close {
            true => server.close(None).await.unwrap(),
            false => say(&mut server, 3, status).await,
        }
        assert_eq!(stream.first_data().await.unwrap_err().to_string(), expected);
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::ConnectionAborted, expected));
    }
}

#[tokio::test]
async fn the_end_of_a_long_stderr_is_kept() {
    let (mut stream, mut server) = connected(V5, 1 << 16).await;
    say(&mut server, 2, "x".repeat(3 * STDERR_MAX)).await;
    say(&mut server, 2, "the end").await;
    server.close(None).await.unwrap();
    let said = stream.read(&mut [0; 8]).await.unwrap_err().to_string();
    assert!(said.len() == STDERR_MAX && said.ends_with("xthe end"), "{}", said.len());
}

#[tokio::test]
async fn data_before_a_failure_is_delivered_first() {
    let (mut stream, mut server) = connected(V5, 1 << 16).await;
    say(&mut server, 1, "data").await;
    say(&mut server, 3, r#"{"status":"Failure","message":"killed"}"#).await;
    stream.first_data().await.unwrap();
    let mut data = [0; 4];
    stream.read_exact(&mut data).await.unwrap();
    assert_eq!(&data, b"data");
    assert_eq!(stream.read(&mut data).await.unwrap_err().to_string(), "killed");
}

#[tokio::test]
async fn a_forwarded_port_hides_its_number() {
    let (mut stream, mut server) = connected(Wire::PortForward, 1 << 16).await;
    let port = 1234u16.to_le_bytes();
    say(&mut server, 0, port).await;
    say(&mut server, 1, port).await;
    say(&mut server, 0, [1, 2, 3]).await;
    say(&mut server, 0, [4]).await;
    stream.first_data().await.unwrap();
    server.close(None).await.unwrap();
    let mut data = Vec::new();
    stream.read_to_end(&mut data).await.unwrap();
    assert_eq!(data, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_port_that_cannot_be_forwarded_says_why() {
    for in_one_message in [true, false] {
        let (mut stream, mut server) = connected(Wire::PortForward, 1 << 16).await;
        let port = 1234u16.to_le_bytes();
        let why = b"dial tcp4 127.0.0.1:1234: connect: connection refused\n";
        say(&mut server, 0, port).await;
        if in_one_message {
            say(&mut server, 1, [&port[..], why].concat()).await;
        } else {
            say(&mut server, 1, port).await;
            say(&mut server, 1, why).await;
        }
        let expected = "dial tcp4 127.0.0.1:1234: connect: connection refused";
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_err().to_string(), expected);
        assert_eq!(stream.first_data().await.unwrap_err().to_string(), expected);
    }
}

#[tokio::test]
async fn a_reason_in_the_close_frame_is_told() {
    for (code, expected) in [(CloseCode::Error, Some("container not found")), (CloseCode::Normal, None)] {
        let (mut stream, mut server) = connected(Wire::PortForward, 1 << 16).await;
        server.close(Some(CloseFrame { code, reason: "container not found".into() })).await.unwrap();
        let read = stream.read(&mut [0; 8]).await;
        assert_eq!(read.err().map(|error| error.to_string()).as_deref(), expected);
    }
}

#[tokio::test]
async fn a_broken_connection_is_no_regular_end() {
    let (mut stream, server) = connected(Wire::PortForward, 1 << 16).await;
    drop(server);
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert!(error.to_string().starts_with("the stream broke: "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_is_kept_alive() {
    let (mut stream, mut server) = connected(V5, 1 << 16).await;
    let begun = tokio::time::Instant::now();
    let reader = tokio::spawn(async move { stream.read(&mut [0; 8]).await });
    for _ in 0..3 {
        assert!(matches!(server.next().await, Some(Ok(Message::Ping(_)))));
    }
    assert_eq!(begun.elapsed(), 3 * PING_EVERY);
    reader.abort();
    assert!(!matches!(server.next().await, Some(Ok(_))), "a dropped stream ends its connection");
}

#[tokio::test]
async fn a_reader_that_waits_holds_the_peer_back() {
    let (mut stream, mut server) = connected(V5, 16 * 1024).await;
    let chunk = vec![7; 16 * 1024];
    let mut sent = 0;
    let held = loop {
        let next = say(&mut server, 1, &chunk);
        if tokio::time::timeout(Duration::from_millis(200), next).await.is_err() {
            break sent;
        }
        sent += chunk.len();
        assert!(sent < 4 << 20, "nothing held the peer back");
    };
    let mut data = vec![0; held];
    stream.read_exact(&mut data).await.unwrap();
    assert!(data.iter().all(|byte| *byte == 7));
}
