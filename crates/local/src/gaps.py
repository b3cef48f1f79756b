"""Starts ministack 1.5.33 with its gaps closed, as far as Slipway's roles and machines meet them.

Each function below says what AWS does and ministack does not. They wrap functions of ministack by name, which is why the
version is pinned: a name that is gone stops the start, rather than a rule being silently left unchecked.
"""

import asyncio
import bisect
import contextvars
import dataclasses
import datetime
import itertools
import json
import re
from urllib.parse import parse_qs
from xml.sax.saxutils import unescape

from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id, get_region, json_response
from ministack.core.router import extract_access_key_id
from ministack.services.cloudformation import handlers as cloudformation_handlers, helpers as cloudformation_helpers
from ministack.services.cloudformation import engine, provisioners, stacks
from ministack.services import cloudformation, dynamodb, ec2, eventbridge, iam, lambda_svc, s3, stepfunctions, sts


def wrap(module, name):
    """Replaces module.name by what the decorated function makes of the original."""

    def decorate(make):
        setattr(module, name, make(getattr(module, name)))
        return make

    return decorate


def role_record(account, arn):
    """The role behind a role's or an assumed role's ARN."""
    name = arn.split("/")[1] if ":assumed-role/" in arn else arn.rsplit("/", 1)[-1]
    return iam._roles.get_scoped(account, None, name)


def service_denied(service, role_arn, action, resource, source_arn=""):
    """Why a service that assumes role_arn may not do action on resource, or None."""
    account = role_arn.split(":")[4] if role_arn.count(":") >= 5 else ""
    role = role_record(account, role_arn)
    if role is None:
        return f"the role {role_arn} does not exist"
    keys = {"aws:sourceaccount": get_account_id(), "aws:sourcearn": source_arn}
    context = iam_evaluator.EvalContext(
        principal_arn=role["Arn"], principal_type="AssumedRole", principal_account=account, action="sts:AssumeRole",
        resource_arn=role_arn, region=get_region(), service_context=keys,
    )
    trust = role.get("AssumeRolePolicyDocument", "{}")
    if iam_evaluator.evaluate_resource_policy(without_resource(trust), context, service=service).decision != "Allow":
        return f"{service} may not assume {role_arn}"
    context = dataclasses.replace(context, action=action, resource_arn=resource, service_context={})
    policies = iam_evaluator._gather_role_policies(role["RoleName"], account)
    limits = iam_evaluator._permissions_boundary(iam._roles, role["RoleName"], account)
    if iam_evaluator.evaluate(context, policies, *limits).decision != "Allow":
        return f"{role_arn} is not authorized to perform: {action} on resource: {resource}"
    return None


def without_resource(document):
    """A trust policy has no Resource: as a resource policy it is about any."""
    document = json.loads(document) if isinstance(document, str) else document
    statements = document.get("Statement", [])
    return {"Statement": statements if isinstance(statements, list) else [statements]}


# --- who calls, and how -------------------------------------------------------------------------------------------


@wrap(app, "pin_request_origin")
def loopback_counts_as_tls(original):
    """A bucket policy that refuses plain HTTP would refuse everything here. 127.0.0.1 counts as TLS; a client on any
    other loopback address (127.0.0.2) is what the policy is tried with."""

    def pin(source_ip, secure_transport):
        original(source_ip, secure_transport or source_ip == "127.0.0.1")

    return pin


@wrap(iam_evaluator, "_resolve_condition_key")
def principal_arn_is_the_role(original):
    """aws:PrincipalArn of an assumed role is the role's ARN, not the session's. aws:SourceIdentity is the session's."""

    def resolve(key, context):
        if key.lower() == "aws:principalarn" and ":assumed-role/" in context.principal_arn:
            role = role_record(context.principal_account, context.principal_arn)
            if role is not None:
                return role["Arn"]
        return original(key, context)

    return resolve


@wrap(iam_evaluator, "evaluate_resource_policy")
def foreign_buckets_see_the_caller(original):
    """The policy of another account's bucket is evaluated for the role that asks, not for its account's root."""

    def evaluate(document, context, *args, **kwargs):
        caller = iam_evaluator._request_caller_arn.get()
        if (context.action.startswith("s3:") and context.principal_type == "Root" and ":assumed-role/" in caller
                and f":{context.principal_account}:" in caller):
            context = dataclasses.replace(context, principal_arn=caller, principal_type="AssumedRole")
        return original(document, context, *args, **kwargs)

    return evaluate


@wrap(s3, "handle_request")
def missing_objects_are_hidden(original):
    """Who may not list a bucket reads 403 for an object that is not there, not 404."""

    async def handle(method, path, headers, body, query_params, *args, **kwargs):
        answer = await original(method, path, headers, body, query_params, *args, **kwargs)
        bucket, _, key = path.lstrip("/").partition("/")
        if answer[0] != 404 or method not in ("GET", "HEAD") or not key or s3._bucket_owner_account(bucket) is None:
            return answer
        denied = iam_evaluator.enforce(
            extract_access_key_id(headers, query_params) or "", "s3:ListBucket", "s3", get_region(),
            resource_arn=f"arn:aws:s3:::{bucket}")
        if not denied:
            return answer
        refused = s3._error("AccessDenied", "Access Denied", 403, f"/{bucket}/{key}")
        return (403, {k: v for k, v in refused[1].items() if k.lower() != "content-type"}, b"") \
            if method == "HEAD" else refused

    return handle


@wrap(s3, "handle_request")
def objects_can_age(original):
    """PUT /bucket/key?slipway-written=TIME lets an object have been written at that time. S3 has no such request: it is for tests, which
    cannot wait for a week."""

    async def handle(method, path, headers, body, query_params, *args, **kwargs):
        written = query_params.get("slipway-written")
        bucket, _, key = path.lstrip("/").partition("/")
        if method != "PUT" or not written:
            return await original(method, path, headers, body, query_params, *args, **kwargs)
        s3._ensure_bucket(bucket)["objects"][key]["last_modified"] = written[0] if isinstance(written, list) else written
        return (200, {}, b"")

    return handle


@wrap(s3, "_get_object")
def ranges_of_versions_are_cut(original):
    """A range of a named version is only that range; the emulator answers with the whole."""

    def get(bucket, key, headers, query_params=None):
        wanted = headers.get("range", "")
        status, answered, body = original(bucket, key, headers, query_params)
        if status != 200 or not wanted or not (query_params or {}).get("versionId"):
            return status, answered, body
        found = s3._parse_range(wanted, len(body))
        if found is None:
            return 416, {"Content-Type": "application/xml", "Content-Range": f"bytes */{len(body)}"}, s3._xml_body(
                s3._range_error_xml(bucket, key))
        start, end = found
        # A checksum of the whole says nothing of a part.
        answered = {name: value for name, value in answered.items() if not name.lower().startswith("x-amz-checksum-")}
        answered.update({"Content-Length": str(end - start + 1), "Content-Range": f"bytes {start}-{end}/{len(body)}"})
        return 206, answered, body[start:end + 1]

    return get


# --- sts ----------------------------------------------------------------------------------------------------------


@wrap(sts, "handle_request")
def source_identity_and_tags_need_rights(original):
    """sts:SetSourceIdentity must be allowed by the trust policy and, like sts:TagSession, by the caller's own."""

    async def handle(method, path, headers, body, query_params):
        params = {**query_params, **(parse_qs(body.decode("utf-8", "replace")) if body else {})}

        def one(name):
            return (params.get(name) or [None])[0]

        role_arn, identity = one("RoleArn") or "", one("SourceIdentity")
        tagged = any(name.startswith("Tags.member.") for name in params)
        if one("Action") != "AssumeRole" or not (identity or tagged):
            return await original(method, path, headers, body, query_params)
        access_key = extract_access_key_id(headers, query_params) or ""
        wanted = [action for action, asked in (("sts:SetSourceIdentity", identity), ("sts:TagSession", tagged)) if asked]
        caller = iam_evaluator.resolve_credential(access_key, get_account_id())
        who = getattr(caller, "principal_arn", "")
        for action in wanted:
            refused = bool(iam_evaluator.enforce(access_key, action, "sts", get_region(), resource_arn=role_arn))
            role = role_record(role_arn.split(":")[4] if role_arn.count(":") >= 5 else "", role_arn)
            if not refused and role is not None and action == "sts:SetSourceIdentity":
                context = iam_evaluator.EvalContext(
                    principal_arn=who, principal_type=getattr(caller, "principal_type", ""),
                    principal_account=getattr(caller, "account_id", ""), action=action, resource_arn=role_arn,
                    region=get_region(), service_context={
                        "sts:externalid": one("ExternalId"), "sts:rolesessionname": one("RoleSessionName"),
                        "sts:sourceidentity": identity})
                refused = not iam_evaluator.evaluate_trust_policy(
                    role.get("AssumeRolePolicyDocument", "{}"), who, context)
            if refused:
                message = f"User: {who} is not authorized to perform: {action} on resource: {role_arn}"
                return sts._error(403, "AccessDenied", message, ns="sts")
        answer = await original(method, path, headers, body, query_params)
        if answer[0] == 200 and identity:
            text = answer[2].decode() if isinstance(answer[2], bytes) else answer[2]
            key = re.search(r"<AccessKeyId>(\w+)</AccessKeyId>", text)
            if key:
                sts._sessions[key.group(1)]["SourceIdentity"] = identity
        return answer

    return handle


@wrap(sts, "_web_identity_trust_denied")
def providers_know_their_audiences(original):
    """A token is believed only where the role's account has an OpenID provider for its issuer, with its audience in the list."""

    def denied(role_arn, params, use_json):
        token, named = sts._p(params, "WebIdentityToken"), sts._p(params, "ProviderId")
        provider, keys = sts._web_identity_principal(token, named, role_arn)
        _, _, host = provider.partition(":oidc-provider/")
        if not host:
            return original(role_arn, params, use_json)
        known, audience = iam._oidc_providers.get_scoped(role_arn.split(":")[4], None, provider), keys.get(f"{host}:aud".lower())
        if known is None:
            message = f"No OpenIDConnect provider found in your account for https://{host}"
        elif audience not in known["ClientIDList"]:
            message = "Incorrect token audience"
        else:
            return original(role_arn, params, use_json)
        return sts._error(400, "InvalidIdentityToken", message, ns="sts")

    return denied


def identity_in_json(headers, answer):
    """STS's answer to GetCallerIdentity as whoever sent these headers wants it."""
    if "application/json" not in headers.get("accept", ""):
        return answer
    text = answer[2].decode() if isinstance(answer[2], bytes) else answer[2]
    told = {name: unescape(value) for name, value in re.findall(r"<(\w+)>([^<]*)</\1>", text)}

    def only(*names):
        return {name: told.get(name, "") for name in names}

    if answer[0] == 200:
        result = {"GetCallerIdentityResult": only("Account", "Arn", "UserId"), "ResponseMetadata": only("RequestId")}
        return json_response({"GetCallerIdentityResponse": result})
    return json_response({"Error": only("Code", "Message", "Type"), **only("RequestId")}, answer[0])


@wrap(sts, "handle_request")
def who_somebody_is_can_be_told_in_json(original):
    """STS tells in JSON who somebody is, where that is asked for."""

    async def handle(method, path, headers, body, query_params):
        answer = await original(method, path, headers, body, query_params)
        asked = (query_params.get("Action") or [""])[0]
        return identity_in_json(headers, answer) if asked == "GetCallerIdentity" else answer

    return handle


@wrap(app, "_credential_failure")
def who_nobody_is_can_be_told_in_json(original):
    """And so it does with why it does not believe somebody."""

    def failure(service, iam_action, request_id, error, headers):
        answer = original(service, iam_action, request_id, error, headers)
        return identity_in_json(headers, answer) if iam_action == "sts:GetCallerIdentity" else answer

    return failure


@wrap(iam_evaluator, "_principal_keys")
def sessions_carry_their_source_identity(original):
    """aws:SourceIdentity is a condition key of whoever was given one."""

    def keys(credential):
        found = original(credential)
        session = sts._sessions.get(credential.access_key_id) or {}
        if session.get("SourceIdentity"):
            found["aws:sourceidentity"] = session["SourceIdentity"]
        return found

    return keys


# --- dynamodb -----------------------------------------------------------------------------------------------------


def leading_keys(data):
    """The partition keys that a request names."""
    found = []

    def add(table, item):
        record = dynamodb._tables.get(str(table).rsplit("/", 1)[-1])
        hash_key = next((k["AttributeName"] for k in (record or {}).get("KeySchema", []) if k["KeyType"] == "HASH"), None)
        value = (item or {}).get(hash_key)
        if isinstance(value, dict):
            found.append(str(next(iter(value.values()))))

    if isinstance(data.get("Key") or data.get("Item"), dict):
        add(data.get("TableName"), data.get("Key") or data.get("Item"))
    for entry in data.get("TransactItems") or []:
        for part in entry.values():
            add(part.get("TableName"), part.get("Key") or part.get("Item"))
    for table, asked in (data.get("RequestItems") or {}).items():
        entries = asked.get("Keys", []) if isinstance(asked, dict) else [
            (e.get("PutRequest") or {}).get("Item") or (e.get("DeleteRequest") or {}).get("Key") for e in asked]
        for item in entries:
            add(table, item)
    condition = data.get("KeyConditionExpression")
    if isinstance(condition, str):
        names, values = data.get("ExpressionAttributeNames") or {}, data.get("ExpressionAttributeValues") or {}
        record = dynamodb._tables.get(str(data.get("TableName")).rsplit("/", 1)[-1]) or {}
        schema = record.get("KeySchema", [])
        for index in record.get("GlobalSecondaryIndexes") or []:
            if index.get("IndexName") == data.get("IndexName"):
                schema = index["KeySchema"]
        for name, value in re.findall(r"([#\w]+)\s*=\s*(:\w+)", condition):
            if any(k["AttributeName"] == names.get(name, name) and k["KeyType"] == "HASH" for k in schema):
                found.extend(str(v) for v in (values.get(value) or {}).values())
    return found


@wrap(iam_actions, "dynamodb_service_context")
def leading_keys_are_known(original):
    """dynamodb:LeadingKeys: without it, ForAllValues conditions on it hold for every request."""

    def context(body):
        found = original(body)
        try:
            keys = leading_keys(json.loads(body or b"{}"))
        except (ValueError, AttributeError, TypeError):
            keys = []
        return {**found, "dynamodb:LeadingKeys": keys} if keys else found

    return context


page_of_index = contextvars.ContextVar("slipway_page_of_index", default=None)
# What Slipway asks of an index: a partition, from its beginning, or from a prefix of the sort key, on.
FROM_THE_FRONT = re.compile(r"(\w+) = (:\w+)(?: AND (?:\w+ <= :\w+|begins_with\(\w+, (:\w+)\)))?")


def in_order(table, index, partition):
    """The partition's items in their order, each with what it is sorted by. Kept until one of them is written."""
    kept = table.setdefault("_slipway_order", {}).setdefault(index["IndexName"], {})
    if partition not in kept:
        by = dynamodb._index_order_keys(table, dynamodb._index_key_lists(index)[1])
        found = []
        for pk, sk in dynamodb._index_members(table).get(index["IndexName"], {}).get(partition, ()):
            item = table["items"][pk][sk]
            found.append((tuple(dynamodb._index_order_value(item, name, kind) for name, kind in by), (pk, sk)))
        kept[partition] = sorted(found)
    return kept[partition]


@wrap(dynamodb, "_index_item")
def orders_are_forgotten(original):
    """Forgets the order of every partition that an item comes into, or leaves."""

    def index(table, pk, sk, item, add):
        for name, partitions in table.get("_slipway_order", {}).items():
            partitions.pop(dynamodb._index_partition(item, *dynamodb._index_key_lists(dynamodb._index_def(table, name))), None)
        return original(table, pk, sk, item, add)

    return index


@wrap(dynamodb, "_items_replaced")
def all_orders_are_forgotten(original):
    """Likewise where all items are others."""

    def replaced(table):
        table.pop("_slipway_order", None)
        return original(table)

    return replaced


@wrap(dynamodb, "_index_members")
def members_are_those_of_the_page(original):
    """Hands a query the page that was found for it."""

    def members(table):
        page = page_of_index.get()
        return original(table) if page is None else page

    return members


@wrap(dynamodb, "_query")
def pages_are_found_by_their_keys(original):
    """A page of an index costs what it holds; ministack sorts and compares the whole partition for each, which takes seconds where there
    are many thousands. It is given the page and one item more, and makes its answer of that."""

    def query(data):
        table = dynamodb._tables.get(str(data.get("TableName")).rsplit("/", 1)[-1])
        index = dynamodb._index_def(table, data["IndexName"]) if table and data.get("IndexName") else None
        asked = FROM_THE_FRONT.fullmatch(data.get("KeyConditionExpression") or "")
        if not index or not asked or data.get("ScanIndexForward") is False or data.get("FilterExpression"):
            return original(data)
        values, (hashes, ranges) = data.get("ExpressionAttributeValues") or {}, dynamodb._index_key_lists(index)
        value, prefix, after = values.get(asked[2]), values.get(asked[3]), data.get("ExclusiveStartKey")
        if len(hashes) != 1 or len(ranges) != 1 or asked[1] != hashes[0] or not value or (asked[3] and not prefix):
            return original(data)
        partition = dynamodb._extract_key_val(value)
        items, by, first = in_order(table, index, partition), dynamodb._index_order_keys(table, ranges), 0
        if prefix:
            start = dynamodb._index_order_value({ranges[0]: prefix}, *by[0])
            first = bisect.bisect_left(items, (start,), key=lambda entry: entry[0])
        if after:
            cursor = tuple(dynamodb._index_order_value(after, name, kind) for name, kind in by)
            first = max(first, bisect.bisect_right(items, cursor, key=lambda entry: entry[0]))
        page, size = {}, 0
        for _, (pk, sk) in itertools.islice(items, first, first + int(data.get("Limit") or len(items)) + 1):
            page[(pk, sk)] = None
            size += dynamodb._item_size_bytes(table["items"][pk][sk])
            if size > 2 * dynamodb._DDB_PAGE_SIZE_BYTES:
                break
        token = page_of_index.set({index["IndexName"]: {partition: page}})
        try:
            return original(data)
        finally:
            page_of_index.reset(token)

    return query


# --- function URLs ------------------------------------------------------------------------------------------------


@wrap(lambda_svc, "_build_function_url_event")
def cookies_are_listed(original):
    """Payload format 2.0 has the request's cookies in a list of their own, and not among the headers."""

    def build(*arguments, **named):
        event = original(*arguments, **named)
        sent = event["headers"].pop("cookie", None)
        if sent:
            event["cookies"] = [cookie.strip() for cookie in sent.split(";") if cookie.strip()]
        return event

    return build


# --- step functions -----------------------------------------------------------------------------------------------

machine_role = contextvars.ContextVar("slipway_machine_role", default=("", ""))
# Token to machine, also of tokens that are used or timed out.
machine_of_token = {}


@wrap(stepfunctions, "_iso_to_epoch_ms")
def milliseconds_are_rounded(original):
    """An event's startDate is the execution's to the millisecond; a float cut off is one less now and then."""

    def convert(iso):
        if not iso:
            return original(iso)
        return round(datetime.datetime.fromisoformat(iso.replace("Z", "+00:00")).timestamp() * 1000)

    return convert


@wrap(stepfunctions, "_start_execution")
def the_same_start_joins(original):
    """StartExecution with the name and the input of a running execution answers with that one."""

    def start(data):
        machine, name = data.get("stateMachineArn", ""), data.get("name")
        record = stepfunctions._state_machines.get(stepfunctions._resolve_state_machine_arn(machine) or "")
        if record and name:
            arn = f"arn:aws:states:{get_region()}:{get_account_id()}:execution:{record['name']}:{name}"
            running = stepfunctions._executions.get(arn)
            if running and running["status"] == "RUNNING" and running["input"] == data.get("input", "{}"):
                return json_response({"executionArn": arn, "startDate": running["startDate"]})
        return original(data)

    return start


@wrap(stepfunctions, "_run_execution")
def executions_have_their_machines_role(original):
    """Remembers the role for the check below."""

    def run(exec_arn):
        execution = stepfunctions._executions.get(exec_arn) or {}
        machine = execution.get("stateMachineArn", "")
        machine_role.set(((stepfunctions._state_machines.get(machine) or {}).get("roleArn", ""), machine))
        return original(exec_arn)

    return run


callback_token = contextvars.ContextVar("slipway_callback_token", default=None)


@wrap(stepfunctions, "_invoke_with_callback")
def callback_tasks_are_known(original):
    """Remembers the token for the next one."""

    def invoke(resource, input_data, token, state_def):
        before = callback_token.set(token)
        try:
            return original(resource, input_data, token, state_def)
        finally:
            callback_token.reset(before)

    return invoke


@wrap(stepfunctions, "_call_lambda")
def machines_need_the_right_to_invoke(original):
    """A machine's role must allow lambda:InvokeFunction on what the machine calls. With .waitForTaskToken a call that
    fails ends the task at once; ministack would wait on until the timeout."""

    def call(func_ref, event):
        role, machine = machine_role.get()
        token = callback_token.get()
        task = stepfunctions._task_tokens.get(token) if token else None
        if task is not None:
            machine_of_token[token] = machine
        try:
            _, config, _ = lambda_svc._get_func_record_for_ref(func_ref)
            if role and config:
                arn = config["FunctionArn"]
                denied = service_denied("states.amazonaws.com", role, "lambda:InvokeFunction", arn, machine)
                if denied:
                    raise stepfunctions._ExecutionError("Lambda.AWSLambdaException", denied)
            return original(func_ref, event)
        except stepfunctions._ExecutionError as error:
            if task is not None:
                task["error"] = {"Error": error.error, "Cause": error.cause}
                task["event"].set()
            raise

    return call


@wrap(stepfunctions, "_execute_task")
def timeouts_can_be_computed(original):
    """TimeoutSeconds may be a JSONata expression."""

    def execute(state_def, raw_input, execution, ctx):
        seconds = state_def.get("TimeoutSeconds")
        if isinstance(seconds, str) and seconds.startswith("{%"):
            seconds = stepfunctions._apply_jsonata_template(seconds, raw_input, ctx)
            state_def = {**state_def, "TimeoutSeconds": seconds}
        return original(state_def, raw_input, execution, ctx)

    return execute


@wrap(iam_actions, "extract_resource_arn")
def task_answers_are_rights_on_the_machine(original):
    """states:SendTask* is a right on the state machine whose task it is; ministack asks for it on *."""

    def extract(service, method, path, headers, body, *args, **kwargs):
        if service == "states" and ".SendTask" in headers.get("x-amz-target", ""):
            machine = machine_of_token.get(iam_actions._safe_json_field(body, "taskToken"))
            if machine:
                return machine
        return original(service, method, path, headers, body, *args, **kwargs)

    return extract


# --- CloudFormation -----------------------------------------------------------------------------------------------


@wrap(iam_actions, "request_tag_context")
def change_sets_know_their_role(original):
    """cloudformation:RoleArn is the role that a request hands to CloudFormation."""

    def context(service, action, body, params, *args, **kwargs):
        found = original(service, action, body, params, *args, **kwargs)
        if service == "cloudformation":
            role = (params or {}).get("RoleARN")
            role = role[0] if isinstance(role, list) else role
            if role:
                found = {**found, "cloudformation:RoleArn": role}
        return found

    return context


access_key = contextvars.ContextVar("access_key", default="")


@wrap(iam_evaluator, "pin_request_caller")
def callers_keys_are_known(original):
    """Remembers the caller's access key for the check below."""

    def pin(headers, query_params=None):
        access_key.set(extract_access_key_id(headers, query_params or {}) or "")
        return original(headers, query_params)

    return pin


@wrap(cloudformation_helpers, "_resolve_document")
def templates_are_read_by_their_caller(original):
    """A template's URL may name its bucket in the host, and whoever names it must be allowed to read it."""

    def resolve(params, body_key, url_key, label):
        url = params.get(url_key)
        url = url[0] if isinstance(url, list) and url else url
        host = re.match(r"https://([a-z0-9.-]+)\.s3[.-][a-z0-9-]+\.amazonaws\.com/(.+)", url or "")
        if not host:
            return original(params, body_key, url_key, label)
        bucket, key = host.groups()
        caller, owner = get_account_id(), s3._bucket_owner_account(bucket)
        denied = iam_evaluator.enforce(access_key.get(), "s3:GetObject", "s3", get_region(),
                                       resource_arn=f"arn:aws:s3:::{bucket}/{key}")
        if denied or (owner != caller and not s3._foreign_bucket_allows(owner, bucket, key, "GET", {}, caller)):
            message = f"S3 error: Access Denied: {bucket}/{key}"
            return None, cloudformation_helpers._error("ValidationError", message)
        return original({**params, url_key: [f"https://s3.amazonaws.com/{bucket}/{key}"]}, body_key, url_key, label)

    return resolve


@wrap(s3, "_get_object_data")
def services_read_foreign_buckets(original):
    """A service reads an object for its caller from whichever account's bucket it is in. Only the read of a template is
    checked: with what rights CloudFormation's role reads a function's code is not known here."""

    def read(bucket, key, version_id=None):
        owner = s3._bucket_owner_account(bucket)
        if owner is None or owner == get_account_id():
            return original(bucket, key, version_id)
        with s3.request_scope(owner, get_region()):
            return original(bucket, key, version_id)

    return read


def list_change_sets_of_ids(original):
    """ListChangeSets takes a stack's id, too: ministack lists by name, and finds none."""

    def list_change_sets(params):
        stack = cloudformation_handlers._resolve_stack((params.get("StackName") or [""])[0])
        return original({**params, "StackName": [stack["StackName"]]} if stack else params)

    return list_change_sets


answers = cloudformation_handlers._ACTION_HANDLERS
answers["ListChangeSets"] = list_change_sets_of_ids(answers["ListChangeSets"])


@wrap(stacks, "_add_event")
def failed_nested_stacks_have_ids(original):
    """The event of a nested stack that could not be made has its id, as every event of a nested stack: that is where to
    look for the cause."""

    def add(stack_id, stack_name, logical_id, resource_type, status, reason="", physical_id="", detailed_status=""):
        if resource_type == "AWS::CloudFormation::Stack" and status == "CREATE_FAILED" and not physical_id:
            prefix = f"{stack_name}-{logical_id}-"
            ids = [stack["StackId"] for name, stack in cloudformation._stacks.items() if name.startswith(prefix)]
            physical_id = ids[-1] if ids else ""
        return original(stack_id, stack_name, logical_id, resource_type, status, reason, physical_id, detailed_status)

    return add


def make_oidc_provider(logical_id, props, stack_name):
    """AWS::IAM::OIDCProvider, which ministack knows by IAM's API only. An account has one for a URL."""
    host = re.sub("^https?://", "", props["Url"]).rstrip("/")
    arn = f"arn:aws:iam::{get_account_id()}:oidc-provider/{host}"
    if arn in iam._oidc_providers:
        raise ValueError(
            f"Provider with url {props['Url']} already exists. (Service: Iam, Status Code: 409, Request ID: 1)")
    iam._oidc_providers[arn] = {
        "Url": props["Url"], "ClientIDList": props.get("ClientIdList", []), "ThumbprintList": [], "Arn": arn,
        "CreateDate": iam._now(), "Tags": [],
    }
    return arn, {"Arn": arn}


def change_oidc_provider(physical_id, old_props, new_props, stack_name):
    """Its audiences can be changed in place."""
    iam._oidc_providers[physical_id]["ClientIDList"] = new_props.get("ClientIdList", [])
    return physical_id, {"Arn": physical_id}


provisioners._RESOURCE_HANDLERS["AWS::IAM::OIDCProvider"] = {
    "create": make_oidc_provider,
    "update": change_oidc_provider,
    "delete": lambda physical_id, props: iam._oidc_providers.pop(physical_id, None),
}


def audiences_can_change(action, change):
    """Adds to the audiences of an OpenID provider, or takes one away, as IAM's API does."""

    def handle(params):
        arn, audience = ((params.get(name) or [""])[0] for name in ("OpenIDConnectProviderArn", "ClientID"))
        if arn not in iam._oidc_providers:
            return iam._error(404, "NoSuchEntity", f"OpenIDConnect Provider not found for arn {arn}", ns="iam")
        provider = iam._oidc_providers[arn]
        provider["ClientIDList"] = change(provider["ClientIDList"], audience)
        return iam._xml(200, f"{action}Response", "", ns="iam")

    iam._IAM_HANDLERS[action] = handle


audiences_can_change("AddClientIDToOpenIDConnectProvider", lambda known, one: [*dict.fromkeys([*known, one])])
audiences_can_change("RemoveClientIDFromOpenIDConnectProvider", lambda known, one: [it for it in known if it != one])


def delete_empty_bucket(physical_id, props):
    """A bucket in which anything is left cannot be deleted, by CloudFormation neither: a version, or a delete marker, is enough."""
    bucket = s3._buckets.get(physical_id)
    if bucket is not None and (bucket["objects"] or s3._bucket_has_versions(physical_id)):
        raise ValueError("The bucket you tried to delete is not empty (Service: S3, Status Code: 409, Request ID: 1)")
    return delete_bucket(physical_id, props)


delete_bucket = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]["delete"]
provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]["delete"] = delete_empty_bucket


def interfaces_first(resource_type, is_in, reason):
    """What a network interface is in cannot be deleted before the interface is."""
    handler = provisioners._RESOURCE_HANDLERS[resource_type]
    delete_unused = handler["delete"]

    def delete(physical_id, props):
        if any(is_in(interface, physical_id) for interface in ec2._network_interfaces.values()):
            raise ValueError(reason.format(physical_id) + " (Service: Ec2, Status Code: 400, Request ID: 1)")
        return delete_unused(physical_id, props)

    handler["delete"] = delete


interfaces_first(
    "AWS::EC2::SecurityGroup",
    lambda interface, group: any(known["GroupId"] == group for known in interface["Groups"]),
    "resource {} has a dependent object")
interfaces_first(
    "AWS::EC2::Subnet",
    lambda interface, subnet: interface["SubnetId"] == subnet,
    "The subnet '{}' has dependencies and cannot be deleted.")

forced = contextvars.ContextVar("slipway_forced", default=False)


@wrap(cloudformation_handlers, "_delete_stack_async")
def forced_deletions_go_into_nested_stacks(original):
    """A deletion by force keeps what cannot be deleted in a nested stack, and not the nested stack with all that is in it."""

    async def delete(stack_name, stack_id, retain_resources=(), force=False):
        forced.set(force)
        for resource in (cloudformation._stacks.get(stack_name) or {}).get("_resources", {}).values() if force else ():
            if resource.get("ResourceType") == "AWS::CloudFormation::Stack":
                resource["ResourceStatus"] = "DELETE_IN_PROGRESS"
        return await original(stack_name, stack_id, retain_resources, force)

    return delete


def delete_nested_stack(physical_id, props):
    """A nested stack is deleted as any other: with events of its own, and not if anything in it cannot be deleted."""
    found = [(name, stack) for name, stack in cloudformation._stacks.items() if physical_id in (name, stack["StackId"])]
    for name, stack in found:
        asyncio.run(cloudformation_handlers._delete_stack_async(name, stack["StackId"], force=forced.get()))
        if stack["StackStatus"] == "DELETE_FAILED":
            raise ValueError(f"Embedded stack {physical_id} was not successfully deleted: {stack['StackStatusReason']}")


provisioners._RESOURCE_HANDLERS["AWS::CloudFormation::Stack"]["delete"] = delete_nested_stack


@wrap(stacks, "_delete_resource")
def what_is_depended_on_goes_last(original):
    """What a resource depends on that could not be deleted is not deleted either."""

    def delete(resource_type, physical_id, props, stack_name=None, logical_id=None):
        stack = cloudformation._stacks.get(stack_name) or {}
        if stack.get("StackStatus") == "DELETE_IN_PROGRESS":
            declared, left = stack.get("_template", {}).get("Resources", {}), stack.get("_resources", {})
            # They are deleted in the order of their dependencies: what is left of those before this one could not be.
            if any(logical_id in engine._extract_deps(declared[other], set(left))
                   for other in left if other != logical_id and other in declared):
                raise ValueError("Resource deletion cancelled")
        return original(resource_type, physical_id, props, stack_name, logical_id)

    return delete


# --- events and schedules -----------------------------------------------------------------------------------------


@wrap(eventbridge, "_invoke_target")
def targets_need_rights(original):
    """A rule needs the function's own permission (or the target's role); a schedule needs its role's."""

    def invoke(target, event, rule, *args, **kwargs):
        arn, source = target.get("Arn", ""), rule.get("Arn", "")
        wanted = {"lambda": "lambda:InvokeFunction", "states": "states:StartExecution"}
        action = wanted.get(arn.split(":")[2]) if arn.count(":") > 2 else None
        scheduled = ":schedule/" in source
        service = "scheduler.amazonaws.com" if scheduled else "events.amazonaws.com"
        denied = None
        if action and (scheduled or target.get("RoleArn")):
            denied = service_denied(service, target.get("RoleArn", ""), action, arn, source)
        elif action == "lambda:InvokeFunction":
            policy, _ = lambda_svc.function_policy_for_arn(arn) or (None, None)
            context = iam_evaluator.EvalContext(
                principal_arn="", principal_type="Service", principal_account="", action=action, resource_arn=arn,
                region=get_region(), service_context={
                    "aws:sourcearn": source, "aws:sourceaccount": get_account_id()})
            decision = iam_evaluator.evaluate_resource_policy(policy, context, service=service).decision
            denied = None if decision == "Allow" else f"no permission of {arn} names {service} and {source}"
        if denied:
            app.logger.warning("slipway: target of %s not called: %s", source, denied)
            return None
        return original(target, event, rule, *args, **kwargs)

    return invoke


if __name__ == "__main__":
    app.main()
