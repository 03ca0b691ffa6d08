//! Errors into gRPC statuses: a code to act on, the whole chain as the message, hints beside it.

use tonic::{Code, Status};

use crate::backend::kubernetes::jobs::JobError;
use crate::backend::{ApplyError, LogsError};
use crate::daemon::hint::with_hint;
use crate::daemon::jobs::JobBuilderError;
use crate::daemon::plan::PlanError;
use crate::daemon::registry::{CreateError, LookupError, RemoveError};
use crate::fleet::StartError;
use crate::report;

fn status(code: Code, error: &(dyn std::error::Error + 'static), hint: Option<String>) -> Status {
    let status = Status::new(code, report::chain(error));
    match hint {
        Some(hint) => with_hint(status, &hint),
        None => status,
    }
}

pub(super) fn shutting_down() -> Status {
    Status::unavailable("the daemon is shutting down")
}

pub(super) fn lookup(error: &LookupError) -> Status {
    let code = match error {
        LookupError::NoCurrent => Code::FailedPrecondition,
        LookupError::NoBuilder { .. } | LookupError::NoNode { .. } | LookupError::NodeNowhere(_) => Code::NotFound,
    };
    status(code, error, error.hint())
}

pub(super) fn create(error: &CreateError) -> Status {
    let (code, hint) = match error {
        CreateError::Lookup(error) => return lookup(error),
        CreateError::Plan(error) => (plan(error), error.hint()),
        CreateError::Path(_) => (Code::InvalidArgument, None),
        CreateError::Bind(_) => (Code::FailedPrecondition, None),
        CreateError::Stop(error) | CreateError::Compare(error) => (Code::Unavailable, error.hint()),
        CreateError::Obstructed { obstacles, .. } => {
            let status = status(Code::FailedPrecondition, error, None);
            return obstacles.iter().fold(status, |status, obstacle| with_hint(status, &obstacle.hint));
        }
        CreateError::Slow(_) => (Code::DeadlineExceeded, None),
        CreateError::NoManifests(_) => (Code::InvalidArgument, None),
        CreateError::Save(_) | CreateError::Interrupted(_) => (Code::Internal, None),
    };
    status(code, error, hint)
}

fn plan(error: &PlanError) -> Code {
    match error {
        PlanError::Invalid(_) => Code::InvalidArgument,
        PlanError::Exists(_) | PlanError::NodeTaken(_) => Code::AlreadyExists,
        PlanError::Missing(_) => Code::NotFound,
        PlanError::OtherDriver { .. } | PlanError::Moved { .. } | PlanError::Attached { .. } => {
            Code::FailedPrecondition
        }
    }
}

pub(super) fn remove(error: &RemoveError) -> Status {
    let code = match error {
        RemoveError::Lookup(error) => return lookup(error),
        RemoveError::LastNode { .. } | RemoveError::Inseparable(_) => Code::FailedPrecondition,
        RemoveError::Left(_) | RemoveError::Running(_) => Code::Unavailable,
        RemoveError::Save(_) => Code::Internal,
    };
    status(code, error, error.hint())
}

/// Several nodes may have failed, each for its own reason.
pub(super) fn start(errors: &[StartError]) -> Status {
    let code = match errors {
        [StartError::TimedOut { .. }, ..] => Code::DeadlineExceeded,
        _ => Code::Unavailable,
    };
    let messages: Vec<String> = errors.iter().map(|error| report::chain(error)).collect();
    let hints = errors.iter().filter_map(|error| match error {
        StartError::Apply { source, .. } => source.hint(),
        StartError::TimedOut { .. } | StartError::Removed(_) | StartError::ShuttingDown => None,
    });
    hints.fold(Status::new(code, messages.join("\n")), |status, hint| with_hint(status, &hint))
}

/// Why a cluster was not asked at all.
pub(super) fn cluster(error: &ApplyError) -> Status {
    status(Code::Unavailable, error, error.hint())
}

pub(super) fn job(error: &JobError) -> Status {
    let code = match error {
        JobError::Cluster(error) => return cluster(error),
        JobError::Missing { .. } => Code::NotFound,
        JobError::Exists { .. } => Code::AlreadyExists,
        JobError::Foreign { .. }
        | JobError::NoSecret { .. }
        | JobError::NoKey { .. }
        | JobError::NoAddress { .. }
        | JobError::StillRuns(_)
        | JobError::IsOver(_) => Code::FailedPrecondition,
        JobError::Upload { .. } => Code::Unavailable,
        JobError::BrokenOff => Code::Cancelled,
    };
    status(code, error, error.hint())
}

pub(super) fn job_builder(error: &JobBuilderError) -> Status {
    match error {
        JobBuilderError::Lookup(error) => lookup(error),
        JobBuilderError::Start(error) => start(std::slice::from_ref(error)),
        JobBuilderError::Job(error) => job(error),
        JobBuilderError::Options(_) => status(Code::Internal, error, None),
        JobBuilderError::NoPods { .. } | JobBuilderError::NoCertificates { .. } | JobBuilderError::Elsewhere { .. } => {
            status(Code::FailedPrecondition, error, error.hint())
        }
    }
}

pub(super) fn logs(error: &LogsError) -> Status {
    let code = match error {
        LogsError::Gone(_) => Code::NotFound,
        LogsError::Unsupported(_) => Code::Unimplemented,
        LogsError::Failed { .. } => Code::Unavailable,
    };
    status(code, error, None)
}
