//! `buildfleet job run`: a build into the cluster, and its end back.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use buildfleet_proto::fleet::job_spec::Where;
use buildfleet_proto::fleet::run_job_request::Message;
use buildfleet_proto::fleet::{
    BuildkitdConfig, Job, JobAddress, JobPlace, JobSpec, JobState, ListJobsRequest, RunJobRequest,
};
use buildfleet_shim::docker::{Globals, config_dir};
use futures::{Stream, StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::args::RunArgs;
use super::arguments::{arguments, build_args, references};
use super::context::pieces::Packing;
use super::credentials::DockerConfig;
use super::follow::{Followed, Outcome, Upload, verdict};
use super::ls::{JobView, state};
use super::show::Show;
use super::source::{Prepared, prepare};
use super::{images, one, secrets};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, json_line, print};
use crate::cli::progress::interrupts;
use crate::cli::{Context, files};
use crate::options::{Ttl, csv_fields, with_files};
use crate::report;
use crate::settings::{Environment, Process};

/// The frontends that read a Dockerfile.
const OF_DOCKERFILES: [&str; 2] = ["dockerfile.v0", "gateway.v0"];

pub(super) async fn run(args: RunArgs, context: &Context) -> Result<(), Failure> {
    let flags = Flags::read(&args, context)?;
    let frontend = args.build.frontend.as_str();
    let Prepared { inputs, upload, dockerfile, title } =
        prepare(&args.source, args.build.file.as_deref(), OF_DOCKERFILES.contains(&frontend))?;
    let registries = registries(&args, &flags.build_args, dockerfile.as_deref());
    let mut client = context.client().await?;
    if args.name.is_some()
        && !args.dry_run
        && let Some(job) = unfinished(&mut client, &flags.place).await?
    {
        context.info(&format!("job {} is {} and was not made anew: this is the one", job.name, state(job.state())));
        let place = JobPlace { name: job.name, ..flags.place };
        return one::attached(client, place, args.view.progress, context).await;
    }
    let docker_config = credentials(&registries, &args, context).await?;
    let names = args.build.tag.join(", ");
    let spec = JobSpec {
        place: Some(flags.place.clone()),
        arguments: [vec![format!("--frontend={frontend}")], inputs.arguments(), flags.arguments].concat(),
        uploads_context: upload.is_some(),
        secrets: flags.secrets.values.into_iter().collect(),
        registry_secret: args.registry_secret.clone().unwrap_or_default(),
        docker_config: docker_config.unwrap_or_default(),
        driver_opt: flags.driver_opt,
        buildkitd_flags: args.buildkitd_flags.clone().unwrap_or_default(),
        buildkitd_config: flags.buildkitd_config,
        platform: args.build.platform.clone(),
        r#where: whereabouts(&args),
        project: title.clone(),
        ttl: flags.ttl,
        timeout: flags.timeout,
        retries: args.retries,
        detach: args.detach,
        title: if names.is_empty() { title } else { names },
    };
    if args.dry_run {
        return render(&mut client, spec, context).await;
    }
    if !args.build.tag.is_empty() && !pushes(&spec.arguments) {
        context.warning("the image goes with the Job's pod: --push puts it into its registry");
    }
    let (requests, upload) = requests(spec, upload.map(Packing::begin));
    let show = Show::new(context, args.view.progress);
    let mut followed =
        Followed { client: client.clone(), place: flags.place, cancels: true, upload, interrupts: interrupts()?, show };
    let events = followed.begun(client.run_job(requests)).await.map_err(|failure| failure.doing("make the job"))?;
    match followed.follow(events).await? {
        Outcome::Ended((name, end)) => verdict(&name, &end),
        Outcome::Left(job) if args.detach => match context.format {
            Format::Text => print(format!("{}\n", job.name)),
            Format::Json => print(json_line(&JobView::from(job))?),
        },
        Outcome::Left(job) => Err(one::unended(&job.name)),
    }
}

/// The flags that have to be read before anything is asked for.
struct Flags {
    place: JobPlace,
    /// What `buildctl` gets behind the inputs: a flag counts more than what they say.
    arguments: Vec<String>,
    build_args: Vec<(String, String)>,
    secrets: secrets::Secrets,
    driver_opt: Vec<String>,
    buildkitd_config: Option<BuildkitdConfig>,
    ttl: u32,
    timeout: u32,
}

impl Flags {
    /// Reads all of them, or says all that is wrong.
    fn read(args: &RunArgs, context: &Context) -> Result<Self, Failure> {
        let mut errors = args.theirs.refusals().to_vec();
        let given = |flag: &str, text: &str, never: bool| {
            seconds(text, never).map_err(|problem| vec![format!("{flag} {problem}")])
        };
        let ttl = or_told(given("--ttl", &args.ttl, false), &mut errors);
        let timeout = args.timeout.as_deref().map_or(Ok(0), |text| given("--timeout", text, true));
        let timeout = or_told(timeout, &mut errors);
        let value = |name: &str| Process.var(name).map(|value| value.as_bytes().to_vec());
        let secrets = or_told(secrets::read(&args.build.secret, value), &mut errors);
        let build_args = or_told(build_args(&args.build.build_arg, of_environment), &mut errors);
        let arguments = or_told(arguments(&args.build, &build_args, &secrets.files), &mut errors);
        let driver_opt = with_files(&args.driver_opt, |path| files::text(Path::new(path)));
        let driver_opt = or_told(driver_opt.map_err(|found| vec![found.to_string()]), &mut errors);
        let config = args.buildkitd_config.as_deref().map(files::buildkitd_config).transpose();
        let buildkitd_config = or_told(config.map_err(|problem| vec![problem]), &mut errors);
        if args.builder.is_some() || args.address.is_some() {
            let own = [
                ("--buildkitd-flags", args.buildkitd_flags.is_some()),
                ("--buildkitd-config", args.buildkitd_config.is_some()),
            ];
            let meant = own.iter().filter(|(_, given)| *given).map(|(flag, _)| {
                format!("{flag} is for a buildkitd in the Job's own pod, and --builder or --address names another one")
            });
            errors.extend(meant);
        }
        if !errors.is_empty() {
            return Err(Failure::usage(errors.join("\n")));
        }
        let mut place = one::place(args.name.as_deref().unwrap_or_default(), &args.cluster, context)?;
        if place.namespace.is_empty() {
            place.namespace = option(&driver_opt, "namespace").unwrap_or_default();
        }
        Ok(Self { place, arguments, build_args, secrets, driver_opt, buildkitd_config, ttl, timeout })
    }
}

/// What was read; what is wrong with it goes to the other errors.
fn or_told<T: Default>(read: Result<T, Vec<String>>, errors: &mut Vec<String>) -> T {
    read.unwrap_or_else(|found| {
        errors.extend(found);
        T::default()
    })
}

/// Whole seconds of a duration.
fn seconds(text: &str, never: bool) -> Result<u32, String> {
    let accepted =
        if never { "accepted is a duration, as in 30m, or never" } else { "accepted is a duration, as in 1h" };
    match text.parse::<Ttl>() {
        Ok(Ttl::After(time)) => u32::try_from(time.as_secs()).map_err(|_| format!("`{text}` is too long: {accepted}")),
        Ok(Ttl::Never) if never => Ok(0),
        Ok(Ttl::Never) => Err(format!("`never` is no duration: {accepted}")),
        Err(error) => Err(format!("{error}: {accepted}")),
    }
}

/// A driver option that the client has to know as well.
fn option(driver_opt: &[String], wanted: &str) -> Option<String> {
    let fields = driver_opt.iter().flat_map(|record| csv_fields(record).unwrap_or_default());
    let mut found = fields.filter_map(|field| field.strip_prefix(wanted)?.strip_prefix('=').map(str::to_owned));
    found.next_back()
}

fn of_environment(name: &str) -> Option<String> {
    Process.var(name).map(|value| value.to_string_lossy().into_owned())
}

fn whereabouts(args: &RunArgs) -> Option<Where> {
    let address = |address: &String| JobAddress {
        address: address.clone(),
        certificates: args.certificates.clone().unwrap_or_default(),
        server_name: args.server_name.clone().unwrap_or_default(),
    };
    let builder = args.builder.clone().map(Where::Builder);
    builder.or_else(|| args.address.as_ref().map(address).map(Where::Address))
}

fn pushes(arguments: &[String]) -> bool {
    arguments.iter().any(|argument| argument.starts_with("--output=") && argument.contains("push=true"))
}

/// All that the build reads from and writes to, as far as it can be known here.
fn registries(args: &RunArgs, build_args: &[(String, String)], dockerfile: Option<&str>) -> BTreeSet<String> {
    let build_args: BTreeMap<String, String> = build_args.iter().cloned().collect();
    let named = references(&args.build).into_iter();
    let in_dockerfile = dockerfile.map(|text| images::of_dockerfile(text, &build_args)).unwrap_or_default();
    let found = named.chain(in_dockerfile).map(|name| images::registry(&name));
    found.chain(args.registry.iter().cloned()).collect()
}

/// docker's credentials for them, as a `config.json`.
async fn credentials(
    registries: &BTreeSet<String>,
    args: &RunArgs,
    context: &Context,
) -> Result<Option<Vec<u8>>, Failure> {
    let Some(directory) = config_dir(&Process, &Globals::default()) else { return Ok(None) };
    let config = DockerConfig::read(&directory).map_err(|error| Failure::other(report::chain(&error)))?;
    let find = |program: &str| -> Option<PathBuf> { context.settings.find_program(program) };
    let needed = config.needed(registries, find).await.map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| report::chain(error)).collect();
        Failure::other(lines.join("\n")).doing("read credentials for registries")
    })?;
    if needed.config.is_some() && !args.dry_run {
        let into = match &args.registry_secret {
            Some(name) => format!("to Secret {name} if that is not there yet"),
            None => "to a Secret of the Job".to_owned(),
        };
        context.info(&format!("credentials for {} go {into}", needed.registries.join(", ")));
    }
    Ok(needed.config)
}

/// A Job of this name that somebody may wait for.
async fn unfinished(client: &mut Client, place: &JobPlace) -> Result<Option<Job>, Failure> {
    let request = ListJobsRequest { place: Some(place.clone()), all_namespaces: false };
    let jobs = client.list_jobs(request).await?;
    let Some(job) = jobs.into_iter().find(|job| job.name == place.name) else { return Ok(None) };
    match job.state() {
        JobState::JobSucceeded | JobState::JobFailed => {
            let name = &job.name;
            Err(Failure::other(format!("job {name} is there already, and {}", state(job.state())))
                .hint(format!("`buildfleet job rm {name}` makes room for another one")))
        }
        _ => Ok(Some(job)),
    }
}

/// What the Job would be. What is nobody's business does not even leave this process.
async fn render(client: &mut Client, mut spec: JobSpec, context: &Context) -> Result<(), Failure> {
    spec.secrets.values_mut().for_each(Vec::clear);
    if !spec.docker_config.is_empty() {
        spec.docker_config = b"{}".to_vec();
    }
    let rendered = client.render_job(spec).await.map_err(|failure| failure.doing("render the job"))?;
    rendered.warnings.iter().for_each(|warning| context.warning(warning));
    print(rendered.manifests)
}

/// The spec, and behind it the context, whose end is told only when it was packed as a whole.
fn requests(
    spec: JobSpec,
    packing: Option<Packing>,
) -> (impl Stream<Item = RunJobRequest> + Send + 'static, Option<Upload>) {
    let first = RunJobRequest { message: Some(Message::Spec(spec)) };
    let (pieces, upload, whole) = match packing {
        Some(packing) => {
            let size = packing.size();
            let (told, whole) = oneshot::channel();
            let Packing { pieces, ended: packed, .. } = packing;
            (pieces, Some(Upload { packed, whole: Some(told), size }), Some(whole))
        }
        None => (mpsc::channel(1).1, None, None),
    };
    let pieces = ReceiverStream::new(pieces).map(|piece| RunJobRequest { message: Some(Message::Context(piece)) });
    let end = stream::once(async move {
        if let Some(whole) = whole
            && whole.await.is_err()
        {
            // A half of a context must not pass for a whole one: whoever owns the call drops it.
            std::future::pending::<()>().await;
        }
        None
    });
    (stream::once(async { first }).chain(pieces).chain(end.filter_map(std::future::ready)), upload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_seconds() {
        for (text, never, wanted) in
            [("90s", false, Ok(90)), ("1h", true, Ok(3600)), ("never", true, Ok(0)), ("0", false, Ok(0))]
        {
            assert_eq!(seconds(text, never), wanted, "{text}");
        }
        for (text, never) in [("never", false), ("soon", true), ("-1s", true), ("2000000h", false)] {
            assert!(seconds(text, never).is_err_and(|problem| problem.contains("accepted is a duration")), "{text}");
        }
        let given = ["requests.cpu=1,namespace=a".to_owned(), "\"namespace=b\"".to_owned(), "namespaces=c".to_owned()];
        assert_eq!(option(&given, "namespace").as_deref(), Some("b"));
    }

    #[tokio::test]
    async fn the_end_of_a_context_is_told_only_when_it_is_whole() {
        use super::super::context::{Content, Tree};
        let packing =
            || Packing::begin(Content::Tree(Tree { directory: None, files: vec![("x".into(), b"x".to_vec())] }));
        let (requests, upload) = requests(JobSpec::default(), Some(packing()));
        let mut requests = Box::pin(requests);
        let mut upload = upload.expect("there is a context");
        assert!(matches!(requests.next().await, Some(RunJobRequest { message: Some(Message::Spec(_)) })));
        assert!(matches!(requests.next().await, Some(RunJobRequest { message: Some(Message::Context(_)) })));
        assert!(futures::poll!(requests.next()).is_pending());
        upload.whole.take().expect("it was not told").send(()).expect("somebody waits");
        assert!(requests.next().await.is_none());

        let (requests, upload) = self::requests(JobSpec::default(), Some(packing()));
        let mut requests = Box::pin(requests);
        drop(upload);
        for _ in 0..2 {
            requests.next().await.expect("the spec and the context");
        }
        assert!(futures::poll!(requests.next()).is_pending());

        let (requests, upload) = self::requests(JobSpec::default(), None);
        assert!(upload.is_none());
        assert_eq!(Box::pin(requests).count().await, 1);
    }
}
