//! Ctrl-C in a build, on a terminal.

use std::fs;
use std::time::Duration;

use crate::support::call::Call;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;
use crate::support::tools::of_package;

/// A shell in a terminal of tmux; ended with its server.
struct Terminal<'a> {
    scene: &'a Scene,
}

impl<'a> Terminal<'a> {
    fn open(scene: &'a Scene) -> Self {
        let terminal = Self { scene };
        terminal.tmux("-f /dev/null new-session -d -x 120 -y 40 'PS1=\"ready> \" exec sh'").succeeds();
        terminal
    }

    fn tmux(&self, words: &str) -> Call {
        let tmux = of_package("tmux", "tmux");
        let socket = self.scene.path("tmux");
        self.scene.shell(&format!("{} -S {} {words}", tmux.display(), socket.display())).env("TERM", "xterm")
    }

    fn types(&self, line: &str) {
        self.tmux(&format!("send-keys -l '{line}'")).succeeds();
        self.tmux("send-keys Enter").succeeds();
    }

    fn text(&self) -> String {
        self.tmux("capture-pane -p").succeeds().stdout
    }

    fn shows(&self, words: &str) -> String {
        wait_for(&format!("{words:?} on the terminal"), seconds(40), || {
            let text = self.text();
            text.contains(words).then_some(text)
        })
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = self.tmux("kill-server").end();
    }
}

#[test]
fn ctrl_c_cancels_the_build_and_leaves_the_terminal_as_it_was() {
    let scene = Scene::local();
    scene.buildfleet("install").succeeds();
    let builder = scene.create("laptop", "--driver local --bootstrap");
    let context = scene.contexts().slow("interrupted", 300);
    let terminal = Terminal::open(&scene);
    terminal.shows("ready>");
    let settings = |name: &str| {
        let file = scene.path(name);
        terminal.types(&format!("stty -a > {0}.part && mv {0}.part {0}", file.display()));
        wait_for("the terminal's settings", seconds(10), || fs::read_to_string(&file).ok())
    };
    let before = settings("before");
    terminal.types(&format!("docker buildx build --builder laptop {}; echo code=$?.", context.display()));
    terminal.shows("RUN : interrupted");
    wait_for("the build on the pod", seconds(40), || (builder.busy_pods().len() == 1).then_some(()));
    terminal.tmux("send-keys C-c").succeeds();
    // What buildx ends with when its build was cancelled.
    let text = terminal.shows("code=1");
    assert!(text.contains("code=130."), "{text}");
    wait_for("the end of the build", Duration::from_secs(10), || builder.busy_pods().is_empty().then_some(()));
    assert_eq!(settings("after"), before, "what is typed is shown, and lines end as they did");
    terminal.types("echo $((40 + 2))");
    terminal.shows("\n42\n");
    drop(terminal);
    builder.remove();
}
