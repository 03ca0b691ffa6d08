//! `--filter` of `du`, `prune` and `history ls`: docker's grammar into BuildKit's.

use super::failure::Failure;

/// Which cache records are meant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CacheFilters {
    wanted: Vec<String>,
    /// Nanoseconds; zero is any age.
    unused_for: i64,
}

impl CacheFilters {
    /// # Errors
    /// All that is wrong, at once.
    pub(super) fn parse(given: &[String]) -> Result<Self, Failure> {
        let (mut filters, mut wrong) = (Self::default(), Vec::new());
        let mut seen: Vec<&str> = Vec::new();
        for filter in given {
            let (key, value) = match filter.split_once('=') {
                Some((key, value)) => (key.trim(), Some(value.trim())),
                None => (filter.trim(), None),
            };
            // Two words for one thing.
            let name = if key == "unused-for" { "until" } else { key };
            if seen.contains(&name) {
                wrong.push(format!("--filter `{name}` is given twice"));
                continue;
            }
            seen.push(name);
            match (name, value) {
                ("", _) => wrong.push(format!("--filter `{filter}` has no key: accepted are KEY=VALUE and KEY")),
                ("until", value) => match value.and_then(nanoseconds) {
                    Some(age) => filters.unused_for = age,
                    None => {
                        wrong
                            .push(format!("--filter `{filter}` has no duration: accepted are 24h, 1h30m and the like"));
                    }
                },
                (key, None) => filters.wanted.push(key.to_owned()),
                ("id", Some(value)) => filters.wanted.push(format!("id~={value}")),
                (key, Some(value)) if key.ends_with(['!', '~']) => filters.wanted.push(format!("{key}={value}")),
                (key, Some(value)) => filters.wanted.push(format!("{key}=={value}")),
            }
        }
        if wrong.is_empty() { Ok(filters) } else { Err(Failure::usage(wrong.join("\n"))) }
    }

    /// One filter whose parts all have to be true.
    pub(super) fn wanted(&self) -> Vec<String> {
        if self.wanted.is_empty() { Vec::new() } else { vec![self.wanted.join(",")] }
    }

    pub(super) fn unused_for(&self) -> i64 {
        self.unused_for
    }
}

/// Which keys `history ls` knows, and by which comparisons.
const HISTORY: [(&str, &[&str]); 6] = [
    ("ref", &["=", "!="]),
    ("repository", &["=", "!="]),
    ("status", &["=", "!="]),
    ("startedAt", &["<=", "<", ">=", ">"]),
    ("completedAt", &["<=", "<", ">=", ">"]),
    ("duration", &["<=", "<", ">=", ">"]),
];

/// Which builds are meant: one filter whose parts all have to be true.
///
/// # Errors
/// All that is wrong, at once.
pub(super) fn history(given: &[String]) -> Result<Vec<String>, Failure> {
    let parsed: Vec<Result<String, String>> = given.iter().map(|filter| history_part(filter)).collect();
    let wrong: Vec<String> = parsed.iter().filter_map(|part| part.clone().err()).collect();
    if !wrong.is_empty() {
        return Err(Failure::usage(wrong.join("\n")));
    }
    let parts: Vec<String> = parsed.into_iter().flatten().map(|part| csv(&part)).collect();
    Ok(if parts.is_empty() { parts } else { vec![parts.join(",")] })
}

fn history_part(filter: &str) -> Result<String, String> {
    let refused = |what: &str| {
        let keys: Vec<String> = HISTORY.iter().map(|(key, by)| format!("{key} ({})", by.join(" "))).collect();
        format!("--filter `{filter}` {what}: accepted are {}", keys.join(", "))
    };
    let end = filter.find(['=', '!', '<', '>']).ok_or_else(|| refused("compares nothing"))?;
    let (key, rest) = filter.split_at(end);
    let known = HISTORY.iter().find(|(name, _)| *name == key.trim()).ok_or_else(|| refused("has an unknown key"))?;
    // The longer ones stand first: `<=` begins with `<`.
    let found = known.1.iter().find_map(|by| rest.strip_prefix(by).map(|value| (*by, value.trim())));
    let (by, value) = found.ok_or_else(|| refused("compares in another way"))?;
    // BuildKit looks for a part of these, and for the whole of a status.
    let by = match (known.0, by) {
        ("status", "=") => "==",
        (_, "=") => "~=",
        (_, by) => by,
    };
    Ok(format!("{}{by}{value}", known.0))
}

/// BuildKit splits the parts as comma-separated values.
fn csv(part: &str) -> String {
    if part.contains([',', '"', '\n']) { format!("\"{}\"", part.replace('"', "\"\"")) } else { part.to_owned() }
}

/// Go's spelling of a duration.
pub(super) fn nanoseconds(text: &str) -> Option<i64> {
    let (mut total, mut rest) = (0_f64, text);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale = match unit {
            "h" => 3.6e12,
            "m" => 6e10,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    (total < i64::MAX as f64).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn cache_filters_are_translated() {
        const HOUR: i64 = 3_600_000_000_000;
        for (given, wanted, unused_for) in [
            (&[][..], &[][..], 0),
            (&["type=regular"], &["type==regular"], 0),
            (&["id=abc", "until=24h"], &["id~=abc"], 24 * HOUR),
            (&["unused-for=1h30m"], &[], HOUR + HOUR / 2),
            (&["description~=RUN", "type!=regular", "inuse"], &["description~=RUN,type!=regular,inuse"], 0),
        ] {
            let filters = CacheFilters::parse(&strings(given)).expect("they are accepted");
            assert_eq!((filters.wanted(), filters.unused_for()), (strings(wanted), unused_for), "{given:?}");
        }
    }

    #[test]
    fn wrong_cache_filters_are_told_together() {
        let given = strings(&["until=soon", "until=1h", "=x", "type=a", "type=b"]);
        assert_eq!(
            CacheFilters::parse(&given).expect_err("they are wrong").render(),
            "error: --filter `until=soon` has no duration: accepted are 24h, 1h30m and the like\n  \
             --filter `until` is given twice\n  \
             --filter `=x` has no key: accepted are KEY=VALUE and KEY\n  \
             --filter `type` is given twice\n"
        );
    }

    #[test]
    fn history_filters_are_translated() {
        for (given, wanted) in [
            (&[][..], &[][..]),
            (&["status=error"], &["status==error"]),
            (&["ref=abc", "repository!=x,y"], &["ref~=abc,\"repository!=x,y\""]),
            (&["startedAt>=24h", "duration<5m"], &["startedAt>=24h,duration<5m"]),
        ] {
            assert_eq!(history(&strings(given)).expect("they are accepted"), strings(wanted), "{given:?}");
        }
        for (given, part) in [
            ("status", "compares nothing"),
            ("state=error", "has an unknown key"),
            ("status<error", "compares in another way"),
            ("duration=5m", "compares in another way"),
        ] {
            let told = history(&strings(&[given])).expect_err(given).render();
            assert!(told.contains(part) && told.contains("accepted are ref (= !=), repository"), "{told}");
        }
    }

    #[test]
    fn durations_are_go_s() {
        for (text, wanted) in [("1s", Some(1_000_000_000)), ("1.5ms", Some(1_500_000)), ("0h", Some(0))] {
            assert_eq!(nanoseconds(text), wanted, "{text}");
        }
        for text in ["", "24", "h", "1d", "1h x"] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
    }
}
