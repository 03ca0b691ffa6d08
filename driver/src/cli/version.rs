//! `buildfleet version`: of this program and of the daemon that runs.

use serde::Serialize;

use super::client::Client;
use super::failure::Failure;
use super::output::{Format, json_line, print};
use crate::settings::Settings;

/// Print the version of this program and of the daemon, when one runs
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct View {
    version: &'static str,
    daemon: Option<Daemon>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Daemon {
    version: String,
    pid: u32,
    runtime_dir: String,
    state_dir: String,
}

/// Needs no working environment: without settings there is no daemon to ask.
pub(super) async fn run(_: Args, settings: Option<&Settings>, format: Format) -> Result<(), Failure> {
    let client = match settings {
        Some(settings) => Client::connect_to_running(settings).await?,
        None => None,
    };
    let daemon = match client {
        Some(mut client) => {
            let answer = client.version().await?;
            Some(Daemon {
                version: answer.version,
                pid: answer.pid,
                runtime_dir: answer.runtime_dir,
                state_dir: answer.state_dir,
            })
        }
        None => None,
    };
    let view = View { version: env!("CARGO_PKG_VERSION"), daemon };
    match format {
        Format::Text => print(text(&view)),
        Format::Json => print(json_line(&view)?),
    }
}

fn text(view: &View) -> String {
    let daemon = match &view.daemon {
        Some(Daemon { version, pid, runtime_dir, .. }) => format!("{version}, pid {pid}, at {runtime_dir}"),
        None => "not running".to_owned(),
    };
    format!("buildfleet {}\ndaemon: {daemon}\n", view.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_told_apart() {
        let mut view = View { version: "1.2.3", daemon: None };
        assert_eq!(text(&view), "buildfleet 1.2.3\ndaemon: not running\n");
        view.daemon = Some(Daemon {
            version: "1.2.2".into(),
            pid: 7,
            runtime_dir: "/run/buildfleet".into(),
            state_dir: "/s".into(),
        });
        assert_eq!(text(&view), "buildfleet 1.2.3\ndaemon: 1.2.2, pid 7, at /run/buildfleet\n");
    }
}
