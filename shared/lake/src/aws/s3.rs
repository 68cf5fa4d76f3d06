//! [`Store`] over S3.
//!
//! Objects above [`CopyLimits::whole`] are copied in parts of one fixed size, so that the same object always gets the
//! same parts; such an object has a composite checksum only, which is not its content's and is not reported.

use std::ops::Range;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
    MetadataDirective, TaggingDirective,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::{Asked, store};
use crate::{
    Attributes, Body, ByteStream, CopySource, ETag, Expected, Listed, Meta, Page, Requests, Store,
    StoreError,
};

/// What `x-amz-copy-source` must encode.
const COPY_SOURCE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Whether CopyObject is sent with `If-None-Match`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyCondition {
    /// The store decides atomically. S3 supports it since 2025.
    #[default]
    On,
    /// We look first. Two copies of the same object at the same moment may both be made, with equal content.
    Off,
}

/// From which size on, and in which parts, an object is copied.
#[derive(Clone, Copy, Debug)]
pub struct CopyLimits {
    /// The largest object copied by one request (S3: 5 GiB).
    pub whole: u64,
    /// The size of a part (S3: 5 MiB to 5 GiB, at most 10,000 of them).
    pub part: u64,
}

impl Default for CopyLimits {
    fn default() -> Self {
        Self { whole: 5 << 30, part: 1 << 30 }
    }
}

/// A bucket of S3.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    bucket: String,
    copy_condition: CopyCondition,
    copy_limits: CopyLimits,
    requests: Requests,
}

impl S3 {
    /// Parts copied at once.
    const PARTS_AT_ONCE: usize = 8;

    pub(super) fn new(client: Client, bucket: String, requests: Requests) -> Self {
        Self {
            client,
            bucket,
            copy_condition: CopyCondition::default(),
            copy_limits: CopyLimits::default(),
            requests,
        }
    }

    /// Decides how copies into this bucket are made.
    #[must_use]
    pub fn with_copies(mut self, condition: CopyCondition, limits: CopyLimits) -> Self {
        (self.copy_condition, self.copy_limits) = (condition, limits);
        self
    }

    async fn copy_whole(
        &self,
        source: &str,
        key: &str,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        let request = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(key)
            .copy_source(source)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .metadata_directive(MetadataDirective::Replace)
            // A producer's tags stay with the producer: copying them would need tagging rights.
            .tagging_directive(TaggingDirective::Replace)
            .set_metadata(Some(attributes.clone().into_iter().collect()));
        let request = match self.copy_condition {
            CopyCondition::On => request.if_none_match("*"),
            CopyCondition::Off => request,
        };
        request.send().await.map(|_| ()).map_err(|e| store(&e, key, Asked::Create))
    }

    async fn copy_in_parts(
        &self,
        source: &str,
        size: u64,
        key: &str,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        let upload = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_metadata(Some(attributes.clone().into_iter().collect()))
            .send()
            .await
            .map_err(|e| store(&e, key, Asked::Create))?;
        let id = upload.upload_id().unwrap_or_default().to_owned();
        let done = self.copy_parts(source, size, key, &id).await;
        if done.is_err() {
            // Parts of an upload nobody completes are paid for until the lifecycle rule ends them.
            let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(key);
            if let Err(error) = abort.upload_id(&id).send().await {
                tracing::warn!(key, "upload not aborted: {:?}", store(&error, key, Asked::Read));
            }
        }
        done
    }

    async fn copy_parts(
        &self,
        source: &str,
        size: u64,
        key: &str,
        upload: &str,
    ) -> Result<(), StoreError> {
        let part = self.copy_limits.part.max(1);
        let count = i32::try_from(size.div_ceil(part)).unwrap_or(i32::MAX);
        let parts: Vec<CompletedPart> = futures::stream::iter(1..=count)
            .map(|number| async move {
                let from = u64::from(number.unsigned_abs() - 1) * part;
                let to = (from + part).min(size) - 1;
                let copied = self
                    .client
                    .upload_part_copy()
                    .bucket(&self.bucket)
                    .key(key)
                    .upload_id(upload)
                    .part_number(number)
                    .copy_source(source)
                    .copy_source_range(format!("bytes={from}-{to}"))
                    .send()
                    .await
                    .map_err(|e| store(&e, key, Asked::Read))?;
                let result = copied.copy_part_result();
                Ok(CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(result.and_then(|r| r.e_tag.clone()))
                    .set_checksum_sha256(result.and_then(|r| r.checksum_sha256.clone()))
                    .build())
            })
            .buffered(Self::PARTS_AT_ONCE)
            .try_collect()
            .await?;
        self.client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .if_none_match("*")
            .send()
            .await
            .map(|_| ())
            .map_err(|e| store(&e, key, Asked::Create))
    }
}

fn moment(at: Option<&primitives::DateTime>) -> Timestamp {
    at.and_then(|t| Timestamp::new(t.secs(), i32::try_from(t.subsec_nanos()).ok()?).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Builds [`Meta`] from the answers to GET and HEAD, which are different types with the same fields.
macro_rules! meta {
    ($answer:expr) => {{
        let answer = &$answer;
        let composite = answer.checksum_type() == Some(&ChecksumType::Composite)
            || answer.checksum_sha256().is_some_and(|sum| sum.contains('-'));
        Meta {
            size: answer.content_length().and_then(|n| n.try_into().ok()).unwrap_or_default(),
            etag: ETag(answer.e_tag().unwrap_or_default().to_owned()),
            modified: moment(answer.last_modified()),
            version: answer.version_id().filter(|v| *v != "null").map(str::to_owned),
            attributes: answer
                .metadata()
                .map(|m| m.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
                .unwrap_or_default(),
            sha256: answer.checksum_sha256().filter(|_| !composite).map(str::to_owned),
        }
    }};
}

#[async_trait]
impl Store for S3 {
    fn bucket(&self) -> &str {
        &self.bucket
    }

    fn uri(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    async fn head(&self, key: &str, version: Option<&str>) -> Result<Meta, StoreError> {
        let answer = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key)
            .set_version_id(version.map(str::to_owned))
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|e| store(&e, key, Asked::Read))?;
        Ok(meta!(answer))
    }

    async fn get(&self, key: &str) -> Result<(Meta, Bytes), StoreError> {
        let (meta, mut pieces) = self.read(key, None).await?;
        let mut whole = Vec::with_capacity(usize::try_from(meta.size).unwrap_or_default());
        while let Some(piece) = pieces.next().await {
            whole.extend_from_slice(&piece?);
        }
        Ok((meta, whole.into()))
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<(Meta, ByteStream), StoreError> {
        let answer = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .set_range(range.map(|r| format!("bytes={}-{}", r.start, r.end.saturating_sub(1))))
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|e| store(&e, key, Asked::Read))?;
        let meta = meta!(answer);
        let key = key.to_owned();
        let pieces =
            futures::stream::try_unfold((answer.body, key), |(mut body, key)| async move {
                match body.try_next().await {
                    Ok(Some(piece)) => Ok(Some((piece, (body, key)))),
                    Ok(None) => Ok(None),
                    Err(e) => Err(StoreError::TryAgain { key, reason: e.to_string() }),
                }
            });
        Ok((meta, pieces.boxed()))
    }

    async fn create(
        &self,
        key: &str,
        body: Body,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        let body = match body {
            Body::Bytes(bytes) => bytes.into(),
            Body::File(path) => {
                primitives::ByteStream::from_path(&path).await.map_err(|e| StoreError::Other {
                    key: key.to_owned(),
                    reason: format!("{}: {e}", path.display()),
                })?
            }
        };
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .body(body)
            .set_metadata(Some(attributes.clone().into_iter().collect()))
            .if_none_match("*")
            .send()
            .await
            .map(|_| ())
            .map_err(|e| store(&e, key, Asked::Create))
    }

    async fn swap(
        &self,
        key: &str,
        body: Bytes,
        expected: &Expected,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .body(body.into())
            .set_metadata(Some(attributes.clone().into_iter().collect()));
        let request = match expected {
            Expected::Nothing => request.if_none_match("*"),
            Expected::Tag(tag) => request.if_match(&tag.0),
        };
        request.send().await.map(|_| ()).map_err(|e| store(&e, key, Asked::Swap))
    }

    async fn copy(
        &self,
        from: &CopySource,
        key: &str,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        // The condition of a copy in parts is only met at its end: a repeated event should not copy them all again.
        if self.copy_condition == CopyCondition::Off || from.size > self.copy_limits.whole {
            match self.head(key, None).await {
                Ok(_) => return Err(StoreError::AlreadyThere { key: key.to_owned() }),
                Err(StoreError::Absent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let path = format!("{}/{}", from.bucket, from.key);
        let mut source = utf8_percent_encode(&path, COPY_SOURCE).to_string();
        if let Some(version) = &from.version {
            source = format!("{source}?versionId={version}");
        }
        if from.size <= self.copy_limits.whole {
            self.copy_whole(&source, key, attributes).await?;
        } else {
            self.copy_in_parts(&source, from.size, key, attributes).await?;
        }
        // No request of a copy says how large its object is.
        self.requests.stored(from.size);
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, StoreError> {
        let answer = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_start_after(after.map(str::to_owned))
            .send()
            .await
            .map_err(|e| store(&e, prefix, Asked::Read))?;
        let objects = answer.contents().iter().filter_map(|object| {
            Some(Listed {
                key: object.key()?.to_owned(),
                size: object.size().and_then(|n| n.try_into().ok()).unwrap_or_default(),
                modified: moment(object.last_modified()),
            })
        });
        Ok(Page { objects: objects.collect(), more: answer.is_truncated().unwrap_or_default() })
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        request.send().await.map(|_| ()).map_err(|e| store(&e, key, Asked::Read))
    }
}
