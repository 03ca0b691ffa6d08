//! Output that comes in pieces, as whole lines. Pure.

/// The longest line that is held back for its end.
const LINE_MAX: usize = 64 * 1024;

/// Output of which the end of the line has not come.
#[derive(Debug, Default)]
pub(super) struct Held(Vec<u8>);

impl Held {
    /// Takes more output, and gives the lines that have come to their end.
    pub(super) fn take(&mut self, output: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(output);
        let end = self.0.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let end = if self.0.len() - end > LINE_MAX { self.0.len() } else { end };
        let whole: Vec<u8> = self.0.drain(..end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }

    /// What has no end.
    pub(super) fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.0);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        let output = "one\r\n\nzwölf\nopen".as_bytes();
        for piece in 1..=output.len() {
            let mut held = Held::default();
            let lines: Vec<String> = output.chunks(piece).flat_map(|piece| held.take(piece)).collect();
            assert_eq!(lines, ["one", "", "zwölf"], "{piece}");
            assert_eq!((held.rest().as_deref(), held.rest()), (Some("open"), None), "{piece}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_held_back_for_ever() {
        let long = "x".repeat(LINE_MAX);
        let mut held = Held::default();
        assert_eq!(held.take(long.as_bytes()), [""; 0]);
        assert_eq!(held.take(b"x"), [format!("{long}x")]);
        assert_eq!(held.take(format!("short\n{long}x").as_bytes()), ["short", &format!("{long}x")]);
        assert_eq!(held.rest(), None);
    }
}
