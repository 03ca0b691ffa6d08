//! The essential part of what schedulers, kubelets and registries say.

/// The longest message that is shown; the rest can be read in the cluster.
const MESSAGE_MAX: usize = 400;
const LOG_LINE_MAX: usize = 300;
const CRASH_LINES: usize = 10;

/// `0/2 nodes are available: 1 Insufficient cpu. preemption: …`: the first sentence has the reasons.
pub(super) fn scheduler(message: &str) -> String {
    let end = [". preemption:", ". no new claims to deallocate", ", preemption:", ", no new claims to deallocate"];
    let end = end.iter().filter_map(|marker| message.find(marker)).min().unwrap_or(message.len());
    shortened(message[..end].trim_end_matches('.'), MESSAGE_MAX)
}

/// Why an image could not be pulled, in the registry's words: without the layers of "failed to pull and unpack image"
/// around them. Empty when the message tells only that there is a pause.
pub(super) fn pull(message: &str, image: &str) -> String {
    let mut rest = message.trim();
    loop {
        let before = rest;
        for prefix in ["ErrImagePull: ", "Error: ErrImagePull", "Error: ImagePullBackOff", "rpc error: "] {
            rest = rest.strip_prefix(prefix).unwrap_or(rest);
        }
        for prefix in [
            "Back-off pulling image",
            "Failed to pull image",
            "Failed to apply default image tag",
            "failed to pull and unpack image",
            "failed to resolve reference",
            "failed to resolve image",
            "failed to copy",
            "failed to do request",
        ] {
            if let Some(after) = rest.strip_prefix(prefix) {
                rest = after_name(after);
            }
        }
        if rest.starts_with("code = ")
            && let Some((_, desc)) = rest.split_once("desc = ")
        {
            rest = desc;
        }
        // The reference once more, as containerd spells it.
        if let Some((name, after)) = rest.split_once(": ")
            && (name == image || (name.ends_with(image) && name.contains('/')) || is_spelling_of(name, image))
        {
            rest = after;
        }
        if rest == before {
            break;
        }
    }
    shortened(rest, MESSAGE_MAX)
}

/// What follows the `: ` after the quoted or bare word at the start; nothing when there is only that word.
fn after_name(text: &str) -> &str {
    let text = text.trim_start();
    let rest = match text.strip_prefix('"').and_then(|text| text.split_once('"')) {
        Some((_, rest)) => rest,
        None if text.starts_with(": ") => text,
        None => text.find(": ").map_or("", |at| &text[at..]),
    };
    rest.strip_prefix(": ").map_or(rest.trim_start(), str::trim_start)
}

fn is_spelling_of(name: &str, image: &str) -> bool {
    name.strip_prefix("docker.io/library/").or_else(|| name.strip_prefix("docker.io/")) == Some(image)
}

/// A container runtime's or a volume's error: the cause stands at its end.
pub(super) fn runtime(message: &str) -> String {
    let message = message.trim();
    let message = message.strip_prefix("Error: ").unwrap_or(message);
    let message = message.split_once("desc = ").map_or(message, |(_, desc)| desc);
    shortened(message, MESSAGE_MAX)
}

/// The first word in double quotes.
pub(super) fn quoted(message: &str) -> Option<&str> {
    message.split('"').nth(1).filter(|word| !word.is_empty())
}

/// `Successfully pulled image "x" in 3.214s (3.3s including waiting). …` took `3.2s`.
pub(super) fn pulled_in(message: &str) -> Option<String> {
    let (_, rest) = message.strip_prefix("Successfully pulled image")?.rsplit_once("\" in ")?;
    let took = rest.split_whitespace().next()?;
    let Some((whole, fraction)) = took.split_once('.') else { return Some(took.to_owned()) };
    let unit = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    Some(format!("{whole}.{}{unit}", fraction.get(..1)?))
}

pub(super) fn log_line(line: &str) -> String {
    shortened(line.trim_end(), LOG_LINE_MAX)
}

/// One line of at most `max` characters.
fn shortened(text: &str, max: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{} …", text[..at].trim_end()),
        None => text,
    }
}

/// The last lines of a container that failed, without the usage that its program may have printed around its error.
///
/// The usage is what is indented after a heading in capitals. It goes to the standard output and the error to the standard
/// error, and a container runtime mixes the two as it likes: a line of the error in its midst does not end it.
pub(super) fn crash_output(text: &str) -> String {
    let mut usage_began = false;
    let mut told: Vec<&str> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let heading =
            line.strip_suffix(':').is_some_and(|title| title.bytes().all(|b| b.is_ascii_uppercase() || b == b' '));
        usage_began |= heading;
        let usage = heading || usage_began && line.starts_with([' ', '\t']);
        if !usage && told.last() != Some(&line) {
            told.push(line);
        }
    }
    told[told.len().saturating_sub(CRASH_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_pull_is_told_in_the_words_of_the_registry() {
        for (message, image, told) in [
            (
                "rpc error: code = NotFound desc = failed to pull and unpack image \"docker.io/x/y:z\": failed to resolve \
                 reference \"docker.io/x/y:z\": docker.io/x/y:z: not found",
                "x/y:z",
                "not found",
            ),
            (
                "Back-off pulling image \"reg:5000/a:1\": ErrImagePull: rpc error: code = Unknown desc = failed to pull and \
                 unpack image \"reg:5000/a:1\": failed to resolve reference \"reg:5000/a:1\": failed to do request: Head \
                 \"https://reg:5000/v2/a/manifests/1\": dial tcp: lookup reg: no such host",
                "reg:5000/a:1",
                "Head \"https://reg:5000/v2/a/manifests/1\": dial tcp: lookup reg: no such host",
            ),
            (
                "Failed to pull image \"nope:1\": failed to pull and unpack image \"docker.io/library/nope:1\": failed to \
                 resolve reference \"docker.io/library/nope:1\": pull access denied, repository does not exist or may \
                 require authorization: server message: insufficient_scope: authorization failed",
                "nope:1",
                "pull access denied, repository does not exist or may require authorization: server message: \
                 insufficient_scope: authorization failed",
            ),
            (
                "Failed to apply default image tag \"A B\": couldn't parse image name",
                "A B",
                "couldn't parse image name",
            ),
            (
                "unexpected status from GET request: 401 Unauthorized",
                "a",
                "unexpected status from GET request: 401 Unauthorized",
            ),
            ("Back-off pulling image \"nope:1\"", "nope:1", ""),
            ("Error: ImagePullBackOff", "nope:1", ""),
            ("", "nope:1", ""),
        ] {
            assert_eq!(pull(message, image), told, "{message}");
        }
    }

    #[test]
    fn a_scheduler_is_quoted_up_to_its_reasons() {
        for (message, told) in [
            (
                "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {a: b}. preemption: 0/2 nodes \
                 are available: 2 Preemption is not helpful for scheduling.",
                "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {a: b}",
            ),
            (
                "0/1 nodes are available: 1 Insufficient memory. no new claims to deallocate, preemption: 0/1 nodes are.",
                "0/1 nodes are available: 1 Insufficient memory",
            ),
            ("no nodes available to schedule pods", "no nodes available to schedule pods"),
        ] {
            assert_eq!(scheduler(message), told);
        }
    }

    #[test]
    fn a_pull_tells_how_long_it_took() {
        for (message, took) in [
            (
                "Successfully pulled image \"a:1\" in 3.214s (3.3s including waiting). Image size: 1 bytes.",
                Some("3.2s"),
            ),
            ("Successfully pulled image \"a:1\" in 812ms (812ms including waiting)", Some("812ms")),
            ("Successfully pulled image \"a:1\" in 1m3.9s (2m including waiting)", Some("1m3.9s")),
            ("Successfully pulled image \"a:1\"", None),
            ("Container image \"a:1\" already present on machine", None),
        ] {
            assert_eq!(pulled_in(message).as_deref(), took, "{message}");
        }
    }

    #[test]
    fn the_error_of_a_wrong_flag_is_told_without_the_usage_in_whatever_order_they_come() {
        let usage = "NAME:\n   buildkitd - build daemon\n\nGLOBAL OPTIONS:\n   --config string  path\n   --help, -h  show help\n";
        let (first, last) = ("Incorrect Usage: flag provided", "buildkitd: flag provided but not defined: -x");
        for text in [
            format!("{first}\n\n{usage}{last}\n"),
            format!("{usage}{first}\n\n{last}\n"),
            format!("{first}\n\n{last}\n{usage}"),
            // As the runtime mixed them once, on a busy machine.
            usage.replace("\n   --help", &format!("\n{first}\n\n{last}\n   --help")),
        ] {
            assert_eq!(crash_output(&text), format!("{first}\n{last}"), "{text}");
        }
        let long: Vec<String> = (0..30).map(|i| format!("line {i}")).collect();
        assert_eq!(crash_output(&long.join("\n")), long[20..].join("\n"));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let told = runtime(&"ü ".repeat(1000));
        assert!(told.chars().count() <= MESSAGE_MAX + 2 && told.ends_with('…'), "{told}");
        assert_eq!(log_line("  a\tb \r"), "a b");
    }
}
