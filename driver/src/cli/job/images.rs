//! The registries that a build reads from: of image names, and of the names in a Dockerfile. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Docker's own registry, as names have it.
pub(super) const DOCKER_HUB: &str = "docker.io";

/// The registry of an image's name; that of a name without one is docker's own.
pub(super) fn registry(name: &str) -> String {
    match name.split_once('/') {
        Some(("index.docker.io" | "registry-1.docker.io", _)) | None => DOCKER_HUB.to_owned(),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host.to_owned(),
        Some(_) => DOCKER_HUB.to_owned(),
    }
}

/// The images that a Dockerfile names. Names that only the build can know, such as those with `TARGETARCH`, are taken as far as they
/// go: it is about their registries.
pub(super) fn of_dockerfile(text: &str, build_args: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    let (mut variables, mut stages) = (BTreeMap::new(), BTreeSet::new());
    images.extend(directive(text, "syntax"));
    let escape = directive(text, "escape").filter(|escape| escape == "`").map_or('\\', |_| '`');
    let mut before_first_stage = true;
    for line in instructions(text, escape) {
        let mut words = line.split_whitespace();
        let Some(instruction) = words.next() else { continue };
        let words: Vec<&str> = words.collect();
        match instruction.to_ascii_uppercase().as_str() {
            "ARG" if before_first_stage => {
                for word in words {
                    let (name, default) = word.split_once('=').unwrap_or((word, ""));
                    let default = expanded(default.trim_matches(['"', '\'']), &variables);
                    variables.insert(name.to_owned(), build_args.get(name).cloned().unwrap_or(default));
                }
            }
            "FROM" => {
                before_first_stage = false;
                let mut named = words.iter().filter(|word| !word.starts_with("--"));
                let image = named.next().map(|image| expanded(image.trim_matches('"'), &variables));
                let is_stage = |image: &String| stages.contains(&image.to_ascii_lowercase());
                images.extend(image.filter(|image| image != "scratch" && !image.is_empty() && !is_stage(image)));
                if let (Some(word), Some(name)) = (named.next(), named.next())
                    && word.eq_ignore_ascii_case("as")
                {
                    stages.insert(name.to_ascii_lowercase());
                }
            }
            "COPY" | "ADD" | "RUN" => {
                let flags = words.iter().take_while(|word| word.starts_with("--"));
                let froms = flags.filter_map(|flag| match flag.strip_prefix("--from=") {
                    Some(from) => Some(from),
                    None => flag.strip_prefix("--mount=")?.split(',').find_map(|field| field.strip_prefix("from=")),
                });
                let is_image = |from: &&str| {
                    !stages.contains(&from.to_ascii_lowercase()) && from.parse::<usize>().is_err() && !from.is_empty()
                };
                images.extend(froms.filter(is_image).map(|from| expanded(from, &variables)));
            }
            _ => {}
        }
    }
    images
}

/// `# syntax=docker/dockerfile:1`, which stands before all else.
fn directive(text: &str, wanted: &str) -> Option<String> {
    let text = text.trim_start_matches('\u{feff}');
    let lines = text.lines().skip_while(|line| line.starts_with("#!"));
    let directives = lines.map_while(|line| line.trim().strip_prefix('#')?.split_once('='));
    let mut found = directives.filter(|(name, _)| name.trim().eq_ignore_ascii_case(wanted));
    found.next().map(|(_, value)| value.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Lines without comments, joined where one goes on in the next.
fn instructions(text: &str, escape: char) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let (line, more) = match line.strip_suffix(escape) {
            Some(line) => (line, true),
            None => (line, false),
        };
        match joined.last_mut().filter(|_| goes_on) {
            Some(last) => last.push_str(&format!(" {line}")),
            None => joined.push(line.to_owned()),
        }
        goes_on = more;
    }
    joined
}

/// With the values of `$NAME`, `${NAME}`, `${NAME:-else}` and `${NAME:+then}`.
fn expanded(text: &str, variables: &BTreeMap<String, String>) -> String {
    let value = |name: &str| variables.get(name).cloned().unwrap_or_default();
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some((inner, behind)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            let end = inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len());
            let (name, operator) = inner.split_at(end);
            let value = value(name);
            out.push_str(&match operator.trim_start_matches(':').split_at_checked(1) {
                Some(("-", other)) if value.is_empty() => expanded(other, variables),
                Some(("+", other)) if !value.is_empty() => expanded(other, variables),
                Some(("+", _)) => String::new(),
                _ => value,
            });
            rest = behind;
        } else {
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
            out.push_str(&value(&after[..end]));
            rest = &after[end..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_s_registry_is_before_its_first_slash_when_it_can_be_one() {
        for (name, wanted) in [
            ("alpine", "docker.io"),
            ("library/alpine:3", "docker.io"),
            ("docker.io/a/b", "docker.io"),
            ("index.docker.io/a/b", "docker.io"),
            ("ghcr.io/a/b@sha256:0", "ghcr.io"),
            ("registry:5000/a", "registry:5000"),
            ("localhost/a", "localhost"),
            ("team/a.b", "docker.io"),
            ("a.b", "docker.io"),
        ] {
            assert_eq!(registry(name), wanted, "{name}");
        }
    }

    #[test]
    fn a_dockerfile_s_images_are_found_where_they_are_named() {
        let args = BTreeMap::from([("MIRROR".to_owned(), "mirror.example".to_owned())]);
        for (text, wanted) in [
            ("FROM alpine", &["alpine"][..]),
            ("from --platform=$BUILDPLATFORM a.example/x AS Base\nFROM base\nFROM scratch", &["a.example/x"]),
            ("# syntax=b.example/dockerfile:1\nFROM scratch", &["b.example/dockerfile:1"]),
            (
                "#!/usr/bin/env x\n# escape=`\n# syntax = b.example/d\nFROM `\n  c.example/y",
                &["b.example/d", "c.example/y"],
            ),
            ("# a comment\n# syntax=late.example/x\nFROM x", &["x"]),
            ("ARG MIRROR=docker.io\nFROM $MIRROR/alpine", &["mirror.example/alpine"]),
            ("ARG R=r.example V\nARG I=${R}/i:${V:-1}\nFROM ${I}", &["r.example/i:1"]),
            ("ARG R\nFROM ${R:-d.example}/x${R:+/no}", &["d.example/x"]),
            (
                "FROM x AS a\nARG R=no\nCOPY --from=a / /\nCOPY --link --from=e.example/z / /\nCOPY --from=0 / /",
                &["e.example/z", "x"],
            ),
            (
                "FROM x\nRUN --mount=type=bind,from=f.example/t,target=/t \\\n  # between\n  --network=none \\\n  make",
                &["f.example/t", "x"],
            ),
            ("FROM x\nRUN echo --from=g.example/no\nCMD FROM y", &["x"]),
            ("", &[]),
        ] {
            let found = of_dockerfile(text, &args);
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), wanted, "{text}");
        }
    }
}
