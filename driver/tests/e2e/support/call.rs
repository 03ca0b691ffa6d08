//! One run of a program: bounded in time, its output kept and followed while it runs.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::clock::seconds;

/// Enough for any step of a test on a busy machine; a test that means less says so.
const LIMIT: Duration = seconds(90);

/// What is going to be run.
#[derive(Debug)]
pub(crate) struct Call {
    command: Command,
    shown: String,
    limit: Duration,
}

impl Call {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        Self { command: Command::new(program), shown: name, limit: LIMIT }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// Words without spaces in them.
    pub(crate) fn words(self, words: &str) -> Self {
        words.split_whitespace().fold(self, Self::arg)
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Nothing of this process's environment.
    pub(crate) fn env_clear(mut self) -> Self {
        self.command.env_clear();
        self
    }

    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it in the background.
    pub(crate) fn start(mut self) -> Running {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let began = Instant::now();
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("cannot run {}: {error}", self.shown));
        let heard = Arc::new(Heard::default());
        let readers = vec![
            listen(child.stdout.take().expect("stdout is piped"), &heard, |said| &mut said.stdout),
            listen(child.stderr.take().expect("stderr is piped"), &heard, |said| &mut said.stderr),
        ];
        Running { child: Some(child), shown: self.shown, limit: self.limit, began, heard, readers }
    }

    /// Runs it to its end.
    pub(crate) fn end(self) -> Outcome {
        self.start().end()
    }

    pub(crate) fn succeeds(self) -> Outcome {
        self.end().succeeded()
    }

    pub(crate) fn fails(self) -> Outcome {
        self.end().failed()
    }
}

#[derive(Debug, Default)]
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ended: usize,
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned() + &String::from_utf8_lossy(&self.stderr)
    }
}

#[derive(Debug, Default)]
struct Heard {
    said: Mutex<Said>,
    news: Condvar,
}

fn listen(
    mut pipe: impl Read + Send + 'static,
    heard: &Arc<Heard>,
    of: fn(&mut Said) -> &mut Vec<u8>,
) -> JoinHandle<()> {
    let heard = Arc::clone(heard);
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        loop {
            let read = pipe.read(&mut buffer).unwrap_or(0);
            let mut said = heard.said.lock().expect("no reader panics");
            match read {
                0 => said.ended += 1,
                read => of(&mut said).extend_from_slice(&buffer[..read]),
            }
            heard.news.notify_all();
            if read == 0 {
                return;
            }
        }
    })
}

/// A program that runs; ended when it goes out of sight.
#[derive(Debug)]
pub(crate) struct Running {
    child: Option<Child>,
    shown: String,
    limit: Duration,
    began: Instant,
    heard: Arc<Heard>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the program runs").id()
    }

    /// Waits until the program has said this, on stdout or stderr.
    pub(crate) fn says(&self, words: &str) -> &Self {
        let mut said = self.heard.said.lock().expect("no reader panics");
        loop {
            let text = said.text();
            if text.contains(words) {
                return self;
            }
            assert!(said.ended < 2, "{} ended and did not say {words:?}:\n{text}", self.shown);
            let left = self.limit.checked_sub(self.began.elapsed());
            let left =
                left.unwrap_or_else(|| panic!("{} did not say {words:?} in {:?}:\n{text}", self.shown, self.limit));
            said = self.heard.news.wait_timeout(said, left).expect("no reader panics").0;
        }
    }

    /// What it has said so far.
    pub(crate) fn text(&self) -> String {
        self.heard.said.lock().expect("no reader panics").text()
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Sends the signal to the program alone, not to what it has started.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.shown));
    }

    /// Waits for its end; a program that takes longer than its limit fails the test.
    pub(crate) fn end(mut self) -> Outcome {
        let mut child = self.child.take().expect("a program ends once");
        let status = loop {
            match child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None if self.began.elapsed() > self.limit => {
                    kill_group(&mut child);
                    panic!("{} did not end in {:?}; it said:\n{}", self.shown, self.limit, self.text());
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let (ended, took) = (Instant::now(), self.began.elapsed());
        for reader in self.readers.drain(..) {
            reader.join().expect("no reader panics");
        }
        let said = self.heard.said.lock().expect("no reader panics");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&said.stdout), text(&said.stderr));
        Outcome { shown: std::mem::take(&mut self.shown), status, stdout, stderr, took, ended }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill_group(&mut child);
        }
    }
}

fn kill_group(child: &mut Child) {
    // The program and what it started: it has a process group of its own.
    let _ = killpg(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGKILL);
    let _ = child.wait();
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    shown: String,
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    pub(crate) ended: Instant,
}

impl Outcome {
    pub(crate) fn succeeded(self) -> Self {
        assert!(self.status.success(), "failed: {self}");
        self
    }

    pub(crate) fn failed(self) -> Self {
        assert!(!self.status.success(), "succeeded, and should have failed: {self}");
        self
    }

    pub(crate) fn is_success(&self) -> bool {
        self.status.success()
    }

    /// `None` after a signal.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// On stdout or stderr.
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stdout.contains(words) || self.stderr.contains(words), "nothing says {words:?}: {self}");
        self
    }

    pub(crate) fn says_nothing_of(self, words: &str) -> Self {
        assert!(!self.stdout.contains(words) && !self.stderr.contains(words), "{words:?} is said: {self}");
        self
    }

    pub(crate) fn faster_than(self, limit: Duration) -> Self {
        assert!(self.took < limit, "took {:?}, more than {limit:?}: {self}", self.took);
        self
    }

    /// stdout without the white space around it.
    pub(crate) fn word(&self) -> &str {
        self.stdout.trim()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.word()).unwrap_or_else(|error| panic!("no JSON document ({error}): {self}"))
    }

    /// One document per line.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let parsed: Result<Vec<_>, _> = self.stdout.lines().map(serde_json::from_str).collect();
        parsed.unwrap_or_else(|error| panic!("no JSON lines ({error}): {self}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {signal:?}"),
        };
        let Self { shown, stdout, stderr, took, .. } = self;
        write!(f, "{shown}\n{end} after {took:?}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}
