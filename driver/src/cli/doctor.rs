//! `buildfleet doctor`: what works, what does not, and what to do about it.

use buildfleet_proto::fleet::finding::Verdict;
use buildfleet_proto::fleet::{Builder, ExamineRequest, Finding};
use serde::Serialize;

use super::choice::{Given, choose};
use super::client::Client;
use super::failure::Failure;
use super::output::{Format, json_line, print};
use super::{Context, buildkit, buildx};
use crate::settings::Process;

mod page;

/// Check what a builder needs, or without any builder what a new one would need; starts no pod
///
/// The exit code is 1 when something that is needed does not work.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The builder; without it, $BUILDFLEET_BUILDER or the current one
    #[arg(conflicts_with = "driver_opt")]
    builder: Option<String>,
    /// Without a builder: check what a new one with these options of the driver would need, as in rootless=true
    #[arg(long, value_name = "KEY=VALUE,...")]
    driver_opt: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FindingView<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    builder: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    node: &'a str,
    subject: &'a str,
    verdict: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'a str,
}

/// The findings on one thing.
#[derive(Debug)]
struct Section {
    title: String,
    findings: Vec<Finding>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut client = context.client().await?;
    let builder = match args.driver_opt.is_empty() {
        true => meant(&mut client, context, args.builder).await?,
        false => None,
    };
    let mut sections =
        vec![Section { title: "This machine".to_owned(), findings: machine(&mut client, context).await? }];
    match &builder {
        Some(builder) => {
            // A daemon of another version may not know the question; the rest is worth to be told all the same.
            let mut findings = match client.examine(named(&builder.name)).await {
                Ok(findings) => findings,
                Err(failure) => vec![finding(Verdict::Fails, "daemon", &one_line(&failure))],
            };
            let own: Vec<Finding> = findings.iter().filter(|finding| finding.node.is_empty()).cloned().collect();
            if !own.is_empty() {
                sections.push(Section { title: format!("Builder {}", builder.name), findings: own });
            }
            let sockets = buildkit::sockets(builder).await;
            findings.extend(sockets.into_iter().map(|(node, answer)| socket(&node, answer)));
            for node in &builder.nodes {
                let title = format!("Node {} of builder {} ({})", node.name, builder.name, node.endpoint);
                let own = findings.iter().filter(|finding| finding.node == node.name).cloned().collect();
                sections.push(Section { title, findings: own });
            }
        }
        None => sections.push(planned(&mut client, context, args.driver_opt).await?),
    }
    let name = builder.as_ref().map(|builder| builder.name.as_str()).unwrap_or_default();
    match context.format {
        Format::Text => print(page::text(&sections))?,
        Format::Json => print(json(name, &sections)?)?,
    }
    let failing = sections.iter().flat_map(|section| &section.findings).filter(|it| it.verdict() == Verdict::Fails);
    match failing.count() {
        0 => Ok(()),
        1 => Err(Failure::other("one thing that is needed does not work")),
        count => Err(Failure::other(format!("{count} things that are needed do not work"))),
    }
}

fn named(builder: &str) -> ExamineRequest {
    ExamineRequest { builder: builder.to_owned(), ..ExamineRequest::default() }
}

/// The builder that is named, else the current one; `None` when there is none at all.
async fn meant(client: &mut Client, context: &Context, given: Option<String>) -> Result<Option<Builder>, Failure> {
    let name = context.builder(given);
    if name.is_empty() {
        let builders = client.list().await?;
        if builders.is_empty() {
            return Ok(None);
        }
        if let [only] = &builders[..] {
            return Ok(Some(only.clone()));
        }
    }
    client.inspect(&name).await.map(Some)
}

/// What a new builder would need, by the choice that `create` would make.
async fn planned(client: &mut Client, context: &Context, driver_opt: Vec<String>) -> Result<Section, Failure> {
    let choice =
        choose(Given { found: context.settings.kubeconfig(), in_cluster: context.in_cluster(), ..Given::default() })?;
    let (driver, kubeconfig) = (choice.driver.to_string(), choice.kubeconfig);
    let request = ExamineRequest { builder: String::new(), driver, kubeconfig, driver_opt };
    let findings = client.examine(request).await?;
    let why = choice.why.map(|why| format!(": {why}")).unwrap_or_default();
    Ok(Section { title: format!("A new builder, by the {} driver{why}", choice.driver), findings })
}

/// The programs on this machine.
async fn machine(client: &mut Client, context: &Context) -> Result<Vec<Finding>, Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let daemon = client.version().await?;
    let running = format!("{}, pid {}, at {}", daemon.version, daemon.pid, daemon.runtime_dir);
    let mut findings = vec![finding(Verdict::Works, "buildfleet", own)];
    findings.push(if daemon.version == own {
        finding(Verdict::Works, "daemon", &running)
    } else {
        let hint =
            format!("end it with `kill {}` when no build runs: the next command starts this version", daemon.pid);
        Finding {
            hint,
            ..finding(Verdict::Warning, "daemon", &format!("{running}: another version than this program"))
        }
    });
    findings.extend(buildx::examine(&context.settings, &Process).await.into_iter().map(|it| Finding {
        subject: it.subject.to_owned(),
        verdict: it.verdict.into(),
        text: it.text,
        hint: it.hint,
        node: String::new(),
    }));
    Ok(findings)
}

fn finding(verdict: Verdict, subject: &str, text: &str) -> Finding {
    Finding { subject: subject.to_owned(), verdict: verdict.into(), text: text.to_owned(), ..Finding::default() }
}

/// Without the hints, which stand apart.
fn one_line(failure: &Failure) -> String {
    failure.render().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// What the daemon answers on a node's socket.
fn socket(node: &buildfleet_proto::fleet::Node, answer: Result<(), Failure>) -> Finding {
    let found = match answer {
        Ok(()) => finding(Verdict::Works, "socket", &format!("{} answers", node.socket)),
        Err(failure) => {
            let hint = "`buildfleet version` says where the daemon is; its log may say more".to_owned();
            Finding { hint, ..finding(Verdict::Fails, "socket", &one_line(&failure)) }
        }
    };
    Finding { node: node.name.clone(), ..found }
}

fn json(builder: &str, sections: &[Section]) -> Result<String, Failure> {
    let view = |finding: &Finding| {
        json_line(&FindingView {
            builder,
            node: &finding.node,
            subject: &finding.subject,
            verdict: word(finding.verdict()),
            text: &finding.text,
            hint: &finding.hint,
        })
    };
    sections.iter().flat_map(|section| &section.findings).map(view).collect()
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Works => "works",
        Verdict::Note => "note",
        Verdict::Warning => "warning",
        Verdict::Fails => "fails",
    }
}
