//! A shell that one person types a guide's commands into, one after the other.

use std::fs::File;
use std::io::Write;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::call::Running;
use crate::support::clock::seconds;
use crate::support::scene::Scene;

/// How long all commands of a guide may take.
const GUIDE: std::time::Duration = seconds(240);

/// Between what one command prints and the next.
const MARK: &str = "--- that was";

/// What a command did.
#[derive(Debug)]
pub(super) struct Done {
    /// On stdout and stderr, as a terminal has it.
    pub(super) said: String,
    pub(super) code: i32,
}

/// It lives as long as its guide: what a command sets, the next one sees.
#[derive(Debug)]
pub(super) struct Shell {
    running: Running,
    typed: File,
    commands: usize,
    read: usize,
}

impl Shell {
    pub(super) fn open(scene: &Scene) -> Self {
        let keyboard = scene.path("keyboard");
        mkfifo(&keyboard, Mode::S_IRWXU).expect("a directory of our own");
        let running = scene.shell(&format!("exec bash {} 2>&1", keyboard.display())).within(GUIDE).start();
        let typed = File::options().write(true).open(&keyboard).expect("the shell reads it");
        Self { running, typed, commands: 0, read: 0 }
    }

    pub(super) fn run(&mut self, command: &str) -> Done {
        self.commands += 1;
        let number = self.commands;
        // The end of the line by itself, because a document may end in it, and a comment would swallow it.
        writeln!(self.typed, "{command}\nprintf '\\n{MARK} {number}: %s.\\n' $?").expect("the shell reads");
        let mark = format!("\n{MARK} {number}: ");
        self.running.says(&mark);
        let (said, code) = loop {
            let text = self.running.text();
            let (said, rest) = text[self.read..].split_once(&mark).expect("it was said");
            if let Some((code, _)) = rest.split_once(".\n") {
                let read = self.read + said.len() + mark.len() + code.len() + 2;
                let done = (said.to_owned(), code.parse().expect("an exit code"));
                self.read = read;
                break done;
            }
            std::thread::yield_now();
        };
        Done { said, code }
    }
}
