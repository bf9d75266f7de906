"""Deploys infra/deploy/mill.yaml to a server that speaks CloudFormation, and looks at what came of it.

    stack.py show                                   the template as JSON, with functions in their long form
    stack.py up     ENDPOINT NAME [KEY=VALUE …]     deploys it with these parameters; Only=TYPE,… deploys those types only
    stack.py may    ENDPOINT NAME                   answers questions (JSON on stdin) about what a role may do
    stack.py letter ENDPOINT NAME [tell]            makes a dead letter and waits for the message about it
    stack.py unaided ENDPOINT                       deploys queues and alarms, makes a dead letter and waits, all alone

Each prints one JSON value. Run by template.rs, and by ./test for a server that is too slow for the suite.
"""

import http.server
import json
import pathlib
import queue
import sys
import threading
import time

import boto3
import botocore.exceptions
from cfnlint.decode import decode

TEMPLATE = pathlib.Path(__file__).resolve().parents[3] / "deploy" / "mill.yaml"


def show():
    template, faults = decode(str(TEMPLATE))
    assert not faults, faults
    return json.loads(json.dumps(template))


def client(endpoint, service):
    return boto3.client(
        service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )


def for_the_server(template, only):
    """Takes out what the servers cannot take; it is named here and nowhere else."""
    resources = template["Resources"]
    if only:
        wanted = lambda resource: resource["Type"] in only and "Condition" not in resource
        resources = template["Resources"] = {name: one for name, one in resources.items() if wanted(one)}
        outputs = ("Prefix", "PolicyBucket", "AlarmTopic")
        template["Outputs"] = {name: one for name, one in template["Outputs"].items() if name in outputs}
        if "PolicyBucket" not in resources:
            del template["Outputs"]["PolicyBucket"]
    else:
        # ministack 1.5.33 refuses alarms on metric math, and has no Application Auto Scaling (so the trial's containers
        # do not scale, which the template says by conditions).
        del resources["BothQueuesUnderLowMark"]
        # ministack 1.5.33 subtracts from the text that a parameter of the type Number is to it.
        resources["WorkmanService"]["Properties"]["DesiredCount"] = 1
    return template


def up(endpoint, name, *settings):
    parameters = {"Prefix": name, "Image": "mill:trial"}
    parameters.update(setting.split("=", 1) for setting in settings)
    only = parameters.pop("Only", "").split(",") if "Only" in parameters else None
    if only:
        parameters.update(VpcId="vpc-0", SubnetIds="subnet-0")
    else:
        ec2 = client(endpoint, "ec2")
        parameters["VpcId"] = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=parameters["VpcId"], CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"]
            for number in (1, 2)
        ]
        parameters["SubnetIds"] = ",".join(subnets)
    # The template is larger than a request may hold, so it goes by way of a bucket, as on AWS.
    body = json.dumps(for_the_server(show(), only)).encode()
    s3 = client(endpoint, "s3")
    s3.create_bucket(Bucket=f"{name}-template")
    s3.put_object(Bucket=f"{name}-template", Key="mill.json", Body=body)
    cloudformation = client(endpoint, "cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateURL=f"{endpoint}/{name}-template/mill.json",
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    deadline = time.monotonic() + 120
    while True:
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            break
        assert time.monotonic() < deadline, stack["StackStatus"]
        time.sleep(0.2)
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    made = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    return {
        "status": stack["StackStatus"],
        "failures": [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
            for event in events
            if "FAILED" in event["ResourceStatus"]
        ],
        "outputs": {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])},
        "made": {resource["LogicalResourceId"]: resource["ResourceType"] for resource in made},
    }


def statements_of(iam, role):
    """Every statement that a role is under, as the server has it now."""
    name = role.rsplit("/", 1)[1]
    documents = [
        iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
    ]
    for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]["DefaultVersionId"]
        found = iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId=version)
        documents.append(found["PolicyVersion"]["Document"])
    return [statement for document in documents for statement in document["Statement"]]


def holds(statement, tls):
    """Whether a statement's condition holds. ministack 1.5.33 does not look at conditions, so we do."""
    condition = statement.get("Condition", {})
    if condition == {"Bool": {"aws:SecureTransport": "false"}}:
        return not tls
    return True


def may(endpoint, name):
    """Asks the server's own policy evaluation; what an administrator's policy beside it would allow is asked, too."""
    iam = client(endpoint, "iam")
    stack = client(endpoint, "cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    roles = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    answers = []
    for question in json.load(sys.stdin):
        statements = [s for s in statements_of(iam, roles[question["role"]]) if holds(s, question.get("tls", True))]
        for statement in statements:
            statement.pop("Condition", None)
        if question.get("administrator"):
            statements.append({"Effect": "Allow", "Action": "*", "Resource": "*"})
        told = iam.simulate_custom_policy(
            PolicyInputList=[json.dumps({"Version": "2012-10-17", "Statement": statements})],
            ActionNames=[question["action"]],
            ResourceArns=[question["resource"]],
        )
        answers.append(told["EvaluationResults"][0]["EvalDecision"])
    return answers


class Subscriber:
    """Listens for what a topic sends."""

    def __init__(self):
        received = self.received = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.end_headers()
                received.put(json.loads(body))

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def subscribe(self, sns, topic):
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=f"http://127.0.0.1:{self.server.server_port}/")
        asked = self.received.get(timeout=30)
        assert asked["Type"] == "SubscriptionConfirmation", asked
        sns.confirm_subscription(TopicArn=topic, Token=asked["Token"])


def letter(endpoint, name, tell=None):
    """A message that nobody acknowledges is moved to the dead letters by the service, and somebody hears of it."""
    stack = client(endpoint, "cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    topic = next(output["OutputValue"] for output in stack["Outputs"] if output["OutputKey"] == "AlarmTopic")
    subscriber = Subscriber()
    subscriber.subscribe(client(endpoint, "sns"), topic)
    sqs = client(endpoint, "sqs")
    audit = sqs.get_queue_url(QueueName=f"{name}-audit")["QueueUrl"]
    dead = sqs.get_queue_url(QueueName=f"{name}-dead-letter")["QueueUrl"]
    sqs.send_message(QueueUrl=audit, MessageBody="kills its workers")
    receives = 0
    while sqs.receive_message(QueueUrl=audit, VisibilityTimeout=0).get("Messages"):
        receives += 1
        assert receives < 20, "it is never moved"
    told = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    began = time.monotonic()
    if tell:
        # ministack 1.5.33 publishes no figures of its queues: what the queue itself just told is put in their place.
        figure = {
            "MetricName": "ApproximateNumberOfMessagesVisible",
            "Dimensions": [{"Name": "QueueName", "Value": f"{name}-dead-letter"}],
            "Value": int(told["ApproximateNumberOfMessages"]),
        }
        client(endpoint, "cloudwatch").put_metric_data(Namespace="AWS/SQS", MetricData=[figure])
    else:
        # A workman that drains it.
        assert sqs.receive_message(QueueUrl=dead, VisibilityTimeout=0)["Messages"]
    # Both alarms on dead letters: the one that sees them waiting, and the one that hears them pass.
    expected = {f"{name}-depth-dead-letter"} | (set() if tell else {f"{name}-dead-letters"})
    heard = {}
    while set(heard) < expected:
        message = json.loads(subscriber.received.get(timeout=300)["Message"])
        if message["AlarmName"] in expected and message["NewStateValue"] == "ALARM":
            heard[message["AlarmName"]] = round(time.monotonic() - began, 1)
    return {"receives": receives, "dead": int(told["ApproximateNumberOfMessages"]), "heard": heard}


def unaided(endpoint):
    deadline = time.monotonic() + 120
    while True:
        try:
            client(endpoint, "sqs").list_queues()
            break
        except botocore.exceptions.EndpointConnectionError:
            assert time.monotonic() < deadline, f"nothing answers at {endpoint}"
            time.sleep(0.5)
    types = ["AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "AWS::CloudWatch::Alarm", "AWS::SNS::Topic", "AWS::SNS::TopicPolicy"]
    deployed = up(endpoint, "unaided", f"Only={','.join(types)}")
    assert deployed["status"] == "CREATE_COMPLETE", deployed
    told = letter(endpoint, "unaided")
    assert (told["receives"], told["dead"]) == (10, 1), told
    return told


if __name__ == "__main__":
    command = {"show": show, "up": up, "may": may, "letter": letter, "unaided": unaided}[sys.argv[1]]
    print(json.dumps(command(*sys.argv[2:])))
