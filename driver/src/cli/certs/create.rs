//! `buildfleet certs create`: an authority, a certificate for daemons and one for clients.

use std::time::{Duration, SystemTime};

use super::super::failure::Failure;
use super::super::output::{Format, print};
use super::super::{Context, units};
use super::directory::{Directory, Held, Side};
use super::{Place, Secrets, show};
use crate::certificates::{Authority, Purpose, SignError, SubjectName, Validity};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Of an authority: it should outlive several sets of what it signs.
const AUTHORITY_DAYS: u32 = 3650;

/// How long the certificates of daemons and clients hold.
pub(super) const DAYS: &str = "730";

/// The name that BuildKit's example gives its clients. Nobody looks at it.
const CLIENT: &str = "client";

/// Make an authority, a certificate for daemons and one for clients, with Secrets of them
///
/// Daemons and clients of one directory accept each other, and nobody else. The directory has the layout of BuildKit's
/// examples: daemon/ and client/ with ca.pem, cert.pem and key.pem, and beside them ca/ with what renews them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The names and addresses by which clients reach the daemons, as in buildkitd.builds.svc or 127.0.0.1
    #[arg(required = true, value_name = "SAN")]
    names: Vec<String>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    secrets: Secrets,
    /// How many days the certificates of daemons and clients hold
    #[arg(long, value_name = "N", default_value = DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Do not keep the authority's key: nobody can sign with it again, and to renew takes a change of the authority
    #[arg(long)]
    forget_ca_key: bool,
    /// Replace what the directory holds, which running daemons and clients then no longer accept
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    args.secrets.check()?;
    let names = subject_names(&args.names)?;
    let directory = Directory::new(args.place.dir);
    let present = directory.present(&args.secrets.names());
    if !present.is_empty() && !args.force {
        return Err(Failure::other(format!(
            "{} holds certificates already: {}",
            directory.shown(),
            present.join(", ")
        ))
        .hint("`buildfleet certs renew` makes new certificates that running daemons and clients accept")
        .hint("--force replaces them by others, with an authority that nobody trusts yet"));
    }
    let now = SystemTime::now();
    let held = create(&names, args.days, !args.forget_ca_key, now).map_err(|error| unmade(&error))?;
    args.secrets.put(context, &directory, &held, args.force).await?;
    match context.format {
        Format::Text => print(format!("{}\n", directory.shown()))?,
        Format::Json => print(show::documents(&directory, &held)?)?,
    }
    tell(context, &directory, &args.secrets, lifetime(args.days), now);
    Ok(())
}

fn tell(context: &Context, directory: &Directory, secrets: &Secrets, lifetime: Duration, now: SystemTime) {
    let end = units::plain_time(&(now + lifetime).into());
    context.info(&format!("the certificates hold until {end}; `buildfleet certs renew` makes new ones in time"));
    if !secrets.apply {
        let [daemon, _] = secrets.names();
        context.info(&format!("`kubectl apply -f {}/{daemon}.yaml` gives them to the daemons", directory.shown()));
    }
}

pub(super) fn unmade(error: &SignError) -> Failure {
    Failure::other(crate::report::chain(error))
}

pub(super) fn lifetime(days: u32) -> Duration {
    days * DAY
}

/// All that are wrong at once; each name once.
pub(super) fn subject_names(given: &[String]) -> Result<Vec<SubjectName>, Failure> {
    let (mut names, mut wrong) = (Vec::new(), Vec::new());
    for text in given {
        match text.parse::<SubjectName>() {
            Ok(name) if names.contains(&name) => {}
            Ok(name) => names.push(name),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() { Ok(names) } else { Err(Failure::usage(wrong.join("\n"))) }
}

/// A new authority. Its name has the day in it, so that people tell two of them apart.
pub(super) fn authority(now: SystemTime) -> Result<Authority, SignError> {
    let time = units::whole_seconds(&now.into());
    Authority::create(&format!("buildkit CA {time}"), Validity::starting(now, lifetime(AUTHORITY_DAYS)))
}

/// What daemons show.
pub(super) fn daemon(
    authority: &Authority,
    names: &[SubjectName],
    validity: Validity,
    ca: &str,
) -> Result<Side, SignError> {
    let signed = authority.sign("buildkitd", names, Purpose::Server, validity)?;
    Ok(Side { ca: ca.to_owned(), certificate: signed.certificate, key: signed.key })
}

/// What clients show.
pub(super) fn client(authority: &Authority, validity: Validity, ca: &str) -> Result<Side, SignError> {
    let name = SubjectName::Dns(CLIENT.to_owned());
    let signed = authority.sign(CLIENT, &[name], Purpose::Client, validity)?;
    Ok(Side { ca: ca.to_owned(), certificate: signed.certificate, key: signed.key })
}

fn create(names: &[SubjectName], days: u32, keep: bool, now: SystemTime) -> Result<Held, SignError> {
    let authority = authority(now)?;
    let validity = Validity::starting(now, lifetime(days));
    let ca = authority.certificate();
    Ok(Held {
        daemon: daemon(&authority, names, validity, ca)?,
        client: client(&authority, validity, ca)?,
        authority: keep.then(|| (ca.to_owned(), authority.key())),
    })
}

#[cfg(test)]
pub(super) fn made(keep: bool, now: SystemTime) -> Held {
    create(&["buildkitd".parse().unwrap(), "127.0.0.1".parse().unwrap()], 730, keep, now).unwrap()
}
