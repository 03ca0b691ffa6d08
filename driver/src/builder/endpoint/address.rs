//! The address of a `buildkitd` that somebody else runs, as BuildKit's and docker's clients spell it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::url::{Url, encoded, query_of};
use super::{ACCEPTED, ClusterAddress, EndpointError};

/// What a user gives as an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Remote(RemoteAddress),
    /// Which cluster it is in has still to be found out.
    Cluster(ClusterAddress),
}

/// An address that leads to one `buildkitd` from the daemon's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RemoteAddress {
    Unix(PathBuf),
    /// `host:port`, not resolved.
    Tcp {
        host: String,
        port: u16,
    },
    Ssh(SshAddress),
    Container(ContainerAddress),
}

/// `buildctl` on another machine, by `ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAddress {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    socket: Option<String>,
}

impl SshAddress {
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// As `~/.ssh/config` may know it.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Where `buildkitd` listens there; without one, where `buildctl` looks for it.
    pub fn socket(&self) -> Option<&str> {
        self.socket.as_deref()
    }

    fn parse(url: Url) -> Result<Self, String> {
        let [] = url.query([])?;
        let Url { user, host, port, path, .. } = url;
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        let user = user.filter(|user| !user.is_empty());
        let socket = Some(path).filter(|path| !path.trim_matches('/').is_empty());
        Ok(Self { user, host, port: port.map(|port| number(&port)).transpose()?, socket })
    }
}

/// What runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Docker,
    Podman,
    Nerdctl,
}

impl Engine {
    const ALL: [Self; 3] = [Self::Docker, Self::Podman, Self::Nerdctl];

    /// The command that speaks to it.
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Nerdctl => "nerdctl",
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Docker => "docker-container",
            Self::Podman => "podman-container",
            Self::Nerdctl => "nerdctl-container",
        }
    }

    /// The parameter that chooses among several of them.
    fn parameter(self) -> Option<&'static str> {
        match self {
            Self::Docker => Some("context"),
            Self::Podman => None,
            Self::Nerdctl => Some("namespace"),
        }
    }
}

/// `buildctl` in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerAddress {
    engine: Engine,
    name: String,
    within: Option<String>,
}

impl ContainerAddress {
    pub fn engine(&self) -> Engine {
        self.engine
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// docker's context, or nerdctl's namespace.
    pub fn within(&self) -> Option<&str> {
        self.within.as_deref()
    }

    fn parse(engine: Engine, url: &Url) -> Result<Self, String> {
        let name = url.only_host()?.to_owned();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(is_plain) {
            return Err(format!("`{name}` is no name of a container"));
        }
        let within = match engine.parameter() {
            Some(parameter) => url.query([parameter])?.into_iter().flatten().next(),
            None => url.query([]).map(|[]| None)?,
        };
        Ok(Self { engine, name, within })
    }
}

fn number(port: &str) -> Result<u16, String> {
    let port = port.parse::<u16>().ok().filter(|port| *port > 0);
    port.ok_or_else(|| "its port is no number from 1 to 65535".to_owned())
}

impl FromStr for Address {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        parse(text).map_err(|problem| EndpointError::Address { given: text.to_owned(), problem })
    }
}

fn parse(text: &str) -> Result<Address, String> {
    let unknown = || format!("accepted are {ACCEPTED}");
    let (scheme, rest) = text.split_once("://").ok_or_else(unknown)?;
    let remote = match scheme {
        "unix" => unix(rest)?,
        "tcp" => tcp(rest)?,
        "ssh" => RemoteAddress::Ssh(SshAddress::parse(Url::parse(rest)?)?),
        "kube-pod" => return ClusterAddress::pod(&Url::parse(rest)?).map(Address::Cluster),
        "kube-service" => return ClusterAddress::service(&Url::parse(rest)?).map(Address::Cluster),
        scheme => {
            let engine = Engine::ALL.into_iter().find(|engine| engine.scheme() == scheme).ok_or_else(unknown)?;
            RemoteAddress::Container(ContainerAddress::parse(engine, &Url::parse(rest)?)?)
        }
    };
    Ok(Address::Remote(remote))
}

/// Not escaped: every client takes the rest as it is.
fn unix(rest: &str) -> Result<RemoteAddress, String> {
    let path = Path::new(rest);
    if path.is_absolute() {
        Ok(RemoteAddress::Unix(path.to_owned()))
    } else {
        Err("its path is not absolute".to_owned())
    }
}

fn tcp(rest: &str) -> Result<RemoteAddress, String> {
    let (host, port) = rest.rsplit_once(':').ok_or("it names no port")?;
    let port = number(port)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || host.contains(['/', '@', '?', '#']) {
        return Err("it is not of the form tcp://host:port".to_owned());
    }
    Ok(RemoteAddress::Tcp { host: host.to_owned(), port })
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } => write!(f, "tcp://{}:{port}", bracketed(host)),
            Self::Ssh(SshAddress { user, host, port, socket }) => {
                let user = user.as_ref().map(|user| format!("{}@", encoded(user))).unwrap_or_default();
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                let socket = socket.as_deref().map(encoded).unwrap_or_default();
                write!(f, "ssh://{user}{}{port}{socket}", bracketed(host))
            }
            Self::Container(ContainerAddress { engine, name, within }) => {
                let query = query_of(engine.parameter().map(|parameter| (parameter, within.as_deref())));
                write!(f, "{}://{name}{query}", engine.scheme())
            }
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl TryFrom<String> for RemoteAddress {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl FromStr for RemoteAddress {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text.parse()? {
            Address::Remote(address) => Ok(address),
            Address::Cluster(_) => {
                let problem = "it is in a cluster, of which it does not say which one".to_owned();
                Err(EndpointError::Address { given: text.to_owned(), problem })
            }
        }
    }
}

impl From<RemoteAddress> for String {
    fn from(address: RemoteAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_addresses_round_trip() {
        for text in [
            "unix:///run/buildkit/buildkitd.sock",
            "tcp://10.0.0.1:1234",
            "tcp://[::1]:1234",
            "tcp://builder:1",
            "ssh://build.example",
            "ssh://me@build.example:2222/run/user/1000/buildkit/buildkitd.sock",
            "ssh://[fe80::1]:22",
            "ssh://a%40b@h/run/a%20b.sock",
            "docker-container://buildx_buildkit_a0",
            "docker-container://b?context=far%20away",
            "podman-container://b",
            "nerdctl-container://b?namespace=k8s.io",
        ] {
            assert_eq!(text.parse::<RemoteAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_spellings_of_the_same_are_taken() {
        for (given, wanted) in [
            ("ssh://h/", "ssh://h"),
            ("ssh://@h:", "ssh://h"),
            ("docker-container://b/?context=", "docker-container://b"),
            ("docker-container://b?context=a+b", "docker-container://b?context=a%20b"),
            ("docker-container://b?context=a&context=c", "docker-container://b?context=c"),
        ] {
            assert_eq!(given.parse::<RemoteAddress>().unwrap().to_string(), wanted, "{given}");
        }
    }

    #[test]
    fn what_is_no_remote_address_is_refused_with_the_reason() {
        for (given, wanted) in [
            ("", "accepted are unix:///path"),
            ("/run/x.sock", "accepted are unix:///path"),
            ("http://h:1", "accepted are unix:///path"),
            ("npipe:////./pipe/buildkit", "accepted are unix:///path"),
            ("unix://", "its path is not absolute"),
            ("unix://relative", "its path is not absolute"),
            ("tcp://host", "it names no port"),
            ("tcp://:1234", "it is not of the form tcp://host:port"),
            ("tcp://h:0", "no number from 1 to 65535"),
            ("tcp://h:99999", "no number from 1 to 65535"),
            ("tcp://h/x:1", "it is not of the form"),
            ("ssh://", "it names no host"),
            ("ssh://me:secret@h", "a password in it"),
            ("ssh://h:x", "no number from 1 to 65535"),
            ("ssh://h?socket=/x", "unknown parameter `socket`: it takes none"),
            ("ssh://h#x", "fragment"),
            ("ssh://[::1", "`[` is not closed"),
            ("ssh://h/%zz", "`/%zz` has a `%` without"),
            ("ssh://h /x", "white space"),
            ("docker-container://", "`` is no name of a container"),
            ("docker-container://-x", "`-x` is no name of a container"),
            ("docker-container://a@b", "no user"),
            ("docker-container://a:1", "no port"),
            ("docker-container://a/b", "no path, got `/b`"),
            ("docker-container://a?namespace=x", "unknown parameter `namespace`: accepted are context"),
            ("podman-container://a?context=x", "unknown parameter `context`: it takes none"),
            ("nerdctl-container://a?context=x", "unknown parameter `context`: accepted are namespace"),
            ("kube-pod://a", "in a cluster"),
        ] {
            let error = given.parse::<RemoteAddress>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("endpoint `{given}`: ")) && error.contains(wanted), "{wanted}: {error}");
        }
    }
}
