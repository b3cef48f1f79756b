#!/usr/bin/env python3
"""Takes gitlab/slipway.yml apart for the linters: tests/gitlab-scripts.py FOLDER

Writes header.yml (`spec:`) and body.yml (the jobs) for the schema, with an array where an input of type array is inserted, and the
script of each job as NAME.sh for shellcheck.
"""
import pathlib
import sys

import yaml

text = pathlib.Path("gitlab/slipway.yml").read_text()
header, body = text.split("\n---\n")
arrays = {name: value["default"] for name, value in yaml.safe_load(header)["spec"]["inputs"].items() if value.get("type") == "array"}
for name, default in arrays.items():
    body = body.replace(f"$[[ inputs.{name} ]]", str(default))
body = body.replace("$[[ inputs.prefix ]]", "")

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
(folder / "header.yml").write_text(header)
(folder / "body.yml").write_text(body)
jobs = yaml.safe_load(body)
assert "deploy-dev" in jobs


def lines(script):
    return [script] if isinstance(script, str) else [line for part in script for line in lines(part)]


for name, job in jobs.items():
    script = lines(job.get("before_script", []) if isinstance(job, dict) else []) + lines(job.get("script", []) if isinstance(job, dict) else [])
    if script:
        # As the runner runs it. What an input inserts into a command is left as a word.
        source = "\n".join(["#!/bin/sh", "set -e", *script, ""]).replace("$[[", "[[")
        (folder / f"{name.strip('.')}.sh").write_text(source)
