//! The thresholds of the template at which a fleet scales, with the queue depths of real processes.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::deployed::{Fleet, until};
use super::proxy::{Mood, Proxy};
use super::{Workman, ministack, settle};

/// The time between two metrics of the queue, which CloudWatch takes once a minute. `MILL_MINUTE=60` uses a real
/// minute.
fn minute() -> Duration {
    Duration::from_secs(std::env::var("MILL_MINUTE").map_or(2, |seconds| seconds.parse().unwrap()))
}

struct Producer(Child);

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Producer {
    /// What its container runs.
    fn begin(fleet: &Fleet) -> Self {
        let arguments = fleet.tasks["producer"]["command"].as_array().unwrap();
        let mut command = fleet.command("producer", ministack());
        command.args(arguments.iter().map(|argument| argument.as_str().unwrap()));
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

/// Creates a source with this many items in stores that are far away, and the policy that copies it.
fn fill(fleet: &Fleet, stores: &Proxy, items: u64) {
    let at = format!(r#""type": "s3", "endpoint": "{}", "region": "us-east-1", "pathStyle": true"#, stores.address());
    fleet.boto(&format!(
        r#"s3 = aws('s3')
for one in ['marks-from', 'marks-to']: s3.create_bucket(Bucket=one)
for n in range({items}): s3.put_object(Bucket='marks-from', Key=f'room/{{n}}', Body=b'x')
files = {{'duplication-accounts.json': '["library"]',
    'library-stores.json': '''{{"stores": [{{"id": "1", "primary": true, "bucket": "marks-from", {at}}},
                                           {{"id": "2", "bucket": "marks-to", {at}}}]}}''',
    'library-duplication-policy.json': '{{"defaultPolicies": [{{"srcStoreId": "1", "destStoreId": "2"}}]}}'}}
for file, text in files.items(): s3.put_object(Bucket=bucket, Key=file, Body=text)"#
    ));
}

/// The numbers of tasks that wait in the low queue and that are in flight.
fn depth(fleet: &Fleet) -> [u64; 2] {
    let told = fleet.boto(
        "told = sqs.get_queue_attributes(QueueUrl=queue('duplication-low'), AttributeNames=['All'])['Attributes']
print(json.dumps([int(told['ApproximateNumberOfMessages']), int(told['ApproximateNumberOfMessagesNotVisible'])]))",
    );
    serde_json::from_str(&told).unwrap()
}

/// Creates the template's alarm as it is written: the server accepts no template with the scaling that it drives.
fn stand_up_alarm(fleet: &Fleet) {
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/deploy/mill.yaml");
    fleet.boto(&format!(
        "from cfnlint.decode import cfn_yaml
template = cfn_yaml.load('{template}')
alarm = template['Resources']['LowQueueOverHighMark']['Properties']
kept = ['Namespace', 'MetricName', 'Statistic', 'Period', 'EvaluationPeriods', 'ComparisonOperator', 'TreatMissingData']
aws('cloudwatch').put_metric_alarm(**{{key: alarm[key] for key in kept}}, AlarmName=f'{{name}}-low-high-mark',
    Threshold=template['Parameters'][alarm['Threshold']['Ref']]['Default'],
    Dimensions=[dict(Name='QueueName', Value=f'{{name}}-duplication-low')])"
    ));
}

/// Publishes the metric that CloudWatch would take of the queue, and returns the template's threshold and its alarm's
/// state.
fn alarm_after(fleet: &Fleet, waiting: u64) -> (f64, String) {
    let told = fleet.boto(&format!(
        "watch = aws('cloudwatch')
watch.put_metric_data(Namespace='AWS/SQS', MetricData=[dict(MetricName='ApproximateNumberOfMessagesVisible',
    Value={waiting}, Dimensions=[dict(Name='QueueName', Value=f'{{name}}-duplication-low')])])
alarm, = watch.describe_alarms(AlarmNames=[f'{{name}}-low-high-mark'])['MetricAlarms']
print(json.dumps([alarm['Threshold'], alarm['StateValue']]))"
    ));
    serde_json::from_str(&told).unwrap()
}

/// CloudWatch publishes metrics of SQS queues; this server does not, so the test publishes what it reads. The server
/// evaluates the alarm by the maximum of two minutes and not by each value, so the test also compares each value with
/// the threshold.
#[test]
fn work_that_waits_reaches_the_mark_at_which_workmen_are_added() {
    let fleet = Fleet::deploy("marked", &["SourceBuckets=marks-from", "DestinationBuckets=marks-to"]);
    let items = std::env::var("MILL_ITEMS").map_or(900, |items| items.parse().unwrap());
    let stores = Proxy::before(ministack(), 1);
    fill(&fleet, &stores, items);
    stand_up_alarm(&fleet);
    assert_eq!(alarm_after(&fleet, depth(&fleet)[0]).1, "OK", "before there is any work");
    stores.set(Mood::Far(Duration::from_millis(20)));
    let _producer = Producer::begin(&fleet);
    let workman = || {
        let mut command = fleet.command("workman", ministack());
        command.env("MILL_WORKMAN_IDLE_BACKOFF", "200ms").env("MILL_WORKMAN_WORKERS", "4");
        Workman::begin(command)
    };
    let _slow = workman();
    until("work in hand", || depth(&fleet)[1] > 0);

    for look in ["the first minute", "the second"] {
        std::thread::sleep(minute());
        let [waiting, in_hand] = depth(&fleet);
        let (mark, state) = alarm_after(&fleet, waiting);
        println!("{look}: {waiting} wait, {in_hand} are in hand; from {mark} on workmen are added: {state}");
        assert!(waiting as f64 > mark && state == "ALARM", "{look}: {waiting}, {state}");
    }
    stores.set(Mood::Quiet);
    let _added = [workman(), workman()];
    settle(&|args| fleet.mill(args));
    let status: Value = fleet.mill(&["status", "--json"]).expect(0).json();
    assert_eq!(status["dead_letters_open"], 0, "{status}");
    let copied = fleet.boto(
        "pages = aws('s3').get_paginator('list_objects_v2').paginate(Bucket='marks-to', Prefix='room/')
print(sum(not item['Key'].endswith('/') for page in pages for item in page['Contents']))",
    );
    assert_eq!(copied.trim(), items.to_string());
}
