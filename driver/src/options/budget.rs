//! `poddisruptionbudget`: how many pods a drain of machines may take at a time.

use std::fmt;
use std::str::FromStr;

/// Why a budget was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    #[error("`{0}` is neither minAvailable=… nor maxUnavailable=…")]
    Form(String),
    #[error("`{0}` is neither a number of pods nor a percentage up to 100%")]
    Amount(String),
}

/// What evictions have to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    MinAvailable(Amount),
    MaxUnavailable(Amount),
}

/// A number of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    Pods(i32),
    /// Of the pods that are wanted.
    Percent(u8),
}

impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, BudgetError> {
        match text.split_once('=') {
            Some(("minAvailable", amount)) => amount.parse().map(Self::MinAvailable),
            Some(("maxUnavailable", amount)) => amount.parse().map(Self::MaxUnavailable),
            _ => Err(BudgetError::Form(text.to_owned())),
        }
    }
}

impl FromStr for Amount {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let wrong = || BudgetError::Amount(text.to_owned());
        let digits = text.strip_suffix('%').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong());
        }
        if digits.len() == text.len() {
            return digits.parse().map(Self::Pods).map_err(|_| wrong());
        }
        digits.parse().ok().filter(|percent| *percent <= 100).map(Self::Percent).ok_or_else(wrong)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinAvailable(amount) => write!(f, "minAvailable={amount}"),
            Self::MaxUnavailable(amount) => write!(f, "maxUnavailable={amount}"),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods(pods) => write!(f, "{pods}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_number_or_a_percentage_of_pods() {
        for (text, wanted) in [
            ("minAvailable=1", Budget::MinAvailable(Amount::Pods(1))),
            ("minAvailable=50%", Budget::MinAvailable(Amount::Percent(50))),
            ("maxUnavailable=0", Budget::MaxUnavailable(Amount::Pods(0))),
            ("maxUnavailable=100%", Budget::MaxUnavailable(Amount::Percent(100))),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
            assert_eq!(wanted.to_string(), text);
        }
        for text in ["", "1", "50%", "true", "minavailable=1", "min-available=1"] {
            assert_eq!(text.parse::<Budget>(), Err(BudgetError::Form(text.to_owned())), "{text}");
        }
        for amount in ["", "-1", "+1", "1.5", "%", "101%", "300%", "1%%", " 1", "99999999999"] {
            let text = format!("minAvailable={amount}");
            assert_eq!(text.parse::<Budget>(), Err(BudgetError::Amount(amount.to_owned())), "{text}");
        }
    }
}
