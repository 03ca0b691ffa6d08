//! The essential part of what schedulers, kubelets and registries say.

/// The longest message that is shown; the rest can be read in the cluster.
const MESSAGE_MAX: usize = 400;
const LOG_LINE_MAX: usize = 300;

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
            "code = ",
        ] {
            if let Some(after) = rest.strip_prefix(prefix) {
                rest = after_name(after);
            }
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
    rest.strip_prefix(": ").map_or(rest.trim_start(), str::trim_start).trim_start_matches("desc = ")
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
