//! What a local `buildkitd` writes: kept in one bounded file, and read back.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Enough for days of `buildkitd`; twice that is the most a pod's output takes on disk.
pub(super) const LOG_MAX: u64 = 8 * 1024 * 1024;

/// How far back the last lines are looked for.
const TAIL_MAX: u64 = 1024 * 1024;

/// How often a followed file is looked at.
const FOLLOW_POLL: Duration = Duration::from_millis(200);

const CHUNK: usize = 64 * 1024;

/// Opens the file for a new process, after [`bound`]. Returns its length too: where the new process begins.
pub(super) fn open(log: &Path) -> io::Result<(File, u64)> {
    bound(log, LOG_MAX)?;
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(log)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Moves what is in the file to `<file>.1` when it is longer than `max`. The file stays the same one, so that the process
/// that appends to it may go on; what it writes in between is lost.
pub(super) fn bound(log: &Path, max: u64) -> io::Result<()> {
    match log.metadata() {
        Ok(meta) if meta.len() > max => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    std::fs::copy(log, log.with_extension("log.1"))?;
    OpenOptions::new().write(true).open(log)?.set_len(0)
}

/// The last `count` lines that are not blank, of what was written from `from` on.
pub(super) fn last_lines(log: &Path, from: u64, count: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    // A file that is shorter was bounded meanwhile: all of it is new.
    let from = if length < from { 0 } else { from };
    let begin = from.max(length.saturating_sub(16 * 1024));
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(16 * 1024).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> =
        text.lines().rev().map(str::trim).filter(|line| !line.is_empty()).take(count).map(str::to_owned).collect();
    lines.reverse();
    Ok(lines)
}

/// Where the last `count` lines of `text` begin.
fn tail_begin(text: &[u8], count: u32) -> usize {
    // The line feed at the end closes the last line and begins none.
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut feeds = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    match count.checked_sub(1) {
        None => text.len(),
        Some(earlier) => feeds.nth(earlier as usize).unwrap_or(0),
    }
}

/// The output from its beginning, or its last `tail` lines; with `follow`, what is written later too, until `gone` says
/// that nothing more will come.
pub(super) async fn read(
    log: PathBuf,
    tail: Option<u32>,
    follow: bool,
    gone: impl Fn() -> bool + Send + 'static,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send> {
    let mut file = tokio::fs::File::open(&log).await?;
    let length = file.metadata().await?.len();
    let mut position = 0;
    if let Some(count) = tail {
        let begin = length.saturating_sub(TAIL_MAX);
        file.seek(SeekFrom::Start(begin)).await?;
        let mut bytes = Vec::new();
        (&mut file).take(length - begin).read_to_end(&mut bytes).await?;
        position = begin + tail_begin(&bytes, count) as u64;
        file.seek(SeekFrom::Start(position)).await?;
    }
    let reader = Reader { file, position, end: (!follow).then_some(length), gone };
    Ok(futures::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|chunk| (chunk, reader)))
    }))
}

struct Reader<G> {
    file: tokio::fs::File,
    position: u64,
    /// Where to stop; `None` follows.
    end: Option<u64>,
    gone: G,
}

impl<G: Fn() -> bool> Reader<G> {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            // Asked before the read: what was written before the end is read all the same.
            let gone = (self.gone)();
            let room = self.end.map_or(CHUNK as u64, |end| end.saturating_sub(self.position).min(CHUNK as u64));
            let mut chunk = Vec::new();
            let read = (&mut self.file).take(room).read_to_end(&mut chunk).await?;
            self.position += read as u64;
            if read > 0 {
                return Ok(Some(chunk.into()));
            }
            if self.end.is_some() || gone {
                return Ok(None);
            }
            tokio::time::sleep(FOLLOW_POLL).await;
            if self.file.metadata().await?.len() < self.position {
                self.position = self.file.seek(SeekFrom::Start(0)).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures::StreamExt;

    use super::*;

    fn log(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("buildkitd.log");
        std::fs::write(&log, text).unwrap();
        (directory, log)
    }

    async fn text_of(log: &Path, tail: Option<u32>) -> String {
        let stream = read(log.to_owned(), tail, false, || false).await.unwrap();
        let chunks: Vec<_> = stream.map(|chunk| chunk.unwrap()).collect().await;
        String::from_utf8(chunks.concat()).unwrap()
    }

    #[tokio::test]
    async fn a_tail_is_the_last_lines_and_no_tail_is_everything() {
        for (text, tail, wanted) in [
            ("a\nb\nc\n", None, "a\nb\nc\n"),
            ("a\nb\nc\n", Some(2), "b\nc\n"),
            ("a\nb\nc", Some(2), "b\nc"),
            ("a\n\nc\n", Some(2), "\nc\n"),
            ("a\nb\n", Some(9), "a\nb\n"),
            ("a\nb\n", Some(0), ""),
            ("", Some(3), ""),
        ] {
            let (_directory, log) = log(text);
            assert_eq!(text_of(&log, tail).await, wanted, "{text:?} {tail:?}");
        }
    }

    #[tokio::test]
    async fn a_followed_file_goes_on_after_it_was_bounded_and_ends_with_its_pod() {
        let (_directory, log) = log("first\n");
        let gone = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let asked = std::sync::Arc::clone(&gone);
        let stream = read(log.clone(), None, true, move || asked.load(std::sync::atomic::Ordering::Relaxed));
        let mut stream = std::pin::pin!(stream.await.unwrap());
        assert_eq!(stream.next().await.unwrap().unwrap(), "first\n");
        bound(&log, 3).unwrap();
        let mut file = OpenOptions::new().append(true).open(&log).unwrap();
        file.write_all(b"new\n").unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "new\n");
        file.write_all(b"end\n").unwrap();
        gone.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(stream.next().await.unwrap().unwrap(), "end\n");
        assert!(stream.next().await.is_none());
    }

    #[test]
    fn a_long_file_is_moved_aside_and_a_short_one_is_kept() {
        let (directory, log) = log("12345");
        bound(&log, 5).unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "12345");
        bound(&log, 4).unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "");
        assert_eq!(std::fs::read_to_string(directory.path().join("buildkitd.log.1")).unwrap(), "12345");
        bound(&directory.path().join("none"), 0).unwrap();
    }

    #[test]
    fn the_last_lines_are_those_of_the_last_process() {
        let (_directory, log) = log("old\none\n\n  two  \n");
        assert_eq!(last_lines(&log, 4, 3).unwrap(), ["one", "two"]);
        assert_eq!(last_lines(&log, 4, 1).unwrap(), ["two"]);
        assert_eq!(last_lines(&log, 0, 9).unwrap(), ["old", "one", "two"]);
        assert_eq!(last_lines(&log, 999, 1).unwrap(), ["two"]);
    }
}
