//! How long a builder that nobody uses is kept.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::duration;

/// After which nobody is believed to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// Until somebody removes it.
    Never,
    After(Duration),
}

/// Why a time was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TtlError {
    #[error("{0}")]
    Duration(String),
    #[error("`{0}` is less than 30m: who builds notes so every 10 minutes or more rarely")]
    Short(String),
}

impl Ttl {
    /// Less could take a builder from people who use it.
    pub const LEAST: Duration = Duration::from_secs(30 * 60);

    /// As [`Ttl::from_str`], and long enough.
    ///
    /// # Errors
    /// What is no duration, or a short one.
    pub fn safe(text: &str) -> Result<Self, TtlError> {
        match text.parse()? {
            Self::After(time) if time < Self::LEAST => Err(TtlError::Short(text.to_owned())),
            ttl => Ok(ttl),
        }
    }
}

impl FromStr for Ttl {
    type Err = TtlError;

    fn from_str(text: &str) -> Result<Self, TtlError> {
        if text == "never" {
            return Ok(Self::Never);
        }
        duration::parse_or_zero(text).map(Self::After).map_err(|error| TtlError::Duration(error.to_string()))
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::After(time) => write!(f, "{}", Span(time.as_secs())),
        }
    }
}

/// Seconds as in `24h`, `1h30m` or `30s`.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        for (amount, unit) in [(hours, "h"), (minutes, "m"), (seconds, "s")] {
            if amount > 0 {
                write!(f, "{amount}{unit}")?;
            }
        }
        if self.0 == 0 { f.write_str("0s") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_told_alike() {
        for (text, told) in [("24h", "24h"), ("90m", "1h30m"), ("1h0m5s", "1h5s"), ("never", "never"), ("0", "0s")] {
            let ttl: Ttl = text.parse().unwrap();
            assert_eq!(ttl.to_string(), told);
            assert_eq!(told.parse::<Ttl>().unwrap(), ttl);
        }
        for text in ["", "soon", "5", "-1h", "Never"] {
            assert!(text.parse::<Ttl>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_could_take_a_builder_from_its_users_is_refused() {
        assert_eq!(Ttl::safe("29m59s"), Err(TtlError::Short("29m59s".to_owned())));
        assert_eq!(Ttl::safe("30m"), Ok(Ttl::After(Ttl::LEAST)));
        assert_eq!(Ttl::safe("never"), Ok(Ttl::Never));
    }
}
