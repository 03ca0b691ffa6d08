//! Names that a server's certificate is for: DNS names and IP addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// One entry of a certificate's subject alternative names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectName {
    /// In lower case; the first label may be `*`.
    Dns(String),
    Ip(IpAddr),
}

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name for a certificate: accepted are DNS names as in buildkitd.builds.svc or *.example.org and IP addresses, without scheme and port"
)]
pub struct NameError(String);

/// Of a DNS name.
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

impl FromStr for SubjectName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let rest = text.strip_prefix("*.").unwrap_or(text);
        // What looks like an address and is none must not become a name that no client looks for.
        let numeric = rest.split('.').next_back().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if text.len() > LONGEST || numeric || !rest.split('.').all(is_label) {
            return Err(NameError(text.to_owned()));
        }
        Ok(Self::Dns(text.to_ascii_lowercase()))
    }
}

/// Underscores are in no host name, but in names that clients look for all the same.
fn is_label(label: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=LONGEST_LABEL).contains(&label.len())
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_accepted_as_clients_look_for_them() {
        for (text, shown, is_address) in [
            ("localhost", "localhost", false),
            ("Buildkitd.Builds.svc", "buildkitd.builds.svc", false),
            ("*.buildkitd.builds.svc", "*.buildkitd.builds.svc", false),
            ("build_kit.example", "build_kit.example", false),
            ("1and1.example", "1and1.example", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("::1", "::1", true),
            ("2001:DB8::0:1", "2001:db8::1", true),
        ] {
            let name: SubjectName = text.parse().unwrap();
            assert_eq!((name.to_string().as_str(), matches!(name, SubjectName::Ip(_))), (shown, is_address), "{text}");
        }
    }

    #[test]
    fn what_no_client_could_look_for_is_refused_by_its_name() {
        let long = format!("{}.example", "a".repeat(64));
        let longer = ["abcdefgh"; 29].join(".");
        for text in [
            "",
            "*",
            "*.",
            "a.*.b",
            "a*.b",
            "tcp://127.0.0.1:1234",
            "127.0.0.1:1234",
            "127.0.0.256",
            "10.0.0.0/8",
            "[::1]",
            "a b",
            "-a.example",
            "a-.example",
            "a..b",
            "example.org.",
            "küche.example",
            "a@example.org",
            long.as_str(),
            longer.as_str(),
        ] {
            let error = text.parse::<SubjectName>().expect_err(text);
            assert!(error.to_string().starts_with(&format!("`{text}` is no name")), "{error}");
        }
    }
}
