//! The grammar of buildx's command line, and its words for what is wrong: that of Go's `pflag` and `cobra`.
//!
//! The words matter: who types `--nope` reads the same answer whoever stands before buildx.

use std::collections::BTreeMap;
use std::time::Duration;

use buildfleet_shim::argv::truth;

use crate::cli::{filter, units};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    /// The last one counts.
    Text,
    /// Each one counts.
    List,
    Duration,
    Size,
}

/// A flag of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    name: &'static str,
    short: Option<char>,
    kind: Kind,
    /// The flag whose value it sets: itself, or that of which it is another name.
    sets: &'static str,
}

impl Flag {
    pub(super) const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, short: None, kind, sets: name }
    }

    pub(super) const fn short(name: &'static str, short: char, kind: Kind) -> Self {
        Self { name, short: Some(short), kind, sets: name }
    }

    pub(super) const fn also(name: &'static str, sets: &'static str, kind: Kind) -> Self {
        Self { name, short: None, kind, sets }
    }

    #[cfg(test)]
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    fn spelled(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }
}

/// What was given on a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Given {
    values: BTreeMap<&'static str, Vec<String>>,
    spelled: Vec<&'static str>,
    pub(super) words: Vec<String>,
    /// Nothing else matters then.
    pub(super) help: bool,
}

impl Given {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str)
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.values.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.text(name).and_then(truth).unwrap_or(false)
    }

    /// Whether the flag stands there by this name.
    pub(super) fn spells(&self, name: &str) -> bool {
        self.spelled.contains(&name)
    }

    pub(super) fn duration(&self, name: &str) -> Option<GoDuration> {
        self.text(name).and_then(GoDuration::parse)
    }

    pub(super) fn size(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|text| units::parse_size(text).ok())
    }
}

/// Go's durations may be negative, and none at all is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GoDuration(i64);

impl GoDuration {
    fn parse(text: &str) -> Option<Self> {
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        filter::nanoseconds(rest).map(|nanoseconds| Self(sign * nanoseconds))
    }

    /// How long something may take.
    pub(super) fn limit(self) -> Option<Duration> {
        u64::try_from(self.0).ok().filter(|nanoseconds| *nanoseconds > 0).map(Duration::from_nanos)
    }
}

/// Reads `words` by `flags`; `root` are those that stand before a command, too.
///
/// # Errors
/// In pflag's words, at the first thing that is wrong.
pub(super) fn parse(words: &[String], flags: &[&[Flag]]) -> Result<Given, String> {
    let mut given = Given::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            given.words.extend(rest.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            long_flag(word, long, &mut rest, flags, &mut given)?;
        } else if let Some(shorts) = word.strip_prefix('-').filter(|shorts| !shorts.is_empty()) {
            short_flags(shorts, &mut rest, flags, &mut given)?;
        } else {
            given.words.push(word.clone());
        }
    }
    Ok(given)
}

type Rest<'a> = std::slice::Iter<'a, String>;

fn long_flag(word: &str, long: &str, rest: &mut Rest<'_>, flags: &[&[Flag]], given: &mut Given) -> Result<(), String> {
    if long.starts_with(['-', '=']) {
        return Err(format!("bad flag syntax: {word}"));
    }
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    let Some(flag) = find(flags, |flag| flag.name == name) else {
        if name == "help" {
            given.help = true;
            return Ok(());
        }
        return Err(format!("unknown flag: --{name}"));
    };
    let value = match (value, flag.kind) {
        (Some(value), _) => value.to_owned(),
        (None, Kind::Bool) => "true".to_owned(),
        (None, _) => rest.next().ok_or_else(|| format!("flag needs an argument: --{name}"))?.clone(),
    };
    keep(flag, value, given)
}

fn short_flags(shorts: &str, rest: &mut Rest<'_>, flags: &[&[Flag]], given: &mut Given) -> Result<(), String> {
    let mut left = shorts;
    while let Some(short) = left.chars().next() {
        let from_here = left;
        left = &left[short.len_utf8()..];
        let Some(flag) = find(flags, |flag| flag.short == Some(short)) else {
            if short == 'h' {
                given.help = true;
                return Ok(());
            }
            return Err(format!("unknown shorthand flag: '{short}' in -{from_here}"));
        };
        if let Some(value) = left.strip_prefix('=') {
            return keep(flag, value.to_owned(), given);
        }
        if flag.kind == Kind::Bool {
            keep(flag, "true".to_owned(), given)?;
            continue;
        }
        let value = if left.is_empty() {
            rest.next().ok_or_else(|| format!("flag needs an argument: '{short}' in -{from_here}"))?.clone()
        } else {
            left.to_owned()
        };
        return keep(flag, value, given);
    }
    Ok(())
}

fn find<'a>(flags: &[&'a [Flag]], is: impl Fn(&Flag) -> bool) -> Option<&'a Flag> {
    flags.iter().copied().flatten().find(|flag| is(flag))
}

fn keep(flag: &Flag, value: String, given: &mut Given) -> Result<(), String> {
    let refused = |why: String| Err(format!("invalid argument {value:?} for {:?} flag: {why}", flag.spelled()));
    match flag.kind {
        Kind::Bool if truth(&value).is_none() => {
            return refused(format!("strconv.ParseBool: parsing {value:?}: invalid syntax"));
        }
        Kind::Duration if GoDuration::parse(&value).is_none() => return refused(no_duration(&value)),
        Kind::Size => {
            if units::parse_size(&value).is_err() {
                return refused(format!("invalid size: '{value}'"));
            }
        }
        Kind::Bool | Kind::Duration | Kind::Text | Kind::List => {}
    }
    given.values.entry(flag.sets).or_default().push(value);
    given.spelled.push(flag.name);
    Ok(())
}

/// Go names what is missing where there is a number alone.
fn no_duration(text: &str) -> String {
    let number = text.trim_start_matches(['-', '+']);
    let alone = !number.is_empty() && number.parse::<f64>().is_ok() && number.starts_with(|c: char| c.is_ascii_digit());
    let what = if alone { "missing unit in duration" } else { "invalid duration" };
    format!("time: {what} {text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [Flag; 6] = [
        Flag::new("append", Kind::Bool),
        Flag::short("force", 'f', Kind::Bool),
        Flag::short("all", 'a', Kind::Bool),
        Flag::short("out", 'o', Kind::Text),
        Flag::new("driver-opt", Kind::List),
        Flag::new("timeout", Kind::Duration),
    ];
    const SIZES: [Flag; 2] = [Flag::new("space", Kind::Size), Flag::also("room", "space", Kind::Size)];

    fn given(line: &str) -> Result<Given, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words, &[&FLAGS, &SIZES])
    }

    #[test]
    fn flags_and_words_come_in_any_order() {
        let some = given("a --driver-opt x=1,y=2 -fa --driver-opt=z=--q b --out -x -o=y -oz -- --force -c").unwrap();
        assert_eq!(some.words, ["a", "b", "--force", "-c"]);
        assert_eq!(some.list("driver-opt"), ["x=1,y=2", "z=--q"]);
        assert_eq!(some.text("out"), Some("z"), "the last one counts");
        assert!(some.is("force") && some.is("all") && !some.is("append") && some.text("append").is_none());
        for (line, wanted) in [("--append=false", false), ("--append --append=0", false), ("--append=T", true)] {
            assert_eq!(given(line).unwrap().is("append"), wanted, "{line}");
        }
        assert_eq!(given("-f=false").unwrap().text("force"), Some("false"));
        assert!(given("--help").unwrap().help && given("-fh").unwrap().help && !given("-f").unwrap().help);
        let two = given("--space 1g --room 2g").unwrap();
        assert_eq!(two.size("space"), Some(2 << 30), "one value by two names");
        assert!(two.spells("room") && two.size("room").is_none() && !given("--space 1g").unwrap().spells("room"));
    }

    // What docker-buildx v0.36.0 says.
    #[test]
    fn what_is_wrong_is_said_in_pflag_s_words() {
        for (line, wanted) in [
            ("--nope", "unknown flag: --nope"),
            ("--nope=x", "unknown flag: --nope"),
            ("-fx", "unknown shorthand flag: 'x' in -x"),
            ("--out", "flag needs an argument: --out"),
            ("-fo", "flag needs an argument: 'o' in -o"),
            ("---x", "bad flag syntax: ---x"),
            ("--=x", "bad flag syntax: --=x"),
            (
                "--append=x",
                "invalid argument \"x\" for \"--append\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (
                "-f=yes",
                "invalid argument \"yes\" for \"-f, --force\" flag: strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
            ("--timeout soon", "invalid argument \"soon\" for \"--timeout\" flag: time: invalid duration \"soon\""),
            ("--timeout 5", "invalid argument \"5\" for \"--timeout\" flag: time: missing unit in duration \"5\""),
        ] {
            assert_eq!(given(line), Err(wanted.to_owned()), "{line}");
        }
        assert_eq!(given("--room x"), Err("invalid argument \"x\" for \"--room\" flag: invalid size: 'x'".to_owned()));
    }

    #[test]
    fn a_limit_is_a_positive_duration() {
        for (text, wanted) in [
            ("20s", Some(Duration::from_secs(20))),
            ("+1m30s", Some(Duration::from_secs(90))),
            ("1ns", Some(Duration::from_nanos(1))),
            ("0", None),
            ("0s", None),
            ("-5s", None),
        ] {
            assert_eq!(GoDuration::parse(text).expect(text).limit(), wanted, "{text}");
        }
        for text in ["", "-", "5", "1d", "s"] {
            assert_eq!(GoDuration::parse(text), None, "{text}");
        }
    }
}
