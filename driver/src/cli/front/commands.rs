//! The commands of buildx that are ours for our builders, with every flag that they have in v0.36.

use super::pflag::{Flag, Given, Kind, parse};

/// One of buildx's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Create,
    Ls,
    Inspect,
    Rm,
    Stop,
    Use,
    Du,
    Prune,
}

/// Of every command, and before it.
const ROOT: [Flag; 2] = [Flag::new("builder", Kind::Text), Flag::short("debug", 'D', Kind::Bool)];

const TIMEOUT: Flag = Flag::new("timeout", Kind::Duration);

const CREATE: [Flag; 13] = [
    Flag::new("name", Kind::Text),
    Flag::new("driver", Kind::Text),
    Flag::new("node", Kind::Text),
    Flag::new("platform", Kind::List),
    Flag::new("driver-opt", Kind::List),
    Flag::new("buildkitd-flags", Kind::Text),
    Flag::new("buildkitd-config", Kind::Text),
    Flag::also("config", "buildkitd-config", Kind::Text),
    Flag::new("bootstrap", Kind::Bool),
    Flag::new("append", Kind::Bool),
    Flag::new("leave", Kind::Bool),
    Flag::new("use", Kind::Bool),
    TIMEOUT,
];

const LS: [Flag; 3] = [Flag::new("format", Kind::Text), Flag::new("no-trunc", Kind::Bool), TIMEOUT];

const INSPECT: [Flag; 2] = [Flag::new("bootstrap", Kind::Bool), TIMEOUT];

const RM: [Flag; 5] = [
    Flag::new("keep-state", Kind::Bool),
    Flag::new("keep-daemon", Kind::Bool),
    Flag::new("all-inactive", Kind::Bool),
    Flag::short("force", 'f', Kind::Bool),
    TIMEOUT,
];

const USE: [Flag; 2] = [Flag::new("global", Kind::Bool), Flag::new("default", Kind::Bool)];

const DU: [Flag; 4] =
    [Flag::new("filter", Kind::List), Flag::new("verbose", Kind::Bool), Flag::new("format", Kind::Text), TIMEOUT];

const PRUNE: [Flag; 9] = [
    Flag::short("all", 'a', Kind::Bool),
    Flag::new("filter", Kind::List),
    Flag::new("reserved-space", Kind::Size),
    Flag::also("keep-storage", "reserved-space", Kind::Size),
    Flag::new("min-free-space", Kind::Size),
    Flag::new("max-used-space", Kind::Size),
    Flag::new("verbose", Kind::Bool),
    Flag::short("force", 'f', Kind::Bool),
    TIMEOUT,
];

/// What is wrong with a command line, as buildx prints it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misuse {
    pub(super) text: String,
    pub(super) code: u8,
}

/// A command line that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// What the real buildx answers as it is: help, and commands that are not ours.
    Theirs,
    Ours(Command, Given),
}

impl Command {
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "create" => Self::Create,
            "ls" => Self::Ls,
            "inspect" => Self::Inspect,
            "rm" => Self::Rm,
            "stop" => Self::Stop,
            "use" => Self::Use,
            "du" => Self::Du,
            "prune" => Self::Prune,
            _ => return None,
        })
    }

    /// As its usage has it.
    fn usage(self) -> &'static str {
        match self {
            Self::Create => "create [OPTIONS] [CONTEXT|ENDPOINT]",
            Self::Ls => "ls",
            Self::Inspect => "inspect [NAME]",
            Self::Rm => "rm [OPTIONS] [NAME...]",
            Self::Stop => "stop [NAME]",
            Self::Use => "use [OPTIONS] NAME",
            Self::Du => "du",
            Self::Prune => "prune",
        }
    }

    fn name(self) -> &'static str {
        self.usage().split(' ').next().unwrap_or_default()
    }

    fn flags(self) -> &'static [Flag] {
        match self {
            Self::Create => &CREATE,
            Self::Ls => &LS,
            Self::Inspect => &INSPECT,
            Self::Rm => &RM,
            Self::Stop => &[],
            Self::Use => &USE,
            Self::Du => &DU,
            Self::Prune => &PRUNE,
        }
    }

    /// What cobra demands of the words that are no flags.
    fn demand(self, words: usize) -> Option<&'static str> {
        match self {
            Self::Rm => None,
            Self::Create | Self::Inspect | Self::Stop | Self::Use => {
                (words > 1).then_some("requires at most 1 argument")
            }
            Self::Ls => (words > 0).then_some("requires 0 arguments"),
            Self::Du | Self::Prune => (words > 0).then_some("accepts no arguments"),
        }
    }

    fn how_to(self) -> String {
        format!(
            "Usage:  docker buildx {}\n\nRun 'docker buildx {} --help' for more information\n",
            self.usage(),
            self.name()
        )
    }
}

/// Reads buildx's arguments.
///
/// # Errors
/// In buildx's words and with its exit code.
pub(super) fn read(arguments: &[String]) -> Result<Line, Misuse> {
    let Some((before, word, after)) = split(arguments) else { return Ok(Line::Theirs) };
    let Some(command) = Command::named(word) else { return Ok(Line::Theirs) };
    let words: Vec<String> = before.iter().chain(after).cloned().collect();
    let given = parse(&words, &[&ROOT, command.flags()])
        .map_err(|text| Misuse { text: format!("{text}\n\n{}", command.how_to()), code: 125 })?;
    if given.help {
        return Ok(Line::Theirs);
    }
    if let Some(demand) = command.demand(given.words.len()) {
        let text = format!("ERROR: docker: 'docker buildx {}' {demand}\n\n{}", command.name(), command.how_to());
        return Err(Misuse { text, code: 1 });
    }
    Ok(Line::Ours(command, given))
}

/// What stands before the command, the command, and what stands after it.
fn split(arguments: &[String]) -> Option<(&[String], &str, &[String])> {
    let mut at = 0;
    while let Some(word) = arguments.get(at) {
        if word == "--builder" {
            at += 2;
        } else if word.starts_with('-') {
            at += 1;
        } else {
            return Some((&arguments[..at], word, &arguments[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn ours(line: &str) -> (Command, Given) {
        match read(&words(line)) {
            Ok(Line::Ours(command, given)) => (command, given),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_command_has_its_own_flags_and_those_of_all() {
        let (command, given) = ours("--builder kube -D prune --keep-storage 1g -af --filter type=regular --builder x");
        assert_eq!(command, Command::Prune);
        assert_eq!((given.text("builder"), given.size("reserved-space")), (Some("x"), Some(1 << 30)));
        assert!(given.is("all") && given.is("force") && given.is("debug") && given.spells("keep-storage"));
        let (command, given) = ours("rm a b --keep-daemon");
        assert_eq!((command, given.words), (Command::Rm, words("a b")));
        let (_, given) = ours("create --config a --buildkitd-config b --platform x,y --platform z");
        assert_eq!((given.text("buildkitd-config"), given.list("platform")), (Some("b"), words("x,y z")));
    }

    /// What it could not read, it would not bring here.
    #[test]
    fn the_plugin_reads_the_same_flags() {
        use Command::{Create, Du, Inspect, Ls, Prune, Rm, Stop, Use};
        let read = |words: &[String]| {
            let words: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
            buildfleet_shim::argv::Line::read(&words, false)
        };
        for command in [Create, Ls, Inspect, Rm, Stop, Use, Du, Prune] {
            for flag in ROOT.iter().chain(command.flags()) {
                let line = [command.name().to_owned(), format!("--{}=1", flag.name())];
                assert!(read(&line).is_some(), "{line:?}");
            }
            assert!(read(&[command.name().to_owned(), "--nope=1".to_owned()]).is_none(), "{command:?}");
        }
    }

    #[test]
    fn help_and_other_commands_are_the_real_one_s() {
        for line in
            ["", "--help", "create --help", "-D create -h", "rm a --help", "build .", "version", "imagetools inspect x"]
        {
            assert_eq!(read(&words(line)), Ok(Line::Theirs), "{line}");
        }
    }

    // What docker-buildx v0.36.0 says.
    #[test]
    fn a_wrong_line_is_answered_as_buildx_answers_it() {
        let wrong = |line: &str| read(&words(line)).expect_err(line);
        assert_eq!(
            wrong("create --nope"),
            Misuse {
                text: "unknown flag: --nope\n\nUsage:  docker buildx create [OPTIONS] [CONTEXT|ENDPOINT]\n\n\
                       Run 'docker buildx create --help' for more information\n"
                    .to_owned(),
                code: 125
            }
        );
        assert_eq!(
            wrong("stop a b"),
            Misuse {
                text: "ERROR: docker: 'docker buildx stop' requires at most 1 argument\n\nUsage:  docker buildx stop [NAME]\n\n\
                       Run 'docker buildx stop --help' for more information\n"
                    .to_owned(),
                code: 1
            }
        );
        for (line, part) in [
            ("ls a", "'docker buildx ls' requires 0 arguments"),
            ("du a", "'docker buildx du' accepts no arguments"),
            ("inspect a b", "requires at most 1 argument"),
            ("ls --builder", "flag needs an argument: --builder"),
        ] {
            assert!(wrong(line).text.contains(part), "{line}: {:?}", wrong(line));
        }
    }
}
