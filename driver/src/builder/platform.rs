//! Platforms in the spelling and with the defaults of containerd's `platforms` package, which buildx uses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a platform was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("platform `{0}` is not of the form os/arch or os/arch/variant, as in linux/arm64 or linux/arm/v7")]
pub struct PlatformError(String);

/// `os/arch[/variant]`, normalised: `aarch64` is `arm64`, `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    arch: String,
    variant: Option<String>,
}

impl Platform {
    /// The platform that this program was built for.
    pub fn host() -> Self {
        Self::normalised("linux", std::env::consts::ARCH, None)
    }

    /// `linux/<arch>` with the name that Kubernetes gives an architecture in `kubernetes.io/arch`.
    ///
    /// # Errors
    /// When `arch` is no architecture's name.
    pub fn linux(arch: &str) -> Result<Self, PlatformError> {
        format!("linux/{arch}").parse()
    }

    pub fn arch(&self) -> &str {
        &self.arch
    }

    pub fn os(&self) -> &str {
        &self.os
    }

    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// A comma-separated list, as in one `--platform`.
    ///
    /// # Errors
    /// At the first entry that is no platform.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, PlatformError> {
        list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::parse).collect()
    }

    fn normalised(os: &str, arch: &str, variant: Option<&str>) -> Self {
        let (os, arch) = (os.to_ascii_lowercase(), arch.to_ascii_lowercase());
        let os = if os == "macos" { "darwin".to_owned() } else { os };
        let variant = variant.map(str::to_ascii_lowercase);
        let (arch, variant) = match (arch.as_str(), variant.as_deref()) {
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64" | "arm64", Some(other)) => ("arm64", Some(other.to_owned())),
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", Some(other)) => ("amd64", Some(other.to_owned())),
            ("i386" | "i686" | "x86", _) => ("386", None),
            ("armhf", None) | ("arm", None | Some("7")) => ("arm", Some("v7".to_owned())),
            ("armel", None) => ("arm", Some("v6".to_owned())),
            ("arm", Some("5" | "6" | "8")) => ("arm", variant.map(|v| format!("v{v}"))),
            (other, _) => return Self { os, arch: other.to_owned(), variant },
        };
        Self { os, arch: arch.to_owned(), variant }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let word =
            |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if !parts.iter().all(word) {
            return Err(error());
        }
        match parts.as_slice() {
            [os, arch] => Ok(Self::normalised(os, arch, None)),
            [os, arch, variant] => Ok(Self::normalised(os, arch, Some(variant))),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;

    fn try_from(text: String) -> Result<Self, PlatformError> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised_as_containerd_does() {
        for (given, wanted) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/i386", "linux/386"),
            ("Linux/RISCV64", "linux/riscv64"),
        ] {
            assert_eq!(given.parse::<Platform>().unwrap().to_string(), wanted, "{given}");
        }
    }

    #[test]
    fn what_is_no_platform_is_refused_with_the_text() {
        for given in ["", "amd64", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b", "linux//v7"] {
            assert_eq!(given.parse::<Platform>(), Err(PlatformError(given.to_owned())), "{given}");
        }
    }

    #[test]
    fn a_list_is_split_at_commas() {
        let list = Platform::parse_list("linux/amd64, linux/arm64").unwrap();
        assert_eq!(list, ["linux/amd64".parse().unwrap(), "linux/arm64".parse().unwrap()]);
        assert!(Platform::parse_list("linux/amd64,arm64").is_err());
    }
}
