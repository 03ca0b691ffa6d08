//! Kubernetes quantities, kept in the user's spelling and compared exactly.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Why a quantity was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("`{0}` is no quantity")]
    Form(String),
    #[error("`{text}` has the unknown suffix `{suffix}`")]
    Suffix { text: String, suffix: String },
    #[error("`{0}` is too large")]
    TooLarge(String),
    #[error("`{0}` is negative")]
    Negative(String),
}

/// An amount of CPU or memory, as Kubernetes reads it (`resource.ParseQuantity`), not negative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    nanos: Nanos,
}

impl Quantity {
    /// Whether it is more than `other`, however the two are spelled.
    pub fn exceeds(&self, other: &Self) -> bool {
        self.nanos > other.nanos
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos.0.is_empty()
    }

    /// Whether it is something, but less than one whole unit.
    pub fn is_fraction_of_one(&self) -> bool {
        !self.nanos.0.is_empty() && self.nanos.0.len() <= NANO_PLACES
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Kubernetes keeps nine decimal places.
const NANO_PLACES: usize = 9;

/// Kubernetes caps quantities with a binary suffix at 2^63-1.
const BINARY_CAP: &str = "9223372036854775807000000000";

/// Larger exponents than those of `1e30` are slips of the keyboard, and would only cost memory here.
const EXPONENT_MAX: i64 = 30;

/// A number of billionths as decimal digits without leading zeros; nothing is zero. Digits, because quantities may be longer
/// than any integer type.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Nanos(Vec<u8>);

impl PartialOrd for Nanos {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Nanos {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl Nanos {
    /// `digits`, of which the last `places` are decimal places, times 2^`doublings` and 10^`exponent`; rounded up to
    /// billionths, as Kubernetes does it.
    fn new(digits: &str, places: usize, doublings: u32, exponent: i64) -> Self {
        let mut number: Vec<u8> = digits.bytes().map(|digit| digit - b'0').collect();
        for _ in 0..doublings {
            double(&mut number);
        }
        let shift = exponent + NANO_PLACES as i64 - places as i64;
        if let Ok(zeros) = usize::try_from(shift) {
            number.resize(number.len() + zeros, 0);
        } else {
            let dropped = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX).min(number.len());
            let rest = number.split_off(number.len() - dropped);
            if rest.iter().any(|digit| *digit != 0) {
                increment(&mut number);
            }
        }
        let zeros = number.iter().take_while(|digit| **digit == 0).count();
        Self(number.split_off(zeros))
    }
}

/// Twice the decimal number.
fn double(number: &mut Vec<u8>) {
    let mut carry = 0;
    for digit in number.iter_mut().rev() {
        let sum = *digit * 2 + carry;
        (*digit, carry) = (sum % 10, sum / 10);
    }
    if carry > 0 {
        number.insert(0, carry);
    }
}

/// One more than the decimal number.
fn increment(number: &mut Vec<u8>) {
    for digit in number.iter_mut().rev() {
        if *digit < 9 {
            *digit += 1;
            return;
        }
        *digit = 0;
    }
    number.insert(0, 1);
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, after) = digits(unsigned);
        let (fraction, suffix) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        // Kubernetes takes a suffix or a sign alone for nothing (`k` is 0): nobody means that.
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Form(text.to_owned()));
        }
        let (doublings, exponent) =
            scale(suffix).ok_or_else(|| QuantityError::Suffix { text: text.to_owned(), suffix: suffix.to_owned() })?;
        if exponent.abs() > EXPONENT_MAX {
            return Err(QuantityError::TooLarge(text.to_owned()));
        }
        let mut nanos = Nanos::new(&format!("{whole}{fraction}"), fraction.len(), doublings, exponent);
        if doublings > 0 {
            nanos = nanos.min(Nanos::new(BINARY_CAP, 0, 0, -(NANO_PLACES as i64)));
        }
        if text.starts_with('-') && !nanos.0.is_empty() {
            return Err(QuantityError::Negative(text.to_owned()));
        }
        Ok(Self { text: text.to_owned(), nanos })
    }
}

/// What a suffix stands for: a power of two and a power of ten.
fn scale(suffix: &str) -> Option<(u32, i64)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        other => (0, other.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

/// The digits at the start of `text`, and the rest.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn quantities_keep_their_spelling() {
        for text in [
            "0", "00", "-0", "+1", "500m", "2", "1.5", ".5", "1.", "1.G", "512Mi", "10Gi", "1e3", "1E3", "1E", "12e-1",
            "1e+3", "3u",
        ] {
            assert_eq!(quantity(text).to_string(), text);
        }
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        for text in ["", "+", "-", ".", "k", "Mi", "-Gi", "aoeu", " 1", "mi", "e3"] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Form(text.to_owned())), "{text}");
        }
        for (text, suffix) in [
            ("1mi", "mi"),
            ("1i", "i"),
            ("1K", "K"),
            ("1g", "g"),
            ("1GB", "GB"),
            ("1 ", " "),
            ("1 Gi", " Gi"),
            ("1.1.M", ".M"),
            ("1+1", "+1"),
            ("1-", "-"),
            ("1e", "e"),
            ("1e3.", "e3."),
            ("1Ki5", "Ki5"),
            ("1e3k", "e3k"),
            ("1,5", ",5"),
            ("0x10", "x10"),
        ] {
            let wanted = QuantityError::Suffix { text: text.to_owned(), suffix: suffix.to_owned() };
            assert_eq!(text.parse::<Quantity>(), Err(wanted), "{text}");
        }
        for text in ["-1", "-500m", "-0.1Gi", "-1n"] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Negative(text.to_owned())), "{text}");
        }
        for text in ["1e31", "1e-31", "1e999999999999"] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError::TooLarge(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn quantities_are_compared_by_value_and_exactly() {
        let rising = [
            "0",
            "1n",
            "0.000000002",
            "1m",
            "0.5",
            "999m",
            "1",
            "1.000000001",
            "1001m",
            "1023",
            "1Ki",
            "1.1k",
            "1M",
            "1000Ki",
            "1Mi",
            "512Mi",
            "0.5000001Gi",
            "1G",
            "1023Mi",
            "1Gi",
            "1E",
            "1Ei",
            "9223372036854775806",
            "9Ei",
            "9223372036854775808",
            "1e30",
        ];
        for (i, low) in rising.iter().enumerate() {
            for (j, high) in rising.iter().enumerate() {
                assert_eq!(quantity(high).exceeds(&quantity(low)), j > i, "{high} > {low}");
            }
        }
        for (one, other) in
            [("1", "1000m"), ("1Gi", "1024Mi"), ("1.5", "15e-1"), ("1E", "1000P"), ("8Ei", "9Ei"), ("0.1n", "1n")]
        {
            assert_eq!(quantity(one).nanos, quantity(other).nanos, "{one} = {other}");
        }
    }

    #[test]
    fn less_than_one_byte_is_told_from_bytes() {
        for (text, fraction) in
            [("0", false), ("512m", true), ("0.9", true), ("1", false), ("1000m", false), ("512Mi", false)]
        {
            assert_eq!(quantity(text).is_fraction_of_one(), fraction, "{text}");
        }
    }
}
