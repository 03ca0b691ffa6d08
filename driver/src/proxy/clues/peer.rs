//! The client's process as the kernel tells of it, and which directory it builds.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::file_name;

/// More of a command line is not read; what names the context stands among the first words, or is the last one of a line
/// of common length.
const COMMAND_LINE: u64 = 64 * 1024;

/// What is known of the process at the other end of a client's connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Peer {
    pub(super) directory: Option<PathBuf>,
    pub(super) command_line: Vec<OsString>,
}

impl Peer {
    /// What /proc shows of a process: nothing of one that has ended, that belongs to somebody else, or that this process
    /// cannot see (its id is then 0).
    pub(in crate::proxy) fn of(pid: i32) -> Self {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let mut words = Vec::new();
        let read = File::open(proc.join("cmdline")).and_then(|file| file.take(COMMAND_LINE).read_to_end(&mut words));
        let words = if read.is_ok() { words } else { Vec::new() };
        let words = words.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Self {
            directory: std::fs::read_link(proc.join("cwd")).ok(),
            command_line: words.map(|word| OsString::from_vec(word.to_vec())).collect(),
        }
    }

    /// The directory that is built: the one that buildctl is told to send; or the one called `name`, which buildx says of
    /// its context; or where the process works. The root directory says nothing: services work there.
    pub(super) fn context(&self, name: Option<&str>) -> Option<PathBuf> {
        if let Some(local) = self.local_context() {
            return Some(self.resolved(local)?).filter(|path| file_name(path).is_some());
        }
        let directory = self.directory.as_deref().filter(|path| path.is_absolute());
        let Some(name) = name else {
            return directory.filter(|path| file_name(path).is_some()).map(Path::to_owned);
        };
        // Not the program itself, no flags, and no `name=path` of them: what is left may be the context.
        let words = self.command_line.iter().skip(1).filter(|word| {
            let word = word.as_bytes();
            !word.starts_with(b"-") && !word.contains(&b'=')
        });
        let named: Vec<PathBuf> =
            words.filter_map(|word| self.resolved(word)).filter(|path| file_name(path) == Some(name)).collect();
        // `-t app .` in a directory called app names it, and not an `app` below it.
        let here = directory.filter(|here| file_name(here) == Some(name));
        if let Some(here) = here.filter(|here| named.iter().any(|path| path == here)) {
            return Some(here.to_owned());
        }
        let below = || directory.filter(|path| file_name(path).is_some()).map(|path| path.join(name));
        named.last().cloned().or_else(|| here.map(Path::to_owned)).or_else(below)
    }

    /// DIR of buildctl's `--local context=DIR`, in which a comma begins another pair.
    fn local_context(&self) -> Option<&OsStr> {
        let words = || self.command_line.iter().map(|word| word.as_bytes());
        let values = words().zip(words().skip(1).map(Some).chain([None])).filter_map(|(word, next)| {
            let flag = word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-"))?;
            match flag.strip_prefix(b"local")? {
                b"" => next,
                value => value.strip_prefix(b"="),
            }
        });
        let mut pairs = values.flat_map(|value| value.split(|byte| *byte == b','));
        pairs.find_map(|pair| pair.strip_prefix(b"context=")).map(OsStr::from_bytes)
    }

    /// A path as the process sees it, without `.` and `..`.
    fn resolved(&self, path: &OsStr) -> Option<PathBuf> {
        let path = match &self.directory {
            Some(directory) => directory.join(path),
            None => PathBuf::from(path),
        };
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                Component::ParentDir => drop(plain.pop()),
                Component::CurDir => {}
                part => plain.push(part),
            }
        }
        Some(plain).filter(|plain| plain.is_absolute())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(directory: &str, line: &str) -> Peer {
        let directory = Some(directory).filter(|path| !path.is_empty()).map(PathBuf::from);
        Peer { directory, command_line: line.split_whitespace().map(OsString::from).collect() }
    }

    #[test]
    fn the_directory_that_is_built_is_found_by_the_command_line() {
        for (directory, line, name, wanted) in [
            // buildctl says it outright.
            ("/src/app", "buildctl build --local context=. --local dockerfile=.", None, Some("/src/app")),
            ("/src", "buildctl build --local=context=app,dockerfile=x", None, Some("/src/app")),
            ("/src", "buildctl build --local dockerfile=x,context=./app/../lib", None, Some("/src/lib")),
            ("/", "buildctl build -local context=/src/app", None, Some("/src/app")),
            ("", "buildctl build --local context=/src/app", None, Some("/src/app")),
            ("", "buildctl build --local context=app", None, None),
            ("/src/app", "buildctl build --local", None, Some("/src/app")),
            ("/src/app", "buildctl build --local src=/other", None, Some("/src/app")),
            ("/src/app", "buildctl build --localx context=/other", None, Some("/src/app")),
            // buildx says its name.
            ("/src/app", "docker-buildx buildx build .", Some("app"), Some("/src/app")),
            ("/src/app", "docker-buildx buildx build -t app .", Some("app"), Some("/src/app")),
            ("/src/app", "docker-buildx buildx build -t app ./app", Some("app"), Some("/src/app/app")),
            ("/src", "docker-buildx buildx build -f x ./app/", Some("app"), Some("/src/app")),
            ("/src/lib", "docker-buildx buildx build ../app", Some("app"), Some("/src/app")),
            ("/src", "docker-buildx buildx build -t app /other/app", Some("app"), Some("/other/app")),
            ("/src", "docker-buildx buildx build --build-context=x=/y/app app", Some("app"), Some("/src/app")),
            ("/src", "docker-buildx buildx build /other/buildx", Some("buildx"), Some("/other/buildx")),
            ("/", "docker-buildx buildx build /src/app", Some("app"), Some("/src/app")),
            ("/src", "docker-buildx buildx build link", Some("app"), Some("/src/app")),
            // A bake's contexts are in a file.
            ("/src/shop", "docker-buildx buildx bake", Some("web"), Some("/src/shop/web")),
            ("/src/shop", "docker-buildx buildx bake", Some("shop"), Some("/src/shop")),
            ("/src/shop", "", Some("shop"), Some("/src/shop")),
            // Programs of which nothing is known, and services.
            ("/src/app", "python3 build.py", None, Some("/src/app")),
            ("/", "/usr/bin/service", None, None),
            ("/", "/usr/bin/service", Some("app"), None),
            ("", "", Some("app"), None),
            ("", "", None, None),
        ] {
            let context = peer(directory, line).context(name);
            assert_eq!(context.as_deref(), wanted.map(Path::new), "{directory:?} {line:?} {name:?}");
        }
    }

    #[test]
    fn the_kernel_tells_of_a_process_and_nothing_of_one_that_is_not_there() {
        let this = Peer::of(i32::try_from(std::process::id()).unwrap());
        assert_eq!(this.directory, Some(std::env::current_dir().unwrap()));
        assert_eq!(this.command_line.first(), std::env::args_os().next().as_ref());
        for pid in [0, -1, i32::MAX] {
            assert_eq!(Peer::of(pid), Peer::default());
        }
    }
}
