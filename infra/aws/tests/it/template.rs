//! The template of `infra/deploy`, held to the contract: as it is written, and as a server deploys it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use mill_aws::contract::{BOOKS, Deployed, Names, PARTITION, RECEIVES_MAX, SORT, check, has_redrive, queue_settings};
use mill_model::QueueName;
use serde_json::{Value, json};

use crate::servers::{connect, fresh, ministack};

/// What `stack.py` says.
fn stack(arguments: &[&str], input: &Value) -> Value {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = here.join("../../.test-tools/lint/bin/python");
    assert!(python.exists(), "`{}` is missing: `./test` installs it", python.display());
    let mut child = Command::new(python)
        .arg(here.join("tests/it/stack.py"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success(), "stack.py {arguments:?} failed");
    serde_json::from_slice(&said.stdout).unwrap()
}

fn template() -> Value {
    stack(&["show"], &Value::Null)
}

/// Deploys, and insists that all of it was made.
fn deployed(name: &str, settings: &[&str]) -> Value {
    let told = stack(&[&["up", ministack(), name], settings].concat(), &Value::Null);
    assert_eq!(told["status"], "CREATE_COMPLETE", "{told}");
    told
}

/// The resources of a type, with the names that they are given in the template.
fn resources<'a>(template: &'a Value, kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let all = template["Resources"].as_object().unwrap();
    all.iter().filter(|(_, one)| one["Type"] == kind).map(|(name, one)| (name.as_str(), one)).collect()
}

/// A text of the template, for the prefix `it`.
fn text(value: &Value) -> String {
    value["Fn::Sub"].as_str().unwrap_or_else(|| panic!("{value} is no Fn::Sub")).replace("${Prefix}", "it")
}

fn names() -> Names {
    Names::new("it")
}

#[test]
fn the_templates_queues_are_the_contracts() {
    let template = template();
    let queues = resources(&template, "AWS::SQS::Queue");
    let named: BTreeMap<String, &Value> =
        queues.values().map(|queue| (text(&queue["Properties"]["QueueName"]), &queue["Properties"])).collect();
    assert_eq!(named.len(), QueueName::ALL.len());
    for queue in QueueName::ALL {
        let found = named[&names().queue(queue)];
        for (setting, expected) in queue_settings() {
            assert_eq!(found[setting].to_string(), expected, "{setting} of {queue}");
        }
        assert_eq!(found["SqsManagedSseEnabled"], true, "{queue} is not encrypted");
        if has_redrive(queue) {
            let expected = json!({
                "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]},
                "maxReceiveCount": RECEIVES_MAX,
            });
            assert_eq!(found["RedrivePolicy"], expected, "{queue}");
        } else {
            assert_eq!(found["RedrivePolicy"], Value::Null, "{queue}");
        }
    }
    let dead = &queues["DeadLetterQueue"]["Properties"];
    assert_eq!(text(&dead["QueueName"]), names().queue(QueueName::DeadLetter));
}

#[test]
fn the_templates_tables_are_the_contracts_and_outlive_the_stack() {
    let template = template();
    let tables = resources(&template, "AWS::DynamoDB::Table");
    let found: BTreeSet<String> = tables.values().map(|table| text(&table["Properties"]["TableName"])).collect();
    assert_eq!(found, BOOKS.iter().map(|book| names().table(book)).collect());
    for (name, table) in tables {
        let properties = &table["Properties"];
        let keys = json!([
            {"AttributeName": PARTITION, "KeyType": "HASH"},
            {"AttributeName": SORT, "KeyType": "RANGE"},
        ]);
        assert_eq!(properties["KeySchema"], keys, "{name}");
        let kinds = json!([
            {"AttributeName": PARTITION, "AttributeType": "S"},
            {"AttributeName": SORT, "AttributeType": "S"},
        ]);
        assert_eq!(properties["AttributeDefinitions"], kinds, "{name}");
        assert_eq!(properties["BillingMode"], "PAY_PER_REQUEST", "{name}");
        assert_eq!(properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], true, "{name}");
        assert_eq!(
            properties["DeletionProtectionEnabled"],
            json!({"Fn::If": ["ProtectsTables", true, false]}),
            "{name}"
        );
        assert_eq!((&table["DeletionPolicy"], &table["UpdateReplacePolicy"]), (&json!("Retain"), &json!("Retain")));
    }
}

#[test]
fn every_queue_has_an_alarm_on_its_depth_and_its_age_and_dead_letters_alarm_at_one() {
    let template = template();
    let queues = resources(&template, "AWS::SQS::Queue");
    let alarms: BTreeSet<(String, String, String)> = resources(&template, "AWS::CloudWatch::Alarm")
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
fn workmen_scale_on_the_high_and_the_low_marks_of_both_duplication_queues() {
    let template = template();
    let alarms = resources(&template, "AWS::CloudWatch::Alarm");
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
fn every_role_is_under_never_and_nothing_is_allowed_everywhere_but_what_has_no_narrower_resource() {
    let template = template();
    for (name, role) in resources(&template, "AWS::IAM::Role") {
        let managed = role["Properties"]["ManagedPolicyArns"].as_array().unwrap();
        assert!(managed.contains(&json!({"Ref": "Never"})), "{name}");
    }
    let mut everywhere = BTreeSet::new();
    statements(&template, &mut |statement| {
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

/// Shows every statement of every policy that a role can come under.
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

#[tokio::test]
async fn a_deployed_stack_keeps_the_contract_in_both_variants() {
    for (variant, settings) in [
        ("containers", &["WorkmenMax=1", "AlarmEmail=somebody@example.org"][..]),
        ("hosts", &["Workmen=hosts", "Spot=yes", "SourceBuckets=master", "BitIntegritySchedule=rate(1 hour)"]),
    ] {
        let name = fresh(variant);
        let told = deployed(&name, settings);
        let made: BTreeSet<&str> = told["made"].as_object().unwrap().keys().map(String::as_str).collect();
        let of_variant = ["WorkmanService", "WorkmanHosts", "MoreHosts", "AlarmByEmail", "BitIntegrityProducer"];
        let expected: &[&str] = match variant {
            "containers" => &["WorkmanService", "AlarmByEmail"],
            _ => &["WorkmanHosts", "MoreHosts", "BitIntegrityProducer"],
        };
        for resource in of_variant {
            assert_eq!(made.contains(resource), expected.contains(&resource), "{resource} of {variant}");
        }
        assert!(made.contains("DuplicationProducer"), "{variant}");
        let connection = connect(ministack()).await;
        let bucket = told["outputs"]["PolicyBucket"].as_str().unwrap().to_owned();
        let deployed = Deployed { names: Names::new(name), policy_bucket: Some(bucket) };
        assert_eq!(check(&connection, &deployed).await.unwrap(), [], "{variant}");
    }
}

#[tokio::test]
async fn what_was_changed_in_a_deployed_stack_is_named() {
    let name = fresh("drifted");
    let told = deployed(&name, &["Workmen=hosts"]);
    let bucket = told["outputs"]["PolicyBucket"].as_str().unwrap();
    let connection = connect(ministack()).await;
    let names = Names::new(name);

    let sqs = aws_sdk_sqs::Client::new(connection.config());
    for (queue, setting, value) in
        [(QueueName::BitReport, "VisibilityTimeout", "31"), (QueueName::DuplicationHigh, "RedrivePolicy", "")]
    {
        let url = sqs.get_queue_url().queue_name(names.queue(queue)).send().await.unwrap().queue_url.unwrap();
        sqs.set_queue_attributes().queue_url(url).attributes(setting.into(), value).send().await.unwrap();
    }
    let s3 = aws_sdk_s3::config::Builder::from(connection.config()).force_path_style(true).build();
    aws_sdk_s3::Client::from_conf(s3).delete_public_access_block().bucket(bucket).send().await.unwrap();

    let deployed = Deployed { names: names.clone(), policy_bucket: Some(bucket.to_owned()) };
    let mut found: Vec<(String, &str, String)> = check(&connection, &deployed)
        .await
        .unwrap()
        .into_iter()
        .map(|finding| (finding.about, finding.aspect, finding.found))
        .collect();
    found.sort();
    let expected = [
        (format!("bucket `{bucket}`"), "public access", "not blocked".to_owned()),
        (format!("queue `{}`", names.queue(QueueName::BitReport)), "VisibilityTimeout", "31".to_owned()),
        (format!("queue `{}`", names.queue(QueueName::DuplicationHigh)), "RedrivePolicy", "none".to_owned()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_dead_letter_raises_the_message() {
    let name = fresh("letters");
    deployed(&name, &["Workmen=hosts"]);
    let told = stack(&["letter", ministack(), &name, "tell"], &Value::Null);
    assert_eq!((&told["receives"], &told["dead"]), (&json!(RECEIVES_MAX), &json!(1)), "{told}");
    assert!(told["heard"][format!("{name}-depth-dead-letter")].is_number(), "{told}");
}

#[test]
fn each_role_may_do_its_duties_and_nobody_may_write_a_source() {
    const DENIED: &str = "explicitDeny";
    const NOT_ALLOWED: &str = "implicitDeny";
    let name = fresh("roles");
    deployed(&name, &["Workmen=hosts", "SourceBuckets=master,attic-*", "DestinationBuckets=copy"]);
    let queue = |queue: &str| format!("arn:aws:sqs:us-east-1:000000000000:{name}-{queue}");
    let table = |book: &str| format!("arn:aws:dynamodb:us-east-1:000000000000:table/{name}-{book}");
    let policies = format!("arn:aws:s3:::{name}-policies-000000000000-us-east-1");
    let item = |bucket: &str| format!("arn:aws:s3:::{bucket}/item");
    let mut asked = Vec::new();
    let mut expected = Vec::new();
    let mut ask = |role: &str, action: &str, resource: &str, answer: &str, more: Value| {
        let mut question = json!({"role": format!("{role}Role"), "action": action, "resource": resource});
        question.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        asked.push(question);
        expected.push(answer.to_owned());
    };
    for role in ["Producer", "Workman", "Operator", "Editor"] {
        let anyway = json!({"administrator": true});
        for bucket in ["master", "attic-1"] {
            for action in ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:PutObjectTagging"] {
                ask(role, action, &item(bucket), DENIED, anyway.clone());
            }
            for action in ["s3:DeleteBucket", "s3:PutBucketPolicy", "s3:PutLifecycleConfiguration"] {
                ask(role, action, &format!("arn:aws:s3:::{bucket}"), DENIED, anyway.clone());
            }
        }
        ask(role, "s3:GetObject", &item("copy"), DENIED, json!({"administrator": true, "tls": false}));
        ask(role, "s3:GetObject", &item("elsewhere"), NOT_ALLOWED, Value::Null);
        let reads = if role == "Editor" { NOT_ALLOWED } else { "allowed" };
        for bucket in ["master", "attic-1", "copy"] {
            ask(role, "s3:GetObject", &item(bucket), reads, Value::Null);
            ask(role, "s3:ListBucket", &format!("arn:aws:s3:::{bucket}"), reads, Value::Null);
        }
        let only = |who: &[&str]| if who.contains(&role) { "allowed" } else { NOT_ALLOWED };
        for action in ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"] {
            ask(role, action, &item("copy"), only(&["Workman"]), Value::Null);
        }
        ask(role, "s3:PutObject", &format!("{policies}/a"), only(&["Editor"]), Value::Null);
        ask(role, "s3:GetObject", &format!("{policies}/a"), "allowed", Value::Null);
        ask(role, "s3:PutBucketPolicy", &policies, NOT_ALLOWED, Value::Null);
        ask(role, "sqs:ReceiveMessage", &queue("duplication-high"), only(&["Workman"]), Value::Null);
        ask(role, "sqs:ReceiveMessage", &queue("dead-letter"), only(&["Workman", "Operator"]), Value::Null);
        ask(
            role,
            "sqs:SendMessage",
            &queue("duplication-low"),
            if role == "Editor" { NOT_ALLOWED } else { "allowed" },
            Value::Null,
        );
        ask(role, "sqs:SendMessage", &queue("duplication-high"), only(&["Workman", "Operator"]), Value::Null);
        ask(role, "sqs:PurgeQueue", &queue("audit"), NOT_ALLOWED, Value::Null);
        ask(role, "dynamodb:PutItem", &table("producer-state"), only(&["Producer"]), Value::Null);
        ask(role, "dynamodb:PutItem", &table("seals"), only(&["Workman"]), Value::Null);
        ask(role, "dynamodb:PutItem", &table("dead-letters"), only(&["Workman", "Operator"]), Value::Null);
        ask(role, "dynamodb:DeleteTable", &table("dead-letters"), NOT_ALLOWED, Value::Null);
    }
    let answers = stack(&["may", ministack(), &name], &Value::Array(asked.clone()));
    let wrong: Vec<String> = asked
        .iter()
        .zip(&expected)
        .zip(answers.as_array().unwrap())
        .filter(|((_, expected), answer)| **answer != json!(expected))
        .map(|((question, expected), answer)| format!("{question}: {answer}, not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
