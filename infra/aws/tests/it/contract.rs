//! What is deployed, compared with what the code assumes.

use mill_aws::contract::{Deployed, check, provision, remove};
use mill_local::OsClock;
use mill_model::QueueName;

use crate::servers::{fresh, installation, ministack};

#[tokio::test]
async fn what_was_provisioned_keeps_the_contract() {
    let (connection, names) = installation(ministack()).await;
    provision(&connection, &names, &OsClock).await.expect("making it twice is harmless");
    let deployed = Deployed { names, policy_bucket: None };
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

    let deployed = Deployed { names: names.clone(), policy_bucket: Some(bucket.clone()) };
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
    let unexpected: Vec<_> = told.iter().filter(|one| !expected.contains(one) && one.1 != "encryption").collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    remove(&connection, &names).await.unwrap();
    remove(&connection, &names).await.expect("what is gone already is fine");
}
