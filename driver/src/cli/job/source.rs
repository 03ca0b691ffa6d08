//! What is built: a directory, an archive or a Dockerfile on stdin, or a URL; and where its Dockerfile is.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::arguments::Inputs;
use super::context::pattern::Patterns;
use super::context::{Content, Directory, Tree};
use crate::cli::failure::Failure;
use crate::cli::{files, tar};

/// How much of stdin says whether it is an archive.
const BEGINNING: usize = 512;

/// Where an uploaded context and Dockerfile are when the one is not in the other.
const APART: [&str; 2] = ["context", "dockerfile"];

/// What goes into the pod, and what is known of it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) inputs: Inputs,
    pub(super) upload: Option<Content>,
    /// The Dockerfile's text, where this machine has it.
    pub(super) dockerfile: Option<String>,
    /// What placement and lists call it.
    pub(super) title: String,
}

/// What is meant by the argument.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Stdin,
    Directory(PathBuf),
    Url(String),
}

/// Reads what has to be known of it before anything is made. `needs_dockerfile`: the frontend reads one.
pub(super) fn prepare(source: &str, file: Option<&Path>, needs_dockerfile: bool) -> Result<Prepared, Failure> {
    let from_stdin = file == Some(Path::new("-"));
    match classified(source, Path::new(source).is_dir())? {
        Source::Stdin if from_stdin => {
            Err(Failure::usage("stdin cannot be both the context and the Dockerfile: `-` and --file - are given"))
        }
        Source::Stdin => stdin(file),
        Source::Url(url) => remote(url, file),
        Source::Directory(root) => directory(&root, file, needs_dockerfile),
    }
}

fn classified(source: &str, is_directory: bool) -> Result<Source, Failure> {
    const OF_SSH: [&str; 2] = ["ssh://", "git@"];
    const OF_URLS: [&str; 4] = ["https://", "http://", "git://", "github.com/"];
    if source == "-" {
        return Ok(Source::Stdin);
    }
    if is_directory {
        return Ok(Source::Directory(source.into()));
    }
    if OF_SSH.iter().any(|start| source.starts_with(start)) {
        return Err(Failure::usage(format!("`{source}` needs your SSH agent, which a Job in a cluster does not have"))
            .hint("use its https:// address, with `--secret id=GIT_AUTH_TOKEN,env=NAME` when it is private"));
    }
    if OF_URLS.iter().any(|start| source.starts_with(start)) {
        let authority = source.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
        if authority.split_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(Failure::usage(
                "the URL has a password, which would stand in the Job's manifest for others to read",
            )
            .hint("give it as a secret: `--secret id=GIT_AUTH_TOKEN,env=NAME`"));
        }
        return Ok(Source::Url(source.to_owned()));
    }
    let what = if Path::new(source).exists() { "is no directory" } else { "does not exist" };
    Err(Failure::usage(format!(
        "the context `{source}` {what}: accepted are a directory, a git or https URL, and `-` for stdin"
    )))
}

fn remote(url: String, file: Option<&Path>) -> Result<Prepared, Failure> {
    let title = url.clone();
    let Some(file) = file else {
        let inputs = Inputs::Remote { url, filename: None };
        return Ok(Prepared { inputs, upload: None, dockerfile: None, title });
    };
    if file != Path::new("-") && file.is_relative() {
        let inputs = Inputs::Remote { url, filename: Some(text(file)?) };
        return Ok(Prepared { inputs, upload: None, dockerfile: None, title });
    }
    let dockerfile = dockerfile(file)?;
    let files = vec![("Dockerfile".to_owned(), dockerfile.clone().into_bytes())];
    Ok(Prepared {
        inputs: Inputs::RemoteWithDockerfile { url },
        upload: Some(Content::Tree(Tree { directory: None, files })),
        dockerfile: Some(dockerfile),
        title,
    })
}

fn directory(root: &Path, file: Option<&Path>, needs_dockerfile: bool) -> Result<Prepared, Failure> {
    let failed =
        |path: &Path, error: std::io::Error| Failure::usage(format!("failed to read {}: {error}", path.display()));
    let here = root.canonicalize().map_err(|error| failed(root, error))?;
    let title = here.display().to_string();
    let (text_of, found) = match file {
        Some(file) if file == Path::new("-") => (Some(dockerfile(file)?), None),
        given => {
            let given = given.map_or_else(|| by_default(root), Path::to_owned);
            match given.canonicalize() {
                Ok(found) => (Some(dockerfile(&found)?), Some(found)),
                Err(_) if !needs_dockerfile => (None, None),
                Err(error) => {
                    let hint = "--file names one, relative to the current directory";
                    return Err(failed(&given, error).hint(hint));
                }
            }
        }
    };
    let inside = found.as_ref().and_then(|found| found.strip_prefix(&here).ok());
    let beside = found.as_ref().map(|found| {
        let mut name = found.clone().into_os_string();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    // That of the Dockerfile counts more than the context's own, as BuildKit has it.
    let own = beside.filter(|beside| beside.is_file());
    let ignore = own.clone().unwrap_or_else(|| here.join(".dockerignore"));
    let ignored = match ignore.exists().then(|| files::text(&ignore)) {
        None => String::new(),
        Some(Ok(text)) => text,
        Some(Err(problem)) => {
            return Err(Failure::usage(format!("failed to read {}: {problem}", ignore.display())));
        }
    };
    let patterns = Patterns::parse(&ignored).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("{}: {error}", ignore.display())).collect();
        Failure::usage(lines.join("\n"))
    })?;
    let of_context =
        |place: &str, always: Vec<PathBuf>| Directory { root: here.clone(), place: place.to_owned(), patterns, always };
    let (inputs, tree) = match inside {
        Some(inside) => {
            let mut always = vec![PathBuf::from(".dockerignore"), inside.to_owned()];
            always.extend(own.as_ref().and_then(|own| own.strip_prefix(&here).ok()).map(Path::to_owned));
            let directory = inside.parent().map(text).transpose()?.unwrap_or_default();
            let filename = inside.file_name().map(|name| text(Path::new(name))).transpose()?.unwrap_or_default();
            let inputs = Inputs::Uploaded { context: String::new(), dockerfile: directory, filename };
            (inputs, Tree { directory: Some(of_context("", always)), files: Vec::new() })
        }
        None => {
            let [context, place] = APART;
            let mut files = Vec::new();
            if let Some(text) = &text_of {
                files.push((format!("{place}/Dockerfile"), text.clone().into_bytes()));
            }
            if own.is_some() {
                files.push((format!("{place}/Dockerfile.dockerignore"), ignored.into_bytes()));
            }
            let directory = of_context(&format!("{context}/"), vec![PathBuf::from(".dockerignore")]);
            let inputs = Inputs::Uploaded {
                context: context.to_owned(),
                // A directory has to be there, also for a frontend that does not look into it.
                dockerfile: if text_of.is_some() { place } else { context }.to_owned(),
                filename: "Dockerfile".to_owned(),
            };
            (inputs, Tree { directory: Some(directory), files })
        }
    };
    Ok(Prepared { inputs, upload: Some(Content::Tree(tree)), dockerfile: text_of, title })
}

/// As buildx: `dockerfile` where there is no `Dockerfile`.
fn by_default(root: &Path) -> PathBuf {
    let [usual, lower] = ["Dockerfile", "dockerfile"].map(|name| root.join(name));
    if !usual.exists() && lower.exists() { lower } else { usual }
}

fn stdin(file: Option<&Path>) -> Result<Prepared, Failure> {
    let failed = |error: std::io::Error| Failure::other(format!("failed to read stdin: {error}"));
    let mut beginning = Vec::new();
    std::io::stdin().lock().take(BEGINNING as u64).read_to_end(&mut beginning).map_err(failed)?;
    let title = "stdin".to_owned();
    let uploaded = |filename: String| Inputs::Uploaded { context: String::new(), dockerfile: String::new(), filename };
    match kind(&beginning) {
        Kind::Nothing => Err(Failure::usage("stdin has nothing: `-` reads a tar archive or a Dockerfile from it")),
        Kind::Other(compression) => Err(Failure::usage(format!(
            "stdin is compressed by {compression}: accepted are a tar archive, a gzipped one, and a Dockerfile"
        ))),
        kind @ (Kind::Tar | Kind::Gzip) => {
            let file = file.unwrap_or(Path::new("Dockerfile"));
            let (directory, filename) = (file.parent().unwrap_or(Path::new("")), file.file_name().unwrap_or_default());
            let leaves = |part: Component<'_>| matches!(part, Component::ParentDir | Component::RootDir);
            if file.components().any(leaves) {
                return Err(Failure::usage(format!("--file {} is not in the archive on stdin", file.display())));
            }
            let inputs = Inputs::Uploaded {
                context: String::new(),
                dockerfile: text(directory)?,
                filename: text(Path::new(filename))?,
            };
            let upload = Content::Stdin { beginning, gzipped: kind == Kind::Gzip };
            Ok(Prepared { inputs, upload: Some(upload), dockerfile: None, title })
        }
        Kind::Text if file.is_some() => {
            Err(Failure::usage("stdin is no archive and so is the Dockerfile: --file names another one"))
        }
        Kind::Text => {
            let text = dockerfile_on_stdin(&beginning, std::io::stdin().lock())?;
            let files = vec![("Dockerfile".to_owned(), text.clone().into_bytes())];
            let upload = Some(Content::Tree(Tree { directory: None, files }));
            Ok(Prepared { inputs: uploaded("Dockerfile".to_owned()), upload, dockerfile: Some(text), title })
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Nothing,
    Tar,
    Gzip,
    Other(&'static str),
    Text,
}

fn kind(beginning: &[u8]) -> Kind {
    match beginning {
        [] => Kind::Nothing,
        [0x1f, 0x8b, ..] => Kind::Gzip,
        [b'B', b'Z', b'h', ..] => Kind::Other("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Kind::Other("xz"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Kind::Other("zstd"),
        other if tar::is_archive(other) => Kind::Tar,
        _ => Kind::Text,
    }
}

/// The Dockerfile's text, from stdin for `-`.
fn dockerfile(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") {
        return dockerfile_on_stdin(&[], std::io::stdin().lock());
    }
    files::text(path).map_err(|problem| Failure::usage(format!("failed to read {}: {problem}", path.display())))
}

/// The Dockerfile of which the beginning may have been read already.
fn dockerfile_on_stdin(beginning: &[u8], stdin: impl Read) -> Result<String, Failure> {
    let bytes = files::bounded(beginning.chain(stdin), files::LIMIT)
        .map_err(|problem| Failure::usage(format!("failed to read the Dockerfile on stdin: {problem}")))?;
    String::from_utf8(bytes).map_err(|_| Failure::usage("stdin is no Dockerfile: it is not UTF-8"))
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format!("the path {} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("below a directory")).expect("ours");
        fs::write(path, text).expect("ours");
    }

    #[test]
    fn contexts_are_told_apart_as_buildx_does() {
        for (source, is_directory, wanted) in [
            ("-", false, Source::Stdin),
            (".", true, Source::Directory(".".into())),
            ("github.com/a/b", true, Source::Directory("github.com/a/b".into())),
            ("github.com/a/b", false, Source::Url("github.com/a/b".into())),
            ("https://git.example/a.git#main:sub", false, Source::Url("https://git.example/a.git#main:sub".into())),
            ("https://files.example/a.tar.gz", false, Source::Url("https://files.example/a.tar.gz".into())),
            ("git://git.example/a", false, Source::Url("git://git.example/a".into())),
            ("https://user@git.example/a", false, Source::Url("https://user@git.example/a".into())),
        ] {
            assert_eq!(classified(source, is_directory).expect(source), wanted, "{source}");
        }
        for (source, part) in [
            ("git@git.example:a/b", "needs your SSH agent"),
            ("ssh://git@git.example/a", "needs your SSH agent"),
            ("https://user:pw@git.example/a", "has a password"),
            ("nowhere", "`nowhere` does not exist: accepted are"),
            ("/proc/version", "`/proc/version` is no directory: accepted are"),
        ] {
            let failure = classified(source, false).expect_err(source);
            assert!(failure.exit() as u8 == 2 && failure.render().contains(part), "{source}: {}", failure.render());
            assert!(!failure.render().contains("pw@"), "{source}");
        }
    }

    #[test]
    fn a_dockerfile_is_where_it_is_in_the_context_or_apart_from_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for name in ["in/Dockerfile", "in/sub/Other", "in/sub/Other.dockerignore", "out/Dockerfile", "lower/dockerfile"]
        {
            write(&at(name), "FROM scratch\n");
        }
        std::os::unix::fs::symlink(at("out/Dockerfile"), at("in/link")).expect("ours");
        let uploaded = |context: &str, dockerfile: &str, filename: &str| Inputs::Uploaded {
            context: context.into(),
            dockerfile: dockerfile.into(),
            filename: filename.into(),
        };
        for (root, file, wanted) in [
            ("in", None, uploaded("", "", "Dockerfile")),
            ("in", Some("in/sub/Other"), uploaded("", "sub", "Other")),
            ("in", Some("out/Dockerfile"), uploaded("context", "dockerfile", "Dockerfile")),
            ("in", Some("in/link"), uploaded("context", "dockerfile", "Dockerfile")),
            ("in/sub", Some("in/Dockerfile"), uploaded("context", "dockerfile", "Dockerfile")),
            ("lower", None, uploaded("", "", "dockerfile")),
        ] {
            let file = file.map(at);
            let prepared = directory(&at(root), file.as_deref(), true).expect(root);
            assert_eq!(prepared.inputs, wanted, "{root} {file:?}");
        }
        let prepared = directory(&at("in"), Some(&at("in/sub/Other")), true).expect("it is there");
        let Some(Content::Tree(Tree { directory: Some(sent), .. })) = prepared.upload else { panic!("a tree") };
        assert_eq!(sent.always, [".dockerignore", "sub/Other", "sub/Other.dockerignore"].map(PathBuf::from));

        let failure = directory(&at("out"), Some(&at("out/missing")), true).expect_err("it is not there");
        assert!(failure.render().contains("out/missing: No such file"), "{}", failure.render());
        let empty = at("empty");
        fs::create_dir(&empty).expect("ours");
        assert!(directory(&empty, None, true).is_err());
        assert!(directory(&empty, None, false).is_ok());
    }

    #[test]
    fn a_dockerignore_that_is_none_is_told_by_its_file_and_line() {
        let dir = tempfile::tempdir().expect("a directory");
        write(&dir.path().join("Dockerfile"), "FROM scratch\n");
        write(&dir.path().join(".dockerignore"), "a\n[\n!\n");
        let failure = directory(dir.path(), None, true).expect_err("two lines are wrong");
        let text = failure.render();
        assert!(text.contains(".dockerignore: line 2: `[` is no pattern\n"), "{text}");
        assert!(text.contains(".dockerignore: line 3: `!` excepts nothing\n"), "{text}");
    }

    #[test]
    fn a_dockerfile_on_stdin_that_is_too_long_is_not_cut() {
        let whole = "x".repeat(usize::try_from(files::LIMIT).expect("small"));
        let longer = format!("{whole}x");
        // As a whole for --file -, and behind what was read of a context that may be an archive.
        for read in [0, BEGINNING] {
            let on_stdin = |text: &str| dockerfile_on_stdin(&text.as_bytes()[..read], &text.as_bytes()[read..]);
            assert_eq!(on_stdin(&whole).expect("it fits"), whole);
            let failure = on_stdin(&longer).expect_err("it does not fit");
            let said = "error: failed to read the Dockerfile on stdin: it has more than 1048576 bytes\n";
            assert_eq!((failure.exit() as u8, failure.render().as_str()), (2, said), "{read}");
        }
    }

    #[test]
    fn stdin_is_an_archive_or_a_dockerfile() {
        let archive = tar::entry(&tar::Entry::new("x", tar::Kind::File));
        for (beginning, wanted) in [
            (&b""[..], Kind::Nothing),
            (b"FROM scratch\n", Kind::Text),
            (b"\x1f\x8b\x08", Kind::Gzip),
            (b"BZh9", Kind::Other("bzip2")),
            (b"\xfd7zXZ\0", Kind::Other("xz")),
            (b"\x28\xb5\x2f\xfd", Kind::Other("zstd")),
            (&archive, Kind::Tar),
        ] {
            assert_eq!(kind(beginning), wanted, "{beginning:?}");
        }
    }
}
