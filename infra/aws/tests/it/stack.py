"""Deploys infra/deploy/mill.yaml to a server that speaks CloudFormation, and looks at what came of it.

    stack.py show                                 the template as JSON, with functions in their long form
    stack.py up      ENDPOINT NAME [KEY=VALUE …]  deploys it with these parameters, and tells what stands
    stack.py tasks   ENDPOINT NAME                what the deployed containers run
    stack.py allowed ENDPOINT NAME                each role's actions of SQS, DynamoDB and S3
    stack.py may     ENDPOINT NAME                answers questions (JSON on stdin) about what a role may do

Each prints one JSON value.
"""

import json
import pathlib
import re
import sys
import time

import boto3
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


def for_ministack(template):
    """Takes out what the server cannot take; it is named here and nowhere else."""
    resources = template["Resources"]
    # 1.5.33 refuses alarms on metric math, and has no Application Auto Scaling (so containers do not scale in the tests).
    del resources["BothQueuesUnderLowMark"]
    # 1.5.33 subtracts from the text that a parameter of the type Number is to it.
    resources["WorkmanService"]["Properties"]["DesiredCount"] = 1
    # In conditions, 1.5.33 leaves a list that is joined as it stands; what it has of such a parameter is one text.
    return json.loads(re.sub(r'{"Fn::Join": \["", ({"Ref": "\w+"})\]}', r"\1", json.dumps(template)))


def network(endpoint):
    ec2 = client(endpoint, "ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"] for number in (1, 2)
    ]
    return {"VpcId": vpc, "SubnetIds": ",".join(subnets)}


def up(endpoint, name, *settings):
    parameters = {"Prefix": name, "Image": "mill:trial", **network(endpoint)}
    parameters.update(setting.split("=", 1) for setting in settings)
    # The template is larger than a request may hold, so it goes by way of a bucket, as on AWS.
    s3 = client(endpoint, "s3")
    s3.create_bucket(Bucket=f"{name}-template")
    s3.put_object(Bucket=f"{name}-template", Key="mill.json", Body=json.dumps(for_ministack(show())).encode())
    cloudformation = client(endpoint, "cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateURL=f"{endpoint}/{name}-template/mill.json",
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    deadline = time.monotonic() + 120
    while (stack := the_stack(endpoint, name))["StackStatus"].endswith("IN_PROGRESS"):
        assert time.monotonic() < deadline, stack["StackStatus"]
        time.sleep(0.2)
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    made = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    alarms = client(endpoint, "cloudwatch").describe_alarms(AlarmNamePrefix=f"{name}-")["MetricAlarms"]
    return {
        "status": stack["StackStatus"],
        "failures": [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
            for event in events
            if "FAILED" in event["ResourceStatus"]
        ],
        "outputs": outputs(stack),
        "made": {resource["LogicalResourceId"]: resource["ResourceType"] for resource in made},
        "alarms": [
            [alarm["MetricName"], alarm["Dimensions"][0]["Value"], alarm["AlarmActions"]] for alarm in alarms
        ],
    }


def the_stack(endpoint, name):
    return client(endpoint, "cloudformation").describe_stacks(StackName=name)["Stacks"][0]


def outputs(stack):
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def tasks(endpoint, name):
    ecs = client(endpoint, "ecs")
    found = {}
    for task in ("producer", "workman"):
        told = ecs.describe_task_definition(taskDefinition=f"{name}-{task}")["taskDefinition"]
        container = told["containerDefinitions"][0]
        found[task] = {
            "command": container["command"],
            "environment": {one["name"]: str(one["value"]) for one in container["environment"]},
        }
    return found


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


def holds(statement, tls, partition):
    """Whether a statement's condition holds. ministack 1.5.33 does not look at conditions, so we do."""
    condition = statement.get("Condition", {})
    if condition == {"Bool": {"aws:SecureTransport": "false"}}:
        return not tls
    if "ForAllValues:StringEquals" in condition:
        # Without the second a request that names no partition at all would be allowed.
        assert condition["Null"] == {"dynamodb:LeadingKeys": "false"}, condition
        return partition in condition["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"]
    return True


def allowed(endpoint, name):
    iam = client(endpoint, "iam")
    found = {}
    for output, role in outputs(the_stack(endpoint, name)).items():
        if output.endswith("Role"):
            statements = [one for one in statements_of(iam, role) if one["Effect"] == "Allow"]
            actions = [one["Action"] if isinstance(one["Action"], list) else [one["Action"]] for one in statements]
            services = ("dynamodb:", "s3:", "sqs:")
            found[output] = sorted({action for some in actions for action in some if action.startswith(services)})
    return found


def may(endpoint, name):
    """Asks the server's own policy evaluation; what an administrator's policy beside it would allow is asked, too."""
    iam = client(endpoint, "iam")
    roles = outputs(the_stack(endpoint, name))
    under = {}
    answers = []
    for question in json.load(sys.stdin):
        role = roles[question["role"]]
        if role not in under:
            under[role] = statements_of(iam, role)
        statements = [
            {key: value for key, value in statement.items() if key != "Condition"}
            for statement in under[role]
            if holds(statement, question.get("tls", True), question.get("partition"))
        ]
        if question.get("administrator"):
            statements.append({"Effect": "Allow", "Action": "*", "Resource": "*"})
        told = iam.simulate_custom_policy(
            PolicyInputList=[json.dumps({"Version": "2012-10-17", "Statement": statements})],
            ActionNames=[question["action"]],
            ResourceArns=[question["resource"]],
        )
        answers.append(told["EvaluationResults"][0]["EvalDecision"])
    return answers


if __name__ == "__main__":
    command = {"show": show, "up": up, "tasks": tasks, "allowed": allowed, "may": may}[sys.argv[1]]
    print(json.dumps(command(*sys.argv[2:])))
