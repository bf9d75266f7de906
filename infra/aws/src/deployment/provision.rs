//! Makes the queues and tables that the code assumes: for trials, and for services without CloudFormation.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::operation::delete_table::DeleteTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
};
use aws_sdk_sqs::operation::get_queue_url::GetQueueUrlError;
use aws_sdk_sqs::types::QueueAttributeName;
use mill_model::QueueName;
use mill_ports::Clock;

use super::{PARTITION_KEY, RECEIVES_MAX, ResourceNames, SORT_KEY, has_redrive, queue_settings};
use crate::connection::Connection;
use crate::sdk_error::CallError;

/// A queue or table could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` cannot be {done}")]
pub struct ProvisionError {
    /// What.
    pub name: String,
    /// The operation that failed, as a participle.
    pub done: &'static str,
    #[source]
    source: mill_ports::BoxError,
}

fn provision_error(name: &str, done: &'static str) -> impl Fn(CallError) -> ProvisionError {
    move |failure| ProvisionError { name: name.to_owned(), done, source: failure.into() }
}

/// Makes the missing queues and tables of an installation, and returns when all can be used.
///
/// # Errors
/// The first one that could not be made. A queue of that name with other settings is such an error too.
pub async fn provision(
    connection: &Connection,
    names: &ResourceNames,
    clock: &dyn Clock,
) -> Result<(), ProvisionError> {
    let sqs = aws_sdk_sqs::Client::new(&connection.config);
    let dead = create_queue(&sqs, names, QueueName::DeadLetter, None).await?;
    for name in QueueName::ALL.into_iter().filter(|name| has_redrive(*name)) {
        create_queue(&sqs, names, name, Some(&dead)).await?;
    }
    let dynamo = aws_sdk_dynamodb::Client::new(&connection.config);
    for table in names.tables() {
        create_table(&dynamo, &names.table(table)).await?;
    }
    for table in names.tables() {
        wait_until_active(&dynamo, &names.table(table), clock).await?;
    }
    Ok(())
}

/// Makes a queue and returns its ARN.
async fn create_queue(
    client: &aws_sdk_sqs::Client,
    names: &ResourceNames,
    queue: QueueName,
    dead: Option<&str>,
) -> Result<String, ProvisionError> {
    let name = names.queue(queue);
    let provision_error = provision_error(&name, "made");
    let mut settings: HashMap<QueueAttributeName, String> =
        queue_settings().into_iter().map(|(name, value)| (QueueAttributeName::from(name), value)).collect();
    settings.insert(QueueAttributeName::SqsManagedSseEnabled, "true".into());
    if let Some(dead) = dead {
        let redrive = format!(r#"{{"deadLetterTargetArn":"{dead}","maxReceiveCount":"{RECEIVES_MAX}"}}"#);
        settings.insert(QueueAttributeName::RedrivePolicy, redrive);
    }
    let made = client.create_queue().queue_name(&name).set_attributes(Some(settings)).send().await;
    let url = made.map_err(|error| provision_error(CallError::from_sdk(error)))?.queue_url.unwrap_or_default();
    let reported =
        client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::QueueArn).send().await;
    let reported =
        reported.map_err(|error| provision_error(CallError::from_sdk(error)))?.attributes.unwrap_or_default();
    Ok(reported.get(&QueueAttributeName::QueueArn).cloned().unwrap_or_default())
}

async fn create_table(client: &aws_sdk_dynamodb::Client, name: &str) -> Result<(), ProvisionError> {
    let wrong = |why| ProvisionError { name: name.to_owned(), done: "made", source: why };
    let mut create = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (key, kind) in [(PARTITION_KEY, KeyType::Hash), (SORT_KEY, KeyType::Range)] {
        let schema = KeySchemaElement::builder().attribute_name(key).key_type(kind).build();
        let defined = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S).build();
        create = create
            .key_schema(schema.map_err(|why| wrong(why.into()))?)
            .attribute_definitions(defined.map_err(|why| wrong(why.into()))?);
    }
    match create.send().await {
        Ok(_) => Ok(()),
        Err(error) if error.as_service_error().is_some_and(CreateTableError::is_resource_in_use_exception) => Ok(()),
        Err(error) => Err(provision_error(name, "made")(CallError::from_sdk(error))),
    }
}

/// Returns when a table can be used.
async fn wait_until_active(
    client: &aws_sdk_dynamodb::Client,
    name: &str,
    clock: &dyn Clock,
) -> Result<(), ProvisionError> {
    const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);
    const LOOKS_MAX: u32 = 240;
    for _ in 0..LOOKS_MAX {
        let reported = client.describe_table().table_name(name).send().await;
        let reported = reported.map_err(|error| provision_error(name, "looked at")(CallError::from_sdk(error)))?;
        if reported.table.and_then(|table| table.table_status) == Some(TableStatus::Active) {
            return Ok(());
        }
        clock.sleep(LOOK_EVERY).await;
    }
    Err(ProvisionError { name: name.to_owned(), done: "used", source: "it does not become active".into() })
}

/// Removes an installation's queues and tables with all their content. Missing ones are no error.
///
/// # Errors
/// The first one that could not be removed.
pub async fn remove(connection: &Connection, names: &ResourceNames) -> Result<(), ProvisionError> {
    let sqs = aws_sdk_sqs::Client::new(&connection.config);
    for queue in QueueName::ALL {
        let name = names.queue(queue);
        let found = match sqs.get_queue_url().queue_name(&name).send().await {
            Ok(found) => found.queue_url.unwrap_or_default(),
            Err(error) if error.as_service_error().is_some_and(GetQueueUrlError::is_queue_does_not_exist) => {
                continue;
            }
            Err(error) => return Err(provision_error(&name, "found")(CallError::from_sdk(error))),
        };
        let removed = sqs.delete_queue().queue_url(found).send().await;
        removed.map_err(|error| provision_error(&name, "removed")(CallError::from_sdk(error)))?;
    }
    let dynamo = aws_sdk_dynamodb::Client::new(&connection.config);
    for table in names.tables() {
        let name = names.table(table);
        match dynamo.delete_table().table_name(&name).send().await {
            Ok(_) => {}
            Err(error) if error.as_service_error().is_some_and(DeleteTableError::is_resource_not_found_exception) => {}
            Err(error) => return Err(provision_error(&name, "removed")(CallError::from_sdk(error))),
        }
    }
    Ok(())
}
