"""A step that goes wrong: called by a state machine instead of a function of Slipway's, which it calls, or not.

It is its own Lambda runtime (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html), since a custom one may fail under
any name. An event says what is to happen, for how many tries of the step, and what the real function would have been
called with; from then on the real function is called and its answer handed on.
"""

import json
import os
import time
import urllib.error
import urllib.request

RUNTIME = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime"
ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
# The embedded AWS takes the account from the signature's scope, and does not check the signature.
SCOPE = f"{os.environ['FAULT_ACCOUNT']}/20260101/{os.environ['AWS_REGION']}/lambda/aws4_request"


class Failed(Exception):
    """The step fails with this error, which is JSON."""


def call(function, payload):
    """What the function answers."""
    request = urllib.request.Request(
        f"{ENDPOINT}/2015-03-31/functions/{function}/invocations", json.dumps(payload).encode(),
        {"Authorization": f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host, Signature=0"})
    with urllib.request.urlopen(request) as answer:
        body = json.loads(answer.read() or b"null")
        if answer.headers.get("X-Amz-Function-Error"):
            raise Failed(body)
        return body


def error(name, message):
    return Failed({"errorType": name, "errorMessage": message})


def handle(event):
    what, function, payload = event["do"], event["function"], event["payload"]
    if event["try"] >= event["tries"]:
        return call(function, payload)
    if what == "instead":
        # The same function, behind the proxy that throttles, kills or holds it.
        try:
            return call(event["other"], payload)
        finally:
            if event["done"]:
                urllib.request.urlopen(event["done"]).read()
    if what == "busy":
        raise error("Lambda.TooManyRequestsException", "Rate Exceeded.")
    if what == "fail":
        raise error("Internal", "a fault of the test's")
    answer = call(function, payload)
    if what == "lose":
        raise error("Lambda.Unknown", "the answer is lost")
    time.sleep(event["seconds"])
    return answer


def post(path, body):
    request = urllib.request.Request(f"{RUNTIME}/invocation/{path}", json.dumps(body).encode())
    try:
        urllib.request.urlopen(request).read()
    except urllib.error.HTTPError:
        # Whoever called does not wait any more.
        pass


while True:
    with urllib.request.urlopen(f"{RUNTIME}/invocation/next") as invocation:
        request_id = invocation.headers["Lambda-Runtime-Aws-Request-Id"]
        event = json.loads(invocation.read())
    try:
        post(f"{request_id}/response", handle(event))
    except Failed as failed:
        post(f"{request_id}/error", failed.args[0])
    except Exception as broken:
        post(f"{request_id}/error", {"errorType": "FaultBroken", "errorMessage": repr(broken)})
