//! A command whose stdin and stdout are a byte stream, and whose last words explain its end.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio_util::io::ReaderStream;
use tokio_util::task::AbortOnDropHandle;

use super::command::Line;

/// How much of a command's stderr is kept.
const SAID_MAX: usize = 4096;

/// How long after its stdout a command may still say why it ended. A process that it left behind holds its stderr for ever.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a command is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error("found no `{0}` on the daemon's PATH")]
    Missing(&'static str),
    #[error("failed to run {program}")]
    Spawn {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{program} ended: {said}")]
    Ended { program: &'static str, said: String },
    #[error("{program} has brought no answer in {} s{}", within.as_secs(), and(said))]
    TimedOut { program: &'static str, within: Duration, said: String },
}

fn and(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// The stream. Dropping it ends the command.
#[derive(Debug)]
pub(super) struct CommandStream {
    _child: Child,
    /// `None` after its end was told.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Read and not yet given on.
    head: BytesMut,
    stderr: Stderr,
}

impl CommandStream {
    /// Waits until something comes: `buildkitd` speaks first, at once.
    pub(super) async fn open(line: &Line, within: Duration) -> Result<Self, CommandError> {
        let program = line.program;
        let mut child = spawn(line, Stdio::piped())?;
        let none = || CommandError::Ended { program, said: "it has no pipes".to_owned() };
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (stdin, stdout, stderr) = stdin.zip(stdout).zip(stderr).map(|((i, o), e)| (i, o, e)).ok_or_else(none)?;
        let stderr = Stderr::listen(stderr);
        let mut stream = Self { _child: child, stdin: Some(stdin), stdout, head: BytesMut::new(), stderr };
        match tokio::time::timeout(within, stream.stdout.read_buf(&mut stream.head)).await {
            Ok(Ok(read)) if read > 0 => Ok(stream),
            Ok(ended) => {
                stream.stderr.end().await;
                let said = match (stream.stderr.said(), ended) {
                    (said, Ok(_)) if said.is_empty() => "it said nothing".to_owned(),
                    (said, Err(error)) if said.is_empty() => error.to_string(),
                    (said, _) => said,
                };
                Err(CommandError::Ended { program, said })
            }
            Err(_) => Err(CommandError::TimedOut { program, within, said: stream.stderr.said() }),
        }
    }
}

/// Everything that a command writes, and an error at its end when it failed.
pub(super) fn output(line: &Line) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, CommandError> {
    let program = line.program;
    let mut child = spawn(line, Stdio::null())?;
    let stdout = child.stdout.take().map(ReaderStream::new);
    let stderr = child.stderr.take().map(ReaderStream::new);
    let (stdout, stderr) = (stream::iter(stdout).flatten(), stream::iter(stderr).flatten());
    let end = stream::once(async move {
        match child.wait().await {
            Ok(status) if status.success() => None,
            Ok(status) => Some(Err(io::Error::other(format!("{program} ended with {status}")))),
            Err(error) => Some(Err(error)),
        }
    });
    Ok(stream::select(stdout, stderr).chain(end.filter_map(std::future::ready)))
}

fn spawn(line: &Line, stdin: Stdio) -> Result<Child, CommandError> {
    let Line { program, arguments } = line;
    let mut command = Command::new(program);
    // A group of its own: a Ctrl-C at the daemon's terminal is for the daemon, which drains first.
    command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command.kill_on_drop(true).spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => CommandError::Missing(program),
        _ => CommandError::Spawn { program, source },
    })
}

/// What a command says of itself.
#[derive(Debug)]
struct Stderr {
    said: Arc<Mutex<Vec<u8>>>,
    listening: Ending,
}

/// Whether there may be more of it.
enum Ending {
    Open(AbortOnDropHandle<()>),
    Closing(Pin<Box<dyn Future<Output = ()> + Send>>),
    Closed,
}

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::Closing(_) => "Closing",
            Self::Closed => "Closed",
        })
    }
}

impl Stderr {
    fn listen(mut pipe: ChildStderr) -> Self {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let listening = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut piece = [0; 1024];
            while let Ok(read @ 1..) = pipe.read(&mut piece).await {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.extend_from_slice(&piece[..read]);
                let excess = heard.len().saturating_sub(SAID_MAX);
                heard.drain(..excess);
            }
        }));
        Self { said, listening: Ending::Open(listening) }
    }

    /// In one line.
    fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said);
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
    }

    async fn end(&mut self) {
        std::future::poll_fn(|cx| self.poll_end(cx)).await;
    }

    /// Ready when there will be no more of it, or nobody waits for that any longer.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.listening = match std::mem::replace(&mut self.listening, Ending::Closed) {
                Ending::Open(listening) => Ending::Closing(Box::pin(async move {
                    let _ = tokio::time::timeout(LAST_WORDS, listening).await;
                })),
                Ending::Closing(mut closing) => match closing.as_mut().poll(cx) {
                    Poll::Ready(()) => Ending::Closed,
                    Poll::Pending => {
                        self.listening = Ending::Closing(closing);
                        return Poll::Pending;
                    }
                },
                Ending::Closed => return Poll::Ready(()),
            };
        }
    }
}

impl AsyncRead for CommandStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.head.has_remaining() {
            let take = this.head.len().min(out.remaining());
            out.put_slice(&this.head.split_to(take));
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut this.stdout).poll_read(cx, out))?;
        if out.filled().len() > before || out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(this.stderr.poll_end(cx));
        let said = this.stderr.said();
        Poll::Ready(if said.is_empty() { Ok(()) } else { Err(io::Error::new(io::ErrorKind::ConnectionAborted, said)) })
    }
}

impl AsyncWrite for CommandStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stdin {
            Some(stdin) => Pin::new(stdin).poll_write_vectored(cx, pieces),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stdin.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe holds nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Line {
        Line { program: "sh", arguments: vec!["-c".to_owned(), script.to_owned()] }
    }

    async fn refusal(line: &Line, within: Duration) -> String {
        CommandStream::open(line, within).await.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn what_is_written_reaches_the_command_and_its_answer_comes_back() {
        let mut stream = CommandStream::open(&shell("printf hello; cat; printf bye"), WITHIN).await.unwrap();
        stream.write_all(b", it is ").await.unwrap();
        stream.write_all(&[b'x'; 20_000]).await.unwrap_or_else(|error| panic!("{error}"));
        stream.shutdown().await.unwrap();
        assert!(stream.write_all(b"more").await.is_err());
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        assert!(heard.starts_with("hello, it is xxx") && heard.ends_with("xbye"), "{} bytes", heard.len());
    }

    #[tokio::test]
    async fn a_command_that_ends_is_explained_by_its_last_words() {
        for (script, wanted) in [
            ("echo first >&2; echo 'Permission denied' >&2; exit 255", "sh ended: first; Permission denied"),
            ("exit 3", "sh ended: it said nothing"),
            // What it left behind holds its stderr.
            ("sleep 5 & echo broken >&2; exec >&-", "sh ended: broken"),
        ] {
            assert_eq!(refusal(&shell(script), WITHIN).await, wanted);
        }
        let mut later = CommandStream::open(&shell("printf x; echo 'host is gone' >&2"), WITHIN).await.unwrap();
        let error = later.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::ConnectionAborted, "host is gone"));
    }

    #[tokio::test]
    async fn a_command_that_says_nothing_is_not_waited_for_and_ends() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let line = shell(&format!("echo $$ >{}; echo thinking >&2; exec sleep 1000", pid.display()));
        let said = refusal(&line, Duration::from_secs(2)).await;
        assert_eq!(said, "sh has brought no answer in 2 s: thinking");
        let pid = std::fs::read_to_string(pid).unwrap();
        let process = std::path::PathBuf::from("/proc").join(pid.trim());
        for _ in 0..500 {
            if !process.exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it runs on");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let line = Line { program: "no-such-program-here", arguments: Vec::new() };
        assert_eq!(refusal(&line, WITHIN).await, "found no `no-such-program-here` on the daemon's PATH");
    }

    #[tokio::test]
    async fn output_is_all_that_is_written_and_a_failure_at_its_end() {
        for (script, wanted) in
            [("echo a; echo b >&2", None), ("echo no >&2; exit 7", Some("sh ended with exit status: 7"))]
        {
            let mut pieces: Vec<_> = output(&shell(script)).unwrap().collect().await;
            let failure = pieces.pop_if(|piece| piece.is_err()).map(|piece| piece.unwrap_err().to_string());
            assert_eq!(failure.as_deref(), wanted);
            let text = pieces.into_iter().map(Result::unwrap).collect::<Vec<Bytes>>().concat();
            assert!(!text.is_empty());
        }
    }
}
