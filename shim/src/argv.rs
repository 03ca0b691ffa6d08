//! buildx's command line, as far as it has to be understood: pure.
//!
//! What cannot be read is nothing of ours: buildx itself says what is wrong with it.

use std::ffi::OsString;

use crate::docker::Globals;

mod flags;

pub use self::flags::truth;
use self::flags::{BUILDX, DOCKER, Given, Table, read};

/// One command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    globals: Globals,
    words: Vec<OsString>,
    builder: Option<String>,
    command: Command,
}

/// Which command, and what of it decides whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Create {
        name: Option<String>,
        driver: Option<String>,
    },
    /// `inspect`, `stop`, `du` and `prune`: of one builder.
    OfOne {
        name: Option<String>,
    },
    Use {
        name: Option<String>,
    },
    Rm {
        names: Vec<String>,
        all_inactive: bool,
    },
    Ls,
    Version,
    /// Talks to a builder, and is nobody's but buildx's.
    Work,
    /// Talks to no builder.
    Other,
}

impl Line {
    /// Reads what follows the program's name. `by_docker` says that docker called, whose own flags and the plugin's name
    /// come first. `None` is what buildx has to make sense of.
    pub fn read(args: &[OsString], by_docker: bool) -> Option<Self> {
        let (globals, words) = if by_docker { docker_s(args)? } else { (Globals::default(), args) };
        let texts: Vec<&str> = words.iter().map(|word| word.to_str()).collect::<Option<_>>()?;
        let head = read(&texts, &BUILDX, false)?;
        let builder = |given: &Given<'_>| given.last("builder").map(str::to_owned);
        let Some((name, rest)) = head.rest().split_first() else {
            return Some(Self { globals, words: words.to_vec(), builder: None, command: Command::Other });
        };
        let (command, own) = match flags::of(name) {
            Some(table) => {
                let given = read(rest, &table, true)?;
                (command(name, &table, &given)?, builder(&given))
            }
            None if flags::WORK.contains(name) && !asks_for_help(rest) => (Command::Work, builder_among(rest)),
            None => (Command::Other, None),
        };
        Some(Self { globals, words: words.to_vec(), builder: own.or_else(|| builder(&head)), command })
    }

    /// docker's flags.
    pub fn globals(&self) -> &Globals {
        &self.globals
    }

    /// What buildx is told: without docker's flags and the plugin's name.
    pub fn words(&self) -> &[OsString] {
        &self.words
    }

    /// `--builder`, which may be empty.
    pub fn builder(&self) -> Option<&str> {
        self.builder.as_deref()
    }

    pub fn command(&self) -> &Command {
        &self.command
    }
}

/// docker's flags, and what follows the plugin's name.
fn docker_s(args: &[OsString]) -> Option<(Globals, &[OsString])> {
    let texts: Vec<&str> = args.iter().map(|word| word.to_str()).collect::<Option<_>>()?;
    let given = read(&texts, &DOCKER, false)?;
    let (name, rest) = given.rest().split_first()?;
    let value = |name| given.last(name).map(OsString::from);
    let globals = Globals {
        config: value("config"),
        context: value("context"),
        host: value("host"),
        tls: given.any(|name| name.starts_with("tls")),
    };
    (*name == "buildx").then(|| (globals, &args[args.len() - rest.len()..]))
}

fn command(name: &str, table: &Table, given: &Given<'_>) -> Option<Command> {
    let words = given.rest();
    if words.len() > table.most_words() {
        return None;
    }
    let first = words.first().map(|word| (*word).to_owned());
    let value = |name| given.last(name).filter(|value| !value.is_empty()).map(str::to_owned);
    Some(match name {
        "create" => Command::Create { name: value("name"), driver: value("driver") },
        "use" => Command::Use { name: first },
        "rm" => Command::Rm {
            names: words.iter().map(|word| (*word).to_owned()).collect(),
            all_inactive: given.is_on("all-inactive"),
        },
        "ls" => Command::Ls,
        "version" => Command::Version,
        _ => Command::OfOne { name: first },
    })
}

/// Before `--`, where flags end.
fn flags_of<'a>(words: &'a [&'a str]) -> impl Iterator<Item = (usize, &'a str)> {
    words.iter().copied().enumerate().take_while(|(_, word)| *word != "--")
}

fn asks_for_help(words: &[&str]) -> bool {
    flags_of(words).any(|(_, word)| word == "--help" || word == "-h")
}

/// The flags of a command that is not ours are not known; a value that looks like this one costs a look at a socket.
fn builder_among(words: &[&str]) -> Option<String> {
    let found = flags_of(words).filter_map(|(at, word)| match word.strip_prefix("--builder")? {
        "" => words.get(at + 1).copied(),
        rest => rest.strip_prefix('='),
    });
    found.last().map(str::to_owned)
}

#[cfg(test)]
mod tests;
