//! Two connections as one.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

/// One end of a connection, whichever kind of socket it is.
pub(crate) trait End: Read + Write + Send + Sized + 'static {
    fn again(&self) -> std::io::Result<Self>;
    fn end(&self, which: Shutdown);
}

impl End for TcpStream {
    fn again(&self) -> std::io::Result<Self> {
        self.try_clone()
    }

    fn end(&self, which: Shutdown) {
        let _ = self.shutdown(which);
    }
}

impl End for UnixStream {
    fn again(&self) -> std::io::Result<Self> {
        self.try_clone()
    }

    fn end(&self, which: Shutdown) {
        let _ = self.shutdown(which);
    }
}

/// Moves bytes both ways in threads of their own, until the server ends or the test's process does. What the client ends,
/// is half-closed.
pub(crate) fn splice(client: impl End, server: impl End) {
    let (mut from_client, mut to_server) = (client.again().expect("a socket"), server.again().expect("a socket"));
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        to_server.end(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        to_client.end(Shutdown::Both);
    });
}
