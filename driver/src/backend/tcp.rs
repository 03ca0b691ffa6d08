//! TCP to a `buildkitd`: small frames leave at once, and a peer whose kernel is silent breaks the connection.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpStream, ToSocketAddrs};

/// For how long sent bytes may be unacknowledged, in milliseconds. With 0.2 s until something is sent and 0.25 s until it is
/// sent again, a peer that is gone is known within 2.1 s, which leaves a busy machine time to tell it within three. (A probe
/// that is lost on an idle connection ends that connection, which costs nobody a build.)
const UNACKNOWLEDGED: u32 = 1600;

/// From the last byte to the first probe of an idle connection, and between probes, in seconds.
const PROBE: u32 = 1;

pub(super) async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A failure here costs speed, or the time until a silent peer is noticed.
    let _ = stream.set_nodelay(true);
    if let Err(error) = notice_silence(&stream) {
        tracing::debug!(%error, "a silent peer will be noticed late");
    }
    Ok(stream)
}

fn notice_silence(stream: &impl AsFd) -> nix::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &PROBE)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &PROBE)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &UNACKNOWLEDGED)
}
