//! A guide as its reader sees it: the commands of its `console` blocks, and what it says that they print.

/// What a guide leaves out of a line or between lines.
const LEFT_OUT: &str = "…";

/// A comment at the end of a command that is shown because it does not work.
const FAILS: &str = "# fails";

/// One command of a guide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// Where it stands in the page, from 1.
    pub(super) line: usize,
    /// Who types it, where that is not the reader.
    pub(super) person: Option<String>,
    pub(super) text: String,
    pub(super) fails: bool,
    /// Nothing: it may print what it likes.
    pub(super) shown: Vec<String>,
}

/// The commands of a page in their order. What a reader could take for a command and no test would run is an error.
pub(super) fn commands(page: &str) -> Result<Vec<Command>, String> {
    let mut commands: Vec<Command> = Vec::new();
    let mut fence: Option<(&str, usize)> = None;
    for (line, text) in (1..).zip(page.lines()) {
        match (fence, text.strip_prefix("```")) {
            (None, None) => {}
            (None, Some("yaml")) => fence = Some(("yaml", commands.len())),
            (None, Some(info)) if info.split(' ').next() == Some("console") => fence = Some((info, commands.len())),
            (None, Some(info)) => return Err(format!("line {line}: blocks are `console` or `yaml`, not `{info}`")),
            (Some((info, before)), Some("")) => {
                if info != "yaml" && commands.len() == before {
                    return Err(format!("line {line}: this block has no line that begins with `$ `"));
                }
                fence = None;
            }
            (Some(_), Some(_)) => return Err(format!("line {line}: the block before is not closed")),
            (Some(("yaml", _)), None) => {}
            (Some((info, before)), None) => match text.strip_prefix("$ ") {
                Some(text) => commands.push(Command {
                    line,
                    person: info.split_once(' ').map(|(_, person)| person.to_owned()),
                    text: text.to_owned(),
                    fails: text.contains(FAILS),
                    shown: Vec::new(),
                }),
                None if commands.len() == before => return Err(format!("line {line}: nothing prints this")),
                None => {
                    let command = commands.last_mut().expect("this block has one");
                    match text.strip_prefix("> ").or((text == ">").then_some("")) {
                        Some(more) if command.shown.is_empty() => command.text += &format!("\n{more}"),
                        _ => command.shown.push(text.to_owned()),
                    }
                }
            },
        }
    }
    if fence.is_some() {
        return Err("the last block is not closed".to_owned());
    }
    Ok(commands)
}

/// Whether a program printed what the guide shows. How columns are aligned does not matter, names are as long as they are.
pub(super) fn is_what_was_said(shown: &[String], said: &str) -> bool {
    let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut said: Vec<String> = said.lines().map(squeeze).collect();
    while said.last().is_some_and(String::is_empty) {
        said.pop();
    }
    let shown: Vec<String> = shown.iter().map(|line| squeeze(line)).collect();
    shown.is_empty() || lines_match(&shown, &said)
}

fn lines_match(shown: &[String], said: &[String]) -> bool {
    match shown.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first == LEFT_OUT => (0..=said.len()).any(|skipped| lines_match(rest, &said[skipped..])),
        Some((first, rest)) => {
            said.split_first().is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others))
        }
    }
}

fn line_matches(shown: &str, said: &str) -> bool {
    let Some((start, rest)) = shown.split_once(LEFT_OUT) else { return shown == said };
    let Some(mut left) = said.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split(LEFT_OUT).collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(end)
}

#[test]
fn a_page_is_its_commands() {
    let page = "# Title\n\n```console\n$ cat >x <<'END'\n> one\n>\n> END\n$ ls   # fails\nx\n…\n```\n\n```console bob\n$ id\n```\n```yaml\na: 1\n```\n";
    let commands = commands(page).expect("a good page");
    let texts: Vec<_> = commands.iter().map(|command| (command.line, command.text.as_str(), command.fails)).collect();
    assert_eq!(texts, [(4, "cat >x <<'END'\none\n\nEND", false), (8, "ls   # fails", true), (14, "id", false)]);
    assert_eq!(commands[1].shown, ["x", "…"]);
    assert_eq!(commands[2].person.as_deref(), Some("bob"));
}

#[test]
fn nothing_of_a_page_is_passed_over() {
    for (page, why) in [
        ("```sh\nls\n```\n", "line 1: blocks are"),
        ("```\nls\n```\n", "line 1: blocks are"),
        ("```console\nls\n```\n", "line 2: nothing prints this"),
        ("```console\n```\n", "line 2: this block has no line"),
        ("```console\n$ ls\n```\n```console\nx\n```\n", "line 5: nothing prints this"),
        ("```console\n$ ls\n", "the last block is not closed"),
    ] {
        let error = commands(page).expect_err(page);
        assert!(error.starts_with(why), "{page:?}: {error}");
    }
}

#[test]
fn what_is_shown_is_compared_but_for_what_is_left_out() {
    for (shown, said, same) in [
        ("", "anything", true),
        ("a", "a\n\n", true),
        ("a", "b", false),
        ("a", "a\nb", false),
        ("NAME  X", "NAME      X", true),
        ("a…c", "abc", true),
        ("a…c", "abd", false),
        ("…b…", "abc", true),
        ("a…a", "a", false),
        ("…\nz", "x\ny\nz", true),
        ("…", "", true),
        ("a\n…\nd", "a\nd", true),
        ("a\n…\nd", "a\nb\nc", false),
    ] {
        let lines: Vec<String> = shown.lines().map(str::to_owned).collect();
        assert_eq!(is_what_was_said(&lines, said), same, "{shown:?} and {said:?}");
    }
}
