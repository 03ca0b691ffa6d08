//! `--buildkitd-flags` into words, as a shell would split them: blanks, quotes and backslashes, and nothing else.

/// Why a line cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WordsError {
    #[error("a {0} quote is not closed")]
    Quote(&'static str),
    #[error("it ends with a backslash")]
    Backslash,
}

/// Splits `line` into words.
pub(super) fn split(line: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    // `None` between words, so that `''` is a word of its own.
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '\'' => single(&mut chars, word.get_or_insert_default())?,
            '"' => double(&mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(WordsError::Backslash)?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), WordsError> {
    for c in chars {
        if c == '\'' {
            return Ok(());
        }
        word.push(c);
    }
    Err(WordsError::Quote("single"))
}

fn double(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), WordsError> {
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(()),
            // Within double quotes a backslash is itself, unless it stands before one of these.
            '\\' => match chars.next().ok_or(WordsError::Backslash)? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
    Err(WordsError::Quote("double"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (line, wanted) in [
            ("", &[][..]),
            ("  \t\n ", &[]),
            ("--debug", &["--debug"]),
            (" --a  --b=c ", &["--a", "--b=c"]),
            ("--a='b c'd", &["--a=b cd"]),
            (r#"--a="b 'c' \"d\"""#, &[r#"--a=b 'c' "d""#]),
            (r#""\n\\""#, &[r"\n\"]),
            (r"a\ b", &["a b"]),
            ("'' x", &["", "x"]),
            ("a#b # c", &["a#b", "#", "c"]),
        ] {
            assert_eq!(split(line).unwrap(), wanted, "{line}");
        }
    }

    #[test]
    fn what_is_not_closed_is_refused() {
        for (line, wanted) in [
            ("--a='b", WordsError::Quote("single")),
            ("--a=\"b", WordsError::Quote("double")),
            ("--a\\", WordsError::Backslash),
            ("\"a\\", WordsError::Backslash),
        ] {
            assert_eq!(split(line), Err(wanted), "{line}");
        }
    }
}
