"""Reads templates as CloudFormation does, YAML 1.1 or JSON: for each line of input, {"text": …}, one line of output,
{"value": …} or {"error": …}. Aliases and merge keys, which CloudFormation refuses, are told from what they stand for."""

import copy
import json
import math
import sys

import yaml

MERGE = "tag:yaml.org,2002:merge"
NUMBER = "tag:slipway,2026:number"


class Loader(yaml.SafeLoader):
    def compose_node(self, parent, index):
        is_alias = self.check_event(yaml.events.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias:
            node = copy.copy(node)
            node.is_alias = True
        return node


# PyYAML takes digits that begin with a zero and are no octal number for text. CloudFormation takes them for a number.
Loader.add_implicit_resolver(NUMBER, yaml.resolver.re.compile(r"^[-+]?0[0-9]*[89][0-9]*$"), list("-+0"))


def plain(number):
    if isinstance(number, float):
        if not math.isfinite(number):
            return str(number)
        if number.is_integer() and abs(number) < 2**53:
            return int(number)
    return number


def scalar(loader, node):
    kind = node.tag.rpartition(":")[2]
    if node.tag == NUMBER:
        return int(node.value)
    if kind in ("int", "float", "bool", "null"):
        return plain(loader.construct_object(node))
    # Text, and dates, which are text to CloudFormation.
    return node.value


def value(loader, node, tagged=True):
    if getattr(node, "is_alias", False):
        node.is_alias = False
        return {"YAML alias": value(loader, node)}
    if tagged and node.tag.startswith("!"):
        name = node.tag[1:]
        inner = value(loader, node, tagged=False)
        if name == "GetAtt" and isinstance(inner, str):
            inner = inner.split(".", 1)
        return {name if name in ("Ref", "Condition") else "Fn::" + name: inner}
    if isinstance(node, yaml.ScalarNode):
        return scalar(loader, node) if tagged else node.value
    if isinstance(node, yaml.SequenceNode):
        return [value(loader, item) for item in node.value]
    merges = any(key.tag == MERGE for key, _ in node.value)
    loader.flatten_mapping(node)
    # A key is the text that stands there.
    found = {key.value: value(loader, item) for key, item in node.value}
    return {"YAML merge": found} if merges else found


def of_json(found):
    if isinstance(found, dict):
        return {key: of_json(item) for key, item in found.items()}
    if isinstance(found, list):
        return [of_json(item) for item in found]
    return plain(found)


def read(text):
    try:
        return of_json(json.loads(text))
    except ValueError:
        pass
    loader = Loader(text)
    return value(loader, loader.get_single_node())


for line in sys.stdin:
    try:
        answer = {"value": read(json.loads(line)["text"])}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
