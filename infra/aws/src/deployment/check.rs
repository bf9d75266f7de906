//! Compares what is deployed with the contract.

use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType, TableDescription, TableStatus};
use aws_sdk_sqs::types::QueueAttributeName;
use mill_model::QueueName;
use serde_json::Value;

use super::{PARTITION_KEY, RECEIVES_MAX, ResourceNames, SORT_KEY, TABLES, has_redrive, queue_settings};
use crate::connection::Connection;
use crate::sdk_error::{CallError, CallErrorCause};

/// Something that is not as the code assumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// What it is about, such as ``queue `mill-audit` ``.
    pub about: String,
    /// What was compared.
    pub aspect: &'static str,
    /// What the code assumes.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// The deployment could not be looked at: nothing is known of what is right and wrong in it.
#[derive(Debug, thiserror::Error)]
#[error("{about} cannot be looked at")]
pub struct CheckError {
    about: String,
    #[source]
    source: CallError,
}

/// What to look at.
#[derive(Debug, Clone)]
pub struct DeploymentSpec {
    /// The names of queues and tables.
    pub names: ResourceNames,
    /// The bucket of the policy files, if there is one.
    pub policy_bucket: Option<String>,
}

/// Compares a deployment with the contract, and names whatever differs.
///
/// # Errors
/// [`CheckError`] when something could not be looked at. What is not there is a finding, no error.
pub async fn check(connection: &Connection, deployed: &DeploymentSpec) -> Result<Vec<Deviation>, CheckError> {
    let mut findings = Vec::new();
    let sqs = aws_sdk_sqs::Client::new(&connection.config);
    for queue in QueueName::ALL {
        queue_as_assumed(&sqs, &deployed.names, queue, &mut findings).await?;
    }
    let dynamo = aws_sdk_dynamodb::Client::new(&connection.config);
    for book in TABLES {
        let name = deployed.names.table(book);
        let about = format!("table `{name}`");
        match dynamo.describe_table().table_name(name).send().await {
            Ok(told) => table_as_assumed(&about, told.table.as_ref(), &mut findings),
            Err(error) => absent(about, CallError::of(error), &["ResourceNotFoundException"], &mut findings)?,
        }
    }
    if let Some(bucket) = &deployed.policy_bucket {
        bucket_as_assumed(connection, bucket, &mut findings).await?;
    }
    Ok(findings)
}

fn finding(about: &str, aspect: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Deviation {
    Deviation { about: about.to_owned(), aspect, expected: expected.into(), found: found.into() }
}

/// A definite no is a finding; everything else is an error.
fn absent(about: String, trouble: CallError, codes: &[&str], findings: &mut Vec<Deviation>) -> Result<(), CheckError> {
    if trouble.cause == CallErrorCause::OtherResponse && trouble.is(codes) {
        findings.push(finding(&about, "existence", "there", "not there"));
        return Ok(());
    }
    Err(CheckError { about, source: trouble })
}

async fn queue_as_assumed(
    client: &aws_sdk_sqs::Client,
    names: &ResourceNames,
    queue: QueueName,
    findings: &mut Vec<Deviation>,
) -> Result<(), CheckError> {
    const ABSENT: [&str; 2] = ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"];
    let name = names.queue(queue);
    let about = format!("queue `{name}`");
    let url = match client.get_queue_url().queue_name(name).send().await {
        Ok(found) => found.queue_url.unwrap_or_default(),
        Err(error) => return absent(about, CallError::of(error), &ABSENT, findings),
    };
    let told = client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All).send().await;
    let told = match told {
        Ok(told) => told.attributes.unwrap_or_default(),
        Err(error) => return absent(about, CallError::of(error), &ABSENT, findings),
    };
    let value = |name: &str| told.get(&QueueAttributeName::from(name)).map(String::as_str);
    for (setting, expected) in queue_settings() {
        let found = value(setting).unwrap_or("not told");
        if found != expected {
            findings.push(finding(&about, setting, expected, found));
        }
    }
    let (managed, key) = (value("SqsManagedSseEnabled"), value("KmsMasterKeyId"));
    if managed != Some("true") && key.is_none_or(str::is_empty) {
        findings.push(finding(&about, "encryption", "on", if managed.is_some() { "off" } else { "not told" }));
    }
    redrive_as_assumed(&about, names, queue, value("RedrivePolicy"), findings);
    Ok(())
}

fn redrive_as_assumed(
    about: &str,
    names: &ResourceNames,
    queue: QueueName,
    policy: Option<&str>,
    findings: &mut Vec<Deviation>,
) {
    let policy = policy.filter(|policy| !policy.is_empty());
    if !has_redrive(queue) {
        if let Some(policy) = policy {
            findings.push(finding(about, "RedrivePolicy", "none", policy));
        }
        return;
    }
    let target = names.queue(QueueName::DeadLetter);
    let expected = format!("to `{target}` after {RECEIVES_MAX} receives");
    let Some(policy) = policy else {
        findings.push(finding(about, "RedrivePolicy", expected, "none"));
        return;
    };
    let read: Value = serde_json::from_str(policy).unwrap_or_default();
    let count = match &read["maxReceiveCount"] {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    let to_target = read["deadLetterTargetArn"].as_str().is_some_and(|arn| arn.rsplit(':').next() == Some(&target));
    if !to_target || count != Some(u64::from(RECEIVES_MAX)) {
        findings.push(finding(about, "RedrivePolicy", expected, policy));
    }
}

fn table_as_assumed(about: &str, told: Option<&TableDescription>, findings: &mut Vec<Deviation>) {
    let Some(table) = told else {
        findings.push(finding(about, "existence", "there", "not there"));
        return;
    };
    let status = table.table_status();
    // A table whose settings are being changed can be used all the while.
    if !matches!(status, Some(TableStatus::Active | TableStatus::Updating)) {
        findings.push(finding(about, "status", "ACTIVE", status.map_or("not told", TableStatus::as_str)));
    }
    let expected = format!("{PARTITION_KEY} (HASH, S), {SORT_KEY} (RANGE, S)");
    let keys: Vec<(&str, &KeyType)> =
        table.key_schema().iter().map(|key| (key.attribute_name(), key.key_type())).collect();
    let text = |name: &str| {
        table
            .attribute_definitions()
            .iter()
            .any(|defined| defined.attribute_name() == name && *defined.attribute_type() == ScalarAttributeType::S)
    };
    let right =
        keys == [(PARTITION_KEY, &KeyType::Hash), (SORT_KEY, &KeyType::Range)] && text(PARTITION_KEY) && text(SORT_KEY);
    if !right {
        let found: Vec<String> = keys.iter().map(|(name, kind)| format!("{name} ({kind})")).collect();
        findings.push(finding(about, "keys", expected, found.join(", ")));
    }
}

async fn bucket_as_assumed(
    connection: &Connection,
    bucket: &str,
    findings: &mut Vec<Deviation>,
) -> Result<(), CheckError> {
    let about = format!("bucket `{bucket}`");
    let config = aws_sdk_s3::config::Builder::from(&connection.config).force_path_style(true);
    let client = aws_sdk_s3::Client::from_conf(config.build());
    let versioning = match client.get_bucket_versioning().bucket(bucket).send().await {
        Ok(told) => told.status.map_or_else(|| "off".to_owned(), |status| status.to_string()),
        Err(error) => return absent(about, CallError::of(error), &["NoSuchBucket"], findings),
    };
    if versioning != "Enabled" {
        findings.push(finding(&about, "versioning", "Enabled", versioning));
    }
    let blocked = match client.get_public_access_block().bucket(bucket).send().await {
        Ok(told) => told.public_access_block_configuration.is_some_and(|block| {
            let all = [
                block.block_public_acls,
                block.ignore_public_acls,
                block.block_public_policy,
                block.restrict_public_buckets,
            ];
            all.iter().all(|blocked| *blocked == Some(true))
        }),
        Err(error) => {
            let trouble = CallError::of(error);
            if !trouble.is(&["NoSuchPublicAccessBlockConfiguration"]) {
                return Err(CheckError { about, source: trouble });
            }
            false
        }
    };
    if !blocked {
        findings.push(finding(&about, "public access", "blocked", "not blocked"));
    }
    match client.get_bucket_encryption().bucket(bucket).send().await {
        Ok(_) => {}
        Err(error) => {
            let trouble = CallError::of(error);
            if !trouble.is(&["ServerSideEncryptionConfigurationNotFoundError"]) {
                return Err(CheckError { about, source: trouble });
            }
            findings.push(finding(&about, "encryption", "on", "off"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::{AttributeDefinition, KeySchemaElement};

    use super::*;

    #[test]
    fn a_table_that_cannot_be_used_yet_is_named() {
        let key = |name, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
        let text = |name| {
            let text = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
            text.build().unwrap()
        };
        let table = TableDescription::builder()
            .key_schema(key(PARTITION_KEY, KeyType::Hash))
            .key_schema(key(SORT_KEY, KeyType::Range))
            .attribute_definitions(text(PARTITION_KEY))
            .attribute_definitions(text(SORT_KEY));
        for (status, expected) in [
            (Some(TableStatus::Active), vec![]),
            (Some(TableStatus::Updating), vec![]),
            (Some(TableStatus::Creating), vec![finding("table", "status", "ACTIVE", "CREATING")]),
            (None, vec![finding("table", "status", "ACTIVE", "not told")]),
        ] {
            let mut findings = Vec::new();
            table_as_assumed("table", Some(&table.clone().set_table_status(status).build()), &mut findings);
            assert_eq!(findings, expected);
        }
    }
}
