//! Lists of pairs: labels, annotations, environment variables.

use std::collections::BTreeMap;

use super::label;
use super::value::ValueError;

/// What is kept for ourselves: the version of a certificate, the owner of a builder and the like.
const OURS: &str = "buildfleet.internal/";

/// The annotation in which buildx keeps the platforms of a node.
pub(crate) const PLATFORM_ANNOTATION: &str = "buildx.docker.com/platform";

/// The label that selects a node's pods, as in buildx.
pub(crate) const APP_LABEL: &str = "app";

/// The label that says whose object it is.
const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// `key=value` pairs between commas, each cut at its first `=`; quotes around the whole list are dropped, as in buildx.
fn pairs(
    text: &str,
    check: impl Fn(&str, &str) -> Result<(), ValueError>,
) -> Result<BTreeMap<String, String>, ValueError> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or_else(|| ValueError::Pair(pair.to_owned()))?;
        check(key, value).map(|()| (key.to_owned(), value.to_owned()))
    };
    text.trim_matches('"').split(',').map(pair).collect()
}

/// Labels that a machine has to have.
pub(super) fn selector(text: &str) -> Result<BTreeMap<String, String>, ValueError> {
    pairs(text, label_pair)
}

/// Labels of our objects.
pub(super) fn labels(text: &str) -> Result<BTreeMap<String, String>, ValueError> {
    pairs(text, |key, value| {
        label_pair(key, value)?;
        if is_reserved_label(key) { Err(ValueError::Reserved("label", key.to_owned())) } else { Ok(()) }
    })
}

/// Annotations of our objects.
pub(super) fn annotations(text: &str) -> Result<BTreeMap<String, String>, ValueError> {
    pairs(text, annotation)
}

/// Adds one annotation.
pub(super) fn add_annotation(to: &mut BTreeMap<String, String>, key: &str, value: &str) -> Result<(), ValueError> {
    annotation(key, value)?;
    to.insert(key.to_owned(), value.to_owned());
    Ok(())
}

/// Adds an environment variable.
pub(super) fn add_variable(to: &mut BTreeMap<String, String>, name: &str, value: &str) -> Result<(), ValueError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(inner) {
        return Err(ValueError::Variable(name.to_owned()));
    }
    no_null(value)?;
    to.insert(name.to_owned(), value.to_owned());
    Ok(())
}

fn label_pair(key: &str, value: &str) -> Result<(), ValueError> {
    label::key("label key", key).map_err(ValueError::inner)?;
    label::value(value).map_err(ValueError::inner)
}

fn annotation(key: &str, value: &str) -> Result<(), ValueError> {
    label::key("annotation key", key).map_err(ValueError::inner)?;
    if is_reserved_annotation(key) {
        return Err(ValueError::Reserved("annotation", key.to_owned()));
    }
    no_null(value)
}

/// Whether a label's value is ours to choose.
pub(super) fn is_reserved_label(key: &str) -> bool {
    key == APP_LABEL || key == MANAGED_BY_LABEL || key.starts_with(OURS)
}

/// Whether an annotation's value is ours to choose.
pub(super) fn is_reserved_annotation(key: &str) -> bool {
    key == PLATFORM_ANNOTATION || key.starts_with(OURS)
}

fn no_null(value: &str) -> Result<(), ValueError> {
    if value.contains('\0') { Err(ValueError::Null) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn pairs_of_a_selector_are_labels() {
        let wanted = map(&[("a", "b"), ("c.io/d", "")]);
        for text in ["a=b,c.io/d=", "\"a=b,c.io/d=\"", "a=x,c.io/d=,a=b"] {
            assert_eq!(selector(text), Ok(wanted.clone()), "{text}");
        }
        for text in ["", "a", "a=b,", ",a=b"] {
            assert!(matches!(selector(text), Err(ValueError::Pair(_))), "{text}");
        }
        for text in ["=b", "a=b, c=d", "a b=c", "a=b/c", "a=\"b\"x", "a=b=c", "a=b;c=d=e"] {
            assert!(matches!(selector(text), Err(ValueError::Inner(_))), "{text}");
        }
        assert_eq!(selector("app=x"), Ok(map(&[("app", "x")])), "that of a machine is not ours");
    }

    #[test]
    fn annotations_hold_any_text_and_are_cut_at_the_first_equals_sign() {
        for (text, wanted) in [
            ("a=b=c", &[("a", "b=c")][..]),
            ("a=https://r.example/?q=1&r=,b=c2Vj==", &[("a", "https://r.example/?q=1&r="), ("b", "c2Vj==")]),
            ("a={\"b\":1}", &[("a", "{\"b\":1}")]),
            ("a= b ", &[("a", " b ")]),
        ] {
            assert_eq!(annotations(text), Ok(map(wanted)), "{text}");
        }
        let mut to = map(&[("a", "old")]);
        add_annotation(&mut to, "a", "x,y=z;\"q\"").unwrap();
        assert_eq!(to, map(&[("a", "x,y=z;\"q\"")]));
    }

    #[test]
    fn what_is_ours_cannot_be_given() {
        for key in ["app", "app.kubernetes.io/managed-by", "buildfleet.internal/owner"] {
            let error = labels(&format!("a=b,{key}=c")).unwrap_err();
            assert_eq!(error, ValueError::Reserved("label", key.to_owned()));
            assert!(error.to_string().contains(key), "{error}");
        }
        for key in ["buildx.docker.com/platform", "buildfleet.internal/not-after"] {
            let wanted = Err(ValueError::Reserved("annotation", key.to_owned()));
            assert_eq!(annotations(&format!("{key}=c")), wanted.clone().map(|()| BTreeMap::new()));
            assert_eq!(add_annotation(&mut BTreeMap::new(), key, "c"), wanted);
        }
        for text in ["apps=x", "app.kubernetes.io/part-of=ci", "team=a"] {
            assert!(labels(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn variables_have_names_that_every_kubernetes_takes() {
        for name in ["HTTP_PROXY", "_a", "a.b-c", "A1"] {
            assert_eq!(add_variable(&mut BTreeMap::new(), name, "http://p.example:1?a=b,c"), Ok(()), "{name}");
        }
        for name in ["", "1A", "A B", "A/B", "ä"] {
            let wanted = Err(ValueError::Variable(name.to_owned()));
            assert_eq!(add_variable(&mut BTreeMap::new(), name, ""), wanted, "{name}");
        }
        assert_eq!(add_variable(&mut BTreeMap::new(), "A", "a\0b"), Err(ValueError::Null));
    }
}
