//! Compares a deployment with what the code assumes.

use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType, TableDescription, TableStatus};
use aws_sdk_sqs::types::QueueAttributeName;
use mill_model::QueueName;
use serde_json::Value;

use super::{PARTITION_KEY, RECEIVES_MAX, ResourceNames, SORT_KEY, has_redrive, queue_settings};
use crate::connection::Connection;
use crate::sdk_error::{CallError, CallErrorCause};

/// A difference between a deployment and what the code assumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// The queue, table or bucket, such as ``queue `mill-audit` ``.
    pub about: String,
    /// The setting that was compared.
    pub aspect: &'static str,
    /// The value that the code assumes.
    pub expected: String,
    /// The value in the deployment.
    pub found: String,
}

/// A part of the deployment could not be read, so the check is incomplete.
#[derive(Debug, thiserror::Error)]
#[error("{about} cannot be looked at")]
pub struct CheckError {
    about: String,
    #[source]
    source: CallError,
}

/// The deployment to check.
#[derive(Debug, Clone)]
pub struct DeploymentSpec {
    /// The names of queues and tables.
    pub names: ResourceNames,
    /// The bucket of the policy files, if there is one.
    pub policy_bucket: Option<String>,
}

/// Compares a deployment with what the code assumes, and returns each difference.
///
/// # Errors
/// [`CheckError`] when a part could not be read. A missing queue, table or bucket is a deviation, not an error.
pub async fn check(connection: &Connection, deployed: &DeploymentSpec) -> Result<Vec<Deviation>, CheckError> {
    let mut deviations = Vec::new();
    let sqs = aws_sdk_sqs::Client::new(&connection.config);
    for queue in QueueName::ALL {
        check_queue(&sqs, &deployed.names, queue, &mut deviations).await?;
    }
    let dynamo = aws_sdk_dynamodb::Client::new(&connection.config);
    for table in deployed.names.tables() {
        let name = deployed.names.table(table);
        let about = format!("table `{name}`");
        match dynamo.describe_table().table_name(name).send().await {
            Ok(reported) => check_table(&about, reported.table.as_ref(), &mut deviations),
            Err(error) => {
                missing_or_error(about, CallError::from_sdk(error), &["ResourceNotFoundException"], &mut deviations)?;
            }
        }
    }
    if let Some(bucket) = &deployed.policy_bucket {
        check_bucket(connection, bucket, &mut deviations).await?;
    }
    Ok(deviations)
}

fn deviation(about: &str, aspect: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Deviation {
    Deviation { about: about.to_owned(), aspect, expected: expected.into(), found: found.into() }
}

/// A missing resource is a deviation; any other failure is an error.
fn missing_or_error(
    about: String,
    failure: CallError,
    codes: &[&str],
    deviations: &mut Vec<Deviation>,
) -> Result<(), CheckError> {
    if failure.cause == CallErrorCause::OtherResponse && failure.has_code(codes) {
        deviations.push(deviation(&about, "existence", "there", "not there"));
        return Ok(());
    }
    Err(CheckError { about, source: failure })
}

async fn check_queue(
    client: &aws_sdk_sqs::Client,
    names: &ResourceNames,
    queue: QueueName,
    deviations: &mut Vec<Deviation>,
) -> Result<(), CheckError> {
    const ABSENT: [&str; 2] = ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"];
    let name = names.queue(queue);
    let about = format!("queue `{name}`");
    let url = match client.get_queue_url().queue_name(name).send().await {
        Ok(found) => found.queue_url.unwrap_or_default(),
        Err(error) => return missing_or_error(about, CallError::from_sdk(error), &ABSENT, deviations),
    };
    let reported = client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All).send().await;
    let reported = match reported {
        Ok(reported) => reported.attributes.unwrap_or_default(),
        Err(error) => return missing_or_error(about, CallError::from_sdk(error), &ABSENT, deviations),
    };
    let value = |name: &str| reported.get(&QueueAttributeName::from(name)).map(String::as_str);
    for (setting, expected) in queue_settings() {
        let found = value(setting).unwrap_or("not told");
        if found != expected {
            deviations.push(deviation(&about, setting, expected, found));
        }
    }
    let (managed, key) = (value("SqsManagedSseEnabled"), value("KmsMasterKeyId"));
    if managed != Some("true") && key.is_none_or(str::is_empty) {
        deviations.push(deviation(&about, "encryption", "on", if managed.is_some() { "off" } else { "not told" }));
    }
    check_redrive(&about, names, queue, value("RedrivePolicy"), deviations);
    Ok(())
}

fn check_redrive(
    about: &str,
    names: &ResourceNames,
    queue: QueueName,
    policy: Option<&str>,
    deviations: &mut Vec<Deviation>,
) {
    let policy = policy.filter(|policy| !policy.is_empty());
    if !has_redrive(queue) {
        if let Some(policy) = policy {
            deviations.push(deviation(about, "RedrivePolicy", "none", policy));
        }
        return;
    }
    let target = names.queue(QueueName::DeadLetter);
    let expected = format!("to `{target}` after {RECEIVES_MAX} receives");
    let Some(policy) = policy else {
        deviations.push(deviation(about, "RedrivePolicy", expected, "none"));
        return;
    };
    let read: Value = serde_json::from_str(policy).unwrap_or_default();
    let count = match &read["maxReceiveCount"] {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    let to_target = read["deadLetterTargetArn"].as_str().is_some_and(|arn| arn.rsplit(':').next() == Some(&target));
    if !to_target || count != Some(u64::from(RECEIVES_MAX)) {
        deviations.push(deviation(about, "RedrivePolicy", expected, policy));
    }
}

fn check_table(about: &str, reported: Option<&TableDescription>, deviations: &mut Vec<Deviation>) {
    let Some(table) = reported else {
        deviations.push(deviation(about, "existence", "there", "not there"));
        return;
    };
    let status = table.table_status();
    // A table stays usable while its settings change.
    if !matches!(status, Some(TableStatus::Active | TableStatus::Updating)) {
        deviations.push(deviation(about, "status", "ACTIVE", status.map_or("not told", TableStatus::as_str)));
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
        deviations.push(deviation(about, "keys", expected, found.join(", ")));
    }
}

async fn check_bucket(
    connection: &Connection,
    bucket: &str,
    deviations: &mut Vec<Deviation>,
) -> Result<(), CheckError> {
    let about = format!("bucket `{bucket}`");
    let config = aws_sdk_s3::config::Builder::from(&connection.config).force_path_style(true);
    let client = aws_sdk_s3::Client::from_conf(config.build());
    let versioning = match client.get_bucket_versioning().bucket(bucket).send().await {
        Ok(reported) => reported.status.map_or_else(|| "off".to_owned(), |status| status.to_string()),
        Err(error) => return missing_or_error(about, CallError::from_sdk(error), &["NoSuchBucket"], deviations),
    };
    if versioning != "Enabled" {
        deviations.push(deviation(&about, "versioning", "Enabled", versioning));
    }
    let blocked = match client.get_public_access_block().bucket(bucket).send().await {
        Ok(reported) => reported.public_access_block_configuration.is_some_and(|block| {
            let all = [
                block.block_public_acls,
                block.ignore_public_acls,
                block.block_public_policy,
                block.restrict_public_buckets,
            ];
            all.iter().all(|blocked| *blocked == Some(true))
        }),
        Err(error) => {
            let failure = CallError::from_sdk(error);
            if !failure.has_code(&["NoSuchPublicAccessBlockConfiguration"]) {
                return Err(CheckError { about, source: failure });
            }
            false
        }
    };
    if !blocked {
        deviations.push(deviation(&about, "public access", "blocked", "not blocked"));
    }
    match client.get_bucket_encryption().bucket(bucket).send().await {
        Ok(_) => {}
        Err(error) => {
            let failure = CallError::from_sdk(error);
            if !failure.has_code(&["ServerSideEncryptionConfigurationNotFoundError"]) {
                return Err(CheckError { about, source: failure });
            }
            deviations.push(deviation(&about, "encryption", "on", "off"));
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
            (Some(TableStatus::Creating), vec![deviation("table", "status", "ACTIVE", "CREATING")]),
            (None, vec![deviation("table", "status", "ACTIVE", "not told")]),
        ] {
            let mut deviations = Vec::new();
            check_table("table", Some(&table.clone().set_table_status(status).build()), &mut deviations);
            assert_eq!(deviations, expected);
        }
    }
}
