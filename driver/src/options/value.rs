//! Values that several keys share: switches, counts, images, paths.

use std::path::PathBuf;
use std::time::Duration;

use super::{LoadBalance, Quantity, QuantityError, TransportChoice, Ttl, duration, label};

/// Why a value was refused. What would be accepted stands in the table of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("`{0}` is no boolean")]
    Boolean(String),
    #[error("`{0}` is no whole number")]
    Number(String),
    #[error("`{0}` is out of range")]
    Replicas(String),
    #[error("`{0}` is none of the accepted words")]
    Word(String),
    #[error("`{0:?}` has white space or control characters in it")]
    Image(String),
    #[error("`{0}` is no absolute path")]
    Path(String),
    #[error("`{0}` is no host name")]
    Host(String),
    #[error("`{0}` is thousandths of a byte or less: write M or Mi for megabytes")]
    PartOfByte(String),
    #[error("`{0}` is not of the form key=value")]
    Pair(String),
    #[error("the {0} `{1}` is reserved")]
    Reserved(&'static str, String),
    #[error("`{0}` is no name of an environment variable")]
    Variable(String),
    #[error("a value with a null character in it can't be passed on")]
    Null,
    #[error("a volume needs room")]
    NoRoom,
    /// A value with a grammar of its own.
    #[error("{0}")]
    Inner(String),
}

impl ValueError {
    pub(super) fn inner(error: impl std::error::Error) -> Self {
        Self::Inner(error.to_string())
    }
}

pub(super) const LOADBALANCE: &str = "sticky, sticky-bounded, least-loaded or random";
pub(super) const SWITCH: &str = "on or off";
pub(super) const BOOLEAN: &str = "a boolean: true, t, 1, false, f or 0";
pub(super) const BYTES: &str = "a Kubernetes quantity that is not negative, as in 512Mi, 10Gi or 2G";
pub(super) const OBJECT: &str = "the name of an object: lower-case letters, digits, `-` and `.`";
pub(super) const OBJECT_OR_NONE: &str =
    "the name of an object: lower-case letters, digits, `-` and `.`; an empty one means the default";

/// More than this is a slip of the keyboard rather than a wish.
const REPLICAS_MAX: u32 = 1000;

/// A Go boolean (`strconv.ParseBool`).
pub(super) fn boolean(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(ValueError::Boolean(other.to_owned())),
    }
}

/// A number of pods. Nothing is no number of them: `buildfleet stop` is there for that.
pub(super) fn replicas(text: &str) -> Result<u32, ValueError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(ValueError::Number(text.to_owned()));
    }
    text.parse()
        .ok()
        .filter(|number| (1..=REPLICAS_MAX).contains(number))
        .ok_or_else(|| ValueError::Replicas(text.to_owned()))
}

pub(super) fn loadbalance(text: &str) -> Result<LoadBalance, ValueError> {
    use LoadBalance::{LeastLoaded, Random, Sticky, StickyBounded};
    let policies = [Sticky, StickyBounded, LeastLoaded, Random];
    let named = policies.into_iter().find(|policy| policy.to_string() == text);
    named.ok_or_else(|| ValueError::Word(text.to_owned()))
}

pub(super) fn transport(text: &str) -> Result<TransportChoice, ValueError> {
    match text {
        "auto" => Ok(TransportChoice::Auto),
        "exec" => Ok(TransportChoice::Exec),
        "port-forward" => Ok(TransportChoice::PortForward),
        "pod-ip" => Ok(TransportChoice::PodIp),
        other => Err(ValueError::Word(other.to_owned())),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, ValueError> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(ValueError::Word(other.to_owned())),
    }
}

pub(super) fn drain_timeout(text: &str) -> Result<Duration, ValueError> {
    duration::parse_or_zero(text).map_err(ValueError::inner)
}

pub(super) fn ttl(text: &str) -> Result<Ttl, ValueError> {
    Ttl::safe(text).map_err(ValueError::inner)
}

pub(super) fn timeout(text: &str) -> Result<Duration, ValueError> {
    duration::parse(text).map_err(ValueError::inner)
}

pub(super) fn namespace(text: &str) -> Result<Option<String>, ValueError> {
    label::namespace(text).map_err(ValueError::inner)?;
    Ok(Some(text.to_owned()))
}

/// The name of an image; an empty one means the default, as in buildx.
pub(super) fn image(text: &str) -> Result<Option<String>, ValueError> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ValueError::Image(text.to_owned()));
    }
    Ok(Some(text.to_owned()).filter(|image| !image.is_empty()))
}

/// An amount of CPU; an empty one is not set, as in buildx.
pub(super) fn cpu(text: &str) -> Result<Option<Quantity>, ValueError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: QuantityError| ValueError::inner(error))
}

/// An amount of memory; an empty one is not set, as in buildx.
pub(super) fn bytes(text: &str) -> Result<Option<Quantity>, ValueError> {
    // `512m` is half a byte: the API server would only warn, and the pod would never start.
    match cpu(text)? {
        Some(quantity) if quantity.is_fraction_of_one() => Err(ValueError::PartOfByte(text.to_owned())),
        quantity => Ok(quantity),
    }
}

/// An amount of room that has to be some; an empty one is not set, as in buildx.
pub(super) fn room(text: &str) -> Result<Option<Quantity>, ValueError> {
    match bytes(text)? {
        Some(quantity) if quantity.is_zero() => Err(ValueError::NoRoom),
        quantity => Ok(quantity),
    }
}

/// The name of an object of the cluster.
pub(super) fn object(text: &str) -> Result<Option<String>, ValueError> {
    label::subdomain("name", text).map_err(ValueError::inner)?;
    Ok(Some(text.to_owned()))
}

/// The same; an empty one is not set, as in buildx.
pub(super) fn object_or_none(text: &str) -> Result<Option<String>, ValueError> {
    if text.is_empty() { Ok(None) } else { object(text) }
}

/// Names of objects with commas between them.
pub(super) fn objects(text: &str) -> Result<Vec<String>, ValueError> {
    text.split(',').map(|name| object(name).map(Option::unwrap_or_default)).collect()
}

/// A file's path. It is absolute, because the daemon has another working directory than the command.
pub(super) fn path(text: &str) -> Result<Option<PathBuf>, ValueError> {
    let path = PathBuf::from(text);
    if path.is_absolute() && !text.contains('\0') { Ok(Some(path)) } else { Err(ValueError::Path(text.to_owned())) }
}

/// A name that a certificate may be made out to.
pub(super) fn host(text: &str) -> Result<Option<String>, ValueError> {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if text.is_empty() || text.len() > 253 || !text.chars().all(letter) {
        return Err(ValueError::Host(text.to_owned()));
    }
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_those_of_go() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        for text in ["", "yes", "no", "on", "tRUE", "2", " true"] {
            assert_eq!(boolean(text), Err(ValueError::Boolean(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn replicas_are_at_least_one() {
        for (text, wanted) in [("1", 1), ("+2", 2), ("007", 7), ("1000", 1000)] {
            assert_eq!(replicas(text), Ok(wanted), "{text}");
        }
        for text in ["0", "-1", "-0", "1001", "99999999999999999999"] {
            assert_eq!(replicas(text), Err(ValueError::Replicas(text.to_owned())), "{text}");
        }
        for text in ["", "+", "-", "two", "2.0", " 2", "2 ", "0x2", "1_0", "--1", "٣"] {
            assert_eq!(replicas(text), Err(ValueError::Number(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn images_have_no_white_space_and_may_be_empty() {
        assert_eq!(image(""), Ok(None));
        for text in ["moby/buildkit:master", "r.example:5000/a/b@sha256:0123", "[::1]:5000/a"] {
            assert_eq!(image(text), Ok(Some(text.to_owned())));
        }
        for text in [" a", "a b", "a\n", "a\u{7}"] {
            assert_eq!(image(text), Err(ValueError::Image(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn a_memory_of_less_than_a_byte_is_a_slip() {
        assert_eq!(bytes("512m"), Err(ValueError::PartOfByte("512m".into())));
        assert_eq!(bytes("0.1"), Err(ValueError::PartOfByte("0.1".into())));
        assert_eq!(bytes(""), Ok(None));
        for text in ["512M", "0.5Gi", "0", "1500m"] {
            assert_eq!(bytes(text).unwrap().unwrap().to_string(), text);
        }
        assert_eq!(cpu("512m").unwrap().unwrap().to_string(), "512m");
    }

    #[test]
    fn objects_have_names_of_subdomains() {
        for text in ["builds", "team.registry", "a-1"] {
            assert_eq!(object(text), Ok(Some(text.to_owned())));
        }
        for text in ["", "A", "a_b", "a/b", "-a", "a..b", "a b"] {
            assert!(object(text).is_err(), "{text}");
        }
        assert_eq!(object_or_none(""), Ok(None));
        assert_eq!(objects("a,b.c"), Ok(vec!["a".to_owned(), "b.c".to_owned()]));
        for text in ["", "a,", "a, b"] {
            assert!(objects(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_volume_has_room() {
        for text in ["0", "0Gi", "0.0"] {
            assert_eq!(room(text), Err(ValueError::NoRoom), "{text}");
        }
        assert_eq!(room(""), Ok(None));
        assert_eq!(room("10Gi").unwrap().unwrap().to_string(), "10Gi");
    }

    #[test]
    fn paths_are_absolute() {
        assert_eq!(path("/usr/bin/buildkitd"), Ok(Some(PathBuf::from("/usr/bin/buildkitd"))));
        for text in ["", "buildkitd", "./buildkitd", "~/buildkitd", "/a\0b"] {
            assert_eq!(path(text), Err(ValueError::Path(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn server_names_are_host_names_or_addresses() {
        for text in ["buildkitd.example", "10.0.0.1", "::1", "a_b"] {
            assert_eq!(host(text), Ok(Some(text.to_owned())));
        }
        for text in ["", "a b", "a/b", "https://a"] {
            assert_eq!(host(text), Err(ValueError::Host(text.to_owned())), "{text}");
        }
    }
}
