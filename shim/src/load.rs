//! `--load` without an engine: refused before the build, which would end in `io: read/write on closed pipe`.

use std::ffi::OsString;
use std::path::Path;

use crate::argv::truth;

/// Commands that build.
const BUILDS: [&str; 4] = ["build", "b", "bake", "f"];

/// With one of these, nothing is built.
const LOOKS: [&str; 4] = ["--print", "--check", "--call", "--list"];

/// Whether a build is to end in docker's engine.
pub fn wants_engine(words: &[OsString]) -> bool {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--").collect();
    let builds = words.iter().any(|word| BUILDS.contains(word));
    let looks = words.iter().any(|word| LOOKS.iter().any(|look| word.split('=').next() == Some(look)));
    // The last one counts, as everywhere.
    let load = words.iter().rev().find(|word| word.split('=').next() == Some("--load"));
    let on = |word: &str| word.split_once('=').map_or(Some(true), |(_, value)| truth(value));
    builds && !looks && load.and_then(|word| on(word)).unwrap_or_default()
}

/// What is told when nobody listens where the engine should be; `None` also when only docker knows where that is.
///
/// `endpoint` is what [`crate::docker::Config::endpoint`] says.
pub fn no_engine(endpoint: &str, listens: impl Fn(&Path) -> bool) -> Option<String> {
    let path = Path::new(endpoint.strip_prefix("unix://")?);
    (!listens(path)).then(|| {
        format!("--load gives the image to docker's engine, and none answers at {endpoint}: start one, or take --push or --output")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_with_load_wants_an_engine() {
        for (line, wanted) in [
            ("build --load .", true),
            ("--builder kube bake --load=true", true),
            ("b --load=false --load .", true),
            ("build --load=TRUE .", true),
            ("build --load=yes .", false),
            ("build --load --load=false .", false),
            ("build --load --check .", false),
            ("bake --print --load", false),
            ("build --call=outline --load .", false),
            ("build -t x .", false),
            ("build . -- --load", false),
            ("imagetools inspect --load", false),
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(wants_engine(&words), wanted, "{line}");
        }
    }

    #[test]
    fn only_a_socket_that_nobody_holds_is_told() {
        let told = no_engine("unix:///run/x.sock", |path| path != Path::new("/run/x.sock")).expect("it is told");
        assert!(told.contains("none answers at unix:///run/x.sock"), "{told}");
        assert_eq!(no_engine("unix:///run/x.sock", |_| true), None);
        for elsewhere in ["tcp://h:2375", "ssh://h", "desktop-linux"] {
            assert_eq!(no_engine(elsewhere, |_| false), None, "{elsewhere}");
        }
    }
}
