//! The conformance suite on every store there is: memory and disk always, an emulator and a real bucket where named.
//!
//! * `SLUICEGATE_TEST_ENDPOINT`: an emulator; buckets and a queue are made there. Its known gaps are asserted as gaps, so
//!   that a version that closes one is noticed.
//! * `SLUICEGATE_TEST_BUCKET`: a real, versioned bucket that the ordinary AWS credentials may write; left as it is
//!   but for objects below `conformance/`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop, and say why"
)]

use sluicegate_lake::conformance as suite;
use sluicegate_lake::{CopySource, Store};

/// `printf old | openssl dgst -sha256 -binary | base64`
const SHA256_OF_OLD: &str = "y6BrVzb69n5UsHtWHq6UOV53TFF6fZEKVDaeEmPM+9Q=";

async fn common(store: &dyn Store, prefix: &str) {
    let folder = tempfile::tempdir().unwrap();
    suite::absent_is_absent(store, prefix).await;
    suite::create_once(store, prefix).await;
    suite::swap_needs_the_present_tag(store, prefix).await;
    suite::one_swap_wins(store, prefix).await;
    suite::reads_stream_in_order(store, prefix).await;
    suite::files_are_written_whole(store, prefix, folder.path()).await;
    suite::lists_many(store, prefix).await;
}

#[tokio::test]
async fn memory() {
    let cloud = sluicegate_lake::memory::Memory::default();
    let store = cloud.bucket("lake");
    common(&store, "t").await;
    suite::attributes_are_kept(&store, "t").await;
    suite::lists_in_order(&store, "t").await;
    let inbox = cloud.bucket("inbox");
    let old = inbox.upload("flights/a b+c.csv", "old");
    inbox.upload("flights/a b+c.csv", "new");
    let source = CopySource {
        bucket: "inbox".into(),
        key: "flights/a b+c.csv".into(),
        version: old.version,
        size: 3,
    };
    suite::copies_once(&store, &source, b"old", "t", true).await;
    let sha256 = store.head("t/copy", None).await.unwrap().sha256;
    assert_eq!(sha256.as_deref(), Some(SHA256_OF_OLD));
    suite::queue_delivers(&cloud.queue("q")).await;
    suite::queue_releases(&cloud.queue("q")).await;
}

#[tokio::test]
async fn disk() {
    let folder = tempfile::tempdir().unwrap();
    common(&sluicegate_lake::disk::Disk::new(folder.path().join("lake")), "t").await;
}

#[cfg(feature = "aws")]
mod remote {
    use sluicegate_lake::aws::{Clients, CopyCondition, CopyLimits, S3};
    use sluicegate_lake::{Ambient, Attributes, Expected, System};

    use super::*;

    /// A prefix nobody used before, so that a bucket can be used again.
    fn fresh_prefix() -> String {
        format!("conformance/{}", System.uuid())
    }

    /// Puts an object into a versioned bucket twice; answers with the older version.
    async fn two_versions(store: &dyn Store, key: &str) -> CopySource {
        let none = Attributes::new();
        store.swap(key, "old".into(), &Expected::Nothing, &none).await.unwrap();
        let old = store.head(key, None).await.unwrap();
        store.swap(key, "new".into(), &Expected::Tag(old.etag), &none).await.unwrap();
        CopySource {
            bucket: store.bucket().into(),
            key: key.into(),
            version: Some(old.version.expect("a versioned bucket")),
            size: 3,
        }
    }

    async fn remote(store: &S3, condition: CopyCondition) {
        let prefix = &fresh_prefix();
        common(store, prefix).await;
        suite::attributes_are_kept(store, prefix).await;
        suite::lists_in_order(store, prefix).await;
        let source = two_versions(store, &format!("{prefix}/in/a b+c=ü%2F.csv")).await;
        let store = store.clone().with_copies(condition, CopyLimits::default());
        let atomic = condition == CopyCondition::On;
        suite::copies_once(&store, &source, b"old", prefix, atomic).await;
        let copied = store.head(&format!("{prefix}/copy"), None).await.unwrap();
        let sha256 = (condition == CopyCondition::On).then_some(SHA256_OF_OLD);
        assert_eq!(copied.sha256.as_deref(), sha256, "None is a known gap of the emulator");
        copies_in_parts(&store, condition, prefix).await;
    }

    /// Above the limit a copy goes in parts; its checksum is composite and not taken for the content's.
    async fn copies_in_parts(store: &S3, condition: CopyCondition, prefix: &str) {
        let (key, mib) = (format!("{prefix}/in/parts"), 1u32 << 20);
        let bytes: Vec<u8> = (0..11 * mib).map(|i| u8::try_from(i % 251).unwrap()).collect();
        store.create(&key, bytes.clone().into(), &Attributes::new()).await.unwrap();
        let limits = CopyLimits { whole: (5 * mib).into(), part: (5 * mib).into() };
        let store = store.clone().with_copies(condition, limits);
        let size = bytes.len() as u64;
        let source = CopySource { bucket: store.bucket().into(), key, version: None, size };
        let target = format!("{prefix}/parts");
        let given = [("sequencer".to_owned(), "00AB".to_owned())].into();
        store.copy(&source, &target, &given).await.unwrap();
        let (meta, copied) = store.get(&target).await.unwrap();
        assert!(copied == bytes, "the parts are in order");
        assert_eq!((meta.sha256, meta.attributes), (None, given));
        let again = store.copy(&source, &target, &Attributes::new()).await;
        assert!(matches!(again, Err(sluicegate_lake::StoreError::AlreadyThere { .. })));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn emulator() {
        let Ok(endpoint) = std::env::var("SLUICEGATE_TEST_ENDPOINT") else {
            println!("skipped: SLUICEGATE_TEST_ENDPOINT names no emulator");
            return;
        };
        let (clients, admin) = (Clients::from_env().await, admin::Admin::new(&endpoint).await);
        let store = clients.bucket(admin.versioned_bucket().await);
        remote(&store, CopyCondition::Off).await;
        let queue = clients.queue(admin.queue().await);
        suite::queue_delivers(&queue).await;
        suite::queue_releases(&queue).await;
        let counted = clients.requests().take();
        for operation in
            ["s3:PutObject", "s3:CopyObject", "s3:UploadPartCopy", "sqs:SendMessageBatch"]
        {
            assert!(counted.contains_key(operation), "{operation} in {counted:?}");
        }
        known_gaps(&store).await;
        admin.known_gaps(store.bucket()).await;
    }

    /// What S3 does and the emulator does not. When one of these fails, the gap is closed: assert the real thing.
    async fn known_gaps(store: &S3) {
        let prefix = &fresh_prefix();
        let source = two_versions(store, &format!("{prefix}/in/gap")).await;
        let conditional = store.clone().with_copies(CopyCondition::On, CopyLimits::default());
        let target = format!("{prefix}/copied-twice");
        conditional.copy(&source, &target, &Attributes::new()).await.unwrap();
        let second = conditional.copy(&source, &target, &Attributes::new()).await;
        assert!(second.is_ok(), "gap closed: CopyObject heeds If-None-Match ({second:?})");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn real_bucket() {
        let Ok(bucket) = std::env::var("SLUICEGATE_TEST_BUCKET") else {
            println!("skipped: SLUICEGATE_TEST_BUCKET names no bucket");
            return;
        };
        remote(&Clients::from_env().await.bucket(bucket), CopyCondition::On).await;
    }

    /// Makes buckets and queues, which no function of ours may.
    mod admin {
        use aws_smithy_types::error::metadata::ProvideErrorMetadata;
        use sluicegate_lake::{Ambient, System};

        pub(super) struct Admin {
            s3: aws_sdk_s3::Client,
            sqs: aws_sdk_sqs::Client,
        }

        impl Admin {
            pub(super) async fn new(endpoint: &str) -> Self {
                let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
                    .endpoint_url(endpoint)
                    .http_client(aws_smithy_http_client::Builder::new().build_http())
                    .load()
                    .await;
                let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(true);
                Self {
                    s3: aws_sdk_s3::Client::from_conf(s3.build()),
                    sqs: aws_sdk_sqs::Client::new(&config),
                }
            }

            pub(super) async fn versioned_bucket(&self) -> String {
                use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
                let name = format!("conformance-{}", System.uuid());
                self.s3.create_bucket().bucket(&name).send().await.unwrap();
                let on = VersioningConfiguration::builder()
                    .status(BucketVersioningStatus::Enabled)
                    .build();
                let request = self.s3.put_bucket_versioning().bucket(&name);
                request.versioning_configuration(on).send().await.unwrap();
                name
            }

            /// What AWS does and the emulator does not, of what our stores never ask for.
            pub(super) async fn known_gaps(&self, bucket: &str) {
                use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType};
                let small = self.two_small_parts(bucket).await;
                assert!(
                    small.is_some(),
                    "gap closed: parts below 5 MiB are refused (EntityTooSmall)"
                );
                let whole = self
                    .s3
                    .create_multipart_upload()
                    .bucket(bucket)
                    .key("gap/full-object")
                    .checksum_algorithm(ChecksumAlgorithm::Crc32)
                    .checksum_type(ChecksumType::FullObject)
                    .send()
                    .await
                    .unwrap();
                assert_ne!(
                    whole.checksum_type(),
                    Some(&ChecksumType::FullObject),
                    "gap closed: FULL_OBJECT checksums are kept"
                );
                let arn = "arn:aws:sqs:us-east-1:000000000000:none";
                let moved = self.sqs.start_message_move_task().source_arn(arn).send().await;
                let code = moved.err().and_then(|e| e.code().map(str::to_owned));
                assert_eq!(
                    code.as_deref(),
                    Some("InvalidAction"),
                    "gap closed: StartMessageMoveTask"
                );
            }

            /// Completes an upload of two parts of one byte, if that is allowed.
            async fn two_small_parts(&self, bucket: &str) -> Option<String> {
                use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
                let key = "gap/small-parts";
                let upload = self.s3.create_multipart_upload().bucket(bucket).key(key);
                let id = upload.send().await.unwrap().upload_id.unwrap();
                let mut parts = CompletedMultipartUpload::builder();
                for number in 1..=2 {
                    let part = self.s3.upload_part().bucket(bucket).key(key).upload_id(&id);
                    let part =
                        part.part_number(number).body(b"x".to_vec().into()).send().await.unwrap();
                    let done = CompletedPart::builder().part_number(number).set_e_tag(part.e_tag);
                    parts = parts.parts(done.build());
                }
                let complete = self.s3.complete_multipart_upload().bucket(bucket).key(key);
                let complete = complete.upload_id(&id).multipart_upload(parts.build());
                complete.send().await.ok().map(|done| done.e_tag.unwrap_or_default())
            }

            pub(super) async fn queue(&self) -> String {
                let name = format!("conformance-{}", System.uuid());
                let made = self.sqs.create_queue().queue_name(name).send().await.unwrap();
                made.queue_url.unwrap()
            }
        }
    }
}
