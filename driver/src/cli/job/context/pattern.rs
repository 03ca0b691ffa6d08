//! Patterns of `.dockerignore`, read and matched by the rules of BuildKit's clients. Pure.

use regex::bytes::Regex;

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("line {line}: `!` excepts nothing")]
    Bare { line: usize },
    #[error("line {line}: `{pattern}` is no pattern")]
    Form { line: usize, pattern: String },
}

/// All patterns of a file, in their order: the last that matches decides.
#[derive(Debug, Default)]
pub(crate) struct Patterns(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    excepts: bool,
    matches: Matches,
    /// Before its first wildcard: nothing outside of it is matched.
    fixed: Vec<u8>,
}

#[derive(Debug)]
enum Matches {
    Exactly(Vec<u8>),
    Beginning(Vec<u8>),
    /// Of the path, or of `/path`.
    End(Vec<u8>),
    Shape(Regex),
}

/// Which patterns have matched a directory: what lies in it, they match as well.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matched(Vec<bool>);

impl Patterns {
    /// Reads the file's text.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<PatternError>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (mut patterns, mut errors) = (Vec::new(), Vec::new());
        for (at, written) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let (line, written) = (at + 1, written.trim());
            let (excepts, rest) = match written.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, written),
            };
            if rest.is_empty() {
                if excepts {
                    errors.push(PatternError::Bare { line });
                }
                continue;
            }
            let cleaned = cleaned(rest);
            let cleaned = if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
            match matches(cleaned) {
                Some(matches) => {
                    let end = cleaned.find(['*', '[', ']', '?', '^', '\\']).unwrap_or(cleaned.len());
                    patterns.push(Pattern { excepts, matches, fixed: cleaned.as_bytes()[..end].to_vec() });
                }
                None => errors.push(PatternError::Form { line, pattern: rest.to_owned() }),
            }
        }
        if errors.is_empty() { Ok(Self(patterns)) } else { Err(errors) }
    }

    /// Whether a path below the context is left out, and what its own children need to be asked about.
    pub(crate) fn leave_out(&self, path: &[u8], parent: &Matched) -> (bool, Matched) {
        let mut out = false;
        let mut matched = Vec::with_capacity(self.0.len());
        for (at, pattern) in self.0.iter().enumerate() {
            let by_parent = parent.0.get(at).copied().unwrap_or(false);
            // One that would change nothing is not looked at, and so is not known of the children either.
            let matches = by_parent || (pattern.excepts == out && pattern.matches.path(path));
            if matches {
                out = !pattern.excepts;
            }
            matched.push(matches);
        }
        (out, Matched(matched))
    }

    /// Whether an exception may still match something in a directory that is left out.
    pub(crate) fn may_except_below(&self, directory: &[u8]) -> bool {
        let below = [directory, b"/"].concat();
        let mut exceptions = self.0.iter().filter(|pattern| pattern.excepts);
        exceptions.any(|pattern| below.starts_with(&pattern.fixed) || pattern.fixed.starts_with(&below))
    }
}

impl Matches {
    fn path(&self, path: &[u8]) -> bool {
        match self {
            Self::Exactly(text) => path == text,
            Self::Beginning(text) => path.starts_with(text),
            Self::End(text) => path.ends_with(text) || text.strip_prefix(b"/") == Some(path),
            Self::Shape(shape) => shape.is_match(path),
        }
    }
}

/// As Go's `filepath.Clean`: without empty parts, `.` and what `..` takes away.
fn cleaned(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, parts.last()) {
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            ("..", None) if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// `None` when it is no pattern.
fn matches(pattern: &str) -> Option<Matches> {
    let is_plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
    if is_plain(pattern) {
        return Some(Matches::Exactly(pattern.into()));
    }
    if let Some(end) = pattern.strip_prefix("**").filter(|end| is_plain(end)) {
        return Some(Matches::End(end.into()));
    }
    if let Some(beginning) = pattern.strip_suffix("**").filter(|beginning| is_plain(beginning)) {
        return Some(Matches::Beginning(beginning.into()));
    }
    let shape = shape(pattern)?;
    // A name may have any bytes; those of a pattern are text.
    Regex::new(&format!("(?s-u)\\A{shape}\\z")).ok().map(Matches::Shape)
}

/// The pattern as a regular expression. A `**` takes the slash after it along, so that it stands for nothing as well.
fn shape(pattern: &str) -> Option<String> {
    let mut shape = String::new();
    let mut rest = pattern.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                shape.push_str(if rest.peek().is_none() { ".*" } else { "(?:.*/)?" });
            }
            '*' => shape.push_str("[^/]*"),
            '?' => shape.push_str("(?u:[^/])"),
            '[' => shape.push_str(&class(&mut rest)?),
            '\\' => shape.push_str(&literal(rest.next()?)),
            other => shape.push_str(&literal(other)),
        }
    }
    Some(shape)
}

fn literal(character: char) -> String {
    format!("(?u:{})", regex::escape(character.encode_utf8(&mut [0; 4])))
}

/// What stands between brackets: characters and ranges of them, each perhaps behind a backslash, after `^` all others.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut class = String::from(if rest.next_if_eq(&'^').is_some() { "(?u:[^" } else { "(?u:[" });
    let member = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| match rest.next()? {
        '\\' => rest.next(),
        '-' | ']' => None,
        other => Some(other),
    };
    let hex = |character: char| format!("\\x{{{:x}}}", u32::from(character));
    loop {
        let from = member(rest)?;
        class.push_str(&hex(from));
        if rest.next_if_eq(&'-').is_some() {
            let to = member(rest)?;
            class.push_str(&format!("-{}", hex(to)));
        }
        if rest.next_if_eq(&']').is_some() {
            class.push_str("])");
            return Some(class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `path` is left out, asked from its outermost directory on.
    fn left_out(file: &str, path: &str) -> bool {
        let patterns = Patterns::parse(file).unwrap_or_else(|errors| panic!("{file}: {errors:?}"));
        let (mut matched, mut out) = (Matched::default(), false);
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            (out, matched) = patterns.leave_out(&path.as_bytes()[..end], &matched);
        }
        out
    }

    /// Each row was given to `moby/patternmatcher` v0.6.1, by scripts/rig's Go, and says what that said.
    #[test]
    fn patterns_match_what_buildkit_s_match() {
        for row in include_str!("../../../../../testdata/job/ignore.txt").lines().filter(|row| !row.starts_with('#')) {
            let [wanted, file, path] = row.split('\t').collect::<Vec<_>>()[..] else { panic!("{row}") };
            assert_eq!(left_out(&file.replace('|', "\n"), path), wanted == "out", "{row}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_with_its_line() {
        for (file, wanted) in [
            ("a\n!\n", "line 2: `!` excepts nothing"),
            ("[a\n", "line 1: `[a` is no pattern"),
            ("# [\nx\n a[] \n", "line 3: `a[]` is no pattern"),
            ("a\\\n", "line 1: `a\\` is no pattern"),
            ("[b-]\n", "line 1: `[b-]` is no pattern"),
        ] {
            let errors = Patterns::parse(file).expect_err(file);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [wanted], "{file}");
        }
    }

    #[test]
    fn directories_are_entered_only_for_exceptions() {
        let patterns = Patterns::parse("*\n!src/main.c\n!doc/*.md\n").expect("they are patterns");
        for (directory, entered) in [("src", true), ("doc", true), ("srcs", false), ("src/sub", false), ("x", false)] {
            assert_eq!(patterns.may_except_below(directory.as_bytes()), entered, "{directory}");
        }
        let patterns = Patterns::parse("*\n!**/x\n").expect("they are patterns");
        assert!(patterns.may_except_below(b"any/where"));
    }
}
