//! `buildfleet pick`: which of some pods a key belongs to.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Read};

use serde::Serialize;

use super::failure::Failure;
use super::output::{Format, json_line, print};
use crate::builder::PodName;
use crate::options::LoadBalance;
use crate::placement::{Candidate, Placing, StickyKey, choose, ketama};

/// Print which of some pods a key belongs to; it asks neither a daemon nor a cluster
///
/// The same key has the same pod as long as the pods are the same. When one comes or goes, few keys move.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What belongs together, as in github.com/team/app:services/web
    #[arg(long, value_name = "KEY")]
    key: String,
    /// How the pod is found: rendezvous as builders of buildfleet do, ketama as the example of BuildKit and docker buildx do
    #[arg(long, value_enum, default_value = "rendezvous", value_name = "NAME")]
    algorithm: Algorithm,
    /// The pods to choose from; without any, lines of stdin
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    Rendezvous,
    Ketama,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Picked<'a> {
    key: &'a str,
    algorithm: Algorithm,
    pod: &'a str,
}

pub(super) fn run(args: &Args, format: Format) -> Result<(), Failure> {
    let given = match &args.pods[..] {
        [] => lines()?,
        given => given.to_vec(),
    };
    let pod = pick(&args.key, args.algorithm, &given)?;
    match format {
        Format::Text => print(format!("{pod}\n")),
        Format::Json => print(json_line(&Picked { key: &args.key, algorithm: args.algorithm, pod: &pod })?),
    }
}

/// One name on each line; empty lines are none.
fn lines() -> Result<Vec<String>, Failure> {
    let mut text = String::new();
    let mut stdin = std::io::stdin().lock();
    // Nobody types them.
    if !stdin.is_terminal() {
        stdin.read_to_string(&mut text).map_err(|error| Failure::other(format!("failed to read stdin: {error}")))?;
    }
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn pick(key: &str, algorithm: Algorithm, given: &[String]) -> Result<String, Failure> {
    // Once each, whatever a script repeats.
    let given: BTreeSet<&str> = given.iter().map(String::as_str).collect();
    let pods: Vec<Result<PodName, String>> =
        given.iter().map(|name| name.parse().map_err(|_| format!("`{name}` is no name of a pod"))).collect();
    let wrong: Vec<&str> = pods.iter().filter_map(|pod| pod.as_ref().err()).map(String::as_str).collect();
    if !wrong.is_empty() {
        return Err(Failure::usage(wrong.join("\n")));
    }
    let none = || Failure::usage("no pods are given: name them as arguments, or one on each line of stdin");
    if algorithm == Algorithm::Ketama {
        let names: Vec<&str> = given.into_iter().collect();
        return ketama::pick(key, &names).map(str::to_owned).ok_or_else(none);
    }
    let project = StickyKey::new(key);
    if project.is_unknown() {
        return Err(Failure::usage("--key is empty: builds of which nothing is known belong to no pod"));
    }
    let ready: Vec<Candidate> = pods.into_iter().flatten().map(|pod| Candidate { pod, running: 0 }).collect();
    let placing = Placing { project, ..Placing::default() };
    // As the proxy asks for a build of that project.
    let chosen = choose(LoadBalance::Sticky, &placing, 0, &ready).ok_or_else(none)?;
    Ok(chosen.pod.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_key_has_one_pod_whatever_the_order_of_the_pods() {
        for algorithm in [Algorithm::Rendezvous, Algorithm::Ketama] {
            let picked = pick("github.com/team/app:.", algorithm, &names(&["b-0", "b-1", "b-2"])).unwrap();
            let again = pick("github.com/team/app:.", algorithm, &names(&["b-2", "b-0", "b-1", "b-0"])).unwrap();
            assert_eq!(picked, again, "{algorithm:?}");
        }
        // The library of BuildKit's example says so, too.
        assert_eq!(
            pick("apple", Algorithm::Ketama, &(1..=100).map(|n| format!("node-{n}")).collect::<Vec<_>>()).unwrap(),
            "node-48"
        );
    }

    #[test]
    fn what_cannot_be_picked_from_is_a_usage_error() {
        for (key, algorithm, pods, words) in [
            ("k", Algorithm::Rendezvous, &[][..], "no pods are given"),
            ("k", Algorithm::Ketama, &[], "no pods are given"),
            ("", Algorithm::Rendezvous, &["a"], "--key is empty"),
            (
                "k",
                Algorithm::Rendezvous,
                &["a b", "c", "d e"],
                "`a b` is no name of a pod\n  `d e` is no name of a pod",
            ),
        ] {
            let failure = pick(key, algorithm, &names(pods)).unwrap_err();
            assert!(failure.render().contains(words), "{}", failure.render());
            assert_eq!(failure.exit() as u8, 2);
        }
    }
}
