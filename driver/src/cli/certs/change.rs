//! What `renew` makes of certificates: new ones of the same authority, or the next step to another authority. Pure.

use std::time::SystemTime;

use super::create;
use super::directory::{CA, CERTIFICATE, Directory, Held, KEY};
use crate::certificates::{
    Authority, AuthorityError, Certificate, ReadError, SignError, SubjectName, Validity, is_due,
};
use crate::report;

/// A step from one authority to another. Between two of them, daemons and clients get what the one before has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Step {
    /// Make a new authority; both sides trust both, and show what they did before
    Trust,
    /// Both sides show certificates of the new authority
    Switch,
    /// Both sides trust the new authority alone
    Drop,
}

impl Step {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Switch => "switch",
            Self::Drop => "drop",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) step: Option<Step>,
    /// Other names than those of the present certificate.
    pub(super) names: Vec<SubjectName>,
    pub(super) days: u32,
    /// Also before they are due.
    pub(super) now: bool,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangeError {
    #[error("{}", report::chain(.0))]
    Read(#[from] ReadError),
    #[error("{}", report::chain(.0))]
    Authority(#[from] AuthorityError),
    #[error("{}", report::chain(.0))]
    Sign(#[from] SignError),
    #[error("{0}")]
    Names(String),
    #[error("the authority's key is not in {0}: nobody can sign with it again")]
    NoKey(String),
    #[error("the authority in {0} has not signed what is shown now")]
    OtherAuthority(String),
    #[error("the authority ends with what it would sign, on {0}")]
    AuthorityEnds(String),
    #[error("a change of the authority is under way, and its next step is `{}`", .0.word())]
    UnderWay(Step),
    #[error("`{}` is not the next step of a change of the authority: that is `{}`", given.word(), next.word())]
    OutOfOrder { given: Step, next: Step },
}

/// What came of it.
#[derive(Clone)]
pub(super) enum Renewed {
    /// Nothing needs to be renewed before that time.
    NotDue(SystemTime),
    New(Box<Held>),
}

/// How far a change of the authority has come: the step that is next.
pub(super) fn next_step(directory: &Directory, held: &Held) -> Result<Step, ReadError> {
    let trusted = directory.certificates("daemon", CA, &held.daemon.ca)?;
    if trusted.len() < 2 {
        return Ok(Step::Trust);
    }
    let Some((newest, _)) = &held.authority else { return Ok(Step::Switch) };
    let newest = directory.certificates("ca", CERTIFICATE, newest)?.swap_remove(0);
    let shown = shown(directory, held)?;
    Ok(if shown.iter().all(|shown| shown.is_signed_by(&newest)) { Step::Drop } else { Step::Switch })
}

/// The daemon's certificate and the client's.
pub(super) fn shown(directory: &Directory, held: &Held) -> Result<[Certificate; 2], ReadError> {
    let read = |side, pem: &str| Ok::<_, ReadError>(directory.certificates(side, CERTIFICATE, pem)?.swap_remove(0));
    Ok([read("daemon", &held.daemon.certificate)?, read("client", &held.client.certificate)?])
}

pub(super) fn renew(
    directory: &Directory,
    held: &Held,
    authority: Option<&Authority>,
    wanted: &Wanted,
    now: SystemTime,
) -> Result<Renewed, ChangeError> {
    let next = next_step(directory, held)?;
    match wanted.step {
        None if next == Step::Trust => same_authority(directory, held, authority, wanted, now),
        None => Err(ChangeError::UnderWay(next)),
        Some(given) if given != next => Err(ChangeError::OutOfOrder { given, next }),
        Some(Step::Trust) => Ok(new(trust(held, now)?)),
        Some(Step::Switch) => Ok(new(sign(directory, held, authority, wanted, now)?)),
        Some(Step::Drop) => Ok(new(drop_old(held)?)),
    }
}

fn new(held: Held) -> Renewed {
    Renewed::New(Box::new(held))
}

fn same_authority(
    directory: &Directory,
    held: &Held,
    authority: Option<&Authority>,
    wanted: &Wanted,
    now: SystemTime,
) -> Result<Renewed, ChangeError> {
    let shown = shown(directory, held)?;
    let end = shown.iter().map(Certificate::not_after).min().unwrap_or(now);
    if !wanted.now && wanted.names.is_empty() && !is_due(end, now) {
        return Ok(Renewed::NotDue(end));
    }
    let no_key = || ChangeError::NoKey(directory.file("ca", KEY).display().to_string());
    let (certificate, _) = held.authority.as_ref().ok_or_else(no_key)?;
    let own = directory.certificates("ca", CERTIFICATE, certificate)?.swap_remove(0);
    if !shown.iter().all(|shown| shown.is_signed_by(&own)) {
        return Err(ChangeError::OtherAuthority(directory.file("ca", CERTIFICATE).display().to_string()));
    }
    if is_due(own.not_after(), now) {
        let end = super::super::units::plain_time(&own.not_after().into());
        return Err(ChangeError::AuthorityEnds(end));
    }
    Ok(new(sign(directory, held, authority, wanted, now)?))
}

/// Both trust both: who has been given this accepts certificates of either.
fn trust(held: &Held, now: SystemTime) -> Result<Held, ChangeError> {
    let made = create::authority(now)?;
    let both = |old: &str| format!("{}\n{}", old.trim_end(), made.certificate());
    let mut held = held.clone();
    held.daemon.ca = both(&held.daemon.ca);
    held.client.ca = both(&held.client.ca);
    held.authority = Some((made.certificate().to_owned(), made.key()));
    Ok(held)
}

fn sign(
    directory: &Directory,
    held: &Held,
    authority: Option<&Authority>,
    wanted: &Wanted,
    now: SystemTime,
) -> Result<Held, ChangeError> {
    let authority = authority.ok_or_else(|| ChangeError::NoKey(directory.file("ca", KEY).display().to_string()))?;
    let [daemon, _] = shown(directory, held)?;
    let names = if wanted.names.is_empty() { names_of(&daemon)? } else { wanted.names.clone() };
    let validity = Validity::starting(now, create::lifetime(wanted.days));
    Ok(Held {
        daemon: create::daemon(authority, &names, validity, &held.daemon.ca)?,
        client: create::client(authority, validity, &held.client.ca)?,
        authority: held.authority.clone(),
    })
}

/// Those of a certificate that others have made may be of kinds that ours do not have.
fn names_of(daemon: &Certificate) -> Result<Vec<SubjectName>, ChangeError> {
    let names: Result<Vec<SubjectName>, _> = daemon.names().iter().map(|name| name.parse()).collect();
    names.map_err(|error| ChangeError::Names(error.to_string()))
}

fn drop_old(held: &Held) -> Result<Held, ChangeError> {
    let mut held = held.clone();
    // `next_step` has found it.
    if let Some((newest, _)) = &held.authority {
        held.daemon.ca.clone_from(newest);
        held.client.ca.clone_from(newest);
    }
    Ok(held)
}
