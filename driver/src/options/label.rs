//! Names that Kubernetes accepts: label keys, label values, and namespaces.

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LabelError {
    #[error("the {what} is empty")]
    Empty { what: &'static str },
    #[error("the {what} `{text}` has more than {max} characters")]
    TooLong { what: &'static str, text: String, max: usize },
    #[error(
        "the {what} `{text}` may hold only {characters}, and has to start and end with a {}",
        if *lower { "lower-case letter or a digit" } else { "letter or a digit" }
    )]
    Characters { what: &'static str, text: String, characters: &'static str, lower: bool },
}

/// `[prefix/]name`, as in `kubernetes.io/arch`: the key of a label or of an annotation.
pub(super) fn key(what: &'static str, text: &str) -> Result<(), LabelError> {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            subdomain("prefix of the key", prefix)?;
            name
        }
        None => text,
    };
    qualified(what, text, name)
}

/// A label's value, which may be empty.
pub(super) fn value(text: &str) -> Result<(), LabelError> {
    if text.is_empty() { Ok(()) } else { qualified("label value", text, text) }
}

/// A namespace: a DNS label (RFC 1123).
pub(super) fn namespace(text: &str) -> Result<(), LabelError> {
    const WHAT: &str = "namespace";
    checked(WHAT, text, text, 63, "lower-case letters, digits and `-`", true, |c| c == '-')
}

fn qualified(what: &'static str, text: &str, part: &str) -> Result<(), LabelError> {
    checked(what, text, part, 63, "letters, digits, `-`, `_` and `.`", false, |c| matches!(c, '-' | '_' | '.'))
}

/// A DNS subdomain (RFC 1123), as most objects are named.
pub(super) fn subdomain(what: &'static str, text: &str) -> Result<(), LabelError> {
    const CHARACTERS: &str = "lower-case letters, digits, `-` and `.`";
    checked(what, text, text, 253, CHARACTERS, true, |c| matches!(c, '-' | '.'))?;
    for label in text.split('.') {
        checked(what, text, label, 253, CHARACTERS, true, |c| c == '-')?;
    }
    Ok(())
}

/// Checks `part` of `text`: letters and digits, and `inner` characters between them.
fn checked(
    what: &'static str,
    text: &str,
    part: &str,
    max: usize,
    characters: &'static str,
    lower: bool,
    inner: impl Fn(char) -> bool,
) -> Result<(), LabelError> {
    if text.is_empty() {
        return Err(LabelError::Empty { what });
    }
    if part.len() > max {
        return Err(LabelError::TooLong { what, text: text.to_owned(), max });
    }
    let outer = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase() || (!lower && c.is_ascii_uppercase());
    if part.starts_with(outer) && part.ends_with(outer) && part.chars().all(|c| outer(c) || inner(c)) {
        Ok(())
    } else {
        Err(LabelError::Characters { what, text: text.to_owned(), characters, lower })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys_are_those_of_kubernetes() {
        let long = "a".repeat(63);
        for text in ["arch", "kubernetes.io/arch", "a", "A_b.c-9", "x-y.example.com/Disk_Type", long.as_str()] {
            assert_eq!(key("label key", text), Ok(()), "{text}");
        }
        let (long, prefix) = ("a".repeat(64), format!("{}/a", "a.".repeat(127)));
        for text in [
            "",
            "/",
            "/a",
            "a/",
            "a/b/c",
            "-a",
            "a-",
            "a b",
            "ä",
            "A.io/arch",
            "a..b/c",
            "-a.b/c",
            ".a/b",
            &long,
            &prefix,
        ] {
            assert!(key("label key", text).is_err(), "{text}");
        }
    }

    #[test]
    fn label_values_may_be_empty() {
        for text in ["", "a", "v1.2_3-x", "ARM"] {
            assert_eq!(value(text), Ok(()), "{text}");
        }
        for text in ["-", "a/b", " a", "a\"", &"a".repeat(64)] {
            assert!(value(text).is_err(), "{text}");
        }
    }

    #[test]
    fn namespaces_are_dns_labels() {
        for text in ["builds", "a", "9", "team-1", &"a".repeat(63)] {
            assert_eq!(namespace(text), Ok(()), "{text}");
        }
        for text in ["", "Builds", "a.b", "a_b", "-a", "a-", "a b", &"a".repeat(64)] {
            assert!(namespace(text).is_err(), "{text}");
        }
    }
}
