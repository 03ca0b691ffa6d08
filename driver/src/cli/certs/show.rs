//! `buildfleet certs show`: what the certificates of a directory say, and what is wrong with them.

use std::time::{Duration, SystemTime};

use buildfleet_proto::Timestamp;
use serde::Serialize;

use super::super::failure::Failure;
use super::super::output::{Format, json_line, print};
use super::super::table::columns;
use super::super::{Context, units};
use super::Place;
use super::change::{Step, next_step};
use super::directory::{CA, CERTIFICATE, Directory, Held, KEY, Side, text};
use crate::certificates::{Certificate, ReadError, check_pair};
use crate::report;

/// Show the certificates of a directory: whose they are, what they are for, and when they end
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct View {
    file: String,
    subject: String,
    issuer: String,
    names: Vec<String>,
    usages: Vec<&'static str>,
    algorithm: String,
    not_before: String,
    not_after: String,
    fingerprint: String,
}

/// A certificate and the file that it stands in.
struct Shown {
    file: String,
    certificate: Certificate,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let directory = Directory::new(args.place.dir.clone());
    let held = directory.read()?;
    let now = SystemTime::now();
    match context.format {
        Format::Text => print(table(&all(&directory, &held)?, now))?,
        Format::Json => print(documents(&directory, &held)?)?,
    }
    for problem in problems(&directory, &held, now).map_err(|error| unreadable(&error))? {
        context.warning(&problem);
    }
    let next = next_step(&directory, &held).map_err(|error| unreadable(&error))?;
    if next != Step::Trust {
        context.info(&format!(
            "a change of the authority is under way: `buildfleet certs renew --new-ca {}` is its next step",
            next.word()
        ));
    }
    Ok(())
}

fn unreadable(error: &ReadError) -> Failure {
    Failure::other(report::chain(error))
}

/// One document for each certificate.
pub(super) fn documents(directory: &Directory, held: &Held) -> Result<String, Failure> {
    all(directory, held)?.iter().map(|shown| json_line(&view(shown))).collect()
}

fn all(directory: &Directory, held: &Held) -> Result<Vec<Shown>, Failure> {
    let (daemon, client) = (&held.daemon, &held.client);
    let own = held.authority.iter().map(|(certificate, _)| ("ca", CERTIFICATE, certificate));
    let of = |side, held: &'_ Side| [(side, CA, held.ca.clone()), (side, CERTIFICATE, held.certificate.clone())];
    let files = own.map(|(side, name, pem)| (side, name, pem.clone()));
    let mut all = Vec::new();
    for (side, name, pem) in files.chain(of("daemon", daemon)).chain(of("client", client)) {
        let read = directory.certificates(side, name, &pem).map_err(|error| unreadable(&error))?;
        all.extend(read.into_iter().map(|certificate| Shown { file: format!("{side}/{name}"), certificate }));
    }
    Ok(all)
}

fn view(shown: &Shown) -> View {
    let certificate = &shown.certificate;
    View {
        file: shown.file.clone(),
        subject: certificate.subject().to_owned(),
        issuer: certificate.issuer().to_owned(),
        names: certificate.names().to_vec(),
        usages: certificate.usages().to_vec(),
        algorithm: certificate.algorithm().to_owned(),
        not_before: Timestamp::from(certificate.not_before()).to_string(),
        not_after: Timestamp::from(certificate.not_after()).to_string(),
        fingerprint: certificate.fingerprint(),
    }
}

fn table(all: &[Shown], now: SystemTime) -> String {
    let mut rows = vec![["FILE", "SUBJECT", "NAMES", "ENDS", "KEY", "FOR"].map(str::to_owned).to_vec()];
    for Shown { file, certificate } in all {
        let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        rows.push(vec![
            file.clone(),
            certificate.subject().to_owned(),
            or_none(certificate.names().join(", ")),
            ends(certificate.not_after(), now),
            certificate.algorithm().to_owned(),
            or_none(certificate.usages().join(", ")),
        ]);
    }
    columns(&rows, 0, 3)
}

/// `2028-11-21 00:30:00 UTC, in 729 days`
fn ends(end: SystemTime, now: SystemTime) -> String {
    let at = units::plain_time(&end.into());
    let span = |span: Duration| match span.as_secs() / (24 * 60 * 60) {
        0 | 1 => units::roughly(span),
        days => format!("{days} days"),
    };
    match end.duration_since(now) {
        Ok(left) => format!("{at}, in {}", span(left)),
        Err(past) => format!("{at}, {} ago", span(past.duration())),
    }
}

/// What keeps daemons and clients from accepting each other, now or soon.
fn problems(directory: &Directory, held: &Held, now: SystemTime) -> Result<Vec<String>, ReadError> {
    let mut problems = Vec::new();
    for (side, own, others, other) in
        [("daemon", &held.daemon, "client", &held.client), ("client", &held.client, "daemon", &held.daemon)]
    {
        let (file, key) = (directory.file(side, CERTIFICATE), directory.file(side, KEY));
        if let Err(error) = check_pair(&text(&file, &own.certificate), &text(&key, &own.key)) {
            problems.push(report::chain(&error));
        }
        let shown = directory.certificates(side, CERTIFICATE, &own.certificate)?.swap_remove(0);
        let file = file.display();
        let purpose = if side == "daemon" { "server" } else { "client" };
        if !shown.usages().contains(&purpose) {
            problems.push(format!("{file} is not for a {purpose}: the other side refuses it"));
        }
        let trusted = directory.certificates(others, CA, &other.ca)?;
        if !trusted.iter().any(|ca| shown.is_signed_by(ca)) {
            let ca = directory.file(others, CA);
            problems.push(format!("{file} is by no authority of {}: the other side refuses it", ca.display()));
        }
        if shown.not_after() < now {
            problems.push(format!("{file} has ended: the other side refuses it"));
        } else if shown.is_due(now) {
            problems.push(format!("{file} ends soon: `buildfleet certs renew` makes a new one"));
        }
        for ca in trusted.iter().filter(|ca| ca.is_due(now)) {
            let (ca, file) = (ca.subject(), directory.file(others, CA));
            problems.push(format!(
                "authority {ca} in {} has ended or ends soon: `buildfleet certs renew --new-ca trust` begins a change",
                file.display()
            ));
        }
    }
    problems.extend(directory.readable_keys().into_iter().map(|key| format!("others than its owner can read {key}")));
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::super::create::made;
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn each_certificate_has_a_row_that_says_what_it_is_for() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let directory = Directory::new(".certs".into());
        let text = table(&all(&directory, &made(true, now)).unwrap(), now);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        let ca = "CN=buildkit CA 2024-10-04 00:00:00";
        let ca_end = "2034-10-02 00:00:00 UTC, in 3650 days";
        let end = "2026-10-04 00:00:00 UTC, in 730 days";
        let ca_row = |file| vec![file, ca, "-", ca_end, "ECDSA P-256", "certificates"];
        let leaf = |file, subject, names, usages| vec![file, subject, names, end, "ECDSA P-256", usages];
        assert_eq!(
            rows[1..],
            [
                ca_row("ca/cert.pem"),
                ca_row("daemon/ca.pem"),
                leaf("daemon/cert.pem", "CN=buildkitd", "buildkitd, 127.0.0.1", "digital signature, server"),
                ca_row("client/ca.pem"),
                leaf("client/cert.pem", "CN=client", "client", "digital signature, client"),
            ],
            "{text}"
        );
    }

    #[test]
    fn documents_hold_no_key() {
        let directory = Directory::new(".certs".into());
        let text = documents(&directory, &made(true, SystemTime::now())).unwrap();
        assert_eq!(text.lines().count(), 5);
        assert!(text.contains("\"Fingerprint\":\"") && !text.contains("PRIVATE"), "{text}");
    }

    #[test]
    fn what_the_other_side_would_refuse_is_told() {
        let now = SystemTime::now();
        let directory = Directory::new(".certs".into());
        let (good, other) = (made(true, now), made(true, now));
        let stranger = Held { client: other.client.clone(), ..good.clone() };
        let swapped = Held { daemon: Side { key: other.daemon.key, ..good.daemon.clone() }, ..good.clone() };
        let client = Side { ca: good.daemon.ca.clone(), ..good.client.clone() };
        let turned = Held { daemon: client, client: good.daemon.clone(), ..good.clone() };
        for (held, later, wanted) in [
            (&good, 0, &[][..]),
            (&stranger, 0, &["daemon/cert.pem is by no authority", "client/cert.pem is by no authority"]),
            (&swapped, 0, &["cert.pem and the key in .certs/daemon/key.pem can't be used together"]),
            (&turned, 0, &["daemon/cert.pem is not for a server", "client/cert.pem is not for a client"]),
            (&good, 710, &["daemon/cert.pem ends soon", "client/cert.pem ends soon"]),
            (&good, 740, &["daemon/cert.pem has ended", "client/cert.pem has ended"]),
        ] {
            let told = problems(&directory, held, now + later * DAY).unwrap();
            assert_eq!(told.len(), wanted.len(), "{told:?}");
            assert!(told.iter().zip(wanted).all(|(told, wanted)| told.contains(wanted)), "{told:?}");
        }
    }
}
