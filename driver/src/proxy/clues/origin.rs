//! Where sources and images come from, in one spelling for each place.

/// The schemes of what BuildKit fetches itself.
const SCHEMES: [&str; 4] = ["https", "http", "git", "ssh"];

/// The place of a remote context without what names one state of it (branch, tag, commit, query). `None` for a context
/// that is no URL.
pub(super) fn of_context(context: &str) -> Option<String> {
    let known = |scheme: &str| SCHEMES.contains(&scheme.to_ascii_lowercase().as_str());
    let is_remote = match context.split_once("://") {
        Some((scheme, _)) => known(scheme),
        None => scp(context).is_some() || context.starts_with("github.com/"),
    };
    if !is_remote {
        return None;
    }
    let (rest, fragment) = context.split_once('#').unwrap_or((context, ""));
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let from_query = query.split('&').find_map(|pair| pair.strip_prefix("subdir="));
    let directory = from_query.or_else(|| fragment.split_once(':').map(|(_, directory)| directory));
    Some(below(&of_repository(place), directory.unwrap_or_default()))
}

/// A repository as `host/path`, however it is reached: one checkout is cloned by HTTPS, another by SSH, and CI puts a
/// token into the URL, which is not to be shown.
pub(super) fn of_repository(url: &str) -> String {
    let (host, path) = match url.split_once("://") {
        Some((scheme, rest)) if !scheme.eq_ignore_ascii_case("file") => rest.split_once('/').unwrap_or((rest, "")),
        Some((_, path)) => ("", path),
        None => scp(url).or_else(|| url.split_once('/')).unwrap_or((url, "")),
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host).to_ascii_lowercase();
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let separator = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    format!("{host}{separator}{path}")
}

/// Host and path of `git@host:path`, which is how git writes SSH.
fn scp(url: &str) -> Option<(&str, &str)> {
    let (host, path) = url.split_once(':')?;
    (host.contains('@') && !host.contains('/')).then(|| (host, path.trim_start_matches('/')))
}

/// A directory of a repository.
pub(super) fn below(repository: &str, directory: &str) -> String {
    let names: Vec<&str> = directory.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    [&[repository], &names[..]].concat().join("/")
}

/// An image's repository and tag; a digest is neither. Docker Hub's own names are written short.
pub(super) fn of_image(name: &str) -> (&str, &str) {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match name[last..].split_once(':') {
        Some((end, tag)) => (&name[..last + end.len()], tag),
        None => (name, ""),
    };
    let hub = ["docker.io/", "index.docker.io/"].into_iter().find_map(|hub| repository.strip_prefix(hub));
    (hub.map_or(repository, |name| name.strip_prefix("library/").unwrap_or(name)), tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_context_is_its_repository_and_directory() {
        for (context, wanted) in [
            ("https://github.com/team/app.git", Some("github.com/team/app")),
            ("https://github.com/team/app.git#main", Some("github.com/team/app")),
            ("https://github.com/team/app.git#0123456789abcdef:web/front", Some("github.com/team/app/web/front")),
            ("https://github.com/team/app.git#:web/", Some("github.com/team/app/web")),
            ("https://github.com/team/app.git?branch=main&subdir=web", Some("github.com/team/app/web")),
            ("https://github.com/team/app.git?ref=v1&checksum=0123456", Some("github.com/team/app")),
            ("HTTPS://GitHub.com/team/app/", Some("github.com/team/app")),
            ("git@github.com:team/app.git#v1.2", Some("github.com/team/app")),
            ("ssh://git@github.com/team/app", Some("github.com/team/app")),
            ("git://host/app", Some("host/app")),
            ("github.com/team/app", Some("github.com/team/app")),
            ("https://token@git.example:8443/app.git", Some("git.example:8443/app")),
            ("https://files.example/app.tar.gz?X-Signature=abc", Some("files.example/app.tar.gz")),
            ("local:context", None),
            ("docker-image://alpine:3.20", None),
            ("input:context", None),
            ("", None),
            (".", None),
            ("/src/app", None),
        ] {
            assert_eq!(of_context(context).as_deref(), wanted, "{context}");
        }
    }

    #[test]
    fn a_repository_has_one_spelling_however_it_is_reached() {
        for url in [
            "https://github.com/team/app.git",
            "https://github.com/team/app",
            "https://user:secret@github.com/team/app.git/",
            "git@github.com:team/app.git",
            "git@github.com:/team/app",
            "ssh://git@GitHub.com/team/app.git",
        ] {
            assert_eq!(of_repository(url), "github.com/team/app", "{url}");
        }
        for (url, wanted) in [
            ("/srv/git/app.git", "/srv/git/app"),
            ("file:///srv/git/app.git", "/srv/git/app"),
            ("../app", "../app"),
            ("https://host", "host"),
            ("", ""),
        ] {
            assert_eq!(of_repository(url), wanted, "{url}");
        }
    }

    #[test]
    fn an_image_is_its_repository_and_its_tag() {
        for (name, wanted) in [
            ("app", ("app", "")),
            ("app:1.2", ("app", "1.2")),
            ("localhost:5000/app", ("localhost:5000/app", "")),
            ("localhost:5000/team/app:1.2", ("localhost:5000/team/app", "1.2")),
            ("r.example/app@sha256:0123", ("r.example/app", "")),
            ("r.example/app:1@sha256:0123", ("r.example/app", "1")),
            ("docker.io/library/app:1", ("app", "1")),
            ("docker.io/team/app", ("team/app", "")),
            ("index.docker.io/team/app", ("team/app", "")),
            ("", ("", "")),
        ] {
            assert_eq!(of_image(name), wanted, "{name}");
        }
    }
}
