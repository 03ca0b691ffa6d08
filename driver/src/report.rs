//! Errors for people: the chain printed once, hints apart.

use std::error::Error;

/// `error` and its sources joined by `: `, each said once.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        // Some libraries print their source in their own text (kube, hyper): it is not said twice.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to reach pod kube0")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("failed to dial")]
    struct Inner(#[source] std::io::Error);

    #[test]
    fn a_chain_says_each_cause_once() {
        let error = Outer(Inner(std::io::Error::other("failed to dial")));
        assert_eq!(chain(&error), "failed to reach pod kube0: failed to dial");
        let error = Outer(Inner(std::io::Error::other("refused")));
        assert_eq!(chain(&error), "failed to reach pod kube0: failed to dial: refused");
    }
}
