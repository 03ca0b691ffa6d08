//! What a session says of the directory that it sends: the base name of buildx's context, with the id of its machine.

use std::borrow::Cow;

use http::HeaderMap;

const KEY: &str = "x-docker-expose-session-sharedkey";
const ENCODED: &str = "x-docker-expose-session-sharedkey-encoded";

/// The key under which `buildkitd` finds an earlier copy of the same directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::proxy) struct SharedKey(String);

impl SharedKey {
    /// From the metadata of Control.Session, when the client gives one.
    pub(in crate::proxy) fn of(metadata: &HeaderMap) -> Option<Self> {
        let raw = metadata.get(KEY)?.as_bytes();
        let encoded = metadata.get(ENCODED).is_some_and(|value| ["1", "t", "T", "true"].iter().any(|yes| value == yes));
        let bytes = if encoded { unescaped(raw) } else { Cow::Borrowed(raw) };
        Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|key| !key.is_empty()).map(Self)
    }

    /// The key without the id that buildx puts after it: another machine builds the same.
    pub(super) fn context(&self) -> Option<&str> {
        let name = match self.0.rsplit_once(':') {
            Some((name, id)) if id.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
            _ => &self.0,
        };
        Some(name).filter(|name| !name.is_empty())
    }
}

/// What Go's `url.QueryEscape` was given. A malformed value is taken as it is, as `buildkitd` does.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(*byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else { return Cow::Borrowed(text) };
                u8::try_from(high * 16 + low).unwrap_or_default()
            }
            byte => *byte,
        });
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn context(key: &[u8], encoded: Option<&'static str>) -> Option<String> {
        let mut metadata = HeaderMap::new();
        metadata.insert(KEY, HeaderValue::from_bytes(key).unwrap());
        if let Some(encoded) = encoded {
            metadata.insert(ENCODED, HeaderValue::from_static(encoded));
        }
        SharedKey::of(&metadata)?.context().map(str::to_owned)
    }

    #[test]
    fn the_name_of_the_context_is_found_in_every_spelling() {
        for (key, encoded, wanted) in [
            (&b"app:0123456789abcdef"[..], None, Some("app")),
            (b"app:", None, Some("app")),
            (b"app", None, Some("app")),
            (b"app:v2:0123456789abcdef", None, Some("app:v2")),
            (b"app:v2", None, Some("app:v2")),
            (b"caf%C3%A9+bar%3A0123456789abcdef", Some("1"), Some("café bar")),
            (b"caf%C3%A9", None, Some("caf%C3%A9")),
            (b"caf%C3%A9", Some("0"), Some("caf%C3%A9")),
            (b"100%", Some("1"), Some("100%")),
            (b"100%zz", Some("1"), Some("100%zz")),
            ("café:0123456789abcdef".as_bytes(), None, Some("café")),
            (b"\xff:0123", None, Some("\u{fffd}")),
            (b":0123456789abcdef", None, None),
            (b"", None, None),
        ] {
            assert_eq!(context(key, encoded).as_deref(), wanted, "{}", String::from_utf8_lossy(key));
        }
        assert_eq!(SharedKey::of(&HeaderMap::new()), None);
    }
}
