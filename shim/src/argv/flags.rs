//! The flags of the commands that may be ours, and how the library that docker and buildx use reads them.

/// Flags and arguments of one command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// With a value.
    values: &'static [&'static str],
    switches: &'static [&'static str],
    /// One letter and the name that it stands for.
    letters: &'static [(char, &'static str)],
    most_words: usize,
}

impl Table {
    pub(super) fn most_words(&self) -> usize {
        self.most_words
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        if self.values.contains(&name) {
            Some(Kind::Value)
        } else if self.switches.contains(&name) {
            Some(Kind::Switch)
        } else {
            None
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Value,
    Switch,
}

/// docker's own, before the plugin's name.
pub(super) const DOCKER: Table = Table {
    values: &["config", "context", "host", "log-level", "tlscacert", "tlscert", "tlskey"],
    switches: &["debug", "tls", "tlsverify"],
    letters: &[('c', "context"), ('D', "debug"), ('H', "host"), ('l', "log-level")],
    most_words: 0,
};

/// buildx's own, before the command.
pub(super) const BUILDX: Table =
    Table { values: &["builder"], switches: &["debug"], letters: &[('D', "debug")], most_words: usize::MAX };

/// Commands that talk to a builder, whatever their flags.
pub(super) const WORK: [&str; 10] =
    ["build", "b", "bake", "f", "dap", "debug", "dial-stdio", "history", "imagetools", "policy"];

/// The flags of a command that may be ours, with those that all commands have.
pub(super) fn of(command: &str) -> Option<Table> {
    let letters = &[('D', "debug"), ('f', "force"), ('a', "all")];
    let none = &[('D', "debug")];
    Some(match command {
        "create" => Table {
            values: &[
                "builder",
                "buildkitd-config",
                "buildkitd-flags",
                "config",
                "driver",
                "driver-opt",
                "name",
                "node",
                "platform",
                "timeout",
            ],
            switches: &["append", "bootstrap", "debug", "leave", "use"],
            letters: none,
            most_words: 1,
        },
        "inspect" => {
            Table { values: &["builder", "timeout"], switches: &["bootstrap", "debug"], letters: none, most_words: 1 }
        }
        "stop" => Table { values: &["builder"], switches: &["debug"], letters: none, most_words: 1 },
        "use" => {
            Table { values: &["builder"], switches: &["debug", "default", "global"], letters: none, most_words: 1 }
        }
        "rm" => Table {
            values: &["builder", "timeout"],
            switches: &["all-inactive", "debug", "force", "keep-daemon", "keep-state"],
            letters,
            most_words: usize::MAX,
        },
        "du" => Table {
            values: &["builder", "filter", "format", "timeout"],
            switches: &["debug", "verbose"],
            letters: none,
            most_words: 0,
        },
        "prune" => Table {
            values: &[
                "builder",
                "filter",
                "keep-storage",
                "max-used-space",
                "min-free-space",
                "reserved-space",
                "timeout",
            ],
            switches: &["all", "debug", "force", "verbose"],
            letters,
            most_words: 0,
        },
        "ls" => Table {
            values: &["builder", "format", "timeout"],
            switches: &["debug", "no-trunc"],
            letters: none,
            most_words: 0,
        },
        "version" => Table { values: &["builder"], switches: &["debug"], letters: none, most_words: 0 },
        _ => return None,
    })
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Given<'a> {
    flags: Vec<(&'static str, &'a str)>,
    rest: Vec<&'a str>,
}

impl<'a> Given<'a> {
    /// What is no flag.
    pub(super) fn rest(&self) -> &[&'a str] {
        &self.rest
    }

    pub(super) fn last(&self, name: &str) -> Option<&'a str> {
        self.flags.iter().rev().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.last(name).and_then(truth).unwrap_or_default()
    }

    pub(super) fn any(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.flags.iter().any(|(name, _)| wanted(name))
    }
}

/// Reads flags: among words, or only up to the first one. `None` for what the table does not have, which is also help.
pub(super) fn read<'a>(words: &[&'a str], table: &Table, among_words: bool) -> Option<Given<'a>> {
    let mut given = Given::default();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if word == "--" {
            given.rest.extend(words);
            break;
        }
        if let Some(flag) = word.strip_prefix("--") {
            let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            let name = known(table, name)?;
            let value = match (table.kind(name)?, value) {
                (Kind::Value, Some(value)) => value,
                (Kind::Value, None) => words.next()?,
                (Kind::Switch, value) => switched(value)?,
            };
            given.flags.push((name, value));
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            lettered(letters, table, &mut words, &mut given)?;
        } else {
            given.rest.push(word);
            if !among_words {
                given.rest.extend(words);
                break;
            }
        }
    }
    Some(given)
}

/// `-fa`, `-c NAME`, `-cNAME`, `-c=NAME`
fn lettered<'a>(
    mut letters: &'a str,
    table: &Table,
    words: &mut impl Iterator<Item = &'a str>,
    given: &mut Given<'a>,
) -> Option<()> {
    while let Some(letter) = letters.chars().next() {
        let rest = &letters[letter.len_utf8()..];
        let name = table.letters.iter().find(|(known, _)| *known == letter)?.1;
        let assigned = rest.strip_prefix('=');
        match table.kind(name)? {
            Kind::Value => {
                let value = match (assigned, rest) {
                    (Some(value), _) => value,
                    (None, "") => words.next()?,
                    (None, rest) => rest,
                };
                given.flags.push((name, value));
                return Some(());
            }
            Kind::Switch => {
                given.flags.push((name, switched(assigned)?));
                if assigned.is_some() {
                    return Some(());
                }
                letters = rest;
            }
        }
    }
    Some(())
}

fn known(table: &Table, name: &str) -> Option<&'static str> {
    table.values.iter().chain(table.switches).find(|known| **known == name).copied()
}

/// The value of a switch, when it is one.
fn switched(value: Option<&str>) -> Option<&str> {
    match value {
        None => Some("true"),
        Some(value) => truth(value).map(|_| value),
    }
}

/// As Go reads it (`strconv.ParseBool`).
pub fn truth(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
