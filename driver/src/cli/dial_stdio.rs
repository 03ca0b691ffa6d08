//! `buildfleet dial-stdio`: the socket of a node as this process's stdin and stdout.

use std::os::fd::{AsFd, OwnedFd};

use buildfleet_proto::fleet::{Builder, Node};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::UnixStream;

use super::Context;
use super::failure::Failure;
use crate::builder::Platform;

/// Connect stdin and stdout to the socket of a node, for clients that reach it through this command
///
/// Starts the daemon when none runs, because it holds the socket; pods start when a build arrives.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The builder; without it, $BUILDFLEET_BUILDER or the current one
    builder: Option<String>,
    /// The node; without it, the builder's first
    #[arg(long, conflicts_with = "platform")]
    node: Option<String>,
    /// The first node that builds for this platform, as in linux/arm64
    #[arg(long)]
    platform: Option<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let name = context.builder(args.builder);
    let builder = context.client().await?.inspect(&name).await?;
    let path = socket(&builder, args.node.as_deref(), args.platform.as_deref())?;
    let doing = |failure: Failure| failure.doing(format!("connect to {path}"));
    let stream = UnixStream::connect(path).await.map_err(|error| doing(Failure::other(error.to_string())))?;
    let own = |end: std::io::Result<OwnedFd>| end.map(|end| File::from_std(std::fs::File::from(end)));
    let input = own(std::io::stdin().as_fd().try_clone_to_owned());
    let output = own(std::io::stdout().as_fd().try_clone_to_owned());
    let joined = match (input, output) {
        (Ok(input), Ok(output)) => join(stream, input, output).await,
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    joined.map_err(|error| Failure::other(error.to_string()).doing(format!("pass on what {path} says")))
}

/// The socket that is meant.
fn socket<'a>(builder: &'a Builder, node: Option<&str>, platform: Option<&str>) -> Result<&'a str, Failure> {
    let Some(wanted) = platform else { return super::socket::socket(builder, node) };
    let wanted: Platform = wanted.parse().map_err(|error| Failure::usage(format!("--platform: {error}")))?;
    let builds = |node: &&Node| {
        let platforms = super::platforms::all(&node.platforms, &node.worker_platforms);
        platforms.iter().any(|text| text.parse::<Platform>().is_ok_and(|platform| platform == wanted))
    };
    let found = builder.nodes.iter().find(builds).map(|node| node.socket.as_str());
    found.ok_or_else(|| {
        let known = |node: &Node| {
            let platforms = super::platforms::all(&node.platforms, &node.worker_platforms);
            format!("{} ({})", node.name, if platforms.is_empty() { "none".into() } else { platforms.join(", ") })
        };
        let nodes: Vec<String> = builder.nodes.iter().map(known).collect();
        Failure::other(format!("no node of builder {} is known to build for {wanted}", builder.name))
            .hint(format!("the nodes and their platforms are {}", nodes.join(", ")))
    })
}

/// Each direction ends by itself: who has said all still listens.
///
/// Not bounded: a connection lasts as long as its two ends want. It ends when the socket says nothing more, because a
/// process that reads a stdin that never ends would never end.
async fn join(
    mut stream: UnixStream,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let (mut from, mut to) = stream.split();
    let sending = async {
        copy(&mut input, &mut to).await?;
        to.shutdown().await
    };
    let receiving = async {
        copy(&mut from, &mut output).await?;
        output.shutdown().await
    };
    tokio::pin!(sending, receiving);
    tokio::select! {
        received = &mut receiving => received,
        sent = &mut sending => match sent {
            Ok(()) => receiving.await,
            // The other end reads no more; what it still says counts.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => receiving.await,
            Err(error) => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::cli::samples;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_node_is_found_by_its_name_or_its_platform() {
        let kube = &samples::builders()[0];
        for (node, platform, wanted) in [
            (None, None, "/run/buildfleet/builders/kube.sock"),
            (Some("kube1"), None, "/run/buildfleet/nodes/kube1.sock"),
            (None, Some("linux/arm64"), "/run/buildfleet/nodes/kube1.sock"),
            (None, Some("linux/386"), "/run/buildfleet/nodes/kube0.sock"),
        ] {
            assert_eq!(socket(kube, node, platform).expect("there is one"), wanted);
        }
        let failure = socket(kube, None, Some("linux/s390x")).expect_err("there is none");
        assert_eq!(
            failure.render(),
            "error: no node of builder kube is known to build for linux/s390x\nhint: the nodes and their platforms are \
             kube0 (linux/amd64, linux/amd64/v2, linux/amd64/v3, linux/386), kube1 (linux/arm64)\n"
        );
        assert_eq!(socket(kube, None, Some("amd64!")).expect_err("it is no platform").exit() as u8, 2);
    }

    #[tokio::test]
    async fn who_has_said_all_still_listens() {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        let (input, mut user) = tokio::io::duplex(64);
        let (mut heard, output) = tokio::io::duplex(64);
        let joining = tokio::spawn(join(far, input, output));
        user.write_all(b"all").await.expect("it reads");
        drop(user);
        let mut said = String::new();
        let heard_all = tokio::time::timeout(LIMIT, near.read_to_string(&mut said)).await;
        heard_all.expect("it half-closes").expect("it ends");
        assert_eq!(said, "all");
        near.write_all(b"the answer").await.expect("it still listens");
        drop(near);
        let mut answer = String::new();
        heard.read_to_string(&mut answer).await.expect("it ends");
        assert_eq!(answer, "the answer");
        joining.await.expect("no panic").expect("it ended well");
    }

    #[tokio::test]
    async fn the_end_of_the_socket_is_the_end_although_stdin_stays_open() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let (input, _user) = tokio::io::duplex(64);
        let joining = tokio::spawn(join(far, input, tokio::io::sink()));
        drop(near);
        let ended = tokio::time::timeout(LIMIT, joining).await;
        ended.expect("it ends").expect("no panic").expect("it ended well");
    }
}
