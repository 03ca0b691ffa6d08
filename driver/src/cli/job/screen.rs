//! A build on a terminal: what is over stands above, what runs moves below it. Pure but for the clock and the size it is given.

use std::collections::VecDeque;

use super::steps::{Ended, Line, Step, Steps};
use crate::cli::table::printable;

/// How many lines of a running step's output are shown.
const OUTPUT: usize = 4;

/// What is shown, and what of it moves.
#[derive(Debug, Default)]
pub(super) struct Screen {
    steps: Steps,
    colour: bool,
    /// Lines that are to stand above.
    over: VecDeque<String>,
    /// Of the pod, as long as no step is known.
    waiting: Option<(String, f64)>,
    /// How many lines moved at the last time.
    moving: usize,
}

/// The terminal's size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Screen {
    pub(super) fn new(colour: bool) -> Self {
        Self { colour, ..Self::default() }
    }

    /// Output of the build.
    pub(super) fn output(&mut self, bytes: &[u8], now: f64, width: usize) {
        for line in self.steps.take(bytes, now) {
            self.line(line, width);
        }
        if self.steps.count().1 > 0 {
            self.waiting = None;
        }
    }

    /// What happens before a step, or beside them.
    pub(super) fn news(&mut self, text: &str, now: f64) {
        let since = self.waiting.as_ref().map_or(now, |(_, since)| *since);
        self.waiting = Some((printable(text), since));
    }

    /// A line that stays.
    pub(super) fn say(&mut self, line: &str) {
        self.over.push_back(line.to_owned());
    }

    fn line(&mut self, line: Line, width: usize) {
        match line {
            Line::Ended(number) => {
                if let Some(step) = self.steps.get(number) {
                    let line = ended(step, width, self.colour);
                    let lines =
                        if step.ended == Some(Ended::Failed) { output(step, width, OUTPUT) } else { Vec::new() };
                    self.over.push_back(line);
                    self.over.extend(lines);
                }
            }
            Line::Other(text) if text.is_empty() => {}
            Line::Other(text) => self.over.push_back(text),
            Line::Changed => {}
        }
    }

    /// What is to be written now: the moving lines of last time go, lines that stay come, and below them those that move now.
    pub(super) fn frame(&mut self, now: f64, size: Size) -> String {
        let mut frame = self.erase();
        for line in self.over.drain(..) {
            frame.push_str(&line);
            frame.push('\n');
        }
        let moving = self.moving(now, size);
        self.moving = moving.len();
        for line in moving {
            frame.push_str(&line);
            frame.push('\n');
        }
        frame
    }

    /// The last of all: nothing moves any more.
    pub(super) fn finish(&mut self, now: f64, width: usize) -> String {
        if let Some(line) = self.steps.rest(now) {
            self.line(line, width);
        }
        self.waiting = None;
        let mut frame = self.erase();
        // What had no end goes with the build; it is told as what it was.
        let cut: Vec<String> =
            self.steps.running().map(|step| timed(&format!(" => {}", step.name), now - step.started, width)).collect();
        for line in self.over.drain(..).chain(cut) {
            frame.push_str(&line);
            frame.push('\n');
        }
        frame
    }

    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.moving) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    fn moving(&self, now: f64, size: Size) -> Vec<String> {
        if let Some((text, since)) = &self.waiting {
            return vec![timed(&format!(" => {text}"), now - since, size.width)];
        }
        let (over, all) = self.steps.count();
        if all == over {
            return Vec::new();
        }
        let mut lines = vec![fitted(&format!("[+] Building ({over}/{all})"), size.width)];
        let running: Vec<&Step> = self.steps.running().collect();
        // Each step's own line first; what is left is for their output, of the latest more.
        let room = size.height.saturating_sub(2);
        let shown = &running[..running.len().min(room)];
        let mut left = room - shown.len();
        let mut outputs: Vec<Vec<String>> = Vec::new();
        for step in shown.iter().rev() {
            let output = output(step, size.width, OUTPUT.min(left));
            left -= output.len();
            outputs.push(output);
        }
        for (step, output) in shown.iter().zip(outputs.into_iter().rev()) {
            lines.push(timed(&format!(" => {}", step.name), now - step.started, size.width));
            lines.extend(output);
        }
        lines
    }
}

/// The last lines of a step: what it transfers, and what it says.
fn output(step: &Step, width: usize, most: usize) -> Vec<String> {
    let parts = step.parts.iter().map(|(name, rest)| format!(" => => {name} {rest}"));
    let said = step.lines.iter().map(|line| format!(" => => # {line}"));
    let all: Vec<String> = parts.chain(said).collect();
    all[all.len().saturating_sub(most)..].iter().map(|line| fitted(line, width)).collect()
}

/// ` => CACHED [2/3] RUN make                0.0s`
fn ended(step: &Step, width: usize, colour: bool) -> String {
    let (word, paint) = match step.ended {
        Some(Ended::Cached) => ("CACHED ", "34"),
        Some(Ended::Canceled) => ("CANCELED ", "33"),
        Some(Ended::Failed) => ("ERROR ", "31"),
        Some(Ended::Done) | None => ("", "34"),
    };
    let line = timed(&format!(" => {word}{}", step.name), step.took.unwrap_or(0.0), width);
    if colour { format!("\x1b[{paint}m{line}\x1b[0m") } else { line }
}

/// The text, and the time at the right edge.
fn timed(text: &str, seconds: f64, width: usize) -> String {
    let time = format!("{:.1}s", seconds.max(0.0));
    let room = width.saturating_sub(time.len() + 1);
    format!("{:room$}{time}", fitted(text, room.saturating_sub(1)))
}

/// One line and no more, or the terminal would break it and move the others.
fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 40, height: 10 };

    /// A line with a time at its end, one column before the edge: some terminals break a line that fills them.
    fn timed(text: &str, time: &str) -> String {
        format!("{text:35}{time}\n")
    }

    #[test]
    fn what_is_over_stands_above_what_moves() {
        let mut screen = Screen::new(false);
        screen.news("pod x-1: pulling image", 0.0);
        assert_eq!(screen.frame(2.0, SIZE), timed(" => pod x-1: pulling image", "2.0s"));
        let output = "#1 [internal] load build definition from x\n#1 DONE 0.1s\n#2 [1/2] FROM x\n#2 CACHED\n#3 [2/2] RUN make\n#3 1.5 cc a.c\n";
        screen.output(output.as_bytes(), 10.0, 40);
        let wanted = [
            "\x1b[1A\x1b[J".to_owned(),
            timed(" => [internal] load build defin...", "0.1s"),
            timed(" => CACHED [1/2] FROM x", "0.0s"),
            "[+] Building (2/3)\n".to_owned(),
            timed(" => [2/2] RUN make", "3.5s"),
            " => => # cc a.c\n".to_owned(),
        ];
        assert_eq!(screen.frame(12.0, SIZE), wanted.concat());
        screen.output(b"#3 ERROR: exit code: 1\n------\nerror: failed to solve: exit", 13.0, 40);
        let wanted = [
            "\x1b[3A\x1b[J".to_owned(),
            timed(" => ERROR [2/2] RUN make", "4.5s"),
            " => => # cc a.c\n => => # ERROR: exit code: 1\n------\nerror: failed to solve: exit\n".to_owned(),
        ];
        assert_eq!(screen.finish(13.0, 40), wanted.concat());
        assert_eq!(screen.frame(14.0, SIZE), "");
    }

    #[test]
    fn no_more_moves_than_the_terminal_has_lines_and_no_line_is_broken() {
        let mut screen = Screen::new(false);
        for step in 1..30 {
            let text = format!("#{step} step {step} {}\n#{step} 1.0 a\n#{step} 2.0 b\n", "x".repeat(100));
            screen.output(text.as_bytes(), 10.0, 40);
        }
        let frame = screen.frame(11.0, SIZE);
        assert_eq!(frame.lines().count(), SIZE.height - 1);
        assert!(frame.lines().all(|line| line.chars().count() <= SIZE.width), "{frame}");
        let frame = screen.frame(11.0, Size { width: 40, height: 60 });
        assert!(frame.lines().count() < 60 && frame.contains(" => => # b"), "{frame}");
        screen.frame(11.0, Size { width: 3, height: 1 });
    }

    #[test]
    fn colours_are_those_of_buildx() {
        let mut screen = Screen::new(true);
        screen.output(b"#1 a\n#1 DONE 0.0s\n#2 b\n#2 ERROR: x\n#3 c\n#3 CANCELED\n", 0.0, 20);
        let frame = screen.finish(0.0, 20);
        for painted in ["\x1b[34m => a", "\x1b[31m => ERROR b", "\x1b[33m => CANCELED c"] {
            assert!(frame.contains(painted), "{frame:?}");
        }
    }
}
