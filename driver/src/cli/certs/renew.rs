//! `buildfleet certs renew`: new certificates that running daemons and clients accept, at any time of the change.

use std::time::SystemTime;

use super::super::failure::Failure;
use super::super::output::{Format, print};
use super::super::{Context, units};
use super::change::{ChangeError, Renewed, Step, Wanted, renew};
use super::directory::Directory;
use super::{Place, Secrets, create, show};

/// Make new certificates for daemons and clients that accept each other with the old ones, too
///
/// By the same authority, when they end within 30 days: daemons and clients may then be given theirs in any order. To another
/// authority it goes in three steps, of which each has to reach all daemons and clients before the next.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Other names and addresses than those of the present certificate
    #[arg(value_name = "SAN")]
    names: Vec<String>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    secrets: Secrets,
    /// How many days the new certificates hold
    #[arg(long, value_name = "N", default_value = create::DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Renew them long before they end, too
    #[arg(long)]
    now: bool,
    /// Change the authority: trust, then switch, then drop
    #[arg(long, value_enum, value_name = "STEP")]
    new_ca: Option<Step>,
    /// With --apply: take the Secrets over from whoever has put them there
    #[arg(long, requires = "apply")]
    force: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    args.secrets.check()?;
    let wanted =
        Wanted { step: args.new_ca, names: create::subject_names(&args.names)?, days: args.days, now: args.now };
    if wanted.step.is_some_and(|step| step != Step::Switch) && !wanted.names.is_empty() {
        return Err(Failure::usage("names are for certificates that are signed now: --new-ca switch, or no --new-ca"));
    }
    let directory = Directory::new(args.place.dir);
    let held = directory.read()?;
    let authority = directory.authority(&held)?;
    let renewed =
        renew(&directory, &held, authority.as_ref(), &wanted, SystemTime::now()).map_err(|error| failure(&error))?;
    let (held, is_new) = match renewed {
        Renewed::New(renewed) => (*renewed, true),
        Renewed::NotDue(end) => {
            let end = units::plain_time(&end.into());
            context
                .info(&format!("nothing to renew: the certificates hold until {end} (--now renews them all the same)"));
            (held, false)
        }
    };
    // Also what was not due: the cluster may lack it, after a command that was interrupted.
    if is_new || args.secrets.apply {
        args.secrets.put(context, &directory, &held, args.force).await?;
    }
    match context.format {
        Format::Text => print(format!("{}\n", directory.shown()))?,
        Format::Json => print(show::documents(&directory, &held)?)?,
    }
    if is_new {
        tell(context, wanted.step, &directory, &args.secrets);
    }
    Ok(())
}

/// What has to happen now.
fn tell(context: &Context, step: Option<Step>, directory: &Directory, secrets: &Secrets) {
    let [daemon, _] = secrets.names();
    let apply = if secrets.apply {
        String::new()
    } else {
        format!("`kubectl apply -f {}/{daemon}.yaml` and ", directory.shown())
    };
    let client = directory.file("client", "").display().to_string();
    context.info(&format!(
        "daemons read their certificates when they start: {apply}`kubectl rollout restart` of what runs them; clients get {client}"
    ));
    match step {
        None => context.info("what daemons and clients have now is accepted until it ends, so the order does not matter"),
        Some(Step::Trust) => context.info(
            "when all daemons have restarted and all clients have the new ca.pem: `buildfleet certs renew --new-ca switch`",
        ),
        Some(Step::Switch) => context.info(
            "when all daemons have restarted and all clients have the new files: `buildfleet certs renew --new-ca drop`",
        ),
        Some(Step::Drop) => context.info("the old authority is trusted until the daemons have restarted"),
    }
}

fn failure(error: &ChangeError) -> Failure {
    let failure = Failure::other(error.to_string()).doing("renew the certificates");
    match error {
        ChangeError::NoKey(_) | ChangeError::OtherAuthority(_) | ChangeError::AuthorityEnds(_) => {
            failure.hint("`buildfleet certs renew --new-ca trust` begins a change to a new authority")
        }
        ChangeError::UnderWay(step) => failure.hint(format!(
            "`buildfleet certs renew --new-ca {}`, when the step before has reached all daemons and clients",
            step.word()
        )),
        ChangeError::Names(_) => {
            failure.hint("name all that the new certificate is for: `buildfleet certs renew SAN...`")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::change::{next_step, shown};
    use super::super::create::made;
    use super::super::directory::Held;
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn wanted(step: Option<Step>) -> Wanted {
        Wanted { step, names: Vec::new(), days: 730, now: false }
    }

    fn directory() -> Directory {
        Directory::new(".certs".into())
    }

    fn ask(held: &Held, wanted: &Wanted, now: SystemTime) -> Result<Renewed, ChangeError> {
        let directory = directory();
        let authority = directory.authority(held).unwrap();
        renew(&directory, held, authority.as_ref(), wanted, now)
    }

    fn renewed(held: &Held, wanted: &Wanted, now: SystemTime) -> Held {
        match ask(held, wanted, now) {
            Ok(Renewed::New(held)) => *held,
            Ok(Renewed::NotDue(end)) => panic!("not due before {end:?}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether a client that has one accepts a daemon that has the other, and the other way round.
    fn accept(one: &Held, other: &Held) -> bool {
        let directory = directory();
        let ([daemon, _], [_, client]) = (shown(&directory, one).unwrap(), shown(&directory, other).unwrap());
        let trusts = |ca: &str, shown: &crate::certificates::Certificate| {
            directory.certificates("", "", ca).unwrap().iter().any(|ca| shown.is_signed_by(ca))
        };
        trusts(&other.client.ca, &daemon) && trusts(&one.daemon.ca, &client)
    }

    #[test]
    fn certificates_are_renewed_in_their_last_30_days_or_when_that_is_asked_for() {
        let now = SystemTime::now();
        let held = made(true, now);
        let sooner = Wanted { now: true, ..wanted(None) };
        let renamed = Wanted { names: vec!["other".parse().unwrap()], ..wanted(None) };
        for (wanted, days, due) in [
            (wanted(None), 0, false),
            (wanted(None), 699, false),
            (wanted(None), 701, true),
            (wanted(None), 740, true),
            (sooner, 0, true),
            (renamed, 0, true),
        ] {
            let renewed = ask(&held, &wanted, now + days * DAY).unwrap();
            assert_eq!(matches!(renewed, Renewed::New(_)), due, "{wanted:?} after {days} days");
        }
    }

    #[test]
    fn old_and_new_of_one_authority_accept_each_other() {
        let now = SystemTime::now();
        let old = made(true, now);
        let new = renewed(&old, &Wanted { now: true, ..wanted(None) }, now);
        assert!(new.daemon.key != old.daemon.key && new.client.key != old.client.key);
        assert!(new.daemon.ca == old.daemon.ca && new.authority == old.authority);
        assert!(accept(&old, &new) && accept(&new, &old) && accept(&new, &new));
        let [old, new] = [&old, &new].map(|held| shown(&directory(), held).unwrap());
        assert_eq!(new[0].names(), old[0].names());
    }

    #[test]
    fn in_a_change_of_the_authority_each_step_accepts_the_one_before() {
        let now = SystemTime::now();
        for keeps_key in [true, false] {
            let mut steps = vec![made(keeps_key, now)];
            for step in [Step::Trust, Step::Switch, Step::Drop] {
                let before = steps.last().unwrap();
                assert_eq!(next_step(&directory(), before).unwrap(), step);
                steps.push(renewed(before, &wanted(Some(step)), now));
            }
            for pair in steps.windows(2) {
                assert!(accept(&pair[0], &pair[1]) && accept(&pair[1], &pair[0]) && accept(&pair[1], &pair[1]));
            }
            assert!(!accept(&steps[0], &steps[3]) && !accept(&steps[0], &steps[2]), "nothing has changed");
            assert_eq!(next_step(&directory(), &steps[3]).unwrap(), Step::Trust, "the change has not ended");
            // From here on, the same authority renews.
            renewed(&steps[3], &Wanted { now: true, ..wanted(None) }, now);
        }
    }

    #[test]
    fn what_would_lock_somebody_out_is_refused_with_what_to_do_instead() {
        let now = SystemTime::now();
        let (kept, forgotten) = (made(true, now), made(false, now));
        let trusting = renewed(&kept, &wanted(Some(Step::Trust)), now);
        let switched = renewed(&trusting, &wanted(Some(Step::Switch)), now);
        let swapped = Held { authority: made(true, now).authority, ..kept.clone() };
        let sooner = Wanted { now: true, ..wanted(None) };
        for (held, wanted, later, words, hint) in [
            (&forgotten, sooner.clone(), 0, "key is not in .certs/ca/key.pem", "--new-ca trust"),
            (&swapped, sooner.clone(), 0, ".certs/ca/cert.pem has not signed", "--new-ca trust"),
            (&kept, sooner.clone(), 3640, "the authority ends", "--new-ca trust"),
            (&trusting, sooner, 0, "its next step is `switch`", "--new-ca switch"),
            (&kept, wanted(Some(Step::Switch)), 0, "`switch` is not the next step", ""),
            (&trusting, wanted(Some(Step::Drop)), 0, "that is `switch`", ""),
            (&switched, wanted(Some(Step::Trust)), 0, "that is `drop`", ""),
        ] {
            let Err(error) = ask(held, &wanted, now + later * DAY) else { panic!("{words}") };
            let text = failure(&error).render();
            assert!(text.starts_with("error: failed to renew the certificates: ") && text.contains(words), "{text}");
            assert!(text.contains(hint), "{text}");
        }
    }
}
