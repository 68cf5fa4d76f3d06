//! What an SDK error means for the caller: one table for S3 and SQS.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::{QueueError, StoreError};

/// The kinds that callers tell apart.
pub(super) enum Kind {
    Absent,
    Precondition,
    TryAgain,
    Denied,
    Other,
}

/// Sorts an error, and says it in one line.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>) -> (Kind, String)
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service.err().code().unwrap_or_default();
            let kind = match (status, code) {
                (_, "NoSuchBucket" | "NonExistentQueue") => Kind::Other,
                // CopyObject and CompleteMultipartUpload may answer 200 with an error in the body: the code counts first.
                (412, _) | (_, "PreconditionFailed") => Kind::Precondition,
                (_, "ConditionalRequestConflict" | "OperationAborted") => Kind::TryAgain,
                (_, "InternalError" | "ServiceUnavailable") => Kind::TryAgain,
                (404, _) => Kind::Absent,
                // 409: somebody else is writing this very key.
                (409 | 429, _) | (500.., _) => Kind::TryAgain,
                (_, "RequestTimeout" | "SlowDown" | "ThrottlingException" | "RequestThrottled") => {
                    Kind::TryAgain
                }
                (403, _) => Kind::Denied,
                _ => Kind::Other,
            };
            let message = service.err().message().unwrap_or_default();
            (kind, format!("{status} {code} {message}").trim_end().to_owned())
        }
        SdkError::TimeoutError(_) => (Kind::TryAgain, "timed out".to_owned()),
        SdkError::DispatchFailure(failure) => {
            let kind = if failure.is_user() { Kind::Other } else { Kind::TryAgain };
            (kind, chain(error))
        }
        SdkError::ResponseError(_) => (Kind::TryAgain, chain(error)),
        _ => (Kind::Other, chain(error)),
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What a failed precondition means depends on what was asked.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    Read,
    Create,
    Swap,
}

pub(super) fn store<E>(error: &SdkError<E, HttpResponse>, key: &str, asked: Asked) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let key = key.to_owned();
    let (kind, reason) = classify(error);
    match (kind, asked) {
        (Kind::Precondition, Asked::Create) => StoreError::AlreadyThere { key },
        // If-Match on an object that is gone answers 404: it did change.
        (Kind::Precondition | Kind::Absent, Asked::Swap) => StoreError::Changed { key },
        (Kind::Absent, _) => StoreError::Absent { key },
        (Kind::TryAgain, _) => StoreError::TryAgain { key, reason },
        (Kind::Denied, _) => StoreError::Denied { key, reason },
        (Kind::Other | Kind::Precondition, _) => StoreError::Other { key, reason },
    }
}

pub(super) fn queue<E>(error: &SdkError<E, HttpResponse>) -> QueueError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let (kind, reason) = classify(error);
    match kind {
        Kind::TryAgain => QueueError::TryAgain { reason },
        Kind::Denied => QueueError::Denied { reason },
        Kind::Absent | Kind::Precondition | Kind::Other => QueueError::Other { reason },
    }
}
