//! Durations in Go's spelling: `90s`, `1m30s`, `1.5h`.

use std::time::Duration;

/// Why a duration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DurationError {
    #[error("`{0}` is no duration")]
    Form(String),
    #[error("`{0}` has a number without a unit")]
    Unit(String),
    #[error("`{0}` is longer than a duration can be")]
    TooLong(String),
    #[error("`{0}` is no time at all")]
    Zero(String),
    #[error("`{0}` is negative")]
    Negative(String),
}

/// The longest that Go's `time.Duration` holds, some 292 years.
const MAX_NANOS: u128 = i64::MAX as u128;

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
];

/// A time to wait: what `time.ParseDuration` reads, if it is longer than nothing.
pub(super) fn parse(text: &str) -> Result<Duration, DurationError> {
    let duration = parse_or_zero(text)?;
    if duration.is_zero() { Err(DurationError::Zero(text.to_owned())) } else { Ok(duration) }
}

/// A time to wait at most, which may be none.
pub(super) fn parse_or_zero(text: &str) -> Result<Duration, DurationError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let nanos = if unsigned == "0" { 0 } else { nanos(text, unsigned)? };
    if nanos > 0 && text.starts_with('-') {
        return Err(DurationError::Negative(text.to_owned()));
    }
    let too_long = |_| DurationError::TooLong(text.to_owned());
    Ok(Duration::from_nanos(u64::try_from(nanos).map_err(too_long)?))
}

/// The sum of numbers with units.
fn nanos(text: &str, unsigned: &str) -> Result<u128, DurationError> {
    let form = || DurationError::Form(text.to_owned());
    let too_long = || DurationError::TooLong(text.to_owned());
    if unsigned.is_empty() {
        return Err(form());
    }
    let mut total: u128 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(form());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (name, next) = after.split_at(end);
        let Some((_, unit)) = UNITS.iter().find(|(unit, _)| *unit == name) else {
            return Err(if name.is_empty() { DurationError::Unit(text.to_owned()) } else { form() });
        };
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u128>().map_err(|_| too_long())? };
        // What stands behind the 18th place of a fraction is less than a nanosecond in every unit.
        let places = fraction.len().min(18);
        let part =
            fraction[..places].parse::<u128>().unwrap_or(0) * unit / 10u128.pow(u32::try_from(places).unwrap_or(18));
        total = whole.checked_mul(*unit).and_then(|whole| total.checked_add(whole + part)).ok_or_else(too_long)?;
        if total > MAX_NANOS {
            return Err(too_long());
        }
        rest = next;
    }
    Ok(total)
}

/// The digits at the start of `text`, and the rest.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("1ns", 1),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("1ms", 1_000_000),
            ("120s", 120_000_000_000),
            ("+5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("30s1m", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("1h15m30.918273645s", 4_530_918_273_645),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_to_wait_is_refused() {
        for text in ["", "s", ".s", "1x", "1S", "ten", "1 s", " 1s", "1s ", "--1s", "-", "1e3s", "1,5s"] {
            assert_eq!(parse(text), Err(DurationError::Form(text.to_owned())), "{text}");
        }
        for text in ["1", "1.5", "1m30", "1.5.5s"] {
            assert_eq!(parse(text), Err(DurationError::Unit(text.to_owned())), "{text}");
        }
        for text in ["0", "0s", "-0h", "0.0000000001s"] {
            assert_eq!(parse(text), Err(DurationError::Zero(text.to_owned())), "{text}");
            assert_eq!(parse_or_zero(text), Ok(Duration::ZERO), "{text}");
        }
        for text in ["-1s", "-0.5h"] {
            assert_eq!(parse(text), Err(DurationError::Negative(text.to_owned())), "{text}");
            assert_eq!(parse_or_zero(text), Err(DurationError::Negative(text.to_owned())), "{text}");
        }
        for text in ["9223372036854775808ns", "2562048h", "99999999999999999999999999999999999999999999s"] {
            assert_eq!(parse(text), Err(DurationError::TooLong(text.to_owned())), "{text}");
        }
    }
}
