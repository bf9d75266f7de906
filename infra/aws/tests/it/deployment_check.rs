//! The comparison of a deployment with what the code assumes.

use mill_aws::deployment::{DeploymentSpec, ResourceNames, check, provision, remove};
use mill_local::OsClock;
use mill_model::QueueName;
use mill_records::tables::table_names;

use crate::canned_server::{answer, serve};
use crate::servers::{connect, fresh, installation, ministack};

#[tokio::test]
async fn what_was_provisioned_keeps_the_contract() {
    let (connection, names) = installation(ministack()).await;
    provision(&connection, &names, &OsClock).await.expect("making it twice is harmless");
    let deployed = DeploymentSpec { names, policy_bucket: None };
    assert_eq!(check(&connection, &deployed).await.unwrap(), []);
}

#[tokio::test]
async fn each_thing_that_differs_is_named() {
    let (connection, names) = installation(ministack()).await;
    let sqs = aws_sdk_sqs::Client::new(connection.config());
    let url = async |queue| sqs.get_queue_url().queue_name(names.queue(queue)).send().await.unwrap().queue_url.unwrap();
    let audit = url(QueueName::Audit).await;
    sqs.set_queue_attributes().queue_url(audit).attributes("VisibilityTimeout".into(), "7").send().await.unwrap();
    let low = url(QueueName::DuplicationLow).await;
    sqs.set_queue_attributes().queue_url(low).attributes("RedrivePolicy".into(), "").send().await.unwrap();
    sqs.delete_queue().queue_url(url(QueueName::BitError).await).send().await.unwrap();
    aws_sdk_dynamodb::Client::new(connection.config())
        .delete_table()
        .table_name(names.table("seals"))
        .send()
        .await
        .unwrap();
    let bucket = fresh("policies");
    aws_sdk_s3::Client::new(connection.config()).create_bucket().bucket(&bucket).send().await.unwrap();

    let deployed = DeploymentSpec { names: names.clone(), policy_bucket: Some(bucket.clone()) };
    let found = check(&connection, &deployed).await.unwrap();
    let told: Vec<(String, &str)> = found.into_iter().map(|finding| (finding.about, finding.aspect)).collect();
    let expected = [
        (format!("queue `{}`", names.queue(QueueName::Audit)), "VisibilityTimeout"),
        (format!("queue `{}`", names.queue(QueueName::DuplicationLow)), "RedrivePolicy"),
        (format!("queue `{}`", names.queue(QueueName::BitError)), "existence"),
        (format!("table `{}`", names.table("seals")), "existence"),
        (format!("bucket `{bucket}`"), "versioning"),
        (format!("bucket `{bucket}`"), "public access"),
    ];
    for finding in &expected {
        assert!(told.contains(finding), "{finding:?} is not among {told:?}");
    }
    // ministack does not report the encryption of buckets as S3 does.
    let bucket_s = (format!("bucket `{bucket}`"), "encryption");
    let unexpected: Vec<_> = told.iter().filter(|one| !expected.contains(one) && **one != bucket_s).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    remove(&connection, &names).await.unwrap();
    remove(&connection, &names).await.expect("what is gone already is fine");
}

/// The reported encryption of all queues, on a service with these additional attributes.
async fn encryption(attributes: &'static str) -> Vec<String> {
    let endpoint = serve(move |request| {
        let body = match request.headers()["x-amz-target"].to_str().unwrap() {
            "AmazonSQS.GetQueueUrl" => r#"{"QueueUrl":"http://queues/mill"}"#.to_owned(),
            "AmazonSQS.GetQueueAttributes" => format!(r#"{{"Attributes":{{{attributes}}}}}"#),
            _ => r#"{"Table":{}}"#.to_owned(),
        };
        answer(200, &[("content-type", "application/x-amz-json-1.0")], &body)
    });
    let deployed = DeploymentSpec { names: ResourceNames::new("mill", table_names()), policy_bucket: None };
    let found = check(&connect(&endpoint).await, &deployed).await.unwrap();
    found.into_iter().filter(|finding| finding.aspect == "encryption").map(|finding| finding.found).collect()
}

#[tokio::test]
async fn a_queue_passes_as_encrypted_only_where_the_service_says_so() {
    let all = |found: &str| vec![found.to_owned(); QueueName::ALL.len()];
    for (attributes, found) in [
        (r#""SqsManagedSseEnabled":"true""#, vec![]),
        (r#""SqsManagedSseEnabled":"false","KmsMasterKeyId":"alias/mill""#, vec![]),
        (r#""SqsManagedSseEnabled":"false""#, all("off")),
        (r#""SqsManagedSseEnabled":"false","KmsMasterKeyId":"""#, all("off")),
        (r#""KmsMasterKeyId":"""#, all("not told")),
        ("", all("not told")),
    ] {
        assert_eq!(encryption(attributes).await, found, "{attributes}");
    }
}
