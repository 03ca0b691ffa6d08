//! An address of the form `scheme://[user@]host[:port][/path][?query]`, taken apart as Go's `net/url` takes it apart.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The parts of an address. What was escaped is plain here.
#[derive(Debug)]
pub(super) struct Url {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<String>,
    /// With its first `/`, or empty.
    pub(super) path: String,
    query: Vec<(String, String)>,
}

impl Url {
    /// What stands behind `scheme://`.
    pub(super) fn parse(rest: &str) -> Result<Self, String> {
        if rest.contains('#') {
            return Err("it has a fragment behind `#`, which means nothing here".to_owned());
        }
        if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("it has white space or control characters in it".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err("a password in it would be seen by everybody who lists processes".to_owned());
        }
        let (host, port) = match host.strip_prefix('[').map(|host| host.split_once(']')) {
            Some(Some((host, ""))) => (host, None),
            Some(Some((host, port))) => (host, Some(port.strip_prefix(':').ok_or("a port begins with `:`")?)),
            Some(None) => return Err("`[` is not closed".to_owned()),
            None => match host.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            },
        };
        Ok(Self {
            user: user.map(decoded).transpose()?,
            host: decoded(host)?,
            port: port.filter(|port| !port.is_empty()).map(str::to_owned),
            path: decoded(path)?,
            query: query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect::<Result<_, _>>()?,
        })
    }

    /// The values of these keys, in their order; empty ones count as not given. There are no others.
    pub(super) fn query<const N: usize>(&self, keys: [&str; N]) -> Result<[Option<String>; N], String> {
        let accepted = match keys.is_empty() {
            true => "it takes none".to_owned(),
            false => format!("accepted are {}", keys.join(", ")),
        };
        if let Some((key, _)) = self.query.iter().find(|(key, _)| !keys.contains(&key.as_str())) {
            return Err(format!("unknown parameter `{key}`: {accepted}"));
        }
        let value = |wanted: &str| self.query.iter().rfind(|(key, _)| key == wanted).map(|(_, value)| value.clone());
        Ok(keys.map(|key| value(key).filter(|value| !value.is_empty())))
    }

    /// Nothing but a host.
    pub(super) fn only_host(&self) -> Result<&str, String> {
        match self.host_and_port()? {
            (host, None) => Ok(host),
            (_, Some(_)) => Err("it takes no port".to_owned()),
        }
    }

    /// Nothing but a host, and maybe a port.
    pub(super) fn host_and_port(&self) -> Result<(&str, Option<&str>), String> {
        match self {
            Self { user: Some(_), .. } => Err("it takes no user before `@`".to_owned()),
            Self { path, .. } if !path.trim_matches('/').is_empty() => Err(format!("it takes no path, got `{path}`")),
            Self { host, port, .. } => Ok((host, port.as_deref())),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    Ok((decoded(key)?, decoded(&value.replace('+', " "))?))
}

fn decoded(text: &str) -> Result<String, String> {
    let is_code = |rest: &str| rest.as_bytes().get(..2).is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_code) {
        return Err(format!("`{text}` has a `%` without two hexadecimal digits"));
    }
    percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| format!("`{text}` is no UTF-8"))
}

/// For its place in an address: a user, a path or the value of a parameter.
pub(super) fn encoded(text: &str) -> String {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
    utf8_percent_encode(text, PLAIN).to_string()
}

/// `?key=value&key=value` of those that have one.
pub(super) fn query_of<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let given = pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", encoded(value?))));
    let given: Vec<String> = given.collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}
