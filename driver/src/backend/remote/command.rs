//! The commands by which a `buildkitd` on another machine or in a container is reached: pure.

use std::time::Duration;

use crate::backend::LogsWanted;
use crate::builder::{ContainerAddress, Engine, SshAddress};

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) program: &'static str,
    pub(super) arguments: Vec<String>,
}

/// What speaks with `buildkitd` by stdin and stdout, as BuildKit's own clients run it.
pub(super) fn by_ssh(address: &SshAddress, within: Duration) -> Line {
    // Nobody is there to be asked for a password, or whether a host is the right one.
    let mut arguments = vec!["-T".to_owned(), "-o".to_owned(), "BatchMode=yes".to_owned()];
    arguments.extend(["-o".to_owned(), format!("ConnectTimeout={}", within.as_secs().max(1))]);
    for (flag, value) in
        [("-l", address.user().map(str::to_owned)), ("-p", address.port().map(|port| port.to_string()))]
    {
        arguments.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    }
    // What begins with a hyphen is a host nevertheless.
    arguments.extend(["--".to_owned(), address.host().to_owned(), "buildctl".to_owned()]);
    if let Some(socket) = address.socket() {
        arguments.extend(["--addr".to_owned(), quoted(&format!("unix://{socket}"))]);
    }
    arguments.push("dial-stdio".to_owned());
    Line { program: "ssh", arguments }
}

/// The same in a container.
pub(super) fn in_container(address: &ContainerAddress) -> Line {
    let mut arguments = engine(address, "exec");
    arguments.extend(["-i", address.name(), "buildctl", "dial-stdio"].map(str::to_owned));
    Line { program: address.engine().program(), arguments }
}

/// What shows the output of a container.
pub(super) fn logs(address: &ContainerAddress, wanted: LogsWanted) -> Line {
    let mut arguments = engine(address, "logs");
    arguments.extend(wanted.follow.then(|| "--follow".to_owned()));
    arguments.extend(wanted.tail.into_iter().flat_map(|tail| ["--tail".to_owned(), tail.to_string()]));
    arguments.push(address.name().to_owned());
    Line { program: address.engine().program(), arguments }
}

fn engine(address: &ContainerAddress, command: &str) -> Vec<String> {
    let command = command.to_owned();
    match (address.engine(), address.within()) {
        (Engine::Docker, Some(context)) => vec![format!("--context={context}"), command],
        (Engine::Nerdctl, Some(namespace)) => vec![command, "--namespace".to_owned(), namespace.to_owned()],
        _ => vec![command],
    }
}

/// One word of the shell that ssh starts on the other side.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// What the user can do about the last words of a command, when that is known.
pub(super) fn hint(line: &Line, said: &str) -> Option<String> {
    let Line { program, .. } = line;
    let knows = |words: &[&str]| words.iter().any(|words| said.contains(words));
    let text = match *program {
        "ssh" if knows(&["Permission denied", "no mutual signature", "Too many authentication failures"]) => {
            "`ssh -o BatchMode=yes` with the same host has to work without a question; keys in an agent are those of \
             the $SSH_AUTH_SOCK that the daemon was started with"
        }
        "ssh" if knows(&["Host key verification failed"]) => {
            "`ssh` to the host once by hand shows its key and remembers it in ~/.ssh/known_hosts"
        }
        _ if knows(&[
            "buildctl: command not found",
            "buildctl: not found",
            "\"buildctl\": executable file not found",
        ]) =>
        {
            "buildctl has to be on the other side, on the PATH of commands that are no login shell"
        }
        "ssh" => "`ssh -v` with the same host shows more",
        _ if knows(&["is not running"]) => "the container is somebody else's to start, as by `docker start NAME`",
        _ if knows(&["No such container", "no such container"]) => {
            "`docker ps --all` with the same context lists the containers"
        }
        _ => return None,
    };
    Some(text.replace("docker ", &format!("{program} ")).replace("`ssh ssh", "`ssh"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::RemoteAddress;

    fn line(address: &str) -> String {
        let Line { program, arguments } = match address.parse().unwrap() {
            RemoteAddress::Ssh(address) => by_ssh(&address, Duration::from_secs(7)),
            RemoteAddress::Container(address) => in_container(&address),
            other => panic!("{other:?}"),
        };
        format!("{program} {}", arguments.join(" "))
    }

    #[test]
    fn commands_are_those_of_buildkits_clients() {
        let ssh = "ssh -T -o BatchMode=yes -o ConnectTimeout=7";
        for (address, wanted) in [
            ("ssh://h", format!("{ssh} -- h buildctl dial-stdio")),
            ("ssh://me@h:2222", format!("{ssh} -l me -p 2222 -- h buildctl dial-stdio")),
            ("ssh://h/run/b.sock", format!("{ssh} -- h buildctl --addr unix:///run/b.sock dial-stdio")),
            ("ssh://h/a%20b'$(x)", format!("{ssh} -- h buildctl --addr 'unix:///a b'\\''$(x)' dial-stdio")),
            ("ssh://-oProxyCommand=x", format!("{ssh} -- -oProxyCommand=x buildctl dial-stdio")),
            ("docker-container://b", "docker exec -i b buildctl dial-stdio".to_owned()),
            ("docker-container://b?context=far", "docker --context=far exec -i b buildctl dial-stdio".to_owned()),
            ("podman-container://b", "podman exec -i b buildctl dial-stdio".to_owned()),
            ("nerdctl-container://b?namespace=k", "nerdctl exec --namespace k -i b buildctl dial-stdio".to_owned()),
        ] {
            assert_eq!(line(address), wanted);
        }
    }

    #[test]
    fn the_output_of_a_container_is_asked_for_as_far_as_it_is_wanted() {
        let RemoteAddress::Container(address) = "docker-container://b?context=far".parse().unwrap() else { panic!() };
        for (follow, tail, wanted) in
            [(false, None, "--context=far logs b"), (true, Some(3), "--context=far logs --follow --tail 3 b")]
        {
            assert_eq!(logs(&address, LogsWanted { follow, tail }).arguments.join(" "), wanted);
        }
    }

    #[test]
    fn what_can_be_done_is_said_of_what_is_known() {
        for (address, said, wanted) in [
            ("ssh://h", "me@h: Permission denied (publickey).", Some("SSH_AUTH_SOCK")),
            ("ssh://h", "Host key verification failed.", Some("known_hosts")),
            ("ssh://h", "bash: line 1: buildctl: command not found", Some("buildctl has to be")),
            ("ssh://h", "connect to host h port 22: Connection refused", Some("`ssh -v`")),
            ("podman-container://b", "container b is not running", Some("`podman start NAME`")),
            ("docker-container://b", "Error response from daemon: No such container: b", Some("`docker ps --all`")),
            ("docker-container://b", "something else", None),
        ] {
            let line = match address.parse().unwrap() {
                RemoteAddress::Ssh(address) => by_ssh(&address, Duration::from_secs(1)),
                RemoteAddress::Container(address) => in_container(&address),
                other => panic!("{other:?}"),
            };
            match (hint(&line, said), wanted) {
                (Some(hint), Some(wanted)) => assert!(hint.contains(wanted), "{hint}"),
                (hint, wanted) => assert_eq!(hint.as_deref(), wanted),
            }
        }
    }
}
