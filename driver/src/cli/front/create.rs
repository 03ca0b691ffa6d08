//! `docker buildx create --driver kubernetes`, and what else `create` does to a builder of ours.

use std::path::PathBuf;
use std::str::FromStr;

use buildfleet_proto::fleet::{Builder, LeaveRequest};

use super::pflag::Given;
use super::whose::store;
use super::{Call, TO_THE_REAL_ONE, docker};
use crate::builder::{Driver, Platform};
use crate::cli::buildx::{self, DEFAULT_CONFIG};
use crate::cli::create;
use crate::cli::failure::{Exit, Failure};
use crate::cli::progress::{Style, follow_or_interrupt};

pub(super) async fn run(mut call: Call, given: &Given) -> Result<u8, Failure> {
    let name = given.text("name").unwrap_or_default().to_ascii_lowercase();
    if given.is("leave") {
        return leave(call, given, &name).await;
    }
    let builders = call.client().await?.list().await?;
    let existing = builders.iter().find(|builder| builder.name == name);
    if let Some(refused) = refusal(given, &name, existing, &docker::contexts()) {
        return Err(Failure::other(refused));
    }
    // Changes of a node are shown, which is the one note that a user of buildx has to see.
    call.context.quiet = false;
    let driver = given.text("driver").map(str::to_owned).or_else(|| existing.map(|builder| builder.driver.clone()));
    let args = create::Args {
        name: (!name.is_empty()).then_some(name),
        driver: driver.clone(),
        driver_opt: given.list("driver-opt"),
        node: given.text("node").filter(|node| !node.is_empty()).map(str::to_owned),
        append: given.is("append"),
        platform: given.list("platform").iter().map(|list| platforms(list, &Platform::host())).collect(),
        buildkitd_flags: given.text("buildkitd-flags").filter(|flags| !flags.is_empty()).map(str::to_owned),
        buildkitd_config: config(given, driver.as_deref()),
        bootstrap: given.is("bootstrap"),
        use_it: given.is("use"),
        endpoint: given.words.first().cloned(),
        as_buildx: true,
        status_timeout: given.text("timeout").map(str::to_owned),
        ..create::Args::default()
    };
    create::run(args, &call.context).await.map(|()| 0).map_err(|failure| match failure.exit() {
        // An option that a later buildx knows, perhaps.
        Exit::Usage if failure.render().contains(": unknown") => failure.hint(TO_THE_REAL_ONE),
        // The daemon's hints are in the words of `buildfleet create`.
        _ if failure.render().contains("--force") => failure
            .hint("--force and --attach are flags of `buildfleet create`, which makes and changes the same builders"),
        _ => failure,
    })
}

/// What buildx refuses before it makes anything, in its words.
fn refusal(given: &Given, name: &str, existing: Option<&Builder>, contexts: &[String]) -> Option<String> {
    let append = given.is("append");
    let node = given.text("node").unwrap_or_default();
    if name == "default" {
        return Some("default is a reserved name and cannot be used to identify builder instance".to_owned());
    }
    if append && name.is_empty() {
        return Some("append requires a builder name".to_owned());
    }
    if !append && contexts.iter().any(|context| context == name) {
        return Some(format!("instance name {name:?} already exists as context builder"));
    }
    let driver = given.text("driver").filter(|driver| !driver.is_empty());
    match existing {
        None if append => return Some(format!("failed to find instance {name:?} for append")),
        Some(_) if node.is_empty() && !append => {
            return Some(format!(
                "existing instance for {name:?} but no append mode, specify the node name to make changes for existing instances"
            ));
        }
        // What is no driver of ours is one of buildx's.
        Some(builder) if driver.is_some_and(|driver| Driver::from_str(driver).is_err()) => {
            return Some(format!("existing instance for {name:?} but has mismatched driver {:?}", builder.driver));
        }
        Some(builder) if !append && builder.nodes.iter().all(|known| known.name != node) => {
            return Some(format!("node {node} not found, did you mean to append?"));
        }
        _ => {}
    }
    let driver = driver.or_else(|| existing.map(|builder| builder.driver.as_str()));
    match given.words.first() {
        Some(endpoint) if driver != Some("remote") => {
            Some(format!("{} driver does not support endpoint args {endpoint:?}", driver.unwrap_or("kubernetes")))
        }
        _ => None,
    }
}

/// One `--platform` as containerd reads it: `local` is this machine, and an architecture alone is one of Linux.
fn platforms(list: &str, host: &Platform) -> String {
    let one = |word: &str| match word.trim() {
        "local" | "linux" => host.to_string(),
        arch if !arch.is_empty() && !arch.contains('/') => format!("linux/{arch}"),
        whole => whole.to_owned(),
    };
    list.split(',').map(one).collect::<Vec<_>>().join(",")
}

/// `--buildkitd-config`, else what buildx takes for every node that it runs.
fn config(given: &Given, driver: Option<&str>) -> Option<PathBuf> {
    if let Some(file) = given.text("buildkitd-config").filter(|file| !file.is_empty()) {
        return Some(PathBuf::from(file));
    }
    let default = store()?.dir().join(DEFAULT_CONFIG);
    (driver != Some("remote") && default.is_file()).then_some(default)
}

/// `create --leave`: prints nothing, as in buildx.
async fn leave(call: Call, given: &Given, name: &str) -> Result<u8, Failure> {
    let node = given.text("node").unwrap_or_default();
    if name.is_empty() {
        return Err(Failure::other("leave requires instance name"));
    }
    if node.is_empty() {
        return Err(Failure::other("leave requires node name"));
    }
    let mut client = call.client().await?;
    let builders = client.list().await?;
    let Some(builder) = builders.iter().find(|builder| builder.name == name) else {
        return call.relay().await;
    };
    if builder.nodes.iter().all(|known| known.name != node) {
        return Err(Failure::other(format!("node {node:?} not found for {name}")));
    }
    if builder.nodes.len() == 1 {
        return Err(Failure::other("can not leave last node, do you want to rm instance instead?"));
    }
    let request = LeaveRequest { builder: name.to_owned(), node: node.to_owned(), ..LeaveRequest::default() };
    follow_or_interrupt(client.leave(request).await?, Style::Quiet).await?;
    buildx::leave(&call.context, &mut client, name, node).await;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::front::commands::{Line, read};
    use crate::cli::samples;

    fn given(line: &str) -> Given {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match read(&words) {
            Ok(Line::Ours(_, given)) => given,
            other => panic!("{line}: {other:?}"),
        }
    }

    // What docker-buildx v0.36.0 says.
    #[test]
    fn what_buildx_refuses_is_refused_in_its_words() {
        let builders = samples::builders();
        let kube = builders.iter().find(|builder| builder.name == "kube");
        for (line, existing, wanted) in [
            (
                "create --name default",
                None,
                "default is a reserved name and cannot be used to identify builder instance",
            ),
            ("create --append", None, "append requires a builder name"),
            ("create --name ctx", None, "instance name \"ctx\" already exists as context builder"),
            ("create --name kube --append", None, "failed to find instance \"kube\" for append"),
            (
                "create --name kube",
                kube,
                "existing instance for \"kube\" but no append mode, specify the node name to make changes for existing instances",
            ),
            (
                "create --name kube --append --driver docker-container",
                kube,
                "existing instance for \"kube\" but has mismatched driver \"kubernetes\"",
            ),
            ("create --name kube --node nix", kube, "node nix not found, did you mean to append?"),
            ("create --name k --driver kubernetes x", None, "kubernetes driver does not support endpoint args \"x\""),
            (
                "create --name kube --append desktop",
                kube,
                "kubernetes driver does not support endpoint args \"desktop\"",
            ),
        ] {
            let given = given(line);
            let name = given.text("name").unwrap_or_default().to_owned();
            let said = refusal(&given, &name, existing, &["ctx".to_owned()]);
            assert_eq!(said.as_deref(), Some(wanted), "{line}");
        }
        for (line, existing) in [
            ("create --driver kubernetes", None),
            ("create --name kube --append --driver kubernetes", kube),
            ("create --name kube --append --driver local", kube),
            ("create --name kube --append --driver remote tcp://h:1", kube),
            ("create --name kube --node kube0 --driver-opt replicas=2", kube),
            ("create --name ctx --append --driver kubernetes", kube),
        ] {
            let given = given(line);
            let name = given.text("name").unwrap_or_default().to_owned();
            assert_eq!(refusal(&given, &name, existing, &["ctx".to_owned()]), None, "{line}");
        }
    }

    #[test]
    fn platforms_are_read_as_containerd_reads_them() {
        let host: Platform = "linux/riscv64".parse().expect("a platform");
        for (given, wanted) in [
            ("linux/amd64,linux/arm64", "linux/amd64,linux/arm64"),
            ("arm64, amd64", "linux/arm64,linux/amd64"),
            ("local", "linux/riscv64"),
            ("linux", "linux/riscv64"),
            ("x/y/z/w", "x/y/z/w"),
        ] {
            assert_eq!(platforms(given, &host), wanted, "{given}");
        }
    }
}
