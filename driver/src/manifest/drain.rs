//! How a pod that is told to go waits for the builds that run in it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ExecAction, Lifecycle, LifecycleHandler};

use crate::options::KubernetesOptions;

use super::unix_address;

/// How long `buildkitd` may take to end once it is told to, as Kubernetes would have it by itself.
const END_SECONDS: u64 = 30;

/// From the order to go to the kill by Kubernetes, which is the last resort.
pub(super) fn grace_seconds(options: &KubernetesOptions) -> i64 {
    i64::try_from(whole_seconds(options.drain_timeout).saturating_add(END_SECONDS)).unwrap_or(i64::MAX)
}

/// Kubernetes tells `buildkitd` to end when this has returned. From then on it takes no new calls, and a build makes new
/// calls up to its last moment: so the wait has to come before.
///
/// The history lists builds that run as STARTED, those of other daemons and of clients without one among them. After a
/// build its client asks for the record, so that three looks in a row have to find none; a pod that has no build at the
/// first look goes at once. A `buildkitd` that cannot be asked three times in a row builds nothing that could be saved. An
/// image without shell, `timeout` or `buildctl` makes the pod go at once, too.
///
/// Kubernetes would give what is left of the whole time to a `buildkitd` that does not end: one that hangs, or that waits
/// for a client which keeps a stream open. Hence the process that is left behind. No signal from within kills process 1,
/// but Go's runtime ends a program on SIGQUIT, with a dump of its stacks, whatever the program itself does.
pub(super) fn wait_for_builds(options: &KubernetesOptions) -> Option<Lifecycle> {
    let seconds = whole_seconds(options.drain_timeout);
    if seconds == 0 {
        return None;
    }
    let address = unix_address(options);
    let script = format!(
        "end=$(($(date +%s) + {seconds})) idle=1 failed=0\n\
         while [ \"$(date +%s)\" -lt \"$end\" ]; do\n  \
           if builds=$(timeout -s KILL 10 buildctl --addr {address} debug histories 2>/dev/null); then\n    \
             failed=0\n    \
             if echo \"$builds\" | grep -q '^STARTED'; then idle=3; else idle=$((idle - 1)); fi\n  \
           else\n    \
             failed=$((failed + 1))\n  \
           fi\n  \
           if [ \"$idle\" -eq 0 ] || [ \"$failed\" -eq 3 ]; then break; fi\n  \
           sleep 1\n\
         done\n\
         (sleep {END_SECONDS}; kill -KILL -1; kill -CONT 1; kill -QUIT 1) </dev/null >/dev/null 2>&1 &\n"
    );
    let exec = ExecAction { command: Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), script]) };
    let before = LifecycleHandler { exec: Some(exec), ..LifecycleHandler::default() };
    Some(Lifecycle { pre_stop: Some(before), ..Lifecycle::default() })
}

/// Kubernetes counts in seconds, and nobody waits less than was asked for.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The programs that the script calls: `buildctl` gives the next answer and repeats the last one, and time passes with
    /// each second of sleep and with nothing else.
    const PROGRAMS: &str = r#"
buildctl() {
    echo "$*" >>asked
    answer=$(sed -n "$(wc -l <asked)p" answers)
    [ -n "$answer" ] || answer=$(tail -n 1 answers)
    printf 'TYPE     \tREF\n'
    case $answer in
    busy) printf 'STARTED  \tr1\t2026-11-21T14:00:00Z\t\t0\t\nCOMPLETE \tSTARTED\n' ;;
    idle) printf 'COMPLETE \tSTARTED\t2026-11-21T14:00:00Z\n' ;;
    *) return 1 ;;
    esac
}
date() { cat now; }
sleep() { [ "$1" = 1 ] && echo $(($(cat now) + 1)) >now; }
timeout() { shift 3; "$@"; }
kill() { echo "kill $*" >>killed; }
"#;

    /// How often the script asks, and how many seconds pass until it ends.
    fn run(answers: &str, drain_timeout: u64) -> (usize, usize) {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        for (name, text) in [("asked", ""), ("now", "0\n"), ("answers", &answers.replace(' ', "\n"))] {
            std::fs::write(file(name), text).unwrap();
        }
        let options =
            KubernetesOptions { drain_timeout: Duration::from_secs(drain_timeout), ..KubernetesOptions::default() };
        let hook = wait_for_builds(&options).unwrap().pre_stop.unwrap().exec.unwrap().command.unwrap();
        let [shell, flag, script] = &hook[..] else { panic!("{hook:?}") };
        let mut command = Command::new(shell);
        command.arg(flag).arg(format!("{PROGRAMS}{script}wait\n")).current_dir(directory.path());
        let ended = command.output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
        let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
        let asked = read("asked");
        let address = "--addr unix:///run/buildkit/buildkitd.sock debug histories";
        assert!(asked.lines().all(|line| line == address), "{asked}");
        assert_eq!(read("killed"), "kill -KILL -1\nkill -CONT 1\nkill -QUIT 1\n");
        (asked.lines().count(), read("now").trim().parse().unwrap())
    }

    #[test]
    fn a_pod_goes_when_no_build_runs_in_it_any_more() {
        for (answers, asked, seconds) in [
            ("idle", 1, 0),
            ("busy idle", 4, 3),
            ("busy busy busy idle", 6, 5),
            // Another one begins, perhaps from another daemon.
            ("busy idle idle busy idle", 7, 6),
            ("busy idle broken idle", 5, 4),
            // One that cannot be asked.
            ("broken", 3, 2),
            ("broken idle", 2, 1),
            ("busy broken broken busy broken", 7, 6),
            // Not for ever.
            ("busy", 10, 10),
        ] {
            assert_eq!(run(&format!("{answers} "), 10), (asked, seconds), "{answers}");
        }
    }
}
