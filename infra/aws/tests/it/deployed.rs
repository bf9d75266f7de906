//! The template of `infra/deploy` as a server deploys it.

use std::collections::BTreeSet;

use mill_aws::deployment::{DeploymentSpec, ResourceNames, check};
use mill_model::QueueName;
use mill_records::tables::table_names;
use serde_json::{Value, json};

use crate::servers::{connect, fresh, ministack};
use crate::stack::{answered, deployed};

#[tokio::test]
async fn a_deployed_stack_keeps_the_contract_in_both_variants() {
    let scaled = &["Workmen=hosts", "Spot=yes", "SourceBuckets=master", "Producers=0"][..];
    for (variant, settings, parts) in [
        (
            "containers",
            &["WorkmenMax=1", "AlarmEmail=somebody@example.org"][..],
            &["WorkmanService", "AlarmByEmail", "DuplicationProducer"][..],
        ),
        ("hosts", scaled, &["WorkmanHosts", "MoreHosts", "FewerHosts", "LowQueueOverHighMark", "ReadItems"]),
    ] {
        let name = fresh(variant);
        let told = deployed(ministack(), &name, settings);
        let made = told["made"].as_object().unwrap();
        let conditional = [
            "WorkmanService",
            "WorkmanHosts",
            "MoreHosts",
            "FewerHosts",
            "LowQueueOverHighMark",
            "AlarmByEmail",
            "DuplicationProducer",
            "ReadItems",
        ];
        for part in conditional {
            assert_eq!(made.contains_key(part), parts.contains(&part), "{part} of {variant}");
        }
        let names = ResourceNames::new(name, table_names());
        each_queue_alarms(&told, &names);
        let bucket = told["outputs"]["PolicyBucket"].as_str().unwrap().to_owned();
        let there = DeploymentSpec { names, policy_bucket: Some(bucket) };
        assert_eq!(check(&connect(ministack()).await, &there).await.unwrap(), [], "{variant}");
    }
}

/// The alarms on the server: on each queue's depth and oldest message, to the topic.
fn each_queue_alarms(told: &Value, names: &ResourceNames) {
    let alarms = told["alarms"].as_array().unwrap();
    for queue in QueueName::ALL {
        for metric in ["ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"] {
            let expected = json!([metric, names.queue(queue), [told["outputs"]["AlarmTopic"]]]);
            assert!(alarms.contains(&expected), "{expected} is not among {alarms:?}");
        }
    }
    let asked: BTreeSet<&str> = alarms.iter().filter_map(|alarm| alarm[1].as_str()).collect();
    assert_eq!(asked.len(), QueueName::ALL.len(), "an alarm on a queue that is none of these: {asked:?}");
}

const ALLOWED: &str = "allowed";
const DENIED: &str = "explicitDeny";
const NOT_ALLOWED: &str = "implicitDeny";

/// Questions about the permissions of a role, with the expected results.
struct Questions {
    role: &'static str,
    asked: Vec<(Value, &'static str)>,
}

impl Questions {
    fn ask(&mut self, action: &str, resource: &str, answer: &'static str) {
        self.ask_more(action, resource, answer, json!({}));
    }

    /// Asks for an administrator, whom another policy allows everything.
    fn never(&mut self, action: &str, resource: &str, tls: bool) {
        self.ask_more(action, resource, DENIED, json!({"administrator": true, "tls": tls}));
    }

    fn ask_more(&mut self, action: &str, resource: &str, answer: &'static str, mut question: Value) {
        question["role"] = format!("{}Role", self.role).into();
        question["action"] = action.into();
        question["resource"] = resource.into();
        self.asked.push((question, answer));
    }

    /// Asks for the row that names the installation of a table.
    fn recognise(&mut self, action: &str, resource: &str) {
        self.ask_more(action, resource, ALLOWED, json!({"partition": "installation"}));
    }

    /// Permissions that these roles have, and no others.
    fn only(&mut self, roles: &[&str], action: &str, resource: &str) {
        self.ask(action, resource, if roles.contains(&self.role) { ALLOWED } else { NOT_ALLOWED });
    }
}

#[test]
fn each_role_may_do_its_duties_and_nobody_may_write_a_source() {
    let name = fresh("roles");
    deployed(ministack(), &name, &["Workmen=hosts", "SourceBuckets=master,attic-*", "DestinationBuckets=copy"]);
    let queue = |queue: &str| format!("arn:aws:sqs:us-east-1:000000000000:{name}-{queue}");
    let table = |table_name: &str| format!("arn:aws:dynamodb:us-east-1:000000000000:table/{name}-{table_name}");
    let bucket = |bucket: &str| format!("arn:aws:s3:::{bucket}");
    let item = |bucket: &str| format!("arn:aws:s3:::{bucket}/item");
    let policies = format!("{name}-policies-000000000000-us-east-1");
    let mut questions = Questions { role: "", asked: Vec::new() };
    for role in ["Producer", "Workman", "Operator", "Editor"] {
        questions.role = role;
        for source in ["master", "attic-1"] {
            for action in ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:PutObjectTagging"] {
                questions.never(action, &item(source), true);
            }
            for action in ["s3:DeleteBucket", "s3:PutBucketPolicy", "s3:PutLifecycleConfiguration"] {
                questions.never(action, &bucket(source), true);
            }
        }
        questions.never("s3:GetObject", &item("copy"), false);
        questions.never("sqs:SendMessage", &queue("duplication-low"), false);
        for held in ["master", "attic-1", "copy"] {
            questions.only(&["Producer", "Workman", "Operator"], "s3:ListBucket", &bucket(held));
            questions.only(&["Workman", "Operator"], "s3:GetObject", &item(held));
        }
        for action in ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"] {
            questions.only(&["Workman"], action, &item("copy"));
        }
        questions.only(&["Editor"], "s3:PutObject", &item(&policies));
        questions.ask("s3:GetObject", &item(&policies), ALLOWED);
        questions.only(&["Workman"], "sqs:ReceiveMessage", &queue("duplication-high"));
        questions.only(&["Workman", "Operator"], "sqs:ReceiveMessage", &queue("dead-letter"));
        questions.only(&["Producer", "Workman", "Operator"], "sqs:SendMessage", &queue("duplication-low"));
        questions.only(&["Workman", "Operator"], "sqs:SendMessage", &queue("duplication-high"));
        questions.only(&["Producer"], "dynamodb:PutItem", &table("producer-state"));
        questions.only(&["Workman"], "dynamodb:PutItem", &table("seals"));
        questions.only(&["Workman", "Operator"], "dynamodb:PutItem", &table("dead-letters"));
        questions.only(&["Producer", "Workman", "Operator"], "dynamodb:PutItem", &table("delete-lists"));
        questions.only(&["Producer", "Operator"], "dynamodb:DeleteItem", &table("delete-lists"));
        questions.only(&["Workman"], "dynamodb:PutItem", &table("permits"));
        questions.only(&["Producer", "Workman"], "dynamodb:PutItem", &table("account-counts"));
        questions.only(&["Producer"], "dynamodb:DeleteItem", &table("account-counts"));
        for table_name in table_names() {
            if ["Producer", "Workman"].contains(&role) {
                questions.recognise("dynamodb:GetItem", &table(table_name));
            }
            if role == "Workman" {
                questions.recognise("dynamodb:PutItem", &table(table_name));
            }
        }
        for (action, resource) in [
            ("s3:GetObject", item("elsewhere")),
            ("s3:PutBucketPolicy", bucket(&policies)),
            ("sqs:PurgeQueue", queue("duplication-low")),
            ("sqs:ReceiveMessage", queue("bit-error")),
            ("dynamodb:DeleteTable", table("dead-letters")),
            ("dynamodb:DeleteItem", table("dead-letters")),
        ] {
            questions.ask(action, &resource, NOT_ALLOWED);
        }
    }
    answered(ministack(), &name, &questions.asked);
}
