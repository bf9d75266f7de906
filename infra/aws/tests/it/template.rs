//! The template of `infra/deploy`, compared with what the code assumes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use mill_aws::deployment::{PARTITION_KEY, RECEIVES_MAX, ResourceNames, SORT_KEY, has_redrive, queue_settings};
use mill_model::QueueName;
use mill_records::tables::table_names;
use serde_json::{Value, json};

use crate::stack::stack;

fn template() -> &'static Value {
    static READ: OnceLock<Value> = OnceLock::new();
    READ.get_or_init(|| stack(&["show"], &Value::Null))
}

/// The resources of a type, with their names in the template.
fn resources<'a>(template: &'a Value, kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let all = template["Resources"].as_object().unwrap();
    all.iter().filter(|(_, one)| one["Type"] == kind).map(|(name, one)| (name.as_str(), one)).collect()
}

/// A text of the template, for the prefix `it`.
fn text(value: &Value) -> String {
    value["Fn::Sub"].as_str().unwrap_or_else(|| panic!("{value} is no Fn::Sub")).replace("${Prefix}", "it")
}

fn names() -> ResourceNames {
    ResourceNames::new("it", table_names())
}

#[test]
fn the_templates_queues_are_the_contracts() {
    let template = template();
    let queues = resources(template, "AWS::SQS::Queue");
    let named: BTreeMap<String, &Value> =
        queues.values().map(|queue| (text(&queue["Properties"]["QueueName"]), &queue["Properties"])).collect();
    assert_eq!(named.len(), QueueName::ALL.len());
    for queue in QueueName::ALL {
        let found = named[&names().queue(queue)];
        for (setting, expected) in queue_settings() {
            assert_eq!(found[setting].to_string(), expected, "{setting} of {queue}");
        }
        assert_eq!(found["SqsManagedSseEnabled"], true, "{queue} is not encrypted");
        let redrive = json!({
            "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]},
            "maxReceiveCount": RECEIVES_MAX,
        });
        let expected = if has_redrive(queue) { redrive } else { Value::Null };
        assert_eq!(found["RedrivePolicy"], expected, "{queue}");
    }
    let dead = &queues["DeadLetterQueue"]["Properties"];
    assert_eq!(text(&dead["QueueName"]), names().queue(QueueName::DeadLetter));
    let allowed = dead["RedriveAllowPolicy"]["sourceQueueArns"].as_array().unwrap();
    let allowed: BTreeSet<String> =
        allowed.iter().map(|arn| text(arn).rsplit(':').next().unwrap().to_owned()).collect();
    let all = QueueName::ALL.into_iter().filter(|queue| has_redrive(*queue));
    assert_eq!(allowed, all.map(|queue| names().queue(queue)).collect());
}

#[test]
fn the_templates_tables_are_the_contracts_and_outlive_the_stack() {
    let template = template();
    let tables = resources(template, "AWS::DynamoDB::Table");
    let found: BTreeSet<String> = tables.values().map(|table| text(&table["Properties"]["TableName"])).collect();
    assert_eq!(found, table_names().map(|table_name| names().table(table_name)).collect());
    for (name, table) in tables {
        let keys = json!([
            {"AttributeName": PARTITION_KEY, "KeyType": "HASH"},
            {"AttributeName": SORT_KEY, "KeyType": "RANGE"},
        ]);
        let kinds = json!([
            {"AttributeName": PARTITION_KEY, "AttributeType": "S"},
            {"AttributeName": SORT_KEY, "AttributeType": "S"},
        ]);
        for (property, expected) in [
            ("KeySchema", keys),
            ("AttributeDefinitions", kinds),
            ("BillingMode", json!("PAY_PER_REQUEST")),
            ("PointInTimeRecoverySpecification", json!({"PointInTimeRecoveryEnabled": true})),
            ("DeletionProtectionEnabled", json!({"Fn::If": ["ProtectsTables", true, false]})),
        ] {
            assert_eq!(table["Properties"][property], expected, "{property} of {name}");
        }
        assert_eq!((&table["DeletionPolicy"], &table["UpdateReplacePolicy"]), (&json!("Retain"), &json!("Retain")));
    }
}

#[test]
fn the_policy_bucket_is_versioned_encrypted_and_closed() {
    let template = template();
    let bucket = &template["Resources"]["PolicyBucket"];
    assert_eq!(bucket["UpdateReplacePolicy"], "Retain");
    let properties = &bucket["Properties"];
    assert_eq!(properties["VersioningConfiguration"]["Status"], "Enabled");
    let encryption = &properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0];
    assert_eq!(encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"], "AES256");
    let blocked = properties["PublicAccessBlockConfiguration"].as_object().unwrap();
    assert_eq!((blocked.len(), blocked.values().all(|blocked| *blocked == true)), (4, true), "{blocked:?}");
}

#[test]
fn each_queue_alarms_on_depth_and_age_and_dead_letters_at_one() {
    let template = template();
    let queues = resources(template, "AWS::SQS::Queue");
    let alarms: BTreeSet<(String, String, String)> = resources(template, "AWS::CloudWatch::Alarm")
        .values()
        .map(|alarm| &alarm["Properties"])
        .filter(|alarm| alarm["AlarmActions"] == json!([{"Ref": "AlarmTopic"}]))
        .map(|alarm| {
            let queue = alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0].as_str().unwrap();
            let queue = text(&queues[queue]["Properties"]["QueueName"]);
            assert_eq!(alarm["ComparisonOperator"], "GreaterThanOrEqualToThreshold");
            (alarm["MetricName"].as_str().unwrap().to_owned(), queue, alarm["Threshold"].to_string())
        })
        .collect();
    let has = |metric: &str, queue: QueueName, threshold: Option<&str>| {
        alarms.iter().any(|(of, at, over)| {
            of == metric && *at == names().queue(queue) && threshold.is_none_or(|threshold| over == threshold)
        })
    };
    for queue in QueueName::ALL {
        assert!(has("ApproximateNumberOfMessagesVisible", queue, None), "{queue} in {alarms:?}");
        assert!(has("ApproximateAgeOfOldestMessage", queue, None), "{queue} in {alarms:?}");
    }
    assert!(has("ApproximateNumberOfMessagesVisible", QueueName::DeadLetter, Some("1")), "{alarms:?}");
    assert!(has("NumberOfMessagesReceived", QueueName::DeadLetter, Some("1")), "{alarms:?}");
}

#[test]
fn workmen_scale_on_high_and_low_marks_of_both_duplication_queues() {
    let template = template();
    let alarms = resources(template, "AWS::CloudWatch::Alarm");
    for (alarm, queue, mark) in [
        ("HighQueueOverHighMark", "DuplicationHighQueue", "HighQueueHighMark"),
        ("LowQueueOverHighMark", "DuplicationLowQueue", "LowQueueHighMark"),
    ] {
        let more = &alarms[alarm]["Properties"];
        assert_eq!(more["MetricName"], "ApproximateNumberOfMessagesVisible");
        assert_eq!(more["Dimensions"][0]["Value"], json!({"Fn::GetAtt": [queue, "QueueName"]}));
        assert_eq!(more["Threshold"], json!({"Ref": mark}));
        let action = json!([{"Fn::If": ["Containers", {"Ref": "MoreContainers"}, {"Ref": "MoreHosts"}]}]);
        assert_eq!(more["AlarmActions"], action);
    }
    let fewer = &alarms["BothQueuesUnderLowMark"]["Properties"];
    let action = json!([{"Fn::If": ["Containers", {"Ref": "FewerContainers"}, {"Ref": "FewerHosts"}]}]);
    assert_eq!(fewer["AlarmActions"], action);
    let metrics = fewer["Metrics"].as_array().unwrap();
    let expression = metrics.iter().find_map(|metric| metric["Expression"]["Fn::Sub"].as_str()).unwrap();
    for queue in ["DuplicationHighQueue", "DuplicationLowQueue"] {
        for metric in ["ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible"] {
            let looked_at = metrics.iter().find(|one| {
                let of = &one["MetricStat"]["Metric"];
                of["MetricName"] == metric && of["Dimensions"][0]["Value"]["Fn::GetAtt"][0] == queue
            });
            let id = looked_at.unwrap_or_else(|| panic!("{metric} of {queue}"))["Id"].as_str().unwrap();
            assert!(expression.contains(&format!("FILL({id}, 0)")), "{id} in {expression}");
        }
    }
    assert!(expression.contains("<= ${HighQueueLowMark}") && expression.contains("<= ${LowQueueLowMark}"));
}

#[test]
fn each_role_is_under_never_and_wildcards_only_where_nothing_is_narrower() {
    let template = template();
    for (name, role) in resources(template, "AWS::IAM::Role") {
        let managed = role["Properties"]["ManagedPolicyArns"].as_array().unwrap();
        assert!(managed.contains(&json!({"Ref": "Never"})), "{name}");
    }
    let mut everywhere = BTreeSet::new();
    statements(template, &mut |statement| {
        if statement["Effect"] == "Allow" {
            assert_eq!(statement["NotAction"], Value::Null, "{statement}");
            let actions = statement["Action"].to_string();
            assert!(!actions.contains('*'), "{statement}");
            if statement["Resource"] == "*" {
                everywhere.insert(actions);
            }
        }
    });
    let expected = ["\"ecr:GetAuthorizationToken\"", "\"s3:ListAllMyBuckets\""].map(ToOwned::to_owned);
    assert_eq!(everywhere, BTreeSet::from(expected));
}

/// Calls `see` for each statement of each policy that applies to a role.
fn statements(value: &Value, see: &mut dyn FnMut(&Value)) {
    match value {
        Value::Object(map) => {
            if map.contains_key("Effect") && !map.contains_key("Principal") {
                see(value);
            }
            map.values().for_each(|inner| statements(inner, see));
        }
        Value::Array(items) => items.iter().for_each(|inner| statements(inner, see)),
        _ => {}
    }
}
