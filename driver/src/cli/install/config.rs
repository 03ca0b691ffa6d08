//! One directory in docker's config.json, put there and taken away without touching anything else: pure.
//!
//! docker and people write this file, so that order, spacing and numbers stay what they are: only the bytes of the list
//! change.

use std::ops::Range;

use buildfleet_shim::docker::EXTRA_DIRS;
use serde::de::IgnoredAny;
use serde_json::Deserializer;

/// A list or an object, by the places of its brackets and of what it holds.
#[derive(Debug)]
struct Container {
    open: usize,
    items: Vec<Range<usize>>,
    close: usize,
}

/// The file that has nothing but this directory.
pub(super) fn fresh(dir: &str) -> String {
    put_first("{}\n", dir).unwrap_or_default()
}

/// `dir` is the first of docker's extra directories. `None` when the text is no object, or the list no list.
pub(super) fn put_first(text: &str, dir: &str) -> Option<String> {
    if is_first(text, dir) {
        return Some(text.to_owned());
    }
    let without = take_out(text, dir)?;
    let text = without.as_deref().unwrap_or(text);
    let dir = serde_json::to_string(dir).ok()?;
    let object = container(text, 0, '{')?;
    let lead = lead(text, &object);
    let unit = lead.rsplit_once('\n').map_or("", |(_, indent)| indent);
    let Some(value) = list(text, &object) else {
        let entry = format!("{lead}\"{EXTRA_DIRS}\": [{lead}{unit}{dir}{lead}]");
        return Some(if object.items.is_empty() {
            format!("{}{entry}\n{}", &text[..=object.open], &text[object.close..])
        } else {
            format!("{}{entry},{}", &text[..=object.open], &text[object.open + 1..])
        });
    };
    if &text[value.clone()] == "null" {
        return Some(format!("{}[{dir}]{}", &text[..value.start], &text[value.end..]));
    }
    let dirs = container(text, value.start, '[')?;
    let comma = if dirs.items.is_empty() { "" } else { "," };
    let lead = dirs.items.first().map_or("", |first| &text[dirs.open + 1..first.start]);
    Some(format!("{}{lead}{dir}{comma}{}", &text[..=dirs.open], &text[dirs.open + 1..]))
}

/// `dir` is none of docker's extra directories; the list goes when it was the only one. The inner `None`: it was none.
pub(super) fn take_out(text: &str, dir: &str) -> Option<Option<String>> {
    let object = container(text, 0, '{')?;
    let Some(value) = list(text, &object).filter(|value| &text[value.clone()] != "null") else { return Some(None) };
    let dirs = container(text, value.start, '[')?;
    let Some(at) = dirs.items.iter().position(|item| is_it(text, item, dir)) else { return Some(None) };
    if dirs.items.len() > 1 {
        return Some(Some(cut(text, &dirs, at)));
    }
    let member = object.items.iter().position(|member| member.end == value.end)?;
    Some(Some(cut(text, &object, member)))
}

fn is_first(text: &str, dir: &str) -> bool {
    let dirs = container(text, 0, '{').and_then(|object| container(text, list(text, &object)?.start, '['));
    dirs.is_some_and(|dirs| dirs.items.first().is_some_and(|first| is_it(text, first, dir)))
}

fn is_it(text: &str, item: &Range<usize>, dir: &str) -> bool {
    serde_json::from_str::<String>(&text[item.clone()]).is_ok_and(|it| it == dir)
}

/// What stands before the first member, which is how the file is indented; docker's own way when it has none.
fn lead<'a>(text: &'a str, object: &Container) -> &'a str {
    object.items.first().map_or("\n\t", |first| &text[object.open + 1..first.start])
}

/// The value of docker's list.
fn list(text: &str, object: &Container) -> Option<Range<usize>> {
    object.items.iter().find_map(|member| {
        let end = value_end(text, member.start)?;
        let key: String = serde_json::from_str(&text[member.start..end]).ok()?;
        let colon = end + text[end..].find(':')?;
        // As docker reads it: names in any case.
        key.eq_ignore_ascii_case(EXTRA_DIRS).then(|| skip_space(text, colon + 1)..member.end)
    })
}

/// Without one item, and without the comma that parts it from the next.
fn cut(text: &str, container: &Container, at: usize) -> String {
    let items = &container.items;
    // Between two items there is nothing but space and a comma.
    let gone = match (at, at + 1 < items.len()) {
        (0, false) => container.open + 1..container.close,
        (0, true) => container.open + 1..skip_space(text, items[0].end) + 1,
        (at, true) => skip_space(text, items[at - 1].end) + 1..skip_space(text, items[at].end) + 1,
        (at, false) => skip_space(text, items[at - 1].end)..items[at].end,
    };
    format!("{}{}", &text[..gone.start], &text[gone.end..])
}

/// The container that begins at or after `at`.
fn container(text: &str, at: usize, bracket: char) -> Option<Container> {
    let open = skip_space(text, at);
    if !text[open..].starts_with(bracket) {
        return None;
    }
    let (is_object, closing) = (bracket == '{', if bracket == '{' { '}' } else { ']' });
    let mut items = Vec::new();
    let mut next = skip_space(text, open + 1);
    while !text[next..].starts_with(closing) {
        let mut end = value_end(text, next)?;
        if is_object {
            let colon = skip_space(text, end);
            end = value_end(text, skip_space(text, colon + 1))?;
        }
        items.push(next..end);
        next = skip_space(text, end);
        if text[next..].starts_with(',') {
            next = skip_space(text, next + 1);
        }
    }
    Some(Container { open, items, close: next })
}

/// Where the value that begins at `at` ends.
fn value_end(text: &str, at: usize) -> Option<usize> {
    let mut values = Deserializer::from_str(text.get(at..)?).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(at + values.byte_offset())
}

fn skip_space(text: &str, at: usize) -> usize {
    at + text[at..].len() - text[at..].trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: &str = "/home/u/.docker/buildfleet/cli-plugins";

    #[test]
    fn a_directory_is_put_first_and_nothing_else_changes() {
        let docker_s = "{\n\t\"auths\": {\n\t\t\"r\": {}\n\t},\n\t\"number\": 1.0\n}";
        for (text, wanted) in [
            ("{}", "{\n\t\"cliPluginsExtraDirs\": [\n\t\t\"D\"\n\t]\n}"),
            (
                docker_s,
                "{\n\t\"cliPluginsExtraDirs\": [\n\t\t\"D\"\n\t],\n\t\"auths\": {\n\t\t\"r\": {}\n\t},\n\t\"number\": 1.0\n}",
            ),
            (
                "{\n  \"b\": 1,\n  \"a\": 2\n}\n",
                "{\n  \"cliPluginsExtraDirs\": [\n    \"D\"\n  ],\n  \"b\": 1,\n  \"a\": 2\n}\n",
            ),
            (r#"{"a":[1,{}],"b":"}"}"#, r#"{"cliPluginsExtraDirs": ["D"],"a":[1,{}],"b":"}"}"#),
            (r#"{"cliPluginsExtraDirs": []}"#, r#"{"cliPluginsExtraDirs": ["D"]}"#),
            (r#"{"cliPluginsExtraDirs": ["/a"], "b": 1}"#, r#"{"cliPluginsExtraDirs": ["D","/a"], "b": 1}"#),
            (
                "{\n\t\"cliPluginsExtraDirs\": [\n\t\t\"/a\",\n\t\t\"/b\"\n\t]\n}",
                "{\n\t\"cliPluginsExtraDirs\": [\n\t\t\"D\",\n\t\t\"/a\",\n\t\t\"/b\"\n\t]\n}",
            ),
        ] {
            let put = put_first(text, DIR).expect("it is an object");
            assert_eq!(
                put,
                wanted.replace('D', DIR).replace(&format!("cliPluginsExtra{DIR}irs"), EXTRA_DIRS),
                "{text}"
            );
            // Once more changes nothing, and taking it out gives back what was.
            assert_eq!(put_first(&put, DIR).as_deref(), Some(put.as_str()));
            let gone = take_out(&put, DIR).expect("an object").expect("it is there");
            let emptied = text == r#"{"cliPluginsExtraDirs": []}"#;
            assert_eq!(gone, if emptied { "{}" } else { text });
        }
    }

    #[test]
    fn one_that_is_not_first_becomes_it() {
        let text = format!(r#"{{"a": 1, "CliPluginsExtraDirs": ["/a", "{DIR}", "/b"]}}"#);
        let put = put_first(&text, DIR).expect("it is an object");
        assert_eq!(put, format!(r#"{{"a": 1, "CliPluginsExtraDirs": ["{DIR}","/a", "/b"]}}"#));
    }

    #[test]
    fn taking_out_takes_one() {
        for (text, wanted) in [
            (r#"{"cliPluginsExtraDirs": ["/a", "D"]}"#, Some(r#"{"cliPluginsExtraDirs": ["/a"]}"#)),
            (r#"{"a": 1, "cliPluginsExtraDirs": ["D"]}"#, Some(r#"{"a": 1}"#)),
            (r#"{"a": 1, "cliPluginsExtraDirs": ["D"], "b": 2}"#, Some(r#"{"a": 1, "b": 2}"#)),
            (r#"{"cliPluginsExtraDirs": ["/a"]}"#, None),
            (r#"{"cliPluginsExtraDirs": null}"#, None),
            ("{}", None),
        ] {
            let place = |text: &str| text.replace("\"D\"", &format!("{DIR:?}"));
            assert_eq!(take_out(&place(text), DIR), Some(wanted.map(place)), "{text}");
        }
    }

    #[test]
    fn null_is_no_list_yet() {
        assert_eq!(
            put_first(r#"{"cliPluginsExtraDirs": null}"#, "/d").as_deref(),
            Some(r#"{"cliPluginsExtraDirs": ["/d"]}"#)
        );
    }

    #[test]
    fn what_is_no_object_is_not_changed() {
        for text in ["", "[]", "{", r#"{"a"}"#, r#"{"cliPluginsExtraDirs": 1}"#] {
            assert_eq!(put_first(text, DIR), None, "{text}");
        }
    }

    #[test]
    fn a_new_file_has_nothing_else() {
        assert_eq!(fresh("/d"), "{\n\t\"cliPluginsExtraDirs\": [\n\t\t\"/d\"\n\t]\n}\n");
    }
}
