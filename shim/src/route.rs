//! Whether a command line is ours or the real buildx's: pure.

use crate::argv::{Command, Line};
use crate::store::Instance;

/// The builders that there are.
pub trait Builders {
    /// The builder of that name, or without one the current one.
    fn meant(&self, name: Option<&str>) -> Option<Instance>;

    /// Whether it is one of ours.
    fn is_ours(&self, builder: &Instance) -> bool;

    /// Whether any is.
    fn has_ours(&self) -> bool;
}

/// Where a command line goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Ours,
    Relay,
    /// To the real buildx, which then talks to this builder of ours.
    RelayTo(Instance),
    /// To the real buildx, after a word of who stands before it.
    RelayWithNote,
}

/// The driver that is ours.
const DRIVER: &str = "kubernetes";

/// `variable` is `$BUILDX_BUILDER`.
pub fn route(line: &Line, variable: Option<&str>, builders: &impl Builders) -> Route {
    // As buildx has it: a flag that is given empty takes the variable's place.
    let chosen = line.builder().or(variable).filter(|name| !name.is_empty());
    let ours = |name: Option<&str>| builders.meant(name).is_some_and(|builder| builders.is_ours(&builder));
    let is_ours = match line.command() {
        Command::Create { name, driver } => match name.as_deref().and_then(|name| builders.meant(Some(name))) {
            Some(builder) => builders.is_ours(&builder),
            None => driver.as_deref() == Some(DRIVER),
        },
        Command::OfOne { name } => ours(name.as_deref().or(chosen)),
        Command::Use { name } => name.as_deref().or(chosen).is_some_and(|name| ours(Some(name))),
        Command::Rm { all_inactive: true, .. } | Command::Ls => builders.has_ours(),
        Command::Rm { names, .. } if names.is_empty() => ours(chosen),
        Command::Rm { names, .. } => names.iter().any(|name| ours(Some(name))),
        Command::Version => return Route::RelayWithNote,
        Command::Work => {
            let builder = builders.meant(chosen).filter(|builder| builders.is_ours(builder));
            return builder.map_or(Route::Relay, Route::RelayTo);
        }
        Command::Other => false,
    };
    if is_ours { Route::Ours } else { Route::Relay }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    /// `kube` is ours, `box` is not; the current one is given.
    struct Two {
        current: Option<&'static str>,
        names: &'static [&'static str],
    }

    impl Builders for Two {
        fn meant(&self, name: Option<&str>) -> Option<Instance> {
            let name = name.or(self.current)?.to_lowercase();
            self.names.contains(&name.as_str()).then(|| Instance { name, ..Instance::default() })
        }

        fn is_ours(&self, builder: &Instance) -> bool {
            builder.name == "kube"
        }

        fn has_ours(&self) -> bool {
            self.names.contains(&"kube")
        }
    }

    fn routed(line: &str, variable: Option<&str>, builders: &Two) -> Route {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        route(&Line::read(&words, false).expect("it is understood"), variable, builders)
    }

    fn to(name: &str) -> Route {
        Route::RelayTo(Instance { name: name.to_owned(), ..Instance::default() })
    }

    #[test]
    fn a_command_goes_where_its_builder_is() {
        use Route::{Ours, Relay, RelayWithNote};
        let both = |current| Two { current, names: &["kube", "box"] };
        for (line, variable, current, wanted) in [
            ("create --driver kubernetes", None, None, Ours),
            ("create --driver kubernetes --name new --append", None, None, Ours),
            ("create --driver kubernetes --name kube", None, None, Ours),
            ("create --driver kubernetes --name box", None, None, Relay),
            ("create --name new", None, None, Relay),
            ("create --driver docker-container --name new", None, None, Relay),
            ("create", Some("kube"), Some("kube"), Relay),
            ("create --name kube --append unix:///x", None, None, Ours),
            ("create --name Kube --node kube0 --leave", None, None, Ours),
            ("create --name box --node box0 --leave", None, None, Relay),
            ("inspect kube", None, None, Ours),
            ("inspect box", None, Some("kube"), Relay),
            ("inspect nope", None, Some("kube"), Relay),
            ("inspect", None, Some("kube"), Ours),
            ("inspect", None, Some("box"), Relay),
            ("inspect", None, None, Relay),
            ("inspect", Some("kube"), Some("box"), Ours),
            ("inspect", Some(""), Some("kube"), Ours),
            ("--builder box inspect", Some("kube"), Some("kube"), Relay),
            ("--builder kube inspect box", None, None, Relay),
            ("inspect --builder=", Some("box"), Some("kube"), Ours),
            ("stop kube", None, None, Ours),
            ("du --builder kube", None, None, Ours),
            ("prune -f", Some("kube"), None, Ours),
            ("prune -f", Some("default"), Some("kube"), Relay),
            ("use kube", None, None, Ours),
            ("use box", None, Some("kube"), Relay),
            ("use", None, Some("kube"), Relay),
            ("use", Some("kube"), None, Ours),
            ("rm kube", None, None, Ours),
            ("rm box kube", None, None, Ours),
            ("rm box", None, Some("kube"), Relay),
            ("rm", None, Some("kube"), Ours),
            ("rm", None, Some("box"), Relay),
            ("rm --all-inactive -f", None, None, Ours),
            ("ls", None, None, Ours),
            ("version", None, Some("kube"), RelayWithNote),
            ("build .", None, Some("kube"), to("kube")),
            ("build .", None, Some("box"), Relay),
            // What docker sets for `docker build`.
            ("build .", Some("default"), Some("kube"), Relay),
            ("bake --builder kube", Some("box"), None, to("kube")),
            ("install", None, Some("kube"), Relay),
        ] {
            assert_eq!(routed(line, variable, &both(current)), wanted, "{line}, {variable:?}, {current:?}");
        }
    }

    #[test]
    fn without_a_builder_of_ours_lists_are_buildx_s() {
        let others = Two { current: Some("box"), names: &["box"] };
        for line in ["ls", "rm --all-inactive", "inspect", "prune", "build ."] {
            assert_eq!(routed(line, None, &others), Route::Relay, "{line}");
        }
        assert_eq!(routed("create --driver kubernetes --name kube", None, &others), Route::Ours);
    }
}
