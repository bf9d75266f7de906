//! A fleet as `infra/deploy` deploys it: the processes of its task definitions, on the queues, tables and buckets of a
//! deployed stack, with its roles and alarms.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::proxy::Proxy;
use super::stack::{answered, deployed, stack};
use super::{CREDENTIALS, Workman, boto, ministack, settle};
use crate::world::{Ran, World};

/// A deployed stack, and a scratch folder.
pub(super) struct Fleet {
    pub(super) world: World,
    name: &'static str,
    bucket: String,
    topic: String,
    pub(super) tasks: Value,
}

impl Fleet {
    pub(super) fn deploy(name: &'static str, settings: &[&str]) -> Self {
        let told = deployed(ministack(), name, &[&["WorkmenMax=1"], settings].concat());
        let output = |output: &str| told["outputs"][output].as_str().unwrap().to_owned();
        let tasks = stack(&["tasks", ministack(), name], &Value::Null);
        let world = World::new();
        // Mill writes its marker beside the file, so the file in the source tree is not used.
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/deploy/mill.toml");
        fs::copy(config, world.path("mill.toml")).unwrap();
        Self { world, name, bucket: output("PolicyBucket"), topic: output("AlarmTopic"), tasks }
    }

    /// A `mill` as the image's configuration and a container's environment make it.
    pub(super) fn command(&self, task: &str, endpoint: &str) -> Command {
        let mut command = self.world.command();
        let environment = self.tasks[task]["environment"].as_object().unwrap();
        command.envs(CREDENTIALS).envs(environment.iter().map(|(name, value)| (name, value.as_str().unwrap())));
        command.env("MILL_CONFIG", self.world.path("mill.toml")).env("MILL_ENGINE_ENDPOINT", endpoint);
        command.env("MILL_ENGINE_DATA", self.world.path("data"));
        command
    }

    /// Runs a container's command until it has printed a line; then stops it like a container.
    fn run(&self, task: &str, endpoint: &str) -> Ran {
        let arguments = self.tasks[task]["command"].as_array().unwrap();
        let arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
        let mut command = self.command(task, endpoint);
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut out).unwrap();
        let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(told.success());
        Ran { out, ..Ran::of(child.wait_with_output().unwrap()) }
    }

    fn workman(&self, endpoint: &str) -> Workman {
        assert_eq!(self.tasks["workman"]["command"], json!(["work"]));
        let mut command = self.command("workman", endpoint);
        // The default pauses are minutes long, because each poll costs a request.
        command.env("MILL_WORKMAN_IDLE_BACKOFF", "200ms");
        Workman::begin(command)
    }

    /// Runs a command of an operator.
    pub(super) fn mill(&self, args: &[&str]) -> Ran {
        self.mill_at(ministack(), args)
    }

    fn mill_at(&self, endpoint: &str, args: &[&str]) -> Ran {
        Ran::of(self.command("producer", endpoint).args(args).output().unwrap())
    }

    /// Runs a script with boto3 in which `name`, `bucket`, `topic` and `aws`, a client by service, are there.
    pub(super) fn boto(&self, script: &str) -> String {
        let Self { world, name, bucket, topic, .. } = self;
        let endpoint = ministack();
        let head = format!(
            "name, bucket, topic = '{name}', '{bucket}', '{topic}'
aws = lambda service: client(service, '{endpoint}')
sqs = aws('sqs')
queue = lambda of: sqs.get_queue_url(QueueName=f'{{name}}-{{of}}')['QueueUrl']
"
        );
        boto(world, &(head + script))
    }
}

#[test]
fn infra_check_passes_a_deployed_stack_and_names_what_was_changed_in_it() {
    let fleet = Fleet::deploy("checked", &[]);
    let passed = fleet.mill(&["infra", "check"]).expect(0);
    assert_eq!(passed.out, "The deployment is as this mill assumes.\n");
    fleet.boto(
        "sqs.set_queue_attributes(QueueUrl=queue('bit-report'), Attributes={'VisibilityTimeout': '31'})
sqs.set_queue_attributes(QueueUrl=queue('duplication-high'), Attributes={'RedrivePolicy': ''})
aws('s3').delete_public_access_block(Bucket=bucket)
anybody = {'Effect': 'Allow', 'Principal': '*', 'Action': 's3:GetObject', 'Resource': f'arn:aws:s3:::{bucket}/*'}
aws('s3').put_bucket_policy(Bucket=bucket, Policy=json.dumps({'Version': '2012-10-17', 'Statement': [anybody]}))",
    );
    let told = fleet.mill(&["infra", "check"]).expect(100).out;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let found: BTreeSet<String> = told.lines().skip(1).map(words).collect();
    let expected = [
        "queue `checked-bit-report` VisibilityTimeout 60 31".to_owned(),
        "queue `checked-duplication-high` RedrivePolicy to `checked-dead-letter` after 10 receives none".to_owned(),
        format!("bucket `{}` public access blocked not blocked", fleet.bucket),
    ];
    assert_eq!(found, BTreeSet::from(expected), "{told}");
}

/// CloudWatch publishes metrics of SQS queues; this server does not, so the test publishes them: the depth that it
/// reads from the dead-letter queue, and, as the metric of received messages, the number of dead letters in the table.
/// The server provides everything else: the queue, the alarms of the template, their topic, and the topic's messages.
#[test]
fn a_dead_letter_raises_the_message_while_it_waits_and_when_it_passes() {
    let fleet = Fleet::deploy("alarmed", &[]);
    fleet.boto(
        "arn = sqs.get_queue_attributes(QueueUrl=sqs.create_queue(QueueName='heard')['QueueUrl'],
                               AttributeNames=['QueueArn'])['Attributes']['QueueArn']
aws('sns').subscribe(TopicArn=topic, Protocol='sqs', Endpoint=arn)
sqs.send_message(QueueUrl=queue('duplication-low'), MessageBody='no task at all')",
    );
    // While the dead letters cannot be received, they wait in their queue.
    let proxy = Proxy::before(ministack(), 1);
    let receive = "sqs:ReceiveMessage".to_owned();
    proxy.refuse(Some((receive, "arn:aws:sqs:us-east-1:000000000000:alarmed-dead-letter".into(), None)));
    let _workman = fleet.workman(proxy.address());
    let depth = || {
        fleet.boto(
            "told = sqs.get_queue_attributes(QueueUrl=queue('dead-letter'), AttributeNames=['All'])['Attributes']
print(told['ApproximateNumberOfMessages'])",
        )
    };
    until("a dead letter in its queue", || depth() == "1\n");
    assert_eq!(heard(&fleet), Vec::<String>::new(), "an alarm before anything was told");
    tell(&fleet, "ApproximateNumberOfMessagesVisible", depth().trim());
    until("the alarm on the depth", || heard(&fleet).contains(&"alarmed-depth-dead-letter".to_owned()));

    proxy.refuse(None);
    let letters =
        || fleet.mill_at(proxy.address(), &["status", "--json"]).expect(0).json()["dead_letters_open"].clone();
    until("the letter in its book", || letters() == 1);
    assert_eq!(depth(), "0\n");
    assert!(!heard(&fleet).contains(&"alarmed-dead-letters".to_owned()));
    tell(&fleet, "NumberOfMessagesReceived", &letters().to_string());
    until("the alarm on letters that pass", || heard(&fleet).contains(&"alarmed-dead-letters".to_owned()));
}

/// Publishes a metric of the dead-letter queue.
fn tell(fleet: &Fleet, metric: &str, value: &str) {
    let script = format!(
        "aws('cloudwatch').put_metric_data(Namespace='AWS/SQS', MetricData=[dict(
    MetricName='{metric}', Value={value}, Dimensions=[dict(Name='QueueName', Value=f'{{name}}-dead-letter')])])"
    );
    fleet.boto(&script);
}

/// The alarms for which the subscribed queue has received messages.
fn heard(fleet: &Fleet) -> Vec<String> {
    let told = fleet.boto(
        "heard = sqs.get_queue_url(QueueName='heard')['QueueUrl']
for message in sqs.receive_message(QueueUrl=heard, MaxNumberOfMessages=10, VisibilityTimeout=0).get('Messages', []):
    told = json.loads(json.loads(message['Body'])['Message'])
    if told['NewStateValue'] == 'ALARM': print(told['AlarmName'])",
    );
    told.lines().map(str::to_owned).collect()
}

pub(super) fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_mins(3), "{what} does not come");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Real processes, each with its own proxy that records its calls.
struct Components {
    fleet: Fleet,
    producer: Proxy,
    workman: Proxy,
    operator: Proxy,
}

impl Components {
    /// Writes the policy files to their bucket for one component, with its own proxy as the stores' address.
    fn policies(&self, of: &Proxy) {
        self.policies_without(of, "[]");
    }

    /// The same, for an account that excludes spaces.
    fn policies_without(&self, of: &Proxy, ignored: &str) {
        let at = format!(r#""type": "s3", "endpoint": "{}", "region": "us-east-1", "pathStyle": true"#, of.address());
        self.fleet.boto(&format!(
            r#"s3 = aws('s3')
files = {{'duplication-accounts.json': '["library"]',
    'library-stores.json': '''{{"stores": [{{"id": "1", "primary": true, "bucket": "roles-from", {at}}},
                                           {{"id": "2", "bucket": "roles-to", {at}}}]}}''',
    'library-duplication-policy.json': '''{{"defaultPolicies": [{{"srcStoreId": "1", "destStoreId": "2"}}],
                                            "spacesToIgnore": {ignored},
                                            "compare": "differences", "removeVanished": true}}'''}}
for file, text in files.items(): s3.put_object(Bucket=bucket, Key=file, Body=text)"#
        ));
    }

    /// A dead letter that arrives while no workman runs.
    fn write_a_letter_down(&self) {
        self.fleet.boto("sqs.send_message(QueueUrl=queue('dead-letter'), MessageBody='nobody was there')");
        let written = self.fleet.mill_at(self.operator.address(), &["deadletters", "list", "--json"]).expect(0).out;
        assert_eq!(written.lines().count(), 1, "{written}");
    }

    /// New items, then one that vanishes, one that changes, one whose properties change, and a message that is no task.
    fn duplicate(&self) {
        let Self { fleet, producer, workman, .. } = self;
        fleet.boto(
            "s3 = aws('s3')
for one in ['roles-from', 'roles-to']: s3.create_bucket(Bucket=one)
for n in range(5): s3.put_object(Bucket='roles-from', Key=f'room/{n}', Body=b'x' * n)",
        );
        self.policies(producer);
        let first = fleet.run("producer", producer.address()).expect(0);
        assert!(first.out.contains("loop finished"), "{}", first.out);
        self.policies(workman);
        let _workman = fleet.workman(workman.address());
        settle(&|args| fleet.mill(args));
        fleet.boto(
            "s3 = aws('s3')
s3.delete_object(Bucket='roles-from', Key='room/1')
s3.put_object(Bucket='roles-from', Key='room/2', Body=b'changed')
s3.copy_object(Bucket='roles-from', Key='room/3', CopySource='roles-from/room/3', MetadataDirective='REPLACE',
               Metadata={'only': 'properties'})
sqs.send_message(QueueUrl=queue('duplication-high'), MessageBody='no task at all')",
        );
        // The workman uses the policy that it has read for five minutes.
        self.policies(producer);
        let again = fleet.mill_at(producer.address(), &["produce", "duplication", "--now"]).expect(0);
        assert!(again.out.contains("loop finished"), "{}", again.out);
        settle(&|args| fleet.mill(args));
    }

    fn every_copy_is_equal(&self) {
        let differences = self.fleet.boto(
            "def items(of):
    found = {}
    for o in aws('s3').list_objects_v2(Bucket=of)['Contents']:
        got = aws('s3').get_object(Bucket=of, Key=o['Key'])
        found[o['Key']] = (got['Body'].read(), got['Metadata'])
    return {key: value for key, value in found.items() if not key.endswith('/')}
a, b = items('roles-from'), items('roles-to')
assert len(a) == 4, sorted(a)
print([key for key in {**a, **b} if a.get(key) != b.get(key)])",
        );
        assert_eq!(differences, "[]\n");
    }

    /// The commands of a person who operates the fleet.
    fn look_after(&self) {
        self.policies(&self.operator);
        let mill = |args: &[&str]| self.fleet.mill_at(self.operator.address(), args).expect(0);
        mill(&["infra", "check"]);
        mill(&["status"]);
        mill(&["policy", "check"]);
        mill(&["verify"]);
        mill(&["spaces", "owner", "library", "2", "room"]);
        // What was too young to be proven when it was copied comes back only because it is asked for.
        mill(&["restore", "library", "room", "--from", "2", "back", "--unproven"]);
        let letters = mill(&["deadletters", "list", "--json"]).out;
        assert_eq!(letters.lines().count(), 2, "{letters}");
        let letter: Value =
            serde_json::from_str(letters.lines().find(|letter| letter.contains("no task at all")).unwrap()).unwrap();
        let id = letter["id"].as_str().unwrap();
        mill(&["deadletters", "retry", id]);
        mill(&["deadletters", "show", id]);
        self.policies_without(&self.operator, r#"["room"]"#);
        mill(&["spaces", "release", "library", "2", "room"]);
    }
}

/// Permissions of roles for SQS, DynamoDB and S3 that none of the processes above uses, and the reasons for them.
const NOT_SEEN: [(&str, &[&str]); 3] = [
    ("Producer", &[]),
    (
        "Workman",
        &[
            // For tasks that take longer than a third of the visibility timeout.
            "sqs:ChangeMessageVisibility",
            // For abandoned multipart uploads, and for tags: S3 copies an item's tags too.
            "s3:AbortMultipartUpload",
            "s3:GetObjectTagging",
            "s3:PutObjectTagging",
            // For deleting a whole space, which reads the results of its rows, and for an audit log, which no store here has.
            "dynamodb:Query",
            "dynamodb:BatchWriteItem",
        ],
    ),
    ("Operator", &[]),
];

/// The deployed role of each component allows exactly the calls that its real processes make. Multipart uploads are not
/// included: this server computes a wrong CRC64NVME for them, so none can be completed; they need the same permission
/// as a whole item, `s3:PutObject`.
#[test]
fn the_deployed_containers_keep_copies_in_sync_within_what_their_roles_allow() {
    let fleet = Fleet::deploy("roles", &["SourceBuckets=roles-from", "DestinationBuckets=roles-to"]);
    let before = || Proxy::before(ministack(), 1);
    let components = Components { fleet, producer: before(), workman: before(), operator: before() };
    components.write_a_letter_down();
    components.duplicate();
    components.every_copy_is_equal();
    components.look_after();

    let Components { fleet, producer, workman, operator } = &components;
    let allowed = stack(&["allowed", ministack(), fleet.name], &Value::Null);
    let mut questions = Vec::new();
    for ((role, not_seen), proxy) in NOT_SEEN.into_iter().zip([producer, workman, operator]) {
        let role = format!("{role}Role");
        let asked = proxy.asked();
        let seen: BTreeSet<&str> = asked.iter().map(|(action, ..)| action.as_str()).collect();
        let allowed = allowed[&role].as_array().unwrap().iter().map(|action| action.as_str().unwrap());
        let unseen: BTreeSet<&str> = allowed.filter(|action| !seen.contains(action)).collect();
        assert_eq!(unseen, not_seen.iter().copied().collect(), "allowed to {role}, and never asked for");
        questions.extend(asked.iter().map(|(action, resource, partition)| {
            (json!({"role": role, "action": action, "resource": resource, "partition": partition}), "allowed")
        }));
    }
    answered(ministack(), fleet.name, &questions);
}
