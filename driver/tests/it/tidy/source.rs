//! Rust text with its comments and literals told apart from its code, so that a rule looks only where it means to.

/// One file, as rules see it.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the workspace's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with comments, strings and characters blanked out; same lines.
    pub(crate) code: String,
    /// The same with comments left in.
    pub(crate) said: String,
}

impl Source {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let (code, said) = if path.ends_with(".rs") { blanked(&text) } else { (text.clone(), text.clone()) };
        Self { path, text, code, said }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn is_generated(&self) -> bool {
        self.path.contains("/src/generated/")
    }

    /// Whether the whole file is test or example code.
    pub(crate) fn is_test(&self) -> bool {
        let rest = self.path.strip_prefix("driver/src/");
        rest.is_none_or(|rest| rest.ends_with("/tests.rs") || rest.contains("/tests/") || rest.ends_with("_tests.rs"))
    }

    /// The part of the code that ships: up to the test module, which stands last.
    pub(crate) fn shipped(&self) -> &str {
        let is_test_module = |at: &usize| {
            let rest = self.code[*at..].lines().skip(1);
            let item = rest.map(str::trim).find(|line| !line.starts_with("#["));
            item.is_some_and(|item| item.starts_with("mod ") || item.starts_with("pub(crate) mod "))
        };
        let end = self.code.match_indices("#[cfg(test)]").map(|(at, _)| at).find(is_test_module);
        if self.is_test() { "" } else { &self.code[..end.unwrap_or(self.code.len())] }
    }

    /// `proxy/session` for `driver/src/proxy/session.rs`; `None` outside of the library.
    pub(crate) fn module(&self) -> Option<Vec<&str>> {
        let path = self.path.strip_prefix("driver/src/")?.strip_suffix(".rs")?;
        Some(path.split('/').collect())
    }
}

/// The line, from one, in which `at` lies.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Every place where `needle` stands in `code` as words of their own.
pub(crate) fn words<'a>(code: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_word = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(needle).map(|(at, _)| at).filter(move |at| {
        let (before, after) = (&code[..*at], &code[at + needle.len()..]);
        let first = needle.chars().next();
        let last = needle.chars().last();
        let cut_before = part_of_word(first) && part_of_word(before.chars().last());
        let cut_after = part_of_word(last) && part_of_word(after.chars().next());
        !cut_before && !cut_after
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum In {
    Code,
    LineComment,
    BlockComment(usize),
    Text,
    RawText(usize),
}

/// The text without comments and literals, and the text without literals.
fn blanked(text: &str) -> (String, String) {
    let characters: Vec<char> = text.chars().collect();
    let (mut code, mut said) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    let mut state = In::Code;
    let mut at = 0;
    while at < characters.len() {
        let rest = &characters[at..];
        let (next, length) = step(state, rest, at.checked_sub(1).map(|before| characters[before]));
        for character in &rest[..length] {
            let blank = if *character == '\n' { '\n' } else { ' ' };
            let in_code = state == In::Code && next == In::Code && !is_character(rest, length);
            let in_comment = |state| matches!(state, In::LineComment | In::BlockComment(_));
            code.push(if in_code { *character } else { blank });
            said.push(if in_code || in_comment(state) || in_comment(next) { *character } else { blank });
        }
        state = next;
        at += length;
    }
    (code, said)
}

fn is_character(rest: &[char], length: usize) -> bool {
    length > 1 && rest[0] == '\''
}

/// What comes after the next token, and its length in characters.
fn step(state: In, rest: &[char], before: Option<char>) -> (In, usize) {
    let starts = |text: &str| text.chars().enumerate().all(|(at, character)| rest.get(at) == Some(&character));
    match state {
        In::Code if starts("//") => (In::LineComment, 2),
        In::Code if starts("/*") => (In::BlockComment(1), 2),
        In::Code if starts("\"") => (In::Text, 1),
        In::Code if starts("r") && before.is_none_or(|c| !(c.is_alphanumeric() || c == '_') || c == 'b') => {
            let hashes = rest[1..].iter().take_while(|character| **character == '#').count();
            let raw = rest.get(1 + hashes) == Some(&'"');
            if raw { (In::RawText(hashes), 2 + hashes) } else { (In::Code, 1) }
        }
        In::Code if starts("'\\") => {
            let end = rest.iter().skip(3).position(|character| *character == '\'');
            (In::Code, end.map_or(1, |end| end + 4))
        }
        // A lifetime has no second quote.
        In::Code if starts("'") && rest.get(2) == Some(&'\'') => (In::Code, 3),
        In::LineComment if starts("\n") => (In::Code, 1),
        In::BlockComment(depth) if starts("/*") => (In::BlockComment(depth + 1), 2),
        In::BlockComment(1) if starts("*/") => (In::Code, 2),
        In::BlockComment(depth) if starts("*/") => (In::BlockComment(depth - 1), 2),
        In::Text if starts("\\") => (In::Text, rest.len().min(2)),
        In::Text if starts("\"") => (In::Code, 1),
        In::RawText(hashes)
            if starts("\"") && rest[1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes =>
        {
            (In::Code, 1 + hashes)
        }
        other => (other, 1),
    }
}

#[test]
fn comments_and_literals_are_told_apart_from_code() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("x // y") + 1"#, "f(        ) + 1"),
        (r##"f(r#"a "b" c"#, 2)"##, "f(            , 2)"),
        (r"g('\'', 'x', &'static str)", "g(    ,    , &'static str)"),
        (r#"h("a\"b", c)"#, "h(      , c)"),
        ("for r in rest", "for r in rest"),
        (r#"b"x" + br"y""#, "b    + b    "),
    ] {
        assert_eq!(Source::new("x.rs", text).code, code, "{text}");
    }
    assert_eq!(Source::new("x.rs", "a(\"b\") // c").said, "a(   ) // c");
}

#[test]
fn a_test_module_at_the_end_is_no_shipped_code() {
    let text = "//! x\n#[cfg(test)]\nfn helper() {}\nfn a() {}\n#[cfg(test)]\n#[path = \"t.rs\"]\nmod tests;\n";
    let source = Source::new("driver/src/a.rs", text);
    assert!(source.shipped().contains("fn a()") && !source.shipped().contains("mod tests"), "{}", source.shipped());
    assert_eq!(Source::new("driver/src/fleet/tests.rs", "fn a() {}").shipped(), "");
    assert_eq!(Source::new("driver/tests/it/main.rs", "fn a() {}").shipped(), "");
}
