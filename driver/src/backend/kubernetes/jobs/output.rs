//! The output of a container without the times that the API server was asked to put before its lines.
//!
//! They are there so that a stream that breaks can begin again where it was.

use bytes::{Bytes, BytesMut};
use k8s_openapi::jiff::Timestamp;

/// A time in RFC 3339 is not longer; more than that before a space is none.
const TIME_MAX: usize = 64;

/// What was passed on so far.
#[derive(Debug, Default)]
pub(super) struct Output {
    at: At,
    /// The time of the last line, how many lines had it, and how many bytes of the last one were passed on.
    last: Option<Timestamp>,
    lines: usize,
    bytes: usize,
    /// The same when the stream began again, counted down while its lines come once more.
    known: Option<Known>,
}

#[derive(Debug)]
enum At {
    /// In the time before a line.
    Time(Vec<u8>),
    /// In a line, of which so many bytes are known already; all of them when there is no number.
    Line(Option<usize>),
}

impl Default for At {
    fn default() -> Self {
        Self::Time(Vec::new())
    }
}

#[derive(Debug)]
struct Known {
    until: Timestamp,
    lines: usize,
    bytes: usize,
}

impl Output {
    /// What is new in a piece of the stream.
    pub(super) fn take(&mut self, piece: &[u8]) -> Bytes {
        let mut new = BytesMut::with_capacity(piece.len());
        let mut rest = piece;
        while !rest.is_empty() {
            rest = match &mut self.at {
                At::Time(time) => {
                    let end = rest.iter().position(|byte| *byte == b' ' || *byte == b'\n');
                    let taken = end.unwrap_or(rest.len());
                    time.extend_from_slice(&rest[..taken]);
                    if end.is_none() && time.len() <= TIME_MAX {
                        return new.freeze();
                    }
                    let time = std::mem::take(time);
                    let is_time = self.begin_line(&time, &mut new);
                    // An empty line has no space after its time.
                    let is_space = is_time && rest.get(taken) == Some(&b' ');
                    &rest[taken + usize::from(is_space)..]
                }
                At::Line(known) => {
                    let (end, is_whole) = match rest.iter().position(|byte| *byte == b'\n') {
                        Some(at) => (at + 1, true),
                        None => (rest.len(), false),
                    };
                    if let Some(known) = known {
                        let skipped = end.min(*known);
                        *known -= skipped;
                        self.bytes += end;
                        new.extend_from_slice(&rest[skipped..end]);
                    }
                    if is_whole {
                        self.at = At::default();
                    }
                    &rest[end..]
                }
            };
        }
        new.freeze()
    }

    /// Whether it begins with a time.
    fn begin_line(&mut self, time: &[u8], new: &mut BytesMut) -> bool {
        let Some(at) = std::str::from_utf8(time).ok().and_then(|time| time.parse::<Timestamp>().ok()) else {
            // No time at all: it is output, whatever it is.
            new.extend_from_slice(time);
            self.at = At::Line(Some(0));
            return false;
        };
        let skip = match &mut self.known {
            Some(known) if at < known.until => None,
            Some(known) if at == known.until && known.lines > 0 => {
                known.lines -= 1;
                // The end of the last one may not have come before.
                (known.lines == 0).then_some(known.bytes)
            }
            _ => {
                self.lines = if self.last == Some(at) { self.lines + 1 } else { 1 };
                self.last = Some(at);
                Some(0)
            }
        };
        if skip.is_some() {
            self.bytes = 0;
        }
        self.at = At::Line(skip);
        true
    }

    /// The stream begins again, at the time that is returned: what was passed on is not passed on twice.
    pub(super) fn again(&mut self) -> Option<Timestamp> {
        self.at = At::default();
        let until = self.last?;
        self.known = Some(Known { until, lines: self.lines, bytes: self.bytes });
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: &str = "2026-11-22T00:10:37.000000001Z";
    const T2: &str = "2026-11-22T00:10:37.000000002Z";

    fn text(bytes: &Bytes) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn times_are_taken_away_however_the_stream_is_cut() {
        let whole = format!("{T1} #1 a b\n{T1} \n{T2}\n{T2} last");
        for size in 1..whole.len() {
            let mut output = Output::default();
            let passed: String = whole.as_bytes().chunks(size).map(|piece| text(&output.take(piece))).collect();
            assert_eq!(passed, "#1 a b\n\n\nlast", "in pieces of {size}");
        }
    }

    #[test]
    fn a_stream_that_begins_again_repeats_nothing_and_loses_nothing() {
        let whole = format!("{T1} one\n{T1} two\n{T2} three\n{T2} four\n{T2} five\n");
        for cut in 0..whole.len() {
            let mut output = Output::default();
            let mut passed = text(&output.take(&whole.as_bytes()[..cut]));
            output.again();
            passed.push_str(&text(&output.take(whole.as_bytes())));
            assert_eq!(passed, "one\ntwo\nthree\nfour\nfive\n", "cut at {cut}");
            // And once more, when all of it has come.
            output.again();
            assert_eq!(text(&output.take(whole.as_bytes())), "", "cut at {cut}");
        }
    }

    #[test]
    fn what_has_no_time_is_passed_on_as_it_is() {
        assert_eq!(text(&Output::default().take(b"no time\n")), "no time\n");
        let long = format!("{}\n", "x".repeat(200));
        assert_eq!(text(&Output::default().take(long.as_bytes())), long);
    }
}
