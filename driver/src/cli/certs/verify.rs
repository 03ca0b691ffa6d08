//! `buildfleet certs verify`: whether a daemon and the clients' certificates accept each other, and nobody else is let in.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::super::failure::Failure;
use super::super::output::{Format, json_line, print};
use super::super::table::columns;
use super::super::{Context, units};
use super::directory::{CA, CERTIFICATE, Directory, Held, KEY, text};
use super::probe::{Server, Silence, Target};
use super::{Place, create};
use crate::builder::RemoteAddress;
use crate::certificates::ClientPair;

/// How long the daemon may take for each answer.
const WITHIN: Duration = Duration::from_secs(5);

/// Check that a daemon accepts the clients of a directory, is accepted by them, and lets nobody else in
///
/// It is also asked without a certificate and with one of another authority. The exit code is 1 when something is not as it should be.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the daemon is: HOST:PORT or tcp://HOST:PORT
    #[arg(value_name = "ADDR")]
    address: String,
    #[command(flatten)]
    place: Place,
    /// The name to look for in the daemon's certificate, instead of the host
    #[arg(long, value_name = "NAME")]
    servername: Option<String>,
}

/// One question, and what came of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    subject: &'static str,
    good: bool,
    text: String,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let target = target(args)?;
    let directory = Directory::new(args.place.dir.clone());
    let held = directory.read()?;
    let checks = checks(&directory, &held, &target).await?;
    match context.format {
        Format::Text => print(table(&checks))?,
        Format::Json => print(checks.iter().map(json_line).collect::<Result<String, _>>()?)?,
    }
    match checks.iter().filter(|check| !check.good).count() {
        0 => Ok(()),
        failed => Err(Failure::other(format!("{failed} of {} checks failed", checks.len()))),
    }
}

fn target(args: &Args) -> Result<Target, Failure> {
    let address = if args.address.contains("://") { args.address.clone() } else { format!("tcp://{}", args.address) };
    match address.parse::<RemoteAddress>() {
        Ok(RemoteAddress::Tcp { host, port }) => {
            let name = args.servername.clone().unwrap_or_else(|| host.clone());
            Ok(Target { host, port, name, within: WITHIN })
        }
        Ok(_) => {
            Err(Failure::usage(format!("`{}` has no TLS: accepted are HOST:PORT and tcp://HOST:PORT", args.address)))
        }
        Err(error) => Err(Failure::usage(error.to_string())),
    }
}

async fn checks(directory: &Directory, held: &Held, target: &Target) -> Result<Vec<Check>, Failure> {
    let files = [CA, CERTIFICATE, KEY].map(|name| directory.file("client", name));
    let [ca, certificate, key] = &files;
    let ca = text(ca, &held.client.ca);
    let ours =
        ClientPair { certificate: text(certificate, &held.client.certificate), key: text(key, &held.client.key) };
    let server = target.server(&ca, &ours).await;
    let mut checks = vec![of_server(server.as_ref(), target)];
    if server.is_err() {
        // What it would say to others is told only by who trusts it.
        return Ok(checks);
    }
    let version = match target.let_in(&ca, Some(&ours)).await {
        Ok(()) => target.version(&ca, &ours).await,
        Err(refused) => Err(refused),
    };
    checks.push(of_client("our certificate", version, true));
    let nobody = target.let_in(&ca, None).await;
    checks.push(of_client("no certificate", nobody.map(|()| String::new()), false));
    let stranger = stranger()?;
    let place = std::path::Path::new("a certificate of another authority");
    let theirs = ClientPair { certificate: text(place, &stranger.0), key: text(place, &stranger.1) };
    let other = target.let_in(&ca, Some(&theirs)).await;
    checks.push(of_client("another authority", other.map(|()| String::new()), false));
    Ok(checks)
}

/// A client's certificate by an authority that nobody has heard of.
fn stranger() -> Result<(String, String), Failure> {
    let now = SystemTime::now();
    let validity = crate::certificates::Validity::starting(now, create::lifetime(1));
    let signed = create::authority(now).and_then(|authority| create::client(&authority, validity, ""));
    signed.map(|side| (side.certificate, side.key)).map_err(|error| create::unmade(&error))
}

fn of_server(server: Result<&Server, &Silence>, target: &Target) -> Check {
    let subject = "the daemon";
    match server {
        Ok(Server { version, certificate }) => {
            let (version, name) = (version.replace("TLSv1_", "TLS 1."), &target.name);
            let end = units::plain_time(&certificate.not_after().into());
            let text = format!("is trusted as {name} until {end} ({version}, {})", certificate.algorithm());
            Check { subject, good: true, text }
        }
        Err(Silence::Refused(text) | Silence::Other(text)) => Check { subject, good: false, text: text.clone() },
    }
}

fn of_client(subject: &'static str, answer: Result<String, Silence>, is_ours: bool) -> Check {
    let (good, text) = match (answer, is_ours) {
        (Ok(version), true) => (true, format!("is let in, by BuildKit {version}")),
        (Ok(_), false) => (false, "is let in: whoever reaches the address can build".to_owned()),
        (Err(Silence::Refused(why)), is_ours) => (!is_ours, why),
        (Err(Silence::Other(why)), _) => (false, why),
    };
    Check { subject, good, text }
}

fn table(checks: &[Check]) -> String {
    let row = |check: &Check| {
        let verdict = if check.good { "ok" } else { "FAILS" };
        vec![verdict.to_owned(), check.subject.to_owned(), check.text.clone()]
    };
    columns(&checks.iter().map(row).collect::<Vec<_>>(), 0, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(address: &str, servername: Option<&str>) -> Args {
        let place = Place { dir: ".certs".into() };
        Args { address: address.to_owned(), place, servername: servername.map(str::to_owned) }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (address, servername, host, port, name) in [
            ("10.0.0.1:1234", None, "10.0.0.1", 1234, "10.0.0.1"),
            ("tcp://buildkitd.b.svc:1", None, "buildkitd.b.svc", 1, "buildkitd.b.svc"),
            ("tcp://127.0.0.1:1234", Some("buildkitd"), "127.0.0.1", 1234, "buildkitd"),
        ] {
            let target = target(&args(address, servername)).unwrap();
            assert_eq!((target.host.as_str(), target.port, target.name.as_str()), (host, port, name));
        }
        for address in ["unix:///run/buildkitd.sock", "10.0.0.1", "10.0.0.1:x", "http://a:1", ""] {
            assert_eq!(target(&args(address, None)).unwrap_err().exit() as u8, 2, "{address}");
        }
    }

    #[test]
    fn only_our_client_may_be_let_in_and_only_a_refusal_is_one() {
        let refused = || Err(Silence::Refused("no".to_owned()));
        let broken = || Err(Silence::Other("reset".to_owned()));
        for (answer, is_ours, good) in [
            (Ok("v1".to_owned()), true, true),
            (Ok("v1".to_owned()), false, false),
            (refused(), true, false),
            (refused(), false, true),
            (broken(), true, false),
            (broken(), false, false),
        ] {
            assert_eq!(of_client("x", answer.clone(), is_ours).good, good, "{answer:?} {is_ours}");
        }
    }
}
