//! buildx's debugger: a shell, on a terminal, in the container of a step that failed.

use crate::support::builder::Builder;
use crate::support::scene::Scene;

pub(super) fn opens_a_shell_in_a_failed_step(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.contexts().with("broken", "RUN echo kept-word >/word\nRUN false\n");
    let log = scene.path("typescript");
    // Typed when it is asked for: into the shell, then Ctrl-a c and into the monitor, which takes its time between both.
    let lines = format!(
        r#"until_said() {{ for _ in $(seq 300); do grep -aq -e "$1" {log} && return; sleep 0.1; done; exit 1; }}
{{ until_said '/ #'; printf 'echo "in the container: $(cat /word)"; exit\r'
  until_said 'in the container: kept-word'; sleep 0.5; printf '\001c'
  until_said '(buildx)'; printf 'exit\r'; sleep 1; }} |
script -qefc 'docker buildx debug --on=error build --builder {} --progress=plain {}' {log}"#,
        builder.name(),
        context.display(),
        log = log.display()
    );
    let ended = scene.shell(&lines).env("BUILDX_EXPERIMENTAL", "1").env("TERM", "dumb").fails();
    ended.says("in the container: kept-word").says("exit code: 1");
}
