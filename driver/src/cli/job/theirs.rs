//! Flags of `docker buildx build` that `job run` does not have: known, so that their refusal says what to do instead.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// Each with its reason, or what does the same.
const FLAGS: [(&str, &str); 8] = [
    (LOAD, "the result would stay in the Job's pod, which goes: --push puts it into a registry"),
    (
        "ssh",
        "your SSH agent is not in the cluster: `--secret id=GIT_AUTH_TOKEN,env=NAME` is for private https addresses",
    ),
    ("build-context", "`--opt context:NAME=docker-image://IMAGE` or `--opt context:NAME=URL` names another context"),
    ("provenance", "`--opt attest:provenance=` asks for it, as in `--opt attest:provenance=mode=max`"),
    ("sbom", "`--opt attest:sbom=` asks for it"),
    ("allow", "a Job's build gets no entitlements"),
    ("metadata-file", "it would be written in the Job's pod, which goes"),
    ("iidfile", "it would be written in the Job's pod, which goes"),
];

/// The one without a value of its own.
const LOAD: &str = "load";

/// What is said of those that are given.
#[derive(Debug, Clone, Default)]
pub(super) struct Theirs(Vec<String>);

impl Theirs {
    pub(super) fn refusals(&self) -> &[String] {
        &self.0
    }
}

impl FromArgMatches for Theirs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = FLAGS.iter().filter(|(name, _)| matches.value_source(name) == Some(ValueSource::CommandLine));
        Ok(Self(given.map(|(name, instead)| format!("--{name} is no flag of `job run`: {instead}")).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Theirs {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, (name, _)| {
            let flag = Arg::new(*name).long(*name).hide(true).action(ArgAction::Append);
            // What follows `--load` is the context.
            command.arg(if *name == LOAD { flag.num_args(0..=1).require_equals(true) } else { flag })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str]) -> Vec<String> {
        let command = Theirs::augment_args(Command::new("run").arg(Arg::new("context").required(true)));
        let matches = command.try_get_matches_from(["run"].iter().chain(words)).expect("all of them are known");
        assert_eq!(matches.get_one::<String>("context").map(String::as_str), Some("app"), "{words:?}");
        Theirs::from_arg_matches(&matches).expect("they match").0
    }

    #[test]
    fn flags_of_buildx_are_refused_by_their_names_and_with_their_reasons() {
        assert_eq!(told(&["app"]), Vec::<String>::new());
        assert_eq!(told(&["--load=true", "app"]), told(&["--load", "app"]));
        assert!(told(&["--load", "app"])[0].starts_with("--load is no flag of `job run`: the result would stay"));
        let all = FLAGS.iter().filter(|(name, _)| *name != LOAD).map(|(name, _)| format!("--{name}=x"));
        let all: Vec<String> = all.chain(["app".to_owned()]).collect();
        assert_eq!(told(&all.iter().map(String::as_str).collect::<Vec<_>>()).len(), FLAGS.len() - 1);
    }
}
