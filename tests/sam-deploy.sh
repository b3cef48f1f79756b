#!/usr/bin/env bash
# Real `sam build && sam deploy` of template.yaml as it stands, onto the embedded AWS:
#   cargo run --bin embedded-aws -- tests/sam-deploy.sh
# Needs sam, cargo-lambda and zig on the PATH: .ci/run installs them.
set -euo pipefail
cd "$(dirname "$0")/.."

export SAM_CLI_TELEMETRY=0
architecture=$(uname -m)
[ "$architecture" = aarch64 ] && architecture=arm64

sam build --parallel --parameter-overrides "Architecture=$architecture"
stages='{"dev":{"account":"111111111111","ephemeral":true}}'
sam deploy --stack-name slipway-sam --resolve-s3 --capabilities CAPABILITY_NAMED_IAM --no-progressbar \
  --no-confirm-changeset --parameter-overrides "Architecture=$architecture" "GitLabUrl=$GITLAB_URL" \
  ExternalId=slipway-sam TargetAccounts=111111111111 "Stages='${stages//\"/\\\"}'"

echo "The functions as they are deployed:"
for folder in .aws-sam/build/*Function; do
  zip=$(mktemp -u).zip
  python3 -m zipfile -c "$zip" "$folder/bootstrap"
  bytes=$(stat -c %s "$zip")
  rm "$zip"
  over=
  [ "$bytes" -gt $((4 * 1024 * 1024)) ] && over=" (over the budget of 4096 KiB)"
  printf '  %-24s %s KiB zipped%s\n' "$(basename "$folder")" $((bytes / 1024)) "$over"
done

# It runs: a made-up token is refused by name.
python3 - <<'PYTHON'
import json, os, urllib.request

endpoint = os.environ["AWS_ENDPOINT_URL"]
def call(path, body, headers):
    scope = "999999999999/20260101/eu-central-1/lambda/aws4_request"
    signed = {"authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0", **headers}
    with urllib.request.urlopen(urllib.request.Request(endpoint + path, body, signed)) as answer:
        return answer.read()

functions = json.loads(call("/2015-03-31/functions/", None, {}))["Functions"]
api = next(f["FunctionName"] for f in functions if "-ApiFunction-" in f["FunctionName"])
request = {"id_token": "a.b.c", "ask": {"look": {"status": {"on": {"application": "a", "stage": "dev", "environment": "e"}}}}}
answer = json.loads(call(f"/2015-03-31/functions/{api}/invocations", json.dumps(request).encode(), {}))
assert answer["errorType"] == "InvalidToken", answer
print(f"{api} answers: {answer['errorType']}: {answer['errorMessage']}")
PYTHON
