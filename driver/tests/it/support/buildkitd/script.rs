//! What a build does on a fake `buildkitd`: steps that the client names in its frontend's options.
//!
//! `do` runs while the frontend does, `build` when its result is evaluated. Steps stand between spaces: `context` reads the
//! directory of that name from the user, `policy` asks the session of the source policy, `echo:N` and `refused:N` call the
//! user with N bytes in or back, `stall` asks for the directory and reads nothing, `sleep:MS`, `log:N` tells N short lines,
//! `large:N` one message of N bytes, `flood:N` N messages of 1 MiB, `fail:N` fails with N bytes of details, `hang`, `doom`
//! tells the test that the pod is to end here, and hangs.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use buildfleet_proto::buildkit::{StatusResponse, Vertex, VertexLog};
use tonic::{Code, Status};

use super::Machine;
use super::jobs::{Job, Said};
use super::sessions::Attached;
use crate::support::user::offer::{CREDENTIALS, ECHO, POLICY};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Context,
    Policy,
    Echo(usize),
    Refused(usize),
    Stall,
    Sleep(u64),
    Log(usize),
    Large(usize),
    Flood(usize),
    Fail(usize),
    Hang,
    Doom,
}

impl FromStr for Step {
    type Err = Status;

    fn from_str(text: &str) -> Result<Self, Status> {
        let unknown = || Status::invalid_argument(format!("no step {text}"));
        let (name, number) = text.split_once(':').unwrap_or((text, "0"));
        let number: usize = number.parse().map_err(|_| unknown())?;
        Ok(match name {
            "context" => Self::Context,
            "policy" => Self::Policy,
            "echo" => Self::Echo(number),
            "refused" => Self::Refused(number),
            "stall" => Self::Stall,
            "sleep" => Self::Sleep(number.try_into().map_err(|_| unknown())?),
            "log" => Self::Log(number),
            "large" => Self::Large(number),
            "flood" => Self::Flood(number),
            "fail" => Self::Fail(number),
            "hang" => Self::Hang,
            "doom" => Self::Doom,
            _ => return Err(unknown()),
        })
    }
}

/// Runs the steps that stand in the option `name`; ends early when the build does.
pub(super) async fn run(
    machine: &Machine,
    job: &Job,
    options: &HashMap<String, String>,
    name: &str,
) -> Result<(), Status> {
    let steps = options.get(name).map(String::as_str).unwrap_or_default().split_whitespace();
    for (number, text) in steps.enumerate() {
        let mut vertex = Vertex {
            digest: digest(job.r#ref(), name, number),
            name: format!("[{} {}] {text}", machine.name, number + 1),
            ..Vertex::default()
        };
        vertex.started.get_or_insert_default().seconds = 1;
        job.says(Said::One(StatusResponse { vertexes: vec![vertex.clone()], ..StatusResponse::default() }));
        let step = text.parse()?;
        let done = tokio::select! {
            done = take(machine, job, options, step, &vertex.digest) => done,
            () = job.over.cancelled() => Err(Status::cancelled("context canceled")),
        };
        vertex.completed.get_or_insert_default().seconds = 2;
        vertex.error = done.as_ref().err().map(|status| status.message().to_owned()).unwrap_or_default();
        job.says(Said::One(StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() }));
        done?;
    }
    Ok(())
}

async fn take(
    machine: &Machine,
    job: &Job,
    options: &HashMap<String, String>,
    step: Step,
    vertex: &str,
) -> Result<(), Status> {
    let session =
        async |id: &str| -> Result<Arc<Attached>, Status> { machine.sessions.find(id, machine.clocks.session).await };
    let of_context = options.get("local-sessionid:context").unwrap_or(&job.request.session);
    match step {
        Step::Context => {
            let read = |bytes| _ = job.read.fetch_add(bytes, Ordering::SeqCst);
            session(of_context).await?.read_directory("context", read).await
        }
        Step::Policy => session(&job.request.source_policy_session).await?.ask(POLICY, &[]).await.map(drop),
        Step::Echo(length) => {
            let answers = session(&job.request.session).await?.ask(ECHO, &vec![b'e'; length]).await?;
            job.fact("echoed", answers.iter().map(bytes::Bytes::len).sum::<usize>().to_string());
            Ok(())
        }
        Step::Refused(length) => {
            let asked = session(&job.request.session).await?.ask(CREDENTIALS, length.to_string().as_bytes()).await;
            let Err(status) = asked else { return Err(Status::internal("the user gave credentials away")) };
            job.fact("refused", format!("{:?} {} {}", status.code(), status.message(), status.details().len()));
            Ok(())
        }
        Step::Stall => {
            let (_unread, mut asking) = session(of_context).await?.open_directory("context").await?;
            let end = std::future::poll_fn(|cx| asking.poll_reset(cx)).await;
            Err(Status::unavailable(format!("the stream broke: {end:?}")))
        }
        Step::Sleep(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(())
        }
        Step::Log(lines) => {
            for line in 1..=lines {
                let msg = format!("line {line}\n").into_bytes();
                let log = VertexLog { vertex: vertex.to_owned(), msg, ..VertexLog::default() };
                job.says(Said::One(StatusResponse { logs: vec![log], ..StatusResponse::default() }));
            }
            Ok(())
        }
        Step::Large(length) => {
            job.says(Said::Large(vertex.to_owned(), length));
            Ok(())
        }
        Step::Flood(count) => {
            for _ in 0..count {
                job.says(Said::Large(vertex.to_owned(), 1 << 20));
            }
            Ok(())
        }
        Step::Fail(length) => {
            let details = vec![7_u8; length];
            Err(Status::with_details(Code::Unknown, "exit code: 1 „ä“", details.into()))
        }
        Step::Hang => std::future::pending().await,
        Step::Doom => {
            machine.doomed.cancel();
            std::future::pending().await
        }
    }
}

/// Content-addressed in BuildKit: the same build has the same vertices on every pod.
fn digest(r#ref: &str, name: &str, number: usize) -> String {
    let mut hasher = DefaultHasher::new();
    (r#ref, name, number).hash(&mut hasher);
    format!("sha256:{:064x}", hasher.finish())
}
